"""The model that an E-step sees: columns, and everything that is believed about their coefficients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.low_rank import LowRankModel, to_columns
from solvar.estimation.pose_errors import PoseErrors, with_rigid_motions
from solvar.estimation.posterior_variance import PosteriorVariance
from solvar.imaging.fourier import crop_volume

Float32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ColumnModel:
    """Images of volumes a·(μ + V z), z ~ N(0, I), a ~ N(1, τ²), seen from poses that may be a little off.

    Attributes
    ----------
    columns : (1 + r, l, l, l) float32
        W = [μ | V], axes z, y, x.
    contrast_sd : float
        τ; 0 fixes every contrast at 1.
    variance : PosteriorVariance or None
        Of W, where images are looked at that took part in fitting it; None for images that did not.
    pose_errors : PoseErrors or None
        What poses may be off by, which is integrated out; None takes them as they are.
    """

    columns: Float32
    contrast_sd: float
    variance: PosteriorVariance | None = None
    pose_errors: PoseErrors | None = None

    @classmethod
    def of(cls, model: LowRankModel, box: int, contrast_sd: float = 0.0) -> ColumnModel:
        """A fitted model on the grid of a band, V = eigenvolumes · √eigenvalues.

        Parameters
        ----------
        model : LowRankModel
        box : int
            `Band.box`.
        contrast_sd : float
        """
        scaled = to_columns(model.eigenvolumes, model.eigenvalues)
        columns = np.concatenate([model.mean[None], scaled])
        return cls(crop_volume(columns, box), contrast_sd)

    @property
    def rank(self) -> int:
        """Number r of the columns V."""
        return len(self.columns) - 1

    @property
    def projected(self) -> Float32:
        """What images are compared with: W, and behind it the rigid motions that pose errors stand for."""
        return with_rigid_motions(self.columns, self.pose_errors)
