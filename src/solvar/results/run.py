"""`Run`: a finished run folder, read piece by piece when asked."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from solvar.errors import InputError
from solvar.estimation.local_variance import LocalVariance
from solvar.estimation.low_rank import LowRankModel
from solvar.estimation.posterior import PoseRefinement, Posterior
from solvar.fitting.result import AbInitio, HalfsetValidation, StageCost
from solvar.fitting.settings import FitSettings
from solvar.particles import ParticleSet, Picks, Poses, Reading, read_as
from solvar.particles.copies import image_places
from solvar.results.hdf5 import REPEAT, Hdf5File
from solvar.results.inputs import InputFile, refuse_changed
from solvar.results.poses import PoseChange
from solvar.results.record import read_record, settings_of
from solvar.results.stored import StoredNumbers


class Run:
    """What the main job left in its folder.

    Opening reads `run.json` alone; volumes and latents are read on first use and kept.

    Parameters
    ----------
    folder : path
        A run folder, as written by ``solvar run``.
    reading : mapping, optional
        Keyword arguments of `read_particles` for the run's input that take the place of the recorded
        ones, as where a file has moved.

    Raises
    ------
    InputError
        If the folder does not hold a finished run that this version can read.
    """

    def __init__(self, folder: str | Path, reading: Mapping[str, Any] | None = None) -> None:
        self.folder = Path(folder)
        self._given = dict(reading or {})
        self.record: dict[str, Any] = read_record(self.folder)
        self._stored = StoredNumbers(self.folder, self.record)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {self.particle_count} particles, rank {self.rank})"

    @property
    def run_id(self) -> str:
        """Identity of the run, which stands in each of its files."""
        return str(self.record["run_id"])

    @property
    def rank(self) -> int:
        """Number of eigenvolumes r."""
        return int(self.record["result"]["rank"])

    @property
    def box_size(self) -> int:
        """Edge L of the volumes, voxels."""
        return int(self.record["result"]["box_size"])

    @property
    def particle_count(self) -> int:
        """Number of particles N."""
        return int(self.record["particles"]["count"])

    @property
    def is_of_tilts(self) -> bool:
        """Whether particles have several images, a tilt series."""
        return self.record["particles"].get("images") is not None

    @property
    def source(self) -> Path:
        """The particle file that the run was made from."""
        return Path(self.record["particles"]["source"])

    @property
    def reading(self) -> Reading:
        """How `source` was read, with the options given to this `Run` in place of the recorded ones.

        Early run folders kept no record of it: there, what is not given has its default.
        """
        recorded = self.record["particles"].get("reading", {})
        return Reading.of_record(recorded).updated(self._given)

    def reading_of(self, path: Path) -> Reading:
        """How to read a particle file: as the run did if it is its input, else by default."""
        return self.reading if Path(path).resolve() == self.source.resolve() else Reading()

    @property
    def inputs(self) -> tuple[InputFile, ...]:
        """What the run read: particle file, files beside it, stacks and mask, in this order."""
        return tuple(InputFile(**each) for each in self.record["inputs"])

    def read_input(self, *, pixels: bool = False) -> ParticleSet:
        """The run's particles in its order, read again as the run read them, with the input's poses.

        Parameters
        ----------
        pixels : bool
            Whether their images will be read: then these are compared with what the run read, byte by
            byte where they are not too long, and not only by size and time.

        Raises
        ------
        InputError
            If the files cannot be read, have changed since the run, or no longer hold its particles.
        """
        ours = self.particles
        found = read_as(self.source, self.reading, ours["row"].astype(np.int64))
        metadata = [found.source, *found.reading.files]
        places = list(dict.fromkeys([*metadata, *found.stacks]))
        # the mask, which comes last, stands in the run folder as it was used
        recorded = self.inputs[: len(places)]
        if len(recorded) < len(places):
            raise InputError(
                "names more image files than when the run was made",
                file=self.source,
                remedy="restore the file",
            )
        first = len(dict.fromkeys(metadata))
        refuse_changed(recorded[:first], places[:first])
        refuse_changed(recorded[first:], places[first:], glance=not pixels)
        other = np.flatnonzero(found.uid != ours["uid"])
        if len(other):
            raise InputError(
                f"holds other particles than when the run was made, {len(other):,} of {len(found):,}",
                file=self.source,
                row=int(ours["row"][other[0]]),
                remedy="restore the file",
            )
        return found

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
        return settings_of(self.record, self.folder / "run.json")

    @property
    def eigenvalues(self) -> NDArray[np.float64]:
        """(r,) variance of the latents along each eigenvolume; reads no volume."""
        return np.asarray(self.record["result"]["eigenvalues"], np.float64)

    @property
    def intensity_factor(self) -> float:
        """What pixel values were multiplied by: volumes, latents and noise are in these units."""
        return float(self.record["result"].get("intensity_factor", 1.0))

    @property
    def extent_angstrom(self) -> float:
        """Edge of the box, Å."""
        return self.box_size * self.pixel_size_angstrom

    @cached_property
    def model(self) -> LowRankModel:
        """Mean, eigenvolumes, eigenvalues and mask."""
        return self._stored.model()

    @property
    def component_masks(self) -> list[str] | None:
        """Name of the focus mask that each component lives in, or "rest"; None where they share one."""
        return self.record["result"].get("component_masks")

    @cached_property
    def posterior(self) -> Posterior:
        """Latents, their precision, contrast and log-likelihood, in input row order."""
        return Posterior(**self.columns("z", "precision", "contrast", "log_likelihood"))

    @cached_property
    def particle_probability(self) -> NDArray[np.float64]:
        """(N,) that the images of each particle show one; 1 in runs of early versions."""
        return self._stored.particle_probability()

    @property
    def monstrous(self) -> int:
        """How many particles were left out because an image stands out by its power."""
        return int(self.record["result"].get("monstrous", 0))

    @cached_property
    def particles(self) -> dict[str, np.ndarray]:
        """Identity and pose of each particle, in input row order.

        uid (N,) uint64, row (N,), halfset (N,), rotation (N, 3, 3), shift_angstrom
        (N, 2), of a tilt series (N, 3).
        """
        return self.columns("uid", "row", "halfset", "rotation", "shift_angstrom")

    def columns(self, *names: str) -> dict[str, np.ndarray]:
        """Some of what `posterior` and `particles` hold, by name; the rest is not read.

        Raises
        ------
        InputError
            If the file is damaged, or holds what no run ends with.
        """
        return self._stored.columns(*names)

    @cached_property
    def copy_of(self) -> NDArray[np.int64] | None:
        """(N,) position of the first row of each particle; None without symmetry copies."""
        return self._stored.copy_of()

    @property
    def distinct_particles(self) -> int:
        """How many particles the rows show: fewer than rows where some are symmetry copies."""
        return self.particle_count if self.copy_of is None else len(np.unique(self.copy_of))

    @cached_property
    def picks(self) -> Picks | None:
        """Micrographs and coordinates of the particles; None where the input had none."""
        return self._stored.picks()

    @cached_property
    def pose_refinement(self) -> PoseRefinement | None:
        """The input poses and what is known of the refined ones; None when the poses were kept."""
        return self._stored.refinement()

    def with_own_tilts(self, particles: ParticleSet, in_run: NDArray[np.int64]) -> ParticleSet:
        """Particles that are those of the run at `in_run`, their images with shifts and contrasts of the run.

        Images that the run left out keep their own.

        Raises
        ------
        InputError
            If a particle has another number of images than in the run.
        """
        found = self._stored.tilts()
        if found is None:
            return particles
        used = np.ones(len(particles.exposures), bool)
        if self.reading.limits and not particles.reading.limits:
            used = np.isin(image_places(particles), image_places(self.read_input()))
        exposures = found.of(in_run).given_to(particles.exposures, used)
        if exposures is None:
            raise InputError(
                f"has other numbers of tilts of particles than {self.folder}, which has fitted them",
                file=particles.source,
                remedy="pass the file that the run was made from",
            )
        return replace(particles, exposures=exposures)

    @property
    def has_own_poses(self) -> bool:
        """Whether the poses of the run are others than those of the input."""
        return self.pose_refinement is not None or self.settings.has_symmetry

    @cached_property
    def pose_change(self) -> PoseChange | None:
        """How far refinement moved each particle; None when the poses were kept."""
        if self.pose_refinement is None:
            return None
        refined = Poses(self.particles["rotation"], self.particles["shift_angstrom"])
        return PoseChange.of(refined, self.pose_refinement)

    @cached_property
    def ab_initio(self) -> AbInitio | None:
        """How poses were found from the images alone; None where they were given."""
        return self._stored.ab_initio()

    @cached_property
    def validation(self) -> HalfsetValidation | None:
        """Agreement of the two halves; None when the run had none."""
        return self._stored.validation()

    @property
    def change(self) -> LocalVariance | None:
        """Where density changes from particle to particle; None where no component is sure enough."""
        return self._stored.change

    def is_real(self, component: int) -> bool:
        """Whether a component, from 0, is told from noise; all are believed where half-sets did not ask."""
        return self.validation is None or bool(self.validation.reliable[component])

    @cached_property
    def noise_power(self) -> np.ndarray:
        """(G, S) noise power per optics group and shell."""
        return self._stored.noise_power()

    @cached_property
    def corner_noise_power(self) -> np.ndarray | None:
        """(G, S) what the corners of the images said of the noise; None in runs that did not keep it."""
        return self._stored.corner_noise_power()

    @cached_property
    def prior_precision(self) -> np.ndarray:
        """(S,) precision of the prior per shell."""
        return self._stored.prior_precision()

    @cached_property
    def history(self) -> dict[str, np.ndarray]:
        """One array per quantity followed during the fit, one entry a sweep."""
        return self._stored.history()

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

    def hdf5(self, name: str, remedy: str = REPEAT) -> AbstractContextManager[Hdf5File]:
        """One of the run's HDF5 files, open for reading; `remedy` is told where it is damaged.

        Raises
        ------
        InputError
            If it is damaged, leads out of the folder, or belongs to another run.
        """
        return self._stored.hdf5(name, remedy)

    def volume(self, name: str) -> NDArray[np.float32]:
        """One of the run's volumes (L, L, L), such as ``mean.mrc``, axes z, y, x.

        Raises
        ------
        InputError
            If it is missing, damaged, of another run, or has another box.
        """
        return self._stored.volume(name)


def check_component(run: Run, component: int) -> None:
    """Raise InputError unless the run has `component`, counted from 1."""
    if not 1 <= component <= run.rank:
        raise InputError(
            f"there is no component {component}",
            file=run.folder,
            remedy=f"choose from 1 to {run.rank}, the run's rank",
        )
