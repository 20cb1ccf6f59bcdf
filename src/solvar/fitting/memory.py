"""What the volumes of a fit take, beside its images: what is computed with, and what waits."""

from __future__ import annotations

from dataclasses import dataclass

from solvar.estimation.band import GRADIENT_CHUNK, band_box, images_that_fit
from solvar.estimation.pose_errors import MOTIONS
from solvar.files.shelf import LEAST
from solvar.fitting.schedule import batch_count, spare_columns
from solvar.fitting.settings import FitSettings
from solvar.imaging.fourier import HalfDisc
from solvar.imaging.projector.kernel import KERNELS
from solvar.imaging.projector.lattice import Lattice

_FLOAT, _COMPLEX = 4, 8
# of the coefficients of half a grid, those in the shells of a band
_BALL_SHARE = 0.53
# masks, means and information of which a step looks at some
_FLAT_VOLUMES = 5
# sets of columns: of the models of both halves under way, those they start from, and those to go back to
_SETS_OF_HALVES, _MOST_AT_HAND = 3, 2
# the components of the final model beside rigid motions and the mean alone
_BESIDE_COMPONENTS = MOTIONS + 1
# a lattice of one volume, and what lies between two steps of its transform
_TRANSFORMING = 2


@dataclass(frozen=True)
class VolumeMemory:
    """Bytes of the volumes of a fit.

    Attributes
    ----------
    waiting : int
        Of arrays that a shelf takes: on disk beside images on disk, in memory otherwise.
    staying : int
        The most of all else at a time.
    """

    waiting: int
    staying: int


def volume_memory(count: int, box: int, k_c: int, settings: FitSettings) -> VolumeMemory:
    """Of a fit of so many particles, at its finest band."""
    columns, grid = 1 + settings.columns, band_box(k_c, box)
    volumes = columns * grid**3 * _FLOAT
    target = int(_BALL_SHARE * columns * grid**2 * (grid // 2 + 1) * _COMPLEX)
    models = 2 if settings.halfsets else 1
    kept = {target: 0, volumes: models * _SETS_OF_HALVES}
    if settings.solver == "em":
        kept[target] = models * (1 + batch_count(max(count // models, 1), settings.batch_size))
    waiting = sum(size * number for size, number in kept.items() if size >= LEAST)
    staying = sum(size * number for size, number in kept.items()) - waiting
    most = columns + spare_columns(count, settings)
    # an E-step and its back-projection; components beside what else could explain them; merged halves
    sweeping = 2 * _lattice(grid, k_c, most, settings) + _buffers(count, k_c, settings)
    testing = _lattice(grid, k_c, columns + _BESIDE_COMPONENTS, settings) + volumes
    merging = _MOST_AT_HAND * models * volumes
    flat = _FLAT_VOLUMES * box**3 * _FLOAT
    most_at_a_time = max(sweeping, testing, merging, _spreading(grid, k_c, settings))
    return VolumeMemory(waiting, staying + flat + most_at_a_time)


def _spreading(box: int, k_c: int, settings: FitSettings) -> int:
    """Of what images make of a point, on twice the grid: lattice and transform, what is between, volume."""
    wide = settings.model_copy(update={"upsampling": 1.0})
    return _TRANSFORMING * _lattice(2 * box, 2 * k_c, 1, wide) + (2 * box) ** 3 * _FLOAT


def _lattice(box: int, k_c: int, channels: int, settings: FitSettings) -> int:
    """Of the lattice of so many volumes."""
    if settings.interpolation == "nufft":
        return channels * box**3 * _FLOAT
    kernel = KERNELS[settings.interpolation]
    return _FLOAT * Lattice(box, k_c, kernel, settings.upsampling).size(channels)


def _buffers(count: int, k_c: int, settings: FitSettings) -> int:
    """Of the slices of some images and what is back-projected of them."""
    columns = 1 + settings.columns
    carried = columns + (2 * MOTIONS if settings.refine_pose else 0)
    pixels = len(HalfDisc.of_radius(k_c))
    at_a_time = images_that_fit(carried, pixels, min(count, GRADIENT_CHUNK))
    return 2 * _COMPLEX * carried * pixels * at_a_time
