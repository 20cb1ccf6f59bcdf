"""Ground truth of a simulated data set, as `solvar simulate` and the reference data lay it out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.files import open_regular
from solvar.imaging.fourier import crop_volume
from solvar.mrc_header import read_mrc
from solvar.particles.npy import read_npz
from solvar.volume_file import read_volume

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known about N simulated particles; what a folder does not hold is None.

    Attributes
    ----------
    folder : Path
    box_size : int
        L of the volumes.
    pixel_size_angstrom : float
        Voxel size of the volumes.
    image_pixel_size_angstrom : float
        Pixel size of the particles; differs from the former after `resampled`.
    rotation : (N, 3, 3) float64 or None
        R: the image samples the transform at R·(kx, ky, 0).
    shift_angstrom : (N, 2 or 3) float64 or None
        Shift that centres each particle.
    contrast : (N,) float64 or None
    state : (N,) int64 or None
        Discrete state.
    state_coordinate : (N, d) float64 or None
        Where each particle is on its motion(s).
    latent : (N, q) float64 or None
        Exact latents in units of `eigenvolumes` (variance = eigenvalue) of a low-rank model.
    noise_power : (L, L) or (G, L, L) float or None
        Centred power spectrum of the noise.
    mean, mask : (L, L, L) float32 or None
    eigenvolumes : (q, L, L, L) float32 or None
        Orthonormal eigenvolumes × √eigenvalue, descending.
    volumes : dict of name to Path
        Volumes of some conformations.
    volume_coordinate : (K, d) float64 or None
        Where the K `volumes` are, in the order of their names: in `state_coordinate`, or in `latent` where
        there is none.
    """

    folder: Path
    box_size: int
    pixel_size_angstrom: float
    image_pixel_size_angstrom: float
    rotation: Float64 | None = None
    shift_angstrom: Float64 | None = None
    contrast: Float64 | None = None
    state: NDArray[np.int64] | None = None
    state_coordinate: Float64 | None = None
    latent: Float64 | None = None
    noise_power: NDArray[np.floating] | None = None
    mean: Float32 | None = None
    mask: Float32 | None = None
    eigenvolumes: Float32 | None = None
    volumes: Mapping[str, Path] = field(default_factory=dict)
    volume_coordinate: Float64 | None = None

    @classmethod
    def load(cls, folder: str | Path) -> Truth:
        """Read gt.npz and the volumes beside it.

        Only gt.npz with `apix` and `L` is required. Raises `InputError` when it is missing,
        unreadable, or contradicts itself.
        """
        folder = Path(folder)
        path = folder / "gt.npz"
        table = _read_table(path)
        box_size, pixel_size = int(table["L"].item()), float(table["apix"].item())
        rotation, position = table.get("rotations"), table.get("shift_px")
        coordinate, place = table.get("state_coord"), table.get("vol_coord")
        truth = cls(
            folder=folder,
            box_size=box_size,
            pixel_size_angstrom=pixel_size,
            image_pixel_size_angstrom=pixel_size,
            # the file holds RELION's matrix, the transpose of ours, and the particle's position
            rotation=None if rotation is None else np.swapaxes(rotation, -1, -2),
            shift_angstrom=None if position is None else -position * pixel_size,
            contrast=table.get("contrast"),
            state=table.get("state"),
            state_coordinate=None if coordinate is None else _as_columns(coordinate),
            latent=table.get("z"),
            noise_power=table.get("noise_power"),
            mean=_optional_volume(folder / "gt_mean.mrc", box_size),
            mask=_optional_volume(folder / "mask.mrc", box_size),
            eigenvolumes=_stacked_volumes(folder / "gt_eigenvolumes.mrc", box_size),
            volumes={file.stem: file for file in sorted((folder / "vols").glob("*.mrc"))},
            volume_coordinate=None if place is None else _as_columns(place),
        )
        _check_lengths(truth, path)
        return truth

    def resampled(self, box_size: int) -> Truth:
        """The truth for images Fourier-cropped to `box_size`.

        Transform values are kept, as the images' are; `volumes`, which are paths, stay as they are.
        """
        if box_size == self.box_size:
            return self

        def crop(volume: Float32 | None) -> Float32 | None:
            return None if volume is None else crop_volume(volume, box_size)

        factor = box_size / self.box_size
        mask = crop(self.mask)
        return replace(
            self,
            box_size=box_size,
            pixel_size_angstrom=self.pixel_size_angstrom / factor,
            mean=crop(self.mean),
            eigenvolumes=crop(self.eigenvolumes),
            # a mask keeps its values, not its transform
            mask=None if mask is None else np.clip(mask * factor**3, 0, 1),
            noise_power=None,
        )

    def select(self, row: NDArray[np.int64]) -> Truth:
        """The truth of the particles in rows `row`."""
        count = self.count
        if count is not None and len(row) and (row.min() < 0 or row.max() >= count):
            raise InputError(
                f"knows {count} particles, not row {int(row.max()) + 1} of the run",
                file=self.folder / "gt.npz",
                remedy="give the truth of the particles that were run",
            )
        chosen: dict[str, Any] = {
            name: None if (value := getattr(self, name)) is None else value[row]
            for name in _PER_PARTICLE
        }
        return replace(self, **chosen)

    def along(self, axes: int) -> Truth:
        """The truth for particles whose shifts are known along so many axes, the first ones.

        Raises
        ------
        InputError
            If it knows of fewer.
        """
        shift = self.shift_angstrom
        if shift is None or shift.shape[1] == axes:
            return self
        if shift.shape[1] < axes:
            raise InputError(
                f"knows where particles are along {shift.shape[1]} axes, those of the run were tilted",
                file=self.folder / "gt.npz",
                remedy="give the truth of the particles that were run",
            )
        return replace(self, shift_angstrom=shift[:, :axes])

    def state_group(self) -> NDArray[np.int64] | None:
        """A number for the state of each particle, (N,); None where the truth knows of no states.

        The discrete state if there are few; else some ten bins of equal population along the state
        coordinate, which for two coordinates and more are the cells of the first two.
        """
        if self.state is not None and len(np.unique(self.state)) <= _MOST_STATES:
            return self.state
        if self.state_coordinate is None:
            return None
        coordinate = self.state_coordinate[:, :2]
        bins = 10 if coordinate.shape[1] == 1 else 3
        group = np.zeros(len(coordinate), np.int64)
        for column in coordinate.T:
            edges = np.quantile(column, np.arange(1, bins) / bins)
            group = group * bins + np.searchsorted(edges, column, side="right")
        return group

    def discrete_state(self) -> NDArray[np.int64] | None:
        """The discrete state of each particle, (N,); None where states are steps of a motion.

        They are taken for steps if they are many and have coordinates.
        """
        if self.state is None:
            return None
        steps = len(np.unique(self.state)) > _MOST_STATES and self.state_coordinate is not None
        return None if steps else self.state

    @property
    def count(self) -> int | None:
        """Number of particles N; None when nothing is known of any particle."""
        known = (getattr(self, name) for name in _PER_PARTICLE)
        return next((len(value) for value in known if value is not None), None)


_MOST_STATES = 20  # more are steps of a continuous motion, with few particles each
_PER_PARTICLE = ("rotation", "shift_angstrom", "contrast", "state", "state_coordinate", "latent")


# Edges that follow the first of what is read from gt.npz; None stands for any, or for no such edge.
_EDGES: dict[str, tuple[tuple[int | None, ...], ...]] = {
    "rotations": ((3, 3),),
    "shift_px": ((2,), (3,)),
    "contrast": ((),),
    "state": ((),),
    "state_coord": ((), (None,)),
    "vol_coord": ((), (None,)),
    "z": ((None,),),
    "noise_power": ((None,), (None, None)),
}
_LARGEST_BOX = 4096


def _read_table(path: Path) -> dict[str, Any]:
    """What is used of gt.npz: numbers, finite, in the shapes that they should have."""
    try:
        with open_regular(path) as file:
            table = read_npz(file)
    except FileNotFoundError:
        raise InputError(
            "there is no gt.npz",
            file=path.parent,
            remedy="give a folder that `solvar simulate` wrote",
        ) from None
    # a damaged archive, or a damaged array in it, raises nearly anything
    except Exception as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot be read as a table of arrays ({reason})", file=path) from error
    for name in ("L", "apix"):
        _check_number(path, name, table.get(name))
    for name, edges in _EDGES.items():
        if name in table:
            _check_array(path, name, table[name], edges)
    return table


def _check_number(path: Path, name: str, array: NDArray[Any] | None) -> None:
    number = np.nan if array is None or array.size != 1 or array.dtype.kind not in "fiu" else array
    value = float(np.reshape(number, ()))
    if not 0 < value < np.inf:
        raise InputError("is missing or not a positive number", file=path, column=name)
    if name == "L" and not (value.is_integer() and 2 <= value <= _LARGEST_BOX):
        raise InputError(f"is no edge of a volume ({value:g})", file=path, column=name)


def _check_array(
    path: Path, name: str, array: NDArray[Any], edges: tuple[tuple[int | None, ...], ...]
) -> None:
    fits = any(
        len(array.shape) == 1 + len(rest)
        and all(wanted in (None, edge) for wanted, edge in zip(rest, array.shape[1:], strict=True))
        for rest in edges
    )
    kinds = "iu" if name == "state" else "fiu"
    if not fits or array.dtype.kind not in kinds:
        problem = f"holds {array.dtype} of shape {array.shape}, not what simulations hold there"
        raise InputError(problem, file=path, column=name)
    if not np.isfinite(array).all():
        raise InputError("holds numbers that are not finite", file=path, column=name)


def _check_lengths(truth: Truth, path: Path) -> None:
    for name in _PER_PARTICLE:
        value = getattr(truth, name)
        if value is not None and len(value) != truth.count:
            raise InputError(
                f"{name} has {len(value)} rows and other arrays have {truth.count}", file=path
            )
    place = truth.volume_coordinate
    if place is not None and truth.volumes and len(place) != len(truth.volumes):
        raise InputError(
            f"vol_coord has {len(place)} rows and vols/ holds {len(truth.volumes)} volumes",
            file=path,
        )


def _as_columns(coordinate: Float64) -> Float64:
    return coordinate[:, None] if coordinate.ndim == 1 else coordinate


def _optional_volume(path: Path, box_size: int) -> Float32 | None:
    if not os.path.lexists(path):
        return None
    volume, _ = read_volume(path)
    if len(volume) != box_size:
        raise InputError(f"has a box of {len(volume)} voxels, gt.npz says {box_size}", file=path)
    return volume


def _stacked_volumes(path: Path, box_size: int) -> Float32 | None:
    """Volumes stacked along z, (q·L, L, L) on disk, as (q, L, L, L)."""
    if not os.path.lexists(path):
        return None
    _, data = read_mrc(path)
    if data.shape[1:] != (box_size, box_size) or len(data) % box_size:
        raise InputError(
            f"has shape {data.shape}, not volumes of {box_size} voxels stacked along z", file=path
        )
    if not np.isfinite(data).all():
        raise InputError("holds NaN or infinite voxels", file=path)
    return np.ascontiguousarray(data, np.float32).reshape(-1, box_size, box_size, box_size)
