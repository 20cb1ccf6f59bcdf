"""`Run`: a finished run folder, read piece by piece when asked."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from solvar.errors import InputError
from solvar.estimation.model import (
    HalfsetValidation,
    LowRankModel,
    PoseRefinement,
    Posterior,
    StageCost,
)
from solvar.estimation.settings import FitSettings
from solvar.particles import ParticleSet, Poses, read_particles
from solvar.results.poses import PoseChange
from solvar.results.writer import FORMAT, FORMAT_VERSION
from solvar.volume_file import read_volume

if TYPE_CHECKING:
    import h5py


class Run:
    """What the main job left in its folder.

    Opening reads `run.json` alone; volumes and latents are read on first use and kept.

    Parameters
    ----------
    folder : path
        A run folder, as written by ``solvar run``.

    Raises
    ------
    InputError
        If the folder does not hold a finished run that this version can read.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.record: dict[str, Any] = _read_record(self.folder)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {self.particle_count} particles, rank {self.rank})"

    @property
    def rank(self) -> int:
        """Number of eigenvolumes r."""
        return int(self.record["result"]["rank"])

    @property
    def particle_count(self) -> int:
        """Number of particles N."""
        return int(self.record["particles"]["count"])

    @property
    def source(self) -> Path:
        """The particle file that the run was made from."""
        return Path(self.record["particles"]["source"])

    def read_input(self) -> ParticleSet:
        """The run's particles in its order, read again from `source` with the poses that stand there.

        Raises
        ------
        InputError
            If the file cannot be read, or has fewer rows than the run used.
        """
        particles, row = read_particles(self.source), self.particles["row"]
        if len(particles) <= int(row.max()):
            raise InputError("has fewer rows than the run", file=self.source)
        return particles.select(row.astype(np.int64))

    @property
    def pixel_size_angstrom(self) -> float:
        """Pixel size of the volumes, Å."""
        return float(self.record["result"]["pixel_size_angstrom"])

    @property
    def warnings(self) -> list[str]:
        """Plain sentences that the user should read."""
        return list(self.record["warnings"])

    @property
    def costs(self) -> list[StageCost]:
        """Time and memory of each stage."""
        return [StageCost(**stage) for stage in self.record["stages"]]

    @property
    def figures(self) -> list[Path]:
        """The figures that were drawn."""
        return sorted((self.folder / "figures").glob("*.png"))

    @cached_property
    def settings(self) -> FitSettings:
        """The settings that the run started with."""
        return FitSettings(**self.record["settings"])

    @cached_property
    def model(self) -> LowRankModel:
        """Mean, eigenvolumes, eigenvalues and mask."""
        with self._open("model.h5") as file:
            return LowRankModel(
                mean=file["mean"][()],
                eigenvolumes=file["eigenvolumes"][()],
                eigenvalues=file["eigenvalues"][()],
                mask=file["mask"][()],
                pixel_size_angstrom=float(file.attrs["pixel_size_angstrom"]),
            )

    @cached_property
    def posterior(self) -> Posterior:
        """Latents, their precision, contrast and log-likelihood, in input row order."""
        read = self._columns("z", "precision", "contrast", "log_likelihood")
        return Posterior(**{name: column.astype(np.float64) for name, column in read.items()})

    @cached_property
    def particles(self) -> dict[str, np.ndarray]:
        """Identity and pose of each particle, in input row order.

        uid (N,) uint64, row (N,), halfset (N,), rotation (N, 3, 3), shift_angstrom (N, 2).
        """
        return self._columns("uid", "row", "halfset", "rotation", "shift_angstrom")

    @cached_property
    def pose_refinement(self) -> PoseRefinement | None:
        """The input poses and what is known of the refined ones; None when the poses were kept."""
        with self._open("particles.h5") as file:
            if "rotation_start" not in file:
                return None
            return PoseRefinement(
                start=Poses(file["rotation_start"][()], file["shift_start_angstrom"][()]),
                covariance=file["pose_covariance"][()],
                prior_rotation_degree=float(file.attrs["prior_rotation_degree"]),
                prior_shift_angstrom=float(file.attrs["prior_shift_angstrom"]),
            )

    @cached_property
    def pose_change(self) -> PoseChange | None:
        """How far refinement moved each particle; None when the poses were kept."""
        if self.pose_refinement is None:
            return None
        refined = Poses(self.particles["rotation"], self.particles["shift_angstrom"])
        return PoseChange.of(refined, self.pose_refinement)

    @cached_property
    def validation(self) -> HalfsetValidation | None:
        """Agreement of the two halves; None when the run had none."""
        names = [name for name in HalfsetValidation.__annotations__ if name != "means"]
        with self._open("model.h5") as file:
            if "covariance_fsc" not in file:
                return None
            curves = {name: file[name][()] for name in names}
        halves = [read_volume(self.folder / f"mean_half{half}.mrc")[0] for half in (1, 2)]
        return HalfsetValidation(means=np.stack(halves), **curves)

    @cached_property
    def noise_power(self) -> np.ndarray:
        """(G, S) noise power per optics group and shell."""
        with self._open("model.h5") as file:
            return file["noise_power"][()]

    @cached_property
    def prior_precision(self) -> np.ndarray:
        """(S,) precision of the prior per shell."""
        with self._open("model.h5") as file:
            return file["prior_precision"][()]

    @cached_property
    def history(self) -> dict[str, np.ndarray]:
        """One array per quantity followed during the fit, one entry a sweep."""
        with self._open("model.h5") as file:
            return {name: values[()] for name, values in file["history"].items()}

    def volume_at(self, z: ArrayLike) -> NDArray[np.float32]:
        """The model's volume mean + V z at a point in latent space; reads no image.

        ``solvar.reconstruct`` adds what the images of nearby particles hold beyond the model.

        Parameters
        ----------
        z : (r,) array-like
            Latents in eigenvolume units, as in ``posterior.z``: one standard deviation of component j
            is ``√model.eigenvalues[j]``.

        Returns
        -------
        volume : (L, L, L) float32
            Axes z, y, x; ``pixel_size_angstrom`` is its pixel size.

        Raises
        ------
        ValueError
            If there is not one finite latent for each component.
        """
        return self.model.volume_at(z)

    def summary(self) -> dict[str, Any]:
        """The result in few numbers, in JSON's types: what ``solvar run --json`` prints."""
        return {
            "run": str(self.folder),
            **self.record["result"],
            "particles": self.record["particles"],
            "stages": self.record["stages"],
            "warnings": self.warnings,
        }

    def _columns(self, *names: str) -> dict[str, np.ndarray]:
        with self._open("particles.h5") as file:
            return {name: file[name][()] for name in names}

    def _open(self, name: str) -> h5py.File:
        import h5py

        path = self.folder / name
        try:
            return h5py.File(path, "r")
        except OSError as error:
            raise InputError("is missing or damaged", file=path, remedy="repeat the run") from error


def _read_record(folder: Path) -> dict[str, Any]:
    """run.json of a finished run, or the reason why there is none."""
    if not folder.is_dir():
        raise InputError("is not a run folder", file=folder, remedy="pass the --output of a run")
    path = folder / "run.json"
    if not path.is_file():
        raise InputError(
            "holds no finished run (there is no run.json)",
            file=folder,
            remedy="wait until the run has ended, or repeat it",
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError("is not readable as JSON", file=path, remedy="repeat the run") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError("was not written by solvar", file=path)
    if record["format_version"] > FORMAT_VERSION:
        raise InputError(
            f"was written by a newer solvar ({record['version']})",
            file=path,
            remedy="update solvar",
        )
    return record
