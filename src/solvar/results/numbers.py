"""What the numbers of a run must be: judged once, where they are read, so that nobody has to ask again.

A file may have been damaged, mixed up or made up. Whatever no fit ends with is refused with its file, column
and row; what is left is safe to square, invert and divide by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.estimation.low_rank import LowRankModel, prior_spread
from solvar.estimation.posterior import PoseRefinement
from solvar.fitting.result import HalfsetValidation
from solvar.imaging.masks import is_too_small
from solvar.particles.validate import are_rotations
from solvar.results.hdf5 import REPEAT

Bool = NDArray[np.bool_]

# Voxels beyond these cannot be squared in single precision; a fit scales its images to about 1.
LARGEST_VOXEL, _SMALLEST_MEAN = 1e15, 1e-15
# A posterior mean is drawn towards 0: no image leads so many standard deviations away.
_FARTHEST_SIGMA = 1e6
_LARGEST = 1e30
# matrices at a time: r × r float64 of this many is some 50 MB
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Judge:
    """Says what is wrong with a file, at the first row that is.

    Attributes
    ----------
    path : Path
    remedy : str
    """

    path: Path
    remedy: str = REPEAT

    def refuse(self, bad: Bool | np.bool_ | bool, column: str, problem: str) -> None:
        """Raise InputError if anything is `bad`: one entry a row, or one for the whole column."""
        where = np.flatnonzero(bad)
        if len(where):
            row = int(where[0]) if np.ndim(bad) else None
            raise InputError(problem, file=self.path, row=row, column=column, remedy=self.remedy)

    def finite(self, column: str, values: NDArray[Any], largest: float = _LARGEST) -> None:
        """Raise InputError unless every number of each row is finite and not absurd."""
        # one after the other: a truth value for each voxel of each eigenvolume is much to hold
        for row, entry in enumerate(values) if values.ndim > 3 else ():
            if not _is_sane(entry, largest):
                self.refuse(True, f"{column} {row + 1}", _no_number(entry, largest))
        if values.ndim > 3:
            return
        with np.errstate(invalid="ignore"):
            odd: Any = ~(np.abs(values) <= largest)
        bad: Bool = odd.reshape(len(values), -1).any(axis=1)
        if bad.any():
            self.refuse(bad, column, _no_number(values[bad], largest))


def _is_sane(values: NDArray[Any], largest: float) -> bool:
    # NaN and infinity pass through both
    return bool(values.min() >= -largest and values.max() <= largest)


def _no_number(values: NDArray[Any], largest: float) -> str:
    flat = np.ravel(values)
    with np.errstate(invalid="ignore"):
        value = flat[~(np.abs(flat) <= largest)][0]
    return f"holds {value:g}, which no run ends with"


def check_model(model: LowRankModel, path: Path, eigenvalues: list[float], pixel: float) -> None:
    """Raise InputError unless the model of `path` can be one.

    Parameters
    ----------
    model : LowRankModel
    path : Path
    eigenvalues : list of float
    pixel : float
        As run.json has them.
    """
    judge = Judge(path)
    judge.finite("eigenvalues", model.eigenvalues)
    judge.refuse(model.eigenvalues < 0, "eigenvalues", "is negative")
    same = np.allclose(model.eigenvalues, eigenvalues, rtol=1e-6, atol=0)
    judge.refuse(not same, "eigenvalues", "are others than those of run.json")
    same = bool(np.isclose(model.pixel_size_angstrom, pixel, rtol=1e-6, atol=0))
    judge.refuse(not same, "pixel_size_angstrom", "is another than that of run.json")
    check_mean(judge, "mean", model.mean)
    check_mask(judge, "mask", model.mask)
    # of unit length, so that no voxel is beyond 1
    judge.finite("eigenvolumes", model.eigenvolumes, 1.01)


def check_mean(judge: Judge, column: str, mean: NDArray[np.floating]) -> None:
    """Raise InputError unless a mean volume holds something."""
    judge.refuse(not _is_sane(mean, LARGEST_VOXEL), column, "holds voxels that no run ends with")
    judge.refuse(max(mean.max(), -mean.min()) < _SMALLEST_MEAN, column, "is empty")


def check_mask(judge: Judge, column: str, mask: NDArray[np.floating]) -> None:
    """Raise InputError unless a mask leaves room for a molecule."""
    outside = not (mask.min() >= -0.01 and mask.max() <= 1.01)
    judge.refuse(outside, column, "holds values that are not between 0 and 1")
    judge.refuse(is_too_small(mask), column, "is empty, or as good as empty")


@dataclass(frozen=True)
class Expected:
    """What run.json says of the particles.

    Attributes
    ----------
    eigenvalues : (r,) float64
    halfset_sizes : list of int
    extent_angstrom : float
        Edge of the box.
    """

    eigenvalues: NDArray[np.float64]
    halfset_sizes: list[int]
    extent_angstrom: float


def check_columns(found: Mapping[str, NDArray[Any]], path: Path, expected: Expected) -> None:
    """Raise InputError unless columns of particles.h5 can be those of a run.

    Parameters
    ----------
    found : mapping of name to (N, …)
        Some of z, precision, contrast, log_likelihood, particle_probability, uid, row, halfset, rotation and
        shift_angstrom.
    path : Path
    expected : Expected
    """
    judge = Judge(path)
    for name, values in found.items():
        if name in ("uid", "row", "halfset"):
            _check_counts(judge, name, values)
        elif name == "precision":
            _check_precision(judge, values)
        else:
            judge.finite(name, values)
    if "z" in found:
        far = np.abs(found["z"]) > _FARTHEST_SIGMA * prior_spread(expected.eigenvalues)
        judge.refuse(far.any(axis=1), "z", "is farther away than any latent can be")
    if "particle_probability" in found:
        probability = found["particle_probability"]
        outside = (probability < 0) | (probability > 1)
        judge.refuse(outside, "particle_probability", "is no probability")
    if "halfset" in found:
        sizes = [int(np.sum(found["halfset"] == half)) for half in (1, 2)]
        same = sizes == expected.halfset_sizes
        judge.refuse(not same, "halfset", f"has halves of {sizes} particles, run.json has others")
    if "rotation" in found:
        check_poses(judge, found, expected.extent_angstrom)


def _check_counts(judge: Judge, name: str, values: NDArray[Any]) -> None:
    judge.refuse(values.dtype.kind not in "iu", name, "holds other things than counts")
    judge.refuse(values < 0, name, "is negative")
    if name == "halfset":
        judge.refuse(values > 2, name, "is none of 0, 1 and 2")
        return
    judge.refuse(_is_repeated(values), name, "is that of an earlier particle too")
    if name == "row":
        judge.refuse(values >= 2**53, name, "is beyond any file")


def _check_precision(judge: Judge, matrices: NDArray[np.float64]) -> None:
    for start in range(0, len(matrices), _BLOCK):
        good = _are_precisions(matrices[start : start + _BLOCK])
        if not good.all():
            bad = np.zeros(len(matrices), dtype=bool)
            bad[start : start + _BLOCK] = ~good
            problem = "is no precision: it is not symmetric and positive definite"
            judge.refuse(bad, "precision", problem)


def _are_precisions(matrices: NDArray[np.float64]) -> Bool:
    """Which of the matrices (N, r, r) are symmetric and positive definite; (N,) bool."""
    diagonal = np.diagonal(matrices, axis1=1, axis2=2)
    with np.errstate(invalid="ignore", over="ignore"):
        good: Any = ((diagonal > 0) & (diagonal <= _LARGEST**2)).all(axis=1)
        good &= np.isfinite(matrices).all(axis=(1, 2))
        scale = 1 / np.sqrt(np.where(good[:, None], diagonal, 1))
        scaled = matrices * scale[:, :, None] * scale[:, None]
        good &= np.abs(scaled - scaled.swapaxes(1, 2)).max(axis=(1, 2)) < 1e-3
    scaled[~good] = np.eye(matrices.shape[1])
    try:
        np.linalg.cholesky(scaled)
    except np.linalg.LinAlgError:
        good &= np.linalg.eigvalsh(scaled)[:, 0] > 0
    return good


def check_poses(
    judge: Judge, found: Mapping[str, NDArray[Any]], extent_angstrom: float, ending: str = ""
) -> None:
    """Raise InputError unless these are rotations (N, 3, 3) and shifts (N, 2 or 3) that stay in the box."""
    rotation, shift = f"rotation{ending}", f"shift{ending}_angstrom"
    judge.finite(rotation, found[rotation])
    judge.refuse(~are_rotations(found[rotation]), rotation, "is not a rotation")
    judge.refuse(found[shift].shape[1] not in (2, 3), shift, "is not along two axes, or three")
    judge.finite(shift, found[shift])
    # an input's may be as long as the box, and refinement adds to it
    far = np.abs(found[shift]).max(axis=1) > 2 * extent_angstrom
    judge.refuse(far, shift, "is longer than the whole box")


def _is_repeated(values: NDArray[np.integer]) -> Bool:
    """(N,) whether an earlier entry is the same."""
    first = np.zeros(len(values), dtype=bool)
    first[np.unique(values, return_index=True)[1]] = True
    return ~first


def check_refinement(refinement: PoseRefinement, path: Path, extent_angstrom: float) -> None:
    """Raise InputError unless input poses and covariances can be those of a refinement."""
    judge, start = Judge(path), refinement.start
    poses = {"rotation_start": start.rotation, "shift_start_angstrom": start.shift_angstrom}
    check_poses(judge, poses, extent_angstrom, "_start")
    judge.finite("pose_covariance", refinement.covariance)
    diagonal = np.diagonal(refinement.covariance, axis1=1, axis2=2)
    judge.refuse((diagonal < 0).any(axis=1), "pose_covariance", "has a negative variance")
    for name in ("prior_rotation_degree", "prior_shift_angstrom"):
        judge.refuse(not 0 <= getattr(refinement, name) <= _LARGEST, name, "is no width")


def check_validation(validation: HalfsetValidation, path: Path) -> None:
    """Raise InputError unless curves, resolutions and verdicts belong together; NaN is allowed in them."""
    judge, shells = Judge(path), len(validation.mean_fsc)
    judge.refuse(shells < 2, "mean_fsc", "is too short for a curve")
    for name in ("covariance_fsc", "component_fsc"):
        shape = getattr(validation, name).shape
        wanted = (shells, shells) if name == "covariance_fsc" else (shape[0], shells)
        judge.refuse(shape != wanted, name, f"has the shape {shape} beside {shells} shells")
    for name in ("mean_fsc", "covariance_fsc", "component_fsc", "reliability"):
        values = np.nan_to_num(getattr(validation, name), nan=0.0, posinf=np.inf, neginf=-np.inf)
        judge.refuse((np.abs(values) > 10).any(), name, "is no correlation")
    for name in ("component_resolution", "component_resolution_half"):
        values = getattr(validation, name)
        judge.refuse(~(values > 0), name, "is no resolution")
    if validation.component_resolution_range is not None:
        bad = ~(validation.component_resolution_range > 0).all(axis=1)
        judge.refuse(bad, "component_resolution_range", "is no resolution")
    if validation.doubt is not None:
        found = validation.doubt.evidence
        judge.refuse(~np.isfinite(found.gain), "evidence_gain", "is no gain")
        for name in ("explained", "left"):
            values = getattr(found, name).reshape(len(found.gain), -1)
            judge.refuse(
                ~((values >= 0) & (values <= 1)).all(axis=1), f"evidence_{name}", "is no share"
            )
    for half, mean in enumerate(validation.means, 1):
        check_mean(Judge(path.with_name(f"mean_half{half}.mrc")), "voxels", mean)
