"""The pose–conformation degeneracy: what is motion of the molecule and what is motion of its pose.

A rotation that depends on the latents can be written into V or into the poses: no image tells. What the
columns V should hold follows from where the input poses come from.

Poses that know nothing of the particle's shape, such as those of another experiment or of a simulation, are
wrong by as much in one shape as in another. What pose errors seem to owe to the latents is then motion of the
molecule, and goes to V (parameter expansion: Liu, Rubin & Wu 1998).

A refinement against a rigid mean rotates every shape to fit that mean, so its errors do depend on the
shape. V is then kept free of rigid motions of the mean (the frame of Eckart 1935), and poses take them over.

The two kinds are told apart by the score: the gradient g of a rigid mean's likelihood in the rotation of a
particle. At a pose that was chosen without this image gᵀH⁻¹g has expectation 3 or more, from the noise
alone. If it is smaller, the poses were fitted to these images.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel
from solvar.estimation.held_out import evenly_spread
from solvar.estimation.poses.objective import derivatives_of
from solvar.imaging.fourier import crop_volume

Float32 = NDArray[np.float32]

_SAMPLE = 4000
_FITTED = 0.9
_SHARES = (0.25, 0.375, 0.5)
_COARSEST = 6
_CONTRAST_SD = 0.15


def pose_errors_depend_on_conformation(
    bands_at: Callable[[int], list[Band]], means: list[Float32], k_max: int
) -> bool:
    """Whether the input poses were fitted to these very images with a rigid mean.

    A refinement stops at some resolution, beyond which its poses are chance again: of the scores at a few
    resolutions the least one counts.

    Parameters
    ----------
    bands_at : callable
        k_c -> the bands of disjoint sets of particles.
    means : list of (L, L, L) float32
        Mean of each of these sets.
    k_max : int
        Finest frequency.
    """
    scores = []
    for share in _SHARES:
        bands = bands_at(max(_COARSEST, round(share * k_max)))
        pairs = zip(bands, means, strict=True)
        scores.append(np.mean([_rotation_score(*pair) for pair in pairs]))
    return bool(min(scores) < _FITTED)


def _rotation_score(band: Band, mean: Float32) -> float:
    """Mean gᵀH⁻¹g / 3 of the rotations of a band's particles under a rigid mean (L, L, L)."""
    volume = crop_volume(mean, band.box) * band.support.mean
    model = BandModel(band, ColumnModel(volume[None], _CONTRAST_SD))
    # an image that counts nothing says nothing of its pose
    chosen = evenly_spread(band.images.believed(band.index), _SAMPLE)
    total = 0.0
    for batch in model.batches(chosen):
        slopes = derivatives_of(model, batch)
        gradient = slopes.gradient[:, :3]
        step = np.linalg.solve(slopes.curvature[:, :3, :3], gradient[:, :, None])[:, :, 0]
        total += float(np.sum(step * gradient))
    return float(band.sum(np.array([total]))[0]) / (3 * len(chosen))
