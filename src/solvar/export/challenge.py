"""The Cryo-EM Heterogeneity Challenge (Flatiron Institute): 80 maps and how populated each is.

A submission is a folder of maps 01.mrc … 80.mrc and `populations.txt`, one weight a line. The challenge's
`run_preprocessing --config run_preproc_config.yaml` reads it by two further files: `submission_config.yaml`
(a list of submissions) and `reference_config.yaml` (the map that fixes box, pixel size and frame). All three
are JSON, which is YAML. Their paths are absolute, as that program looks from its own working folder.

Posterior means are drawn towards 0 by the prior and scattered by noise, so they are not the population.
The maps stand for the density of the latents with both taken out (`analysis/mixture.py`), in the real
components alone: k-means seeks the 80 points, and shares, that are nearest to points drawn from it, in root
mean square of the maps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from glob import has_magic
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.mixture import Mixture
from solvar.analysis.space import latent_space
from solvar.analysis.states import deconvolved
from solvar.errors import InputError
from solvar.export.target import Job, Target, Writer
from solvar.files import read_json, read_text, replacing, strict_json
from solvar.results.run import Run
from solvar.volume_file import read_volume, write_volume

Float64 = NDArray[np.float64]

MAPS = 80  # what the challenge asks for
_NAMES = tuple(f"{number:02d}.mrc" for number in range(1, MAPS + 1))
_POPULATIONS = "populations.txt"
_REFERENCE, _SUBMISSION = "reference_config.yaml", "submission_config.yaml"
_PREPROCESSING = "run_preproc_config.yaml"
_DRAWN = 50_000  # points: they tell a share of 1/80 to 4 %
_REPORT = "report this, and what you exported"


@dataclass(frozen=True, eq=False)
class Ensemble:
    """M points in latent space that stand for the population.

    Attributes
    ----------
    latents : (M, r) float64
        In eigenvolume units, 0 in components that are not real; ascending in the first real one.
    population : (M,) float64
        Share of the particles that each stands for; their sum is 1.
    """

    latents: Float64
    population: Float64


def files(job: Job) -> Mapping[str, Writer]:
    """80 maps, their populations and the three configurations.

    Raises
    ------
    InputError
        If the run has too few particles, or no real component.
    """
    run = job.run
    _refuse(run)

    # with the first file: the long work waits until the destination is known to be good
    @cache
    def found(folder: Path) -> Ensemble:
        _refuse_folder(folder)
        return ensemble(run)

    def write_map(path: Path, place: int) -> None:
        z = found(_folder(path)).latents[place]
        write_volume(path, run.volume_at(z), run.pixel_size_angstrom)

    maps: dict[str, Writer] = {
        name: lambda path, place=place: write_map(path, place)  # type: ignore[misc]
        for place, name in enumerate(_NAMES)
    }
    return {
        **maps,
        _POPULATIONS: lambda path: _write_populations(path, found(_folder(path)).population),
        _REFERENCE: lambda path: _write_config(path, _reference(_folder(path), run)),
        _SUBMISSION: lambda path: _write_config(path, [_submission(_folder(path), run)]),
        _PREPROCESSING: lambda path: _write_config(path, _preprocessing(_folder(path))),
    }


def ensemble(run: Run, count: int = MAPS, seed: int = 0) -> Ensemble:
    """Points in latent space, and weights, that stand for the population of a run.

    Parameters
    ----------
    run : Run
        With a real component.
    count : int
    seed : int

    Returns
    -------
    Ensemble
    """
    from sklearn.cluster import KMeans

    space = latent_space(run, [j + 1 for j in range(run.rank) if run.is_real(j)])
    mixture = deconvolved(space.likelihoods(run.particle_probability), seed)
    drawn = _drawn(mixture, _DRAWN, np.random.default_rng(seed))
    # eigenvolumes are orthonormal: in their units, distances of points are distances of maps
    points = space.to_latents(drawn)
    means = KMeans(count, n_init=1, random_state=seed).fit(points)
    size = np.bincount(means.labels_, minlength=count)
    order = np.argsort(means.cluster_centers_[:, space.active[0]], kind="stable")
    return Ensemble(means.cluster_centers_[order], size[order] / size.sum())


def read_back(job: Job, written: Mapping[str, Path]) -> None:
    """Read a submission as the challenge's code does.

    Raises
    ------
    InputError
        If a map has another grid than it is told, or the populations are none.
    """
    (told,) = read_json(written[_SUBMISSION].parent, written[_SUBMISSION].name)
    for name in _NAMES:
        volume, pixel_size = read_volume(written[name])
        same = math.isclose(pixel_size, told["voxel_size"], rel_tol=1e-5)
        if len(volume) != told["box_size"] or not same:
            raise InputError("is not on the grid of the run", file=written[name], remedy=_REPORT)
    population = np.array(read_text(written[_POPULATIONS]).split(), np.float64)
    if len(population) != MAPS or population.min() <= 0 or not math.isclose(population.sum(), 1):
        raise InputError(
            f"does not hold {MAPS} shares of 1", file=written[_POPULATIONS], remedy=_REPORT
        )


def _refuse(run: Run) -> None:
    if run.particle_count < MAPS:
        raise InputError(
            f"has {run.particle_count} particles, too few for {MAPS} maps with populations",
            file=run.folder,
            remedy=f"export a run on at least {MAPS}",
        )
    if not any(run.is_real(j) for j in range(run.rank)):
        raise InputError(
            f"has no real component, so that its {MAPS} maps would all be the mean",
            file=run.folder,
            remedy="repeat the run with more particles or better poses",
        )


def _refuse_folder(folder: Path) -> None:
    """Refuse a folder in which the challenge's code would not find these maps alone."""
    if "mask" in str(folder) or has_magic(str(folder)):
        raise InputError(
            "the challenge's code finds no maps below a folder with 'mask', *, ? or [ in its name",
            file=folder,
            remedy="choose another --output",
        )
    others = sorted(
        path.name
        for path in folder.glob("*.mrc")
        if path.name not in _NAMES and "mask" not in path.name and not path.name.startswith(".")
    )
    if others:
        raise InputError(
            f"holds {others[0]}, which would count as a map of the submission",
            file=folder,
            remedy="choose another --output",
        )


def _drawn(mixture: Mixture, count: int, rng: np.random.Generator) -> Float64:
    """Points (count, m) drawn from a mixture."""
    which = rng.choice(len(mixture), count, p=mixture.share)
    lower = np.linalg.cholesky(mixture.covariance)[which]
    normal = rng.standard_normal((count, mixture.mean.shape[1]))
    drawn: Float64 = mixture.mean[which] + np.einsum("nij,nj->ni", lower, normal)
    return drawn


def _folder(path: Path) -> Path:
    return path.parent.resolve()


def _reference(folder: Path, run: Run) -> dict[str, Any]:
    """The first map, so that nothing is resampled or aligned until another one is put here."""
    return {"path_to_reference_volume": folder / _NAMES[0], **_grid(run)}


def _submission(folder: Path, run: Run) -> dict[str, Any]:
    return {
        "submission_name": "solvar",
        "submission_version": "1",
        # the code names its output by it; those that judge assign one, to keep submissions anonymous
        "ice_cream_flavor": folder.name,
        "path_to_volumes": folder,
        "path_to_populations_file": folder / _POPULATIONS,
        **_grid(run),
        "threshold_percentile": 93.0,  # of the challenge's own fixtures; it counts in alignment only
        "flip_handedness": False,
        "align": False,
    }


def _preprocessing(folder: Path) -> dict[str, Any]:
    return {
        "path_to_submissions_config": folder / _SUBMISSION,
        "path_to_reference_config": folder / _REFERENCE,
        "output_path": folder / "preprocessed",
        # without it, the code's defaults for an alignment are never filled in
        "BOTAlign_params": {"loss_type": "wemd"},
    }


def _grid(run: Run) -> dict[str, Any]:
    return {"box_size": run.box_size, "voxel_size": run.pixel_size_angstrom}


def _write_config(path: Path, content: dict[str, Any] | list[dict[str, Any]]) -> None:
    _write_text(path, strict_json(content) + "\n")


def _write_populations(path: Path, population: Float64) -> None:
    _write_text(path, "".join(f"{share}\n" for share in population.tolist()))


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


TARGET = Target("challenge", files, read_back, takes_particles=False)
