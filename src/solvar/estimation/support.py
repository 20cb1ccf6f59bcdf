"""Where volumes may differ from 0: the mean in one place, what varies perhaps in a smaller one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.blocks import Blocks
from solvar.files import Shelf
from solvar.imaging.masks import resample_mask

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Support:
    """Soft masks, 0 to 1, of the mean and of the columns V, and how much V may vary within its own.

    Attributes
    ----------
    mean, columns : (L, L, L) float32
        Axes z, y, x.
    weight : (L, L, L) float32 or None
        As of `spatial_prior.spatial_weight`; None for 1 everywhere.
    focus : (f, L, L, L) float32 or None
        Focus masks that have columns of their own; None for one mask of all columns.
    counts : tuple of int
        How many columns each of them has, and perhaps, as the last, how many live outside all of them.
    """

    mean: Float32
    columns: Float32
    weight: Float32 | None = None
    focus: Float32 | None = None
    counts: tuple[int, ...] = ()

    @classmethod
    def of(cls, mask: Float32) -> Support:
        """One mask for both."""
        return cls(mask, mask)

    @classmethod
    def of_blocks(cls, mask: Float32, focus: Float32, counts: tuple[int, ...]) -> Support:
        """Columns in blocks; the mean in a mask and wherever columns are."""
        everywhere = focus.max(axis=0)
        mean = np.maximum(mask, everywhere)
        columns = mean if len(counts) > len(focus) else everywhere
        return cls(mean, columns, focus=focus, counts=counts)

    @cached_property
    def blocks(self) -> Blocks | None:
        """The blocks of columns; None where all have the same mask."""
        if self.focus is None:
            return None
        if len(self.counts) == len(self.focus):
            return Blocks(self.focus, self.counts)
        rest = self.mean * (1 - self.all_focus)
        return Blocks(np.concatenate([self.focus, rest[None]]), self.counts)

    def labels(self, rank: int) -> Int64:
        """The block of each of so many columns, (r,)."""
        return np.zeros(rank, np.int64) if self.blocks is None else self.blocks.labels

    @property
    def all_focus(self) -> Float32:
        """Where columns are looked for, without the rest."""
        return self.columns if self.focus is None else self.focus.max(axis=0)

    @property
    def of_steps(self) -> Float32:
        """What steps of the columns are multiplied by: their mask and weight."""
        return self.columns if self.weight is None else self.weight * self.columns

    def around(self, mask: Float32) -> Support:
        """Another mask of the mean, which is as wide as that of the columns where these have their own."""
        if self.focus is not None:
            return Support.of_blocks(mask, self.focus, self.counts)
        if self.columns is self.mean:
            return Support.of(mask)
        return Support(np.maximum(mask, self.columns), self.columns)

    def weighted(self, weight: Float32) -> Support:
        """The same where columns may vary by a weight (L, L, L) more or less."""
        return replace(self, weight=weight)

    def on(self, shelf: Shelf) -> Support:
        """The same, kept on a shelf."""
        mean = shelf.keep(self.mean)
        columns = mean if self.columns is self.mean else shelf.keep(self.columns)
        weight = None if self.weight is None else shelf.keep(self.weight)
        focus = None if self.focus is None else shelf.keep(self.focus)
        return Support(mean, columns, weight, focus, self.counts)

    def with_counts(self, counts: tuple[int, ...]) -> Support:
        """The same for other numbers of columns in each block, where there are any."""
        return self if self.focus is None else replace(self, counts=counts)

    def resampled(self, box: int) -> Support:
        """The same on a grid of `box` voxels."""
        mean = resample_mask(self.mean, box)
        columns = mean if self.columns is self.mean else resample_mask(self.columns, box)
        weight = None if self.weight is None else resample_mask(self.weight, box)
        focus = self.focus
        if focus is not None:
            focus = np.stack([resample_mask(mask, box) for mask in focus])
        return Support(mean, columns, weight, focus, self.counts)

    def masked(self, columns: Float32) -> Float32:
        """W = [μ | V] (1 + r, L, L, L) within the masks."""
        if self.blocks is None and self.columns is self.mean:
            return self.mean * columns
        return np.concatenate([self.mean * columns[:1], self.masked_columns(columns[1:])])

    def masked_columns(self, columns: Float32) -> Float32:
        """V (r, L, L, L) within the masks."""
        return self.columns * columns if self.blocks is None else self.blocks.masked(columns)

    def step(self, columns: Float32) -> Float32:
        """A step of W (1 + r, L, L, L) within the masks, by the weight of each place."""
        found = self.masked(columns)
        if self.weight is not None:
            found[1:] *= self.weight
        return found

    @property
    def share_of_mean(self) -> float:
        """Share of the grid's degrees of freedom that the mean uses: the mean square of its mask."""
        return float(np.mean(self.mean**2))

    def share_of_columns(self, rank: int) -> Float64:
        """The same of each of so many columns of V, (r,)."""
        return np.array([np.mean(mask**2) for mask in self.step_masks])[self.labels(rank)]

    @property
    def step_masks(self) -> Float32:
        """What steps of the columns of each block are multiplied by, (b, L, L, L): their mask and weight."""
        masks = self.columns[None] if self.blocks is None else self.blocks.masks
        return masks if self.weight is None else self.weight * masks
