"""`Run`: a finished run folder, read piece by piece when asked."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

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
from solvar.particles import ParticleSet, Picks, Poses, Reading, read_as
from solvar.results import numbers
from solvar.results.hdf5 import REPEAT, Hdf5File, Shape, opened
from solvar.results.inputs import InputFile, refuse_changed
from solvar.results.numbers import Expected, Judge
from solvar.results.poses import PoseChange
from solvar.results.record import read_record, settings_of
from solvar.volume_file import read_volume, run_id_of

_TYPES = {"mean": "f4", "eigenvolumes": "f4", "eigenvalues": "f8", "mask": "f4"}
# What follows the number of particles in the shapes of particles.h5.
_PER_PARTICLE: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("contrast", "log_likelihood", "uid", "row", "halfset"), ()),
    "rotation": (3, 3),
    "shift_angstrom": (2,),
}
# Arrays (r,) of the half-set validation.
_PER_COMPONENT = (
    "component_resolution",
    "component_resolution_half",
    "reliability",
    "reliable",
)


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
    def extent_angstrom(self) -> float:
        """Edge of the box, Å."""
        return self.box_size * self.pixel_size_angstrom

    @cached_property
    def model(self) -> LowRankModel:
        """Mean, eigenvolumes, eigenvalues and mask."""
        box, rank = self.box_size, self.rank
        shapes: dict[str, Shape] = {
            "mean": (box, box, box),
            "eigenvolumes": (rank, box, box, box),
            "eigenvalues": (rank,),
            "mask": (box, box, box),
        }
        with self.hdf5("model.h5") as file:
            pixel_size = file.number("pixel_size_angstrom")
            found = file.arrays(shapes)
        found = {name: values.astype(_TYPES[name], copy=False) for name, values in found.items()}
        model = LowRankModel(**found, pixel_size_angstrom=pixel_size)
        told = self.record["result"]["eigenvalues"]
        numbers.check_model(model, self.folder / "model.h5", told, self.pixel_size_angstrom)
        return model

    @cached_property
    def posterior(self) -> Posterior:
        """Latents, their precision, contrast and log-likelihood, in input row order."""
        return Posterior(**self.columns("z", "precision", "contrast", "log_likelihood"))

    @cached_property
    def particles(self) -> dict[str, np.ndarray]:
        """Identity and pose of each particle, in input row order.

        uid (N,) uint64, row (N,), halfset (N,), rotation (N, 3, 3), shift_angstrom (N, 2).
        """
        return self.columns("uid", "row", "halfset", "rotation", "shift_angstrom")

    def columns(self, *names: str) -> dict[str, np.ndarray]:
        """Some of what `posterior` and `particles` hold, by name; the rest is not read.

        Raises
        ------
        InputError
            If the file is damaged, or holds what no run ends with.
        """
        count, rank = self.particle_count, self.rank
        shapes = {**_PER_PARTICLE, "z": (rank,), "precision": (rank, rank)}
        with self.hdf5("particles.h5") as file:
            found = file.arrays({name: (count, *shapes[name]) for name in names})
        for name in names:
            if found[name].dtype.kind == "f":
                found[name] = found[name].astype(np.float64, copy=False)
        expected = Expected(
            self.eigenvalues, self.record["particles"]["halfset_sizes"], self.extent_angstrom
        )
        numbers.check_columns(found, self.folder / "particles.h5", expected)
        return found

    @cached_property
    def picks(self) -> Picks | None:
        """Micrographs and coordinates of the particles; None where the input had none."""
        count = self.particle_count
        shapes: dict[str, Shape] = {"micrograph_index": (count,), "coordinate_pixel": (count, 2)}
        judge = Judge(self.folder / "particles.h5")
        with self.hdf5("particles.h5") as file:
            if "coordinate_pixel" not in file:
                return None
            index, coordinate = file.arrays(shapes).values()
            names = file.strings("micrograph")
        judge.refuse(
            (index.dtype.kind not in "iu") | (index < 0) | (index >= len(names)),
            "micrograph_index",
            "points to no micrograph",
        )
        return Picks(names, index.astype(np.int64), coordinate.astype(np.float64))

    @cached_property
    def pose_refinement(self) -> PoseRefinement | None:
        """The input poses and what is known of the refined ones; None when the poses were kept."""
        count = self.particle_count
        shapes: dict[str, Shape] = {
            "rotation_start": (count, 3, 3),
            "shift_start_angstrom": (count, 2),
            "pose_covariance": (count, 5, 5),
        }
        with self.hdf5("particles.h5") as file:
            if "rotation_start" not in file:
                return None
            rotation, shift, covariance = file.arrays(shapes).values()
            found = PoseRefinement(
                start=Poses(rotation, shift),
                covariance=covariance,
                prior_rotation_degree=file.number("prior_rotation_degree"),
                prior_shift_angstrom=file.number("prior_shift_angstrom"),
            )
        numbers.check_refinement(found, self.folder / "particles.h5", self.extent_angstrom)
        return found

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
        rank = self.rank
        shapes: dict[str, Shape] = {
            "mean_fsc": (None,),
            "covariance_fsc": (None, None),
            "component_fsc": (rank, None),
            **dict.fromkeys(_PER_COMPONENT, (rank,)),
        }
        with self.hdf5("model.h5") as file:
            if "covariance_fsc" not in file:
                return None
            curves = file.arrays(shapes)
        halves = [self.volume(f"mean_half{half}.mrc") for half in (1, 2)]
        curves["reliable"] = curves["reliable"] != 0
        found = HalfsetValidation(means=np.stack(halves), **curves)
        numbers.check_validation(found, self.folder / "model.h5")
        return found

    @cached_property
    def noise_power(self) -> np.ndarray:
        """(G, S) noise power per optics group and shell."""
        return self._model_array("noise_power", None, None)

    @cached_property
    def prior_precision(self) -> np.ndarray:
        """(S,) precision of the prior per shell."""
        return self._model_array("prior_precision", None)

    @cached_property
    def history(self) -> dict[str, np.ndarray]:
        """One array per quantity followed during the fit, one entry a sweep."""
        with self.hdf5("model.h5") as file:
            names = file.names("history")
            found = file.arrays({f"history/{name}": (None,) for name in names})
            return dict(zip(names, found.values(), strict=True))

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
        return opened(self.folder, name, self.run_id, remedy)

    def volume(self, name: str) -> NDArray[np.float32]:
        """One of the run's volumes (L, L, L), such as ``mean.mrc``, axes z, y, x.

        Raises
        ------
        InputError
            If it is missing, damaged, of another run, or has another box.
        """
        path = self.folder / name
        if run_id_of(path, self.folder) != self.run_id:
            raise InputError("belongs to another run than run.json", file=path, remedy=REPEAT)
        volume, _ = read_volume(path, self.folder)
        judge = Judge(path)
        judge.refuse(len(volume) != self.box_size, "voxels", "has another box than run.json")
        judge.finite("voxels", volume[None], numbers.LARGEST_VOXEL)
        return volume

    def _model_array(self, name: str, *shape: int | None) -> np.ndarray:
        """One dataset of model.h5."""
        with self.hdf5("model.h5") as file:
            return file.arrays({name: shape})[name]


def check_component(run: Run, component: int) -> None:
    """Raise InputError unless the run has `component`, counted from 1."""
    if not 1 <= component <= run.rank:
        raise InputError(
            f"there is no component {component}",
            file=run.folder,
            remedy=f"choose from 1 to {run.rank}, the run's rank",
        )
