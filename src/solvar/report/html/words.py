"""The run in plain sentences: what moves, how sure that is, what to do next.

Nothing here claims more than the run shows: what did not pass the half-sets is called noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.reading import StoredAnalysis
from solvar.commands import command_line
from solvar.estimation.low_rank import LowRankModel
from solvar.fitting.result import has_shape
from solvar.report import style
from solvar.results.run import Run
from solvar.results.words import (
    NO_OTHER_CAUSE,
    agreement,
    component_name,
    counted,
    headline,
    pose_advice,
    viewing,
)

_TOLD = 3  # components that get a sentence of their own
_SAMPLE = 20_000
# Relative to the mean's own: a change whose half takes up more space than this has no place.
_EVERYWHERE = 0.8
_BLUR_ANGSTROM = 5.0


def what_moves(run: Run) -> list[str]:
    """How many directions were found, and where in the molecule each of the first changes density."""
    shown = real_components(run)
    particles = counted(run)
    if len(shown) == 0:
        return [
            f"Nothing that can be told from noise: the {particles} look alike to this analysis.",
            "The components below are drawn so that you can judge this yourself; "
            "do not read them as motions.",
        ]
    number = "one way" if len(shown) == 1 else f"{len(shown)} ways"
    told = [f"The {particles} differ from their mean in {number} that can be told from noise."]
    if run.validation is None:
        told = [
            f"The differences of the {particles} are described by {run.rank} components; "
            "whether any of them is more than noise was not tested."
        ]
    total = float(run.model.eigenvalues.sum())
    for j in shown[:_TOLD]:
        share = style.percent(run.model.eigenvalues[j], total)
        name, place = component_name(run, int(j)), _place(run, int(j))
        told.append(f"Component {name} ({share} of the variance found) {place}.")
    if len(shown) > _TOLD:
        told.append("The others are drawn below.")
    return told


def real_components(run: Run) -> NDArray[np.int64]:
    """Zero-based components that passed the half-sets; all if there were none."""
    if run.validation is None:
        return np.arange(run.rank)
    return np.flatnonzero(run.validation.reliable)


def _place(run: Run, j: int) -> str:
    """Where a component changes density, and how strongly."""
    model, validation = run.model, run.validation
    if validation is not None and not has_shape(validation.component_resolution[j]):
        return "is there, but the two halves of the data do not agree on where it changes density"
    change, mean = coarse(model.eigenvolumes[j], model), coarse(model.mean, model)
    strength = 2 * np.sqrt(max(model.eigenvalues[j], 0.0)) * style.robust_limit(change)
    share = strength / style.robust_limit(np.maximum(mean, 0))
    amount = f"At two standard deviations it reaches {100 * share:.0f} % of the mean's density"
    if half_size(change) > _EVERYWHERE * half_size(mean):
        return f"changes density all over the molecule. {amount}"
    centre, reach = half_power(change)
    apix = model.pixel_size_angstrom
    distance = float(np.linalg.norm(centre - half_power(mean)[0])) * apix
    return (
        f"changes one region most: half of the change lies within {reach * apix:.0f} Å of a point "
        f"{distance:.0f} Å from the molecule's centre. {amount}"
    )


def half_size(volume: NDArray[np.float32]) -> int:
    """The smallest number of voxels that hold half of a volume's power."""
    power = np.sort(np.square(volume, dtype=np.float64), axis=None)[::-1]
    return int(np.searchsorted(np.cumsum(power), 0.5 * power.sum()))


def coarse(volume: NDArray[np.float32], model: LowRankModel) -> NDArray[np.float32]:
    """The volume blurred to about 12 Å (full width): where a change is, not its noise."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(volume, _BLUR_ANGSTROM / model.pixel_size_angstrom)


def half_power(volume: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
    """Centre (z, y, x) of a volume's power, and the radius around it that holds half, in voxels."""
    power = np.square(volume, dtype=np.float64)
    total = max(float(power.sum()), float(np.finfo(np.float64).tiny))
    axes = [np.arange(edge) for edge in power.shape]
    centre = np.array(
        [
            (power.sum(axis=tuple(other for other in range(3) if other != axis)) @ axes[axis])
            for axis in range(3)
        ]
    )
    centre /= total
    z, y, x = (axis - middle for axis, middle in zip(axes, centre, strict=True))
    radius = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    order = np.bincount(radius.ravel().astype(np.int64), power.ravel())
    return centre, float(np.searchsorted(np.cumsum(order), 0.5 * total) + 0.5)


def junk(run: Run) -> str:
    """How many images show no particle, and what leaves them out."""
    unlikely = int((run.particle_probability < 0.5).sum())
    share = style.percent(unlikely, run.particle_count)
    told = (
        f"{unlikely:,} of {run.particle_count:,} images ({share}) are unlikely to show a particle"
    )
    if run.ab_initio is not None:
        told += " whose pose was found"
    if run.monstrous:
        told += (
            f", {run.monstrous:,} of them because of something that stands out far above all others"
        )
    export = command_line("solvar", "export", run.folder, "--to", "relion", "-o", "kept.star")
    return f"{told}. {export} --keep 0.5 writes the others, and with --not these."


def how_sure(run: Run, analysis: StoredAnalysis | None) -> list[str]:
    """The verdict of the half-sets, how well single particles are placed, what the analysis warns of."""
    told = [headline(run)]
    shown = real_components(run)
    if run.validation is not None and len(shown):
        best = int(shown[0])
        resolution = run.validation.component_resolution[best]
        told.append(_agreement(run, best, float(resolution)))
    if len(shown):
        told.append(_blur(run, int(shown[0])))
    if analysis is None:
        told.append("Whether the latents follow anything but structure has not been looked at yet.")
    elif analysis.summary["warnings"]:
        told.append("The analysis has warnings: read them before you trust clusters and paths.")
    else:
        told.append(NO_OTHER_CAUSE)
    return told


def _agreement(run: Run, j: int, resolution: float) -> str:
    """To what detail the halves see the same component j."""
    if not has_shape(resolution):
        return (
            f"Component {j + 1} explains particles that it was not fitted to, but the two halves of "
            "the data do not agree on its shape: trust that something changes, not where."
        )
    return f"On component {j + 1}, the {agreement(run, j)}."


def _blur(run: Run, j: int) -> str:
    """How well the images of a particle tell where it is along component j."""
    posterior, count = run.posterior, run.particle_count
    rows = np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.int64)
    variance = np.linalg.inv(posterior.precision[rows])[:, j, j]
    typical = float(np.sqrt(np.median(variance) / max(run.model.eigenvalues[j], 1e-300)))
    source = "The tilt series of a particle" if run.is_of_tilts else "A single image"
    whose = "it" if run.is_of_tilts else "its particle"
    words = f"{source} places {whose} along component {j + 1} to ±{typical:.2f} σ"
    if typical < 0.35:
        return f"{words}: states closer than that cannot be told apart, others can."
    if typical < 0.75:
        return f"{words}: single particles are blurred by that much, groups of them are not."
    one = "one series" if run.is_of_tilts else "one image"
    return f"{words}: {one} says little; only averages over many particles mean something."


def what_next(run: Run, analysis: StoredAnalysis | None) -> list[tuple[str, str]]:
    """Commands, each with what it is for; a command may be empty where there is only advice."""
    folder = run.folder
    if run.validation is not None and not run.validation.reliable.any():
        return [
            *pose_advice(run),
            ("", "Check the mask and the poses, and that the particles are not already one class."),
            (command_line("solvar", "check", run.source), "what may be wrong with the input"),
            (
                "",
                "Try more particles, or --resolution of 15 to 20 Å: large motions show there first.",
            ),
        ]
    told = pose_advice(run)
    if run.validation is None:
        told.append(("", "Repeat the run with --halfsets before you believe a component."))
    if analysis is None:
        analyze = command_line("solvar", "analyze", folder)
        along = command_line("solvar", "volume", folder)
        return [
            *told,
            (analyze, "states, clusters, paths, diagnostics"),
            (along, "volumes along the first component, with half-maps"),
            *viewing(folder),
        ]
    volumes = command_line("solvar", "volume", folder, "--all-clusters")
    back = ("--to", "relion", "--cluster", "1", "-o", "cluster1")
    return [
        *told,
        *viewing(folder),
        (volumes, "a volume of each cluster's particles, with half-maps"),
        (command_line("solvar", "export", folder, *back), "its particles, to refine"),
    ]
