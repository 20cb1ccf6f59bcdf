"""Write a `Fit` to its run folder; `run.json` comes last and marks the run as finished."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from solvar.errors import InputError
from solvar.estimation.model import Fit, HalfsetValidation, PoseRefinement, Posterior
from solvar.files import remove_orphans, replacing, write_json
from solvar.particles import Picks, write_poses_pickle, write_star
from solvar.results.checkpoint import is_interrupted
from solvar.results.log import is_run_log
from solvar.results.poses import PoseChange
from solvar.results.provenance import Provenance
from solvar.results.record import FORMAT, FORMAT_VERSION
from solvar.volume_file import write_volume

if TYPE_CHECKING:
    import h5py

_OWN_FILES = (
    "mean.mrc",
    "mean_half[12].mrc",
    "mask.mrc",
    "eigenvolume_[0-9][0-9][0-9].mrc",
    "model.h5",
    "particles.h5",
    "particles.star",
    "poses.pkl",
    "figures/[1-9]_*.png",
    "report.html",
)


def prepare_folder(
    folder: Path, overwrite: bool = False, resume: bool = False, inputs: Iterable[Path] = ()
) -> Path:
    """Create the run folder, after `check_folder`.

    Parameters
    ----------
    folder : Path
    overwrite : bool
    inputs : iterable of Path
        Files that the run reads.

    Raises
    ------
    InputError
        As `check_folder`, or if the run would replace one of its inputs.
    """
    check_folder(folder, overwrite, resume)
    folder = Path(folder)
    replaced = {path.resolve() for path in _own_files(folder)}
    for path in inputs:
        if path.resolve() in replaced:
            raise InputError(
                "is an input of this run, and the output would take its place",
                file=path,
                remedy="choose another --output",
            )
    folder.mkdir(parents=True, exist_ok=True)
    remove_orphans(folder)
    return folder


def check_folder(folder: Path, overwrite: bool = False, resume: bool = False) -> None:
    """Make sure, before hours are spent, that a run can be written to `folder`; leave no trace.

    Raises
    ------
    InputError
        If `folder` is a file, cannot be created or written to, holds a finished run, or an unfinished
        one that is not to be resumed, and `overwrite` is false, or holds files of other programs
        that the run would replace.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError("is not a folder", file=folder, remedy="choose another --output")
    if (folder / "run.json").exists() and not (overwrite or resume):
        raise InputError(
            "already holds a finished run",
            file=folder,
            remedy="choose another --output or pass --overwrite",
        )
    if is_interrupted(folder) and not (overwrite or resume):
        raise InputError(
            "holds a run that was interrupted",
            file=folder,
            remedy="pass --resume to go on with it, or --overwrite to start again",
        )
    foreign = None if _is_ours(folder) else next(_own_files(folder), None)
    if foreign is not None:
        raise InputError(
            "has the name of a result, but no run wrote it",
            file=foreign,
            remedy="choose another --output",
        )
    try:
        # Bad particles are found later; until then no folder should suggest that there was a run.
        new = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".solvar-writable"
        probe.touch()
        probe.unlink()
        for place in new:
            place.rmdir()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(
            f"cannot be written to ({reason})", file=folder, remedy="choose another --output"
        ) from error


def _own_files(folder: Path) -> Iterator[Path]:
    """Files in `folder` that a run writes and therefore removes first."""
    for pattern in _OWN_FILES:
        yield from sorted(folder.glob(pattern))


def _is_ours(folder: Path) -> bool:
    """Whether a run wrote to `folder` before: it left a record, or the log of an attempt."""
    try:
        with (folder / "run.json").open(encoding="utf-8") as file:
            if f'"{FORMAT}"' in file.read(1000):
                return True
    except (OSError, UnicodeDecodeError):
        pass
    return is_run_log(folder / "run.log")


def write_run(folder: Path, fit: Fit, provenance: Provenance) -> None:
    """Write every file of the run folder (docs/file-formats.md).

    An earlier run in `folder` stops looking finished before the first new file appears.
    """
    folder = Path(folder)
    (folder / "run.json").unlink(missing_ok=True)
    for stale in _own_files(folder):
        stale.unlink()
    _write_volumes(folder, fit)
    _write_model(folder / "model.h5", fit)
    _write_particles(folder / "particles.h5", fit)
    write_star(folder / "particles.star", fit.particles, latent_columns(fit.posterior))
    if fit.pose_refinement is not None:
        write_poses_pickle(folder / "poses.pkl", fit.particles)
    write_json(folder / "run.json", _run_record(fit, provenance))


def _write_volumes(folder: Path, fit: Fit) -> None:
    model = fit.model
    volumes = {"mean": model.mean, "mask": model.mask}
    if fit.validation is not None:
        volumes["mean_half1"], volumes["mean_half2"] = fit.validation.means
    for number, eigenvolume in enumerate(model.eigenvolumes, start=1):
        volumes[f"eigenvolume_{number:03d}"] = eigenvolume
    for name, volume in volumes.items():
        write_volume(folder / f"{name}.mrc", volume, model.pixel_size_angstrom)


def _write_model(path: Path, fit: Fit) -> None:
    import h5py

    model = fit.model
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["pixel_size_angstrom"] = model.pixel_size_angstrom
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["inverted"] = fit.inverted
        file["mean"] = np.asarray(model.mean, np.float32)
        file["eigenvolumes"] = np.asarray(model.eigenvolumes, np.float32)
        file["eigenvalues"] = np.asarray(model.eigenvalues, np.float64)
        file["mask"] = np.asarray(model.mask, np.float32)
        file["noise_power"] = np.asarray(fit.noise_power, np.float64)
        file["prior_precision"] = np.asarray(fit.prior_precision, np.float64)
        _write_validation(file, fit.validation)
        history = file.create_group("history")
        for key in dict.fromkeys(key for record in fit.history for key in record):
            history[key] = np.array([record.get(key, np.nan) for record in fit.history], np.float64)


def _write_validation(file: h5py.File, validation: HalfsetValidation | None) -> None:
    if validation is None:
        return
    for name, value in vars(validation).items():
        if name != "means":  # they are mean_half1.mrc and mean_half2.mrc
            file[name] = value


def _write_particles(path: Path, fit: Fit) -> None:
    import h5py

    particles, posterior = fit.particles, fit.posterior
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format_version"] = FORMAT_VERSION
        file["uid"] = particles.uid
        file["row"] = particles.row
        file["z"] = posterior.z
        # Single precision halves the largest array; its rounding is far below any error bar.
        file["precision"] = posterior.precision.astype(np.float32)
        file["contrast"] = posterior.contrast
        file["log_likelihood"] = posterior.log_likelihood
        file["rotation"] = particles.poses.rotation
        file["shift_angstrom"] = particles.poses.shift_angstrom
        file["halfset"] = particles.halfset
        _write_picks(file, particles.picks)
        _write_refinement(file, fit.pose_refinement)


def _write_picks(file: h5py.File, picks: Picks | None) -> None:
    import h5py

    if picks is None:
        return
    file.create_dataset("micrograph", data=picks.micrograph, dtype=h5py.string_dtype())
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


def latent_columns(posterior: Posterior) -> dict[str, np.ndarray]:
    """Extra columns (N,) of particles.star; RELION keeps labels that it does not know."""
    columns = {f"solvarZ{j + 1}": z for j, z in enumerate(posterior.z.T)}
    columns["solvarContrast"] = posterior.contrast
    columns["solvarLogLikelihood"] = posterior.log_likelihood
    return columns


def _run_record(fit: Fit, provenance: Provenance) -> dict[str, Any]:
    particles, model = fit.particles, fit.model
    result: dict[str, Any] = {
        "rank": model.rank,
        "box_size": model.box_size,
        "pixel_size_angstrom": model.pixel_size_angstrom,
        "eigenvalues": model.eigenvalues,
        "inverted": fit.inverted,
    }
    if fit.validation is not None:
        result["reliability"] = fit.validation.reliability
        result["reliable"] = fit.validation.reliable
        result["component_resolution_angstrom"] = fit.validation.component_resolution
    warnings = list(fit.warnings)
    if fit.pose_refinement is not None:
        change = PoseChange.of(particles.poses, fit.pose_refinement)
        result["poses"] = change.summary()
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
            "source": particles.source.absolute(),
            "source_format": particles.source_format,
            "reading": asdict(particles.reading),
            "stacks": len(particles.stacks),
            "optics_groups": len(particles.optics.name),
            "halfset_sizes": [int(np.sum(particles.halfset == half)) for half in (1, 2)],
        },
        "result": result,
        "stages": [asdict(cost) for cost in fit.costs],
        "warnings": warnings,
    }
