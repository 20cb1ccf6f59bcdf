"""The model's own volume μ + V z: no image is read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.low_rank import LowRankModel
from solvar.volumes.volume import Reconstruction

Float64 = NDArray[np.float64]


class Reprojection:
    """μ + V z; implements `Method`."""

    def __init__(self, model: LowRankModel) -> None:
        self._model = model

    def volume(self, target: Float64) -> Reconstruction:
        """The volume at a point z* (r,)."""
        return Reconstruction(self._model.volume_at(target), None, 0)
