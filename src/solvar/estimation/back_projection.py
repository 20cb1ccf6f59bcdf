"""Sums of back-projected images that lose nothing, however many images there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.projector import Projector

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

# A lattice holds float32: after so many images it is added to a sum in float64. Rounding then stays at
# what a sum of as many terms has, and no term is ever lost beside the sum of all that came before.
_FOLD = 1 << 16


class BackProjection:
    """Σ Pᵀ of images, C volumes at a time.

    Parameters
    ----------
    projector : Projector
    channels : int
        C.
    collect : callable, optional
        What is made of the projector's sums, a linear function; volumes by default.
    """

    def __init__(
        self,
        projector: Projector,
        channels: int,
        collect: Callable[[Any], Float32] | None = None,
    ) -> None:
        self._projector, self._channels = projector, channels
        self._collect = collect or projector.collect
        self._lattice, self._held = projector.zeros(channels), 0
        self._total: Float64 | None = None

    def add(self, images: Any, frame: Float32, scale: Float32) -> None:
        """Add images (B, C, n) at frames (B, 3, 2), multiplied by `scale` (B, n)."""
        if self._held + len(frame) > _FOLD and self._held:
            self._fold()
            self._lattice, self._held = self._projector.zeros(self._channels), 0
        self._projector.scatter(images, frame, scale, self._lattice)
        self._held += len(frame)

    def sum(self) -> Float32:
        """What was added, (C, box, box, box) float32; nothing can be added after it."""
        if self._total is None:
            return self._collect(self._lattice)
        self._fold()
        return self._total.astype(np.float32)

    def _fold(self) -> None:
        found = self._collect(self._lattice)
        if self._total is None:
            self._total = found.astype(np.float64)
        else:
            self._total += found
