"""Where volumes may differ from 0: the mean in one place, what varies perhaps in a smaller one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.masks import resample_mask

Float32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Support:
    """Soft masks, 0 to 1, of the mean and of the columns V, and how much V may vary within its own.

    Attributes
    ----------
    mean, columns : (L, L, L) float32
        Axes z, y, x.
    weight : (L, L, L) float32 or None
        As of `spatial_prior.spatial_weight`; None for 1 everywhere.
    """

    mean: Float32
    columns: Float32
    weight: Float32 | None = None

    @classmethod
    def of(cls, mask: Float32) -> Support:
        """One mask for both."""
        return cls(mask, mask)

    @property
    def of_steps(self) -> Float32:
        """What steps of the columns are multiplied by: their mask and weight."""
        return self.columns if self.weight is None else self.weight * self.columns

    def around(self, mask: Float32) -> Support:
        """Another mask of the mean, which is as wide as that of the columns where these have their own."""
        if self.columns is self.mean:
            return Support.of(mask)
        return Support(np.maximum(mask, self.columns), self.columns)

    def weighted(self, weight: Float32) -> Support:
        """The same where columns may vary by a weight (L, L, L) more or less."""
        return replace(self, weight=weight)

    def resampled(self, box: int) -> Support:
        """The same on a grid of `box` voxels."""
        mean = resample_mask(self.mean, box)
        columns = mean if self.columns is self.mean else resample_mask(self.columns, box)
        weight = None if self.weight is None else resample_mask(self.weight, box)
        return Support(mean, columns, weight)

    def masked(self, columns: Float32) -> Float32:
        """W = [μ | V] (1 + r, L, L, L) within the masks."""
        if self.columns is self.mean:
            return self.mean * columns
        return np.concatenate([self.mean * columns[:1], self.columns * columns[1:]])

    def step(self, columns: Float32) -> Float32:
        """A step of W (1 + r, L, L, L) within the masks, by the weight of each place."""
        if self.weight is None:
            return self.masked(columns)
        return np.concatenate([self.mean * columns[:1], self.of_steps * columns[1:]])

    @property
    def share_of_mean(self) -> float:
        """Share of the grid's degrees of freedom that the mean uses: the mean square of its mask."""
        return float(np.mean(self.mean**2))

    @property
    def share_of_columns(self) -> float:
        """The same of a column of V."""
        return float(np.mean(self.of_steps**2))
