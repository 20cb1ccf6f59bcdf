"""Columns in blocks: each block varies in a place of its own, independently of the others beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Blocks:
    """Soft masks of blocks of columns, and how many columns each has.

    Attributes
    ----------
    masks : (b, L, L, L) float32
        0 to 1, axes z, y, x.
    counts : tuple of b int
    """

    masks: Float32
    counts: tuple[int, ...]

    @property
    def labels(self) -> Int64:
        """The block of each column, (r,), ascending."""
        return labels_of(self.counts)

    def masked(self, columns: Float32) -> Float32:
        """Columns V (r, L, L, L), each within the mask of its block."""
        out = np.empty_like(columns)
        for j, block in enumerate(self.labels):
            np.multiply(self.masks[block], columns[j], out=out[j])
        return out


def labels_of(counts: Sequence[int]) -> Int64:
    """The block of each column, (r,), ascending, by how many columns each block has."""
    return np.repeat(np.arange(len(counts)), counts)


def together(labels: Int64) -> Bool:
    """Which pairs of columns (r, r) are of the same block, by the labels (r,) of their blocks."""
    return labels[:, None] == labels
