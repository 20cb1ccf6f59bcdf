"""From the latents of a run to what they say, in the order in which it is told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.analysis import diagnostics
from solvar.analysis.bodies.rigid_bodies import ComponentMotion, model_of_run, rigid_bodies
from solvar.analysis.clusters import Clusters, find_clusters
from solvar.analysis.density import DensityMap, density_map, log_density
from solvar.analysis.diagnostics import Association, HalfsetAgreement
from solvar.analysis.embedding import embed, require_umap
from solvar.analysis.mixture import Likelihoods, Mixture
from solvar.analysis.outliers import Outliers, find_outliers
from solvar.analysis.settings import AnalysisSettings
from solvar.analysis.space import LatentSpace, latent_space
from solvar.analysis.states import States, deconvolved, find_states
from solvar.analysis.trajectories import Field, Trajectory, find_path, propose_ends
from solvar.errors import InputError
from solvar.progress import Progress, harmless
from solvar.results.run import Run, check_component

Float64 = NDArray[np.float64]

_FEWEST_PARTICLES = 10


@dataclass(frozen=True, eq=False)
class Analysis:
    """Everything the analysis found out about N particles, in the row order of the run.

    Attributes
    ----------
    density : DensityMap or None
        None if there is no plane, or if none of its components is real.
    states : States or None
        None if no component is real.
    log_density : (N,) float64
        Relative log-density of each particle among the others, median 0.
    umap : (N, 2) float64 or None
        None if it was not asked for.
    coverage : (K,) float64
        Evenness of each cluster's views, 1 = that of the whole set.
    halves : list of HalfsetAgreement
        Empty if there are no two half-sets.
    rigid_bodies : list of ComponentMotion or None
        One a resolved component; None if no atoms were given.
    messages : list of str
        What could not be done, and why.
    warnings : list of str
        Plain sentences that the user should read.
    """

    settings: AnalysisSettings
    space: LatentSpace
    clusters: Clusters
    density: DensityMap | None
    states: States | None
    log_density: Float64
    trajectories: list[Trajectory]
    outliers: Outliers
    umap: Float64 | None
    associations: list[Association]
    coverage: Float64
    halves: list[HalfsetAgreement]
    rigid_bodies: list[ComponentMotion] | None
    messages: list[str]
    warnings: list[str]


def analyze(
    run: Run, settings: AnalysisSettings | None = None, progress: Progress | None = None
) -> Analysis:
    """Analyse the latents of a run; writes nothing.

    Parameters
    ----------
    run : Run
    settings : AnalysisSettings, optional
    progress : Progress, optional

    Raises
    ------
    InputError
        If a setting does not fit the run, or the run is too small, or atoms do not fit its mean.
    """
    settings = settings or AnalysisSettings()
    progress = harmless(progress)
    plane = _checked(run, settings)
    model = (
        None if settings.atoms is None else model_of_run(run, settings.atoms, settings.component)
    )
    space = latent_space(run, settings.component)
    points, seed = space.whitened, settings.seed
    with progress.step("Clusters", 0):
        clusters = find_clusters(points, settings.clusters, settings.method, seed)
    with progress.step("Density", 0):
        local = log_density(points, settings.neighbours, seed)
        seen = space.likelihoods(run.particle_probability)
        mixture = deconvolved(seen, seed)
        real = any(run.is_real(j) for j in space.active)
        density = _density(run, space, mixture, seen, plane, settings) if real else None
    with progress.step("States", 0):
        states = find_states(mixture, seen, seed) if real else None
    with progress.step("Trajectories", 0):
        paths = _trajectories(space, Field.of(mixture, seen), local, clusters, settings)
    with progress.step("Outliers", 0):
        covariance = space.whitened_covariance(space.active)
        outliers = find_outliers(points, covariance, run.posterior.log_likelihood)
        del covariance
    umap = None
    if settings.umap:
        with progress.step("UMAP", 0):
            umap = embed(points, settings.neighbours, seed)
    with progress.step("Diagnostics", 0):
        factors, messages = _factors(run)
        found = diagnostics.associations(space.z, space.active, factors)
        coverage = diagnostics.angular_coverage(run.particles["rotation"], clusters.label)
        halves = diagnostics.compare_halves(
            space.z, space.active, run.particles["halfset"], settings.seed
        )
    if not real:
        messages.append("No component is real: no density is drawn, and no state is named.")
    elif density is None:
        messages.append("One component has no plane: its density is not drawn.")
    bodies = None
    if model is not None:
        bodies = rigid_bodies(run, model, progress)
        messages += model.messages
    return Analysis(
        settings, space, clusters, density, states, local, paths, outliers, umap, found, coverage, halves,
        bodies, messages, _warnings(run, space, found, coverage, halves, outliers),
    )  # fmt: skip


def _checked(run: Run, settings: AnalysisSettings) -> tuple[int, int] | None:
    """The zero-based plane if one was chosen; raises before anything long is done."""
    if run.particle_count < _FEWEST_PARTICLES:
        raise InputError(
            f"has {run.particle_count} particles; an analysis needs {_FEWEST_PARTICLES}",
            file=run.folder,
        )
    if settings.clusters is not None and settings.clusters > run.particle_count:
        raise InputError(
            f"--clusters {settings.clusters} is more than the run's {run.particle_count} particles"
        )
    if (settings.start is None) != (settings.end is None):
        raise InputError("a path of your own needs both --start and --end")
    for component in (*settings.component, *(settings.plane or ()), settings.path_component or 1):
        check_component(run, component)
    if settings.umap:
        require_umap()
    if settings.plane is None:
        return None
    if settings.plane[0] == settings.plane[1]:
        raise InputError("--plane needs two different components")
    return settings.plane[0] - 1, settings.plane[1] - 1


def _density(
    run: Run,
    space: LatentSpace,
    mixture: Mixture,
    seen: Likelihoods,
    plane: tuple[int, int] | None,
    settings: AnalysisSettings,
) -> DensityMap | None:
    """In the plane that was chosen, or that of the first two components."""
    if plane is None:
        # one reliable component still makes a plane with the next one
        rest = [j for j in range(space.rank) if j not in space.active]
        candidates = [int(j) for j in (*space.active, *rest)]
        if len(candidates) < 2:
            return None
        plane = candidates[0], candidates[1]
    columns = np.asarray(plane)
    place = [int(k) for j in plane for k in np.flatnonzero(space.active == j)]
    if len(place) < 2:
        seen = space.likelihoods(run.particle_probability, columns)
        mixture, place = deconvolved(seen, settings.seed), [0, 1]
    return density_map(
        mixture, seen, space.spread[columns],
        components=plane, place=(place[0], place[1]), grid=settings.grid,
    )  # fmt: skip


def _trajectories(
    space: LatentSpace,
    field: Field,
    local: Float64,
    clusters: Clusters,
    settings: AnalysisSettings,
) -> list[Trajectory]:
    """The proposed paths and the user's own."""
    points = space.whitened
    axis = 0
    if settings.path_component is not None:
        places = np.flatnonzero(space.active == settings.path_component - 1)
        if len(places) == 0:
            raise InputError(
                f"component {settings.path_component} is not among those that are analysed",
                remedy=f"add --component {settings.path_component}",
            )
        axis = int(places[0])
    ends: dict[str, tuple[Float64, Float64]] = {}
    for kind in dict.fromkeys(settings.path):
        first, last = propose_ends(kind, field, local, clusters, axis=axis)
        if first != last:
            ends[kind] = points[first], points[last]
    if settings.start is not None and settings.end is not None:
        ends["own"] = parse_end(space, settings.start), parse_end(space, settings.end)
    if not ends:
        return []
    return [
        find_path(field, *pair, settings.points, name=name, log_density=local)
        for name, pair in ends.items()
    ]


def parse_end(space: LatentSpace, text: str) -> Float64:
    """Whitened point (m,) of a particle's row, or of r latents separated by commas.

    Raises
    ------
    InputError
        If `text` is neither.
    """
    try:
        values = np.array([float(word) for word in text.split(",")])
    except ValueError:
        values = np.array([np.nan])
    if len(values) == space.rank and len(values) > 1 and np.isfinite(values).all():
        return space.to_whitened(values[None])[0]
    if len(values) == 1 and text.strip().isdecimal() and values[0] < len(space):
        return space.whitened[int(text)]
    raise InputError(
        f"{text!r} is not an end of a path",
        remedy=f"pass a row from 0 to {len(space) - 1}, or {space.rank} latents separated by commas",
    )


def _factors(run: Run) -> tuple[dict[str, NDArray], list[str]]:
    """What latents should not follow: regressors (N, p) or groups (N,); and what is not known."""
    particles = run.particles
    factors: dict[str, NDArray] = {
        "viewing direction": diagnostics.view_harmonics(particles["rotation"]),
        "shift": particles["shift_angstrom"],
        "contrast": run.posterior.contrast[:, None],
    }
    try:
        source = run.read_input()
    except (InputError, OSError) as error:
        return factors, [f"Defocus and micrograph were not compared: {error}"]
    images = source.exposures
    defocus = images.mean_of(images.ctf.defocus_u_angstrom + images.ctf.defocus_v_angstrom) / 2e4
    factors["defocus"] = _curve(defocus)
    if source.is_of_tomograms and source.picks is not None:
        factors["height"] = _curve(source.picks.coordinate_pixel[:, 2] / 1e3)
        return _with_groups(factors, "tomogram", source.picks.micrograph_index)
    return _with_groups(factors, "micrograph", images.first_of(images.stack_index))


def _curve(values: Float64) -> Float64:
    """Regressors (N, 2) of a curve in values (N,)."""
    return np.stack([values, (values - values.mean()) ** 2], axis=1)


def _with_groups(
    factors: dict[str, NDArray], name: str, group: NDArray[np.int64]
) -> tuple[dict[str, NDArray], list[str]]:
    """With the groups (N,) that particles are of, if there are several."""
    if len(np.unique(group)) > 1:
        return {**factors, name: group}, []
    where = "one image file" if name == "micrograph" else f"one {name}"
    return factors, [f"{name.capitalize()}s were not compared: all particles are in {where}."]


def _warnings(
    run: Run, space: LatentSpace, found: list[Association], coverage: Float64,
    halves: list[HalfsetAgreement], outliers: Outliers,
) -> list[str]:  # fmt: skip
    told = diagnostics.plain_warnings(found, coverage, halves)
    if not any(run.is_real(j) for j in space.active):
        told.insert(
            0, "No analysed component passed the half-set test: clusters and paths may show noise."
        )
    share = float((outliers.far | outliers.unlikely).mean())
    if share > 0.05:
        told.append(
            f"{100 * share:.0f} % of the particles do not fit the model: look at some of them; "
            "they may be junk, or a state that a Gaussian prior does not foresee."
        )
    return told
