"""Write a `Fit` to its run folder; `run.json` comes last and marks the run as finished."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.estimation.low_rank import LowRankModel
from solvar.estimation.posterior import PoseRefinement, Posterior
from solvar.files import OwnedFolder, Writer, owned, refuse_locked, replacing, write_json
from solvar.fitting.result import AB_INITIO, AbInitio, Fit, HalfsetValidation
from solvar.imaging.fourier import crop_volume
from solvar.particles import Picks, write_poses_pickle, write_star
from solvar.results.checkpoint import CHECKPOINT, is_interrupted
from solvar.results.hdf5 import write_single, write_strings
from solvar.results.poses import PoseChange
from solvar.results.provenance import Provenance
from solvar.results.record import FORMAT, FORMAT_VERSION
from solvar.volume_file import write_volume

if TYPE_CHECKING:
    import h5py

Float64 = NDArray[np.float64]

RUN = Writer(
    "run",
    (
        "run.json",
        "mean.mrc",
        "mean_half[12].mrc",
        "mask.mrc",
        "focus_mask.mrc",
        "spatial_prior.mrc",
        "variance.mrc",
        "variance_error.mrc",
        "consensus.mrc",
        "eigenvolume_[0-9][0-9][0-9].mrc",
        "model.h5",
        "particles.h5",
        "particles.star",
        "poses.pkl",
    ),
)
# they stand for the run and go with it
FIGURES = Writer("figures", ("figures/[1-9]_*.png",))
_MOVIE_FORMATS = ("webp", "gif", "mp4")
MOVIES = Writer(
    "movies", tuple(f"movie_component_[0-9][0-9].{format}" for format in _MOVIE_FORMATS)
)
REPORT = Writer("report", ("report.html",))
_REPLACED = (RUN, FIGURES, MOVIES, REPORT)
# they were made of the run, and would be taken for those of the one that takes its place
ANALYSIS = Writer(
    "analysis",
    (
        "analysis/analysis.json",
        "analysis/particles.h5",
        "analysis/clusters.csv",
        "analysis/states.csv",
        "analysis/trajectory_*.csv",
        "analysis/rigid_bodies.csv",
        *(f"analysis/movie_*.{format}" for format in _MOVIE_FORMATS),
        *(f"analysis/{name}.png" for name in ("clusters", "density", "umap", "diagnostics")),
    ),
)
VOLUMES = Writer("volumes", ("volumes/*/volumes.json", "volumes/*/*.mrc"))
_DERIVED = (ANALYSIS, VOLUMES)
# it grows from attempt to attempt and is never removed
LOG = Writer("log", ("run.log",))


@contextmanager
def run_folder(
    folder: Path,
    overwrite: bool = False,
    resume: bool = False,
    inputs: Iterable[Path] = (),
    purpose: str = "solvar run",
) -> Iterator[OwnedFolder]:
    """Be the only one who writes to a run folder, which is made if need be.

    Parameters
    ----------
    folder : Path
    overwrite, resume : bool
        What may be done with an earlier run.
    inputs : iterable of Path
        Files that the run reads.
    purpose : str

    Raises
    ------
    InputError
        If `folder` is no folder, cannot be written to or is being written to, holds a finished run, or an
        unfinished one that is not to be resumed, and `overwrite` is false, or holds files with names
        of results that solvar did not write, or the run would replace one of its inputs.
    """
    folder = Path(folder)
    refuse_locked(folder)  # says more than that there is a run
    _refuse_earlier(folder, overwrite, resume)
    with owned(folder, purpose) as own:
        # once more, now that nobody else writes
        _refuse_earlier(folder, overwrite, resume)
        _refuse_foreign(own)
        _refuse_replaced(own, inputs)
        try:
            yield own
        except BaseException:
            # it has grown, though nothing else may be whole
            with suppress(InputError, OSError):
                own.seal(LOG)
            raise


def check_folder(folder: Path, overwrite: bool = False, resume: bool = False) -> None:
    """Make sure, before anything is read, that a run can be written to `folder`; leave no trace.

    Raises
    ------
    InputError
        As `run_folder`.
    """
    with run_folder(folder, overwrite, resume, purpose="solvar run, which looks first"):
        pass


def _refuse_earlier(folder: Path, overwrite: bool, resume: bool) -> None:
    if overwrite or resume:
        return
    if os.path.lexists(folder / "run.json"):
        raise InputError(
            "already holds a finished run",
            file=folder,
            remedy="choose another --output or pass --overwrite",
        )
    if is_interrupted(folder):
        raise InputError(
            "holds a run that was interrupted",
            file=folder,
            remedy="pass --resume to go on with it, or --overwrite to start again",
        )


def _refuse_foreign(own: OwnedFolder) -> None:
    """Nothing that solvar did not write may have the name of a result."""
    for writer in (*_REPLACED, LOG, CHECKPOINT):
        own.refuse_foreign(writer)
    for writer in _DERIVED:
        own.refuse_taken(writer, own.written_by(writer))


def _refuse_replaced(own: OwnedFolder, inputs: Iterable[Path]) -> None:
    names = [name for writer in (*_REPLACED, *_DERIVED) for name in own.written_by(writer)]
    replaced = {(own.root / name).resolve() for name in names}
    for path in inputs:
        if path.resolve() in replaced:
            raise InputError(
                "is an input of this run, and the output would take its place",
                file=path,
                remedy="choose another --output",
            )


def write_run(own: OwnedFolder, fit: Fit, provenance: Provenance) -> None:
    """Write every file of the run folder (docs/file-formats.md).

    An earlier run in the folder stops looking finished before the first new file appears; what was made
    of it goes with it.
    """
    for writer in (*_REPLACED, *_DERIVED):
        own.remove(writer, first="run.json")
    run_id, volumes = provenance.run_id, _volumes(fit)
    tables = ["model.h5", "particles.h5", "particles.star", "poses.pkl", "run.json"]
    *maps, model, particles, star, poses, record = own.claim(RUN, [*volumes, *tables])
    for path, volume in zip(maps, volumes.values(), strict=True):
        write_volume(path, volume, fit.model.pixel_size_angstrom, run_id=run_id)
    _write_model(model, fit, run_id)
    _write_particles(particles, fit, run_id)
    columns = latent_columns(fit.posterior, fit.particle_probability)
    write_star(star, fit.particles, columns)
    if fit.pose_refinement is not None or fit.settings.has_symmetry:
        write_poses_pickle(poses, fit.particles)
    write_json(record, _run_record(fit, provenance))


def _volumes(fit: Fit) -> dict[str, NDArray[np.float32]]:
    """Volumes of a run by the names of their files."""
    model = fit.model
    volumes = {"mean.mrc": model.mean, "mask.mrc": model.mask}
    if fit.focus is not None:
        volumes["focus_mask.mrc"] = fit.focus
    if fit.spatial_weight is not None:
        volumes["spatial_prior.mrc"] = fit.spatial_weight
    if fit.validation is not None:
        volumes["mean_half1.mrc"], volumes["mean_half2.mrc"] = fit.validation.means
        if (change := fit.validation.change) is not None:
            volumes["variance.mrc"], volumes["variance_error.mrc"] = change.variance, change.error
    if fit.ab_initio is not None:
        volumes["consensus.mrc"] = crop_volume(fit.ab_initio.consensus, model.box_size)
    for number, eigenvolume in enumerate(model.eigenvolumes, start=1):
        volumes[f"eigenvolume_{number:03d}.mrc"] = eigenvolume
    return volumes


def _write_model(path: Path, fit: Fit, run_id: str) -> None:
    import h5py

    model = fit.model
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["pixel_size_angstrom"] = model.pixel_size_angstrom
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["run_id"] = run_id
        file.attrs["inverted"] = fit.inverted
        file["mean"] = np.asarray(model.mean, np.float32)
        file["eigenvolumes"] = np.asarray(model.eigenvolumes, np.float32)
        file["eigenvalues"] = np.asarray(model.eigenvalues, np.float64)
        file["mask"] = np.asarray(model.mask, np.float32)
        file["noise_power"] = np.asarray(fit.noise_power, np.float64)
        if fit.corner_noise_power is not None:
            file["corner_noise_power"] = np.asarray(fit.corner_noise_power, np.float64)
        file["prior_precision"] = np.asarray(fit.prior_precision, np.float64)
        _write_validation(file, fit.validation)
        _write_ab_initio(file, fit.ab_initio)
        history = file.create_group("history")
        for key in dict.fromkeys(key for record in fit.history for key in record):
            history[key] = np.array([record.get(key, np.nan) for record in fit.history], np.float64)


_VOLUMES_OR_DOUBT = ("means", "doubt", "change")


def _write_validation(file: h5py.File, validation: HalfsetValidation | None) -> None:
    if validation is None:
        return
    for name, value in vars(validation).items():
        # the means are mean_half1.mrc and mean_half2.mrc, what changes is variance.mrc
        if name not in _VOLUMES_OR_DOUBT and value is not None:
            file[name] = value
    if validation.doubt is None:
        return
    for name, value in vars(validation.doubt.evidence).items():
        file[f"evidence_{name}"] = value


def _write_ab_initio(file: h5py.File, found: AbInitio | None) -> None:
    if found is not None:
        for name in AB_INITIO:
            file[f"ab_initio/{name}"] = getattr(found, name)


def _write_particles(path: Path, fit: Fit, run_id: str) -> None:
    import h5py

    particles, posterior = fit.particles, fit.posterior
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["run_id"] = run_id
        file["uid"] = particles.uid
        file["row"] = particles.row
        file["z"] = posterior.z
        # Single precision halves the largest array; its rounding is far below any error bar.
        write_single(file, "precision", posterior.precision)
        file["contrast"] = posterior.contrast
        file["log_likelihood"] = posterior.log_likelihood
        file["particle_probability"] = fit.particle_probability
        file["rotation"] = particles.poses.rotation
        file["shift_angstrom"] = particles.poses.shift_angstrom
        file["halfset"] = particles.halfset
        if particles.copy_of is not None:
            file["copy_of"] = particles.copy_of
        _write_picks(file, particles.picks)
        _write_refinement(file, fit.pose_refinement)
        for name, values in fit.of_images.items():
            file[name] = values


def _write_picks(file: h5py.File, picks: Picks | None) -> None:
    if picks is None:
        return
    write_strings(file, "micrograph", picks.micrograph)
    file["micrograph_index"] = picks.micrograph_index
    file["coordinate_pixel"] = picks.coordinate_pixel


def _write_refinement(file: h5py.File, refinement: PoseRefinement | None) -> None:
    if refinement is None:
        return
    file["rotation_start"] = refinement.start.rotation
    file["shift_start_angstrom"] = refinement.start.shift_angstrom
    file["pose_covariance"] = refinement.covariance
    for name in ("prior_rotation_degree", "prior_shift_angstrom"):
        file.attrs[name] = getattr(refinement, name)


def latent_columns(posterior: Posterior, probability: Float64) -> dict[str, np.ndarray]:
    """Extra columns (N,) of particles.star; RELION keeps labels that it does not know."""
    columns = {f"solvarZ{j + 1}": z for j, z in enumerate(posterior.z.T)}
    columns["solvarContrast"] = posterior.contrast
    columns["solvarLogLikelihood"] = posterior.log_likelihood
    columns["solvarParticleProbability"] = probability
    return columns


def _doubt_record(validation: HalfsetValidation, model: LowRankModel) -> dict[str, Any]:
    """Verdicts in words, and the numbers about poses that they rest on."""
    if (doubt := validation.doubt) is None:
        return {}
    poses = doubt.poses
    return {
        "verdict": [validation.verdict(j) for j in range(len(validation.reliable))],
        "could_be": [validation.could_be(j) for j in range(len(validation.reliable))],
        "tested_to_angstrom": doubt.resolution,
        "pose_doubt": {
            "rotation_degree": poses.rotation_degree,
            "shift_angstrom": poses.shift_pixel * model.pixel_size_angstrom,
            "most_degree": poses.most_degree,
            "most_angstrom": poses.most_pixel * model.pixel_size_angstrom,
            "removable": poses.removable,
            "beyond_chance": poses.beyond_chance,
            "matter": doubt.poses_matter,
        },
    }


def _run_record(fit: Fit, provenance: Provenance) -> dict[str, Any]:
    particles, model, images = fit.particles, fit.model, fit.particles.exposures
    result: dict[str, Any] = {
        "rank": model.rank,
        "box_size": model.box_size,
        "pixel_size_angstrom": model.pixel_size_angstrom,
        "eigenvalues": model.eigenvalues,
        "inverted": fit.inverted,
        "intensity_factor": fit.intensity_factor,
        "junk_share": float(1 - fit.particle_probability.mean()),
        "monstrous": fit.monstrous,
    }
    if fit.ab_initio is not None:
        told = fit.ab_initio
        result["ab_initio"] = {
            "starts": len(told.evidence),
            "agreed": int(told.agree.sum()),
            "best": told.best,
            "is_molecule": told.is_molecule,
        }
    if fit.block is not None:
        names = fit.settings.block_names
        result["component_masks"] = [names[block] for block in fit.block]
    if fit.normalisation is not None:
        result["normalisation"] = fit.normalisation.numbers()
    if fit.validation is not None:
        result["reliability"] = fit.validation.reliability
        result["reliable"] = fit.validation.reliable
        result["component_resolution_angstrom"] = fit.validation.component_resolution
        result["change"] = fit.validation.change is not None
        result |= _doubt_record(fit.validation, model)
    if fit.tilt_contrasts is not None:
        result["tilt_contrast"] = fit.tilt_contrasts.summary()
    warnings = list(fit.warnings)
    if fit.pose_refinement is not None:
        change = PoseChange.of(particles.poses, fit.pose_refinement)
        result["poses"] = change.summary()
        if fit.tilt_refinement is not None:
            result["tilts"] = fit.tilt_refinement.summary()
        if fit.ab_initio is None or (fit.ab_initio.settled and not change.applied):
            warnings += change.warnings()
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **asdict(provenance),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": fit.settings.seed,
        "settings": fit.settings.model_dump(mode="json"),
        "particles": {
            "count": len(particles),
            **({} if images.are_single else {"images": len(images)}),
            "source": particles.source.absolute(),
            "source_format": particles.source_format,
            "reading": asdict(particles.reading),
            "stacks": len(particles.stacks),
            "optics_groups": len(particles.optics.name),
            **({} if images.tilt is None else {"noise_groups": len(fit.noise_power)}),
            "halfset_sizes": [int(np.sum(particles.halfset == half)) for half in (1, 2)],
        },
        "result": result,
        "stages": [asdict(cost) for cost in fit.costs],
        "warnings": warnings,
    }
