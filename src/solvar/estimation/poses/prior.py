"""What is believed about pose errors before an image is looked at: most are small, some can be anything.

A refinement puts most particles near their pose and a few somewhere else altogether. Corrections (ω, t)
are therefore drawn from a mixture: a Gaussian of widths that are estimated, and, with a share that is
estimated too, any rotation at all. A single Gaussian is too wide for the many or too narrow for the few.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.poses.grids import ALL_ROTATIONS

Float64 = NDArray[np.float64]

_SMALLEST_SPREAD = 1e-3
# a particle whose rotation is unknown is still about where it was picked: box lengths an axis
_FAR_SHIFT = 0.05
_FAR_BOUNDS = (1e-4, 0.5)
_EM_STEPS = 20
_LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True, eq=False)
class PosePrior:
    """A mixture of near poses and any poses.

    Attributes
    ----------
    spread : (2,) float64
        Standard deviations of the near ones' ω (radians) and t (box lengths) per axis.
    far : float
        Share of particles whose rotation may be any.
    """

    spread: Float64
    far: float

    def _variance(self, axes: int) -> Float64:
        """Of ω and t together, (3 + d)."""
        return np.asarray(np.repeat(self.spread, (3, axes - 3)) ** 2, dtype=np.float64)

    @property
    def far_shift(self) -> float:
        """Standard deviation of the far ones' t per axis, box lengths."""
        return max(_FAR_SHIFT, float(self.spread[1]))

    def _log_parts(self, turn: Float64, shift: Float64) -> tuple[Float64, Float64]:
        """Log densities (…) of ω (…, 3) and t (…, d) by either part, with their shares."""
        near = _log_normal(turn, self.spread[0]) + _log_normal(shift, self.spread[1])
        far = _log_normal(shift, self.far_shift)
        return near + np.log1p(-self.far), far + np.log(self.far / ALL_ROTATIONS)

    def log_density(self, turn: Float64, shift: Float64) -> Float64:
        """Log density (…) of ω (…, 3) and t (…, d), per rad³ and box length to the d.

        Their leading axes are broadcast: no grid of both need be made.
        """
        return np.asarray(np.logaddexp(*self._log_parts(turn, shift)), dtype=np.float64)

    def nearness(self, offset: Float64) -> Float64:
        """Probability (B,) that corrections (B, 3 + d) are of the near kind."""
        near, far = self._log_parts(offset[:, :3], offset[:, 3:])
        return np.asarray(np.exp(near - np.logaddexp(near, far)), dtype=np.float64)

    def precision(self, offset: Float64) -> Float64:
        """What holds corrections (B, 3 + d) back: the gradient of the log density is -precision · offset."""
        near = self.nearness(offset)[:, None]
        axes = offset.shape[1]
        far = np.repeat([0, 1], (3, axes - 3)) / self.far_shift**2
        return np.asarray(near / self._variance(axes) + (1 - near) * far, dtype=np.float64)

    def fitted(self, offset: Float64, covariance: Float64, keep_spread: bool = False) -> PosePrior:
        """The prior under which the images are likeliest.

        What the images alone say of a pose, a Gaussian, follows from its posterior and this prior; EM over
        widths and share then touches no image.

        Parameters
        ----------
        offset : (N, 3 + d)
            Corrections under this prior.
        covariance : (N, 3 + d, 3 + d)
            Their posterior covariance.
        keep_spread : bool
            Fit the share of far ones alone.
        """
        posterior = np.linalg.inv(covariance)
        precision = self.precision(offset)
        diagonal = np.eye(precision.shape[1])
        alone = posterior - precision[:, :, None] * diagonal
        score = np.einsum("nij,nj->ni", posterior, offset)
        found, mean = self, offset
        for _ in range(_EM_STEPS):
            near = found.nearness(mean)
            spread = found.spread
            if not keep_spread:
                known = np.asarray(
                    np.linalg.inv(alone + diagonal / found._variance(len(diagonal))),
                    dtype=np.float64,
                )
                centre = np.einsum("nij,nj->ni", known, score)
                moment = near @ (centre**2 + np.einsum("nii->ni", known)) / near.sum()
                spread = np.maximum(
                    np.sqrt([moment[:3].mean(), moment[3:].mean()]), _SMALLEST_SPREAD
                )
                mean = np.where(near[:, None] > 0.5, centre, offset)
            found = PosePrior(spread, float(np.clip(1 - near.mean(), *_FAR_BOUNDS)))
        return found


def _log_normal(values: Float64, spread: float) -> Float64:
    """Log density (…) of normal values (…, d)."""
    square = np.sum(values**2, axis=-1) / spread**2
    return -0.5 * (square + values.shape[-1] * (2 * np.log(spread) + _LOG_2PI))
