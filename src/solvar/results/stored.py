"""The numbers of a run folder, read piece by piece and judged before anybody computes with them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.estimation.causes import CAUSES, ComponentEvidence, PoseDoubt
from solvar.estimation.local_variance import LocalVariance
from solvar.estimation.low_rank import LowRankModel
from solvar.estimation.posterior import PoseRefinement
from solvar.fitting.result import AbInitio, Doubt, HalfsetValidation
from solvar.particles import Picks, Poses
from solvar.results import numbers
from solvar.results.hdf5 import REPEAT, Hdf5File, Shape, opened
from solvar.results.numbers import Expected, Judge
from solvar.results.tilts import OwnTilts
from solvar.volume_file import read_volume, run_id_of

MODEL, PARTICLES = "model.h5", "particles.h5"
_TYPES = {"mean": "f4", "eigenvolumes": "f4", "eigenvalues": "f8", "mask": "f4"}
# What follows the number of particles in the shapes of particles.h5.
_PER_PARTICLE: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("contrast", "log_likelihood", "uid", "row", "halfset"), ()),
    "particle_probability": (),
    "rotation": (3, 3),
}
# Arrays (r,) of the half-set validation.
_PER_COMPONENT = (
    "component_resolution",
    "component_resolution_half",
    "reliability",
    "reliable",
)
# Of what speaks for them, the same, and what follows the number of components.
_EVIDENCE: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("gain", "left", "real", "seen"), ()),
    "explained": (len(CAUSES),),
}


class StoredNumbers:
    """What the files of a run hold beside run.json.

    Each method raises `InputError` where a file is damaged, a link, of another run, or holds what no run
    ends with.

    Parameters
    ----------
    folder : Path
    record : dict
        The content of run.json.
    """

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        self._folder, self._result = folder, record["result"]
        self._run_id, self._particles = str(record["run_id"]), record["particles"]
        self._count = int(self._particles["count"])
        self._box, self._rank = int(self._result["box_size"]), int(self._result["rank"])
        self._extent = self._box * float(self._result["pixel_size_angstrom"])
        # early runs of tilt series have shifts along x and y alone
        self._shift_axes = 2 if self._particles.get("images") is None else None

    def hdf5(self, name: str, remedy: str = REPEAT) -> AbstractContextManager[Hdf5File]:
        """One of the HDF5 files, open for reading."""
        return opened(self._folder, name, self._run_id, remedy)

    def model(self) -> LowRankModel:
        """See `Run.model`."""
        cube = (self._box,) * 3
        shapes: dict[str, Shape] = {
            "mean": cube,
            "eigenvolumes": (self._rank, *cube),
            "eigenvalues": (self._rank,),
            "mask": cube,
        }
        with self.hdf5(MODEL) as file:
            pixel_size = file.number("pixel_size_angstrom")
            found = file.arrays(shapes)
        found = {name: values.astype(_TYPES[name], copy=False) for name, values in found.items()}
        model = LowRankModel(**found, pixel_size_angstrom=pixel_size)
        told = self._result["eigenvalues"], self._result["pixel_size_angstrom"]
        numbers.check_model(model, self._folder / MODEL, *told)
        return model

    def columns(self, *names: str) -> dict[str, NDArray[Any]]:
        """See `Run.columns`."""
        shapes: dict[str, Shape] = {
            **_PER_PARTICLE,
            "shift_angstrom": (self._shift_axes,),
            "z": (self._rank,),
            "precision": (self._rank, self._rank),
        }
        with self.hdf5(PARTICLES) as file:
            found = file.arrays({name: (self._count, *shapes[name]) for name in names})
        for name, values in found.items():
            if values.dtype.kind == "f":
                found[name] = values.astype(np.float64, copy=False)
        eigenvalues = np.asarray(self._result["eigenvalues"], np.float64)
        expected = Expected(eigenvalues, self._particles["halfset_sizes"], self._extent)
        numbers.check_columns(found, self._folder / PARTICLES, expected)
        return found

    def particle_probability(self) -> NDArray[np.float64]:
        """See `Run.particle_probability`."""
        if "junk_share" not in self._result:
            return np.ones(self._count)
        return self.columns("particle_probability")["particle_probability"]

    def copy_of(self) -> NDArray[np.int64] | None:
        """See `Run.copy_of`."""
        with self.hdf5(PARTICLES) as file:
            if "copy_of" not in file:
                return None
            (found,) = file.arrays({"copy_of": (self._count,)}).values()
        lost = (found.dtype.kind not in "iu") | (found < 0) | (found > np.arange(self._count))
        judge = Judge(self._folder / PARTICLES)
        judge.refuse(lost, "copy_of", "points to no earlier row")
        return found.astype(np.int64)

    def picks(self) -> Picks | None:
        """See `Run.picks`."""
        shapes: dict[str, Shape] = {
            "micrograph_index": (self._count,),
            "coordinate_pixel": (self._count, None),
        }
        with self.hdf5(PARTICLES) as file:
            if "coordinate_pixel" not in file:
                return None
            index, coordinate = file.arrays(shapes).values()
            names = file.strings("micrograph")
        lost = (index.dtype.kind not in "iu") | (index < 0) | (index >= len(names))
        judge = Judge(self._folder / PARTICLES)
        judge.refuse(lost, "micrograph_index", "points to no micrograph")
        flat = np.full(self._count, coordinate.shape[1] not in (2, 3))
        judge.refuse(flat, "coordinate_pixel", "is not along two axes, or three")
        return Picks(names, index.astype(np.int64), coordinate.astype(np.float64))

    def refinement(self) -> PoseRefinement | None:
        """See `Run.pose_refinement`."""
        if self._result.get("poses") is None:
            return None
        shapes: dict[str, Shape] = {
            "rotation_start": (self._count, 3, 3),
            "shift_start_angstrom": (self._count, self._shift_axes),
        }
        with self.hdf5(PARTICLES) as file:
            rotation, shift = file.arrays(shapes).values()
            edge = 3 + shift.shape[1]
            (covariance,) = file.arrays({"pose_covariance": (self._count, edge, edge)}).values()
            found = PoseRefinement(
                start=Poses(rotation, shift),
                covariance=covariance,
                prior_rotation_degree=file.number("prior_rotation_degree"),
                prior_shift_angstrom=file.number("prior_shift_angstrom"),
            )
        numbers.check_refinement(found, self._folder / PARTICLES, self._extent)
        return found

    def tilts(self) -> OwnTilts | None:
        """What was found of images of tilt series; None where they were left as they are."""
        names: dict[str, tuple[int, ...]] = {}
        if self._result.get("tilts") is not None:
            names["image_shift_angstrom"] = (2,)
        if self._result.get("tilt_contrast") is not None:
            names["image_contrast"] = ()
        if not names:
            return None
        images = int(self._particles["images"])
        shapes = {"images": (self._count,), **{name: (images, *s) for name, s in names.items()}}
        with self.hdf5(PARTICLES) as file:
            found = file.arrays(shapes)
        count = found.pop("images")
        judge = Judge(self._folder / PARTICLES)
        lost = count.dtype.kind not in "iu" or (count < 1).any() or count.sum() != images
        judge.refuse(lost, "images", "does not say which images each particle has")
        for name, values in found.items():
            judge.finite(name, values)
        shift, contrast = (
            None if name not in found else found[name].astype(np.float64)
            for name in ("image_shift_angstrom", "image_contrast")
        )
        if shift is not None:
            far = np.abs(shift).max(axis=1) > 2 * self._extent
            judge.refuse(far, "image_shift_angstrom", "is longer than the whole box")
        if contrast is not None:
            judge.refuse(contrast <= 0, "image_contrast", "is not above 0")
        return OwnTilts(count.astype(np.int64), shift, contrast)

    def validation(self) -> HalfsetValidation | None:
        """See `Run.validation`."""
        if self._result.get("reliable") is None:
            return None
        shapes: dict[str, Shape] = {
            "mean_fsc": (None,),
            "covariance_fsc": (None, None),
            "component_fsc": (self._rank, None),
            **dict.fromkeys(_PER_COMPONENT, (self._rank,)),
        }
        doubted = self._result.get("pose_doubt") is not None
        if doubted:
            shapes["component_resolution_range"] = (self._rank, 2)
        with self.hdf5(MODEL) as file:
            curves = file.arrays(shapes, truths=("reliable",))
            doubt = self._doubt(file) if doubted else None
        halves = [self.volume(f"mean_half{half}.mrc") for half in (1, 2)]
        found = HalfsetValidation(
            means=np.stack(halves),
            **curves,  # type: ignore[arg-type]
            doubt=doubt,
            change=self.change,
        )
        numbers.check_validation(found, self._folder / MODEL)
        return found

    @cached_property
    def change(self) -> LocalVariance | None:
        """See `Run.change`; read once for it and for `Run.validation`."""
        if not self._result.get("change"):
            return None
        variance, error = (self.volume(name) for name in ("variance.mrc", "variance_error.mrc"))
        judge = Judge(self._folder / "variance_error.mrc")
        judge.refuse(not (error >= 0).all(), "voxels", "are no errors")
        return LocalVariance(variance, error)

    def _doubt(self, file: Hdf5File) -> Doubt:
        """What the half-set validation has of its doubts."""
        shapes = {f"evidence_{name}": (self._rank, *shape) for name, shape in _EVIDENCE.items()}
        found = file.arrays(shapes, truths=("evidence_real", "evidence_seen"))
        evidence = {name.removeprefix("evidence_"): values for name, values in found.items()}
        told = dict(self._result["pose_doubt"])
        matter = told.pop("matter")
        for name in ("shift", "most"):
            told[f"{name}_pixel"] = told.pop(f"{name}_angstrom") * self._box / self._extent
        resolution = float(self._result["tested_to_angstrom"])
        return Doubt(ComponentEvidence(**evidence), PoseDoubt(**told), resolution, matter)

    def ab_initio(self) -> AbInitio | None:
        """See `Run.ab_initio`."""
        told = self._result.get("ab_initio")
        if told is None:
            return None
        count = told["starts"]
        shapes: dict[str, Shape] = {
            **dict.fromkeys(("first", "consensus"), (None, None, None)),
            "volumes": (count, None, None, None),
            **dict.fromkeys(("evidence", "shared", "agree"), (count,)),
        }
        with self.hdf5(MODEL) as file:
            named = {f"ab_initio/{name}": shape for name, shape in shapes.items()}
            arrays = file.arrays(named, truths=("ab_initio/agree",))
        found = {name.removeprefix("ab_initio/"): each for name, each in arrays.items()}
        judge = Judge(self._folder / MODEL)
        for name in ("first", "volumes", "consensus", "evidence", "shared"):
            judge.finite(name, found[name][None], numbers.LARGEST_VOXEL)
        judge.refuse(told["best"] >= count, "ab_initio", "names no start")
        return AbInitio(**found, best=told["best"], is_molecule=told["is_molecule"])  # type: ignore[arg-type]

    def noise_power(self) -> NDArray[np.float64]:
        """See `Run.noise_power`."""
        return self._positive("noise_power", self._noise_groups, None)

    def corner_noise_power(self) -> NDArray[np.float64] | None:
        """See `Run.corner_noise_power`."""
        with self.hdf5(MODEL) as file:
            known = "corner_noise_power" in file
        return self._positive("corner_noise_power", self._noise_groups, None) if known else None

    @property
    def _noise_groups(self) -> int:
        """How many groups of images have a noise of their own."""
        return int(self._particles.get("noise_groups") or self._particles["optics_groups"])

    def prior_precision(self) -> NDArray[np.float64]:
        """See `Run.prior_precision`."""
        return self._positive("prior_precision", None)

    def history(self) -> dict[str, NDArray[Any]]:
        """See `Run.history`."""
        with self.hdf5(MODEL) as file:
            names = file.names("history")
            found = file.arrays({f"history/{name}": (None,) for name in names})
            return dict(zip(names, found.values(), strict=True))

    def volume(self, name: str) -> NDArray[np.float32]:
        """See `Run.volume`."""
        path = self._folder / name
        judge = Judge(path)
        try:
            if run_id_of(path, self._folder) != self._run_id:
                raise InputError("belongs to another run than run.json")
            volume, _ = read_volume(path, self._folder)
            judge.refuse(len(volume) != self._box, "voxels", "has another box than run.json")
            judge.finite("voxels", volume[None], numbers.LARGEST_VOXEL)
        except InputError as error:
            raise InputError(error.problem, file=path, remedy=REPEAT) from error
        return volume

    def _positive(self, name: str, *shape: int | None) -> NDArray[np.float64]:
        """A dataset of model.h5 that holds no negative number; infinity may stand for "none"."""
        with self.hdf5(MODEL) as file:
            found = file.arrays({name: shape})[name].astype(np.float64, copy=False)
        Judge(self._folder / MODEL).refuse(not (found >= 0).all(), name, "holds what is no power")
        return found
