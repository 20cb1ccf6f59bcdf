"""Stacks of images, written some at a time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solvar.files import replacing

Float32 = NDArray[np.float32]


def write_stack(
    path: Path, shape: tuple[int, int, int], pixel_size: float, chunks: Iterable[Float32]
) -> None:
    """A stack of a shape (n, L, L) from its images, some at a time."""
    import mrcfile

    with (
        replacing(path) as partial,
        mrcfile.new_mmap(partial, shape=shape, mrc_mode=2, overwrite=True) as stack,
    ):
        stack.set_image_stack()
        stack.voxel_size = pixel_size
        moments, start = np.zeros(2), 0
        low, high = np.inf, -np.inf
        for images in chunks:
            stack.data[start : start + len(images)] = images
            start += len(images)
            moments += images.sum(dtype=np.float64), np.square(images, dtype=np.float64).sum()
            low, high = min(low, images.min()), max(high, images.max())
        mean, square = moments / np.prod(shape)
        header = stack.header
        header.dmin, header.dmax, header.dmean = low, high, mean
        header.rms = np.sqrt(square - mean**2)
