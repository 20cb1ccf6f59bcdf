"""In which order a specimen was exposed, and which images of tilt series therefore share their noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.optics import Optics
from solvar.particles.exposures import Exposures

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


def exposure_numbers(
    particle: Int64, dose: Float64 | None, tilt_image: Int64 | None
) -> Int64 | None:
    """Number of each image's exposure in its tilt series, (M,), from 0 and in the order of dose.

    Where the file says which exposures are the same (`tilt_image`), all exposures of the tomogram count,
    also those that a particle has no image of; elsewhere the images of the particle.

    Parameters
    ----------
    particle : (M,) int64
        Which particle each image shows, in any order.
    dose, tilt_image : (M,) or None
        As in `CtfParameters` and `Exposures`.

    Returns
    -------
    (M,) int64 or None
        None where doses are not known: nothing else tells the order.
    """
    if dose is None:
        return None
    if tilt_image is None:
        return _ranks(particle, dose, np.arange(len(dose)))
    known, first, place = np.unique(tilt_image, return_index=True, return_inverse=True)
    series = series_of_exposures(particle, place.reshape(-1), len(known))
    return _ranks(series, dose[first], known)[place.reshape(-1)]


def numbered(exposures: Exposures) -> Exposures:
    """Images that know the number of their exposure, where doses tell it."""
    if exposures.number is not None:
        return exposures
    dose = exposures.ctf.dose_per_angstrom2
    number = exposure_numbers(exposures.particle, dose, exposures.tilt_image)
    return replace(exposures, number=number)


def series_of_exposures(particle: Int64, exposure: Int64, count: int) -> Int64:
    """Tilt series of each of `count` exposures: those that particles (M,) show in common are of one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    particles = int(particle.max(initial=-1)) + 1
    shape = (particles + count,) * 2
    edges = coo_array((np.ones(len(particle), bool), (particle, particles + exposure)), shape)
    return connected_components(edges, directed=False)[1][particles:].astype(np.int64)


def _ranks(group: Int64, value: Float64, tie: Int64) -> Int64:
    """Place of each value (M,) among those of its group, from 0, ties broken by (M,)."""
    order = np.lexsort((tie, value, group))
    sorted_group = group[order]
    first = np.flatnonzero(np.diff(sorted_group, prepend=-1))
    count = np.diff(first, append=len(group))
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(first, count)
    return rank


@dataclass(frozen=True, eq=False)
class NoiseGroups:
    """Which images share a noise spectrum: those of an optics group, in tilt series those of an exposure.

    A tomogram darkens, thickens and is normalised tilt by tilt, and programs write an optics group for each
    tomogram, of a few particles. So the images of tilt series share their noise by the number of the
    exposure, all optics groups of equal constants together.

    Attributes
    ----------
    of_image : (M,) int64
        Group of each image.
    optics : (K,) int64
        An optics group that has the constants of each.
    exposure : (K,) int64
        Number of its exposure in a series; 0 where that makes no difference.
    """

    of_image: Int64
    optics: Int64
    exposure: Int64

    @classmethod
    def of(cls, exposures: Exposures, optics: Optics) -> NoiseGroups:
        """Those of some images."""
        groups = len(optics.name)
        if exposures.tilt is None:
            return cls(exposures.optics_group, np.arange(groups), np.zeros(groups, np.int64))
        first, kind = _alike(optics)
        number = numbered(exposures).number
        number = np.zeros_like(exposures.particle) if number is None else number
        exposure, optics_group = np.divmod(
            np.arange((number.max(initial=0) + 1) * len(first)), len(first)
        )
        # those of a selection keep their numbers, whether or not there are images of all
        of_image = number * len(first) + kind[exposures.optics_group]
        return cls(of_image, first[optics_group], exposure)

    def __len__(self) -> int:
        return len(self.optics)


def _alike(optics: Optics) -> tuple[Int64, Int64]:
    """Optics groups of equal constants: the first of each kind, and the kind of each group (G,)."""
    arrays = [values for values in vars(optics).values() if isinstance(values, np.ndarray)]
    rows = np.concatenate([values.reshape(len(values), -1) for values in arrays], axis=1)
    _, first, kind = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return first.astype(np.int64), kind.reshape(-1).astype(np.int64)
