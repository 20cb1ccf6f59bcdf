"""Draws from a posterior over many nodes: what stochastic EM needs of an image, at a fixed price."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.compilation import compiled

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# what lies so far below the best node counts for nothing, even a million times
_NOTHING = 25.0


@compiled()
def _draw(value, start, chosen, height, best, evidence):  # type: ignore[no-untyped-def]
    draws = chosen.shape[1]
    for b in range(len(value)):
        row = value[b]
        top = row[0]
        for j in range(len(row)):
            top = max(top, row[j])
        total = np.float64(0.0)
        for j in range(len(row)):
            above = row[j] - top
            if above > -_NOTHING:
                if above == 0:
                    best[b] = j
                above = np.exp(above)
                total += above
                row[j] = above
            else:
                row[j] = 0
        evidence[b] = top + np.log(total)
        step = total / draws
        reached, wanted, done = np.float64(0.0), start[b] * step, 0
        for j in range(len(row)):
            if row[j] > 0:
                reached += row[j]
                while done < draws and wanted < reached:
                    chosen[b, done] = j
                    done += 1
                    wanted += step
        # rounding may leave the last one out
        for place in range(done, draws):
            chosen[b, place] = best[b]
        for place in range(draws):
            height[b, place] = top + np.log(row[chosen[b, place]])


@dataclass(frozen=True, eq=False)
class Draws:
    """What a posterior over J nodes of B images comes to.

    Attributes
    ----------
    chosen : (B, draws) int64
        Nodes, each as often as its probability says, in ascending order.
    height : (B, draws) float64
        Their values.
    best : (B,) int64
        The most probable node.
    evidence : (B,) float64
        Logarithm of the sum over nodes.
    """

    chosen: Int64
    height: Float64
    best: Int64
    evidence: Float64

    @classmethod
    def of(cls, value: Float32, start: Float64, draws: int) -> Draws:
        """Drawn from exp(value), evenly spread over it.

        Parameters
        ----------
        value : (B, J) float32
            Log posteriors up to a constant of each row; they are overwritten.
        start : (B,)
            Where the first draw lies, a share 0 to 1 of the distance of two.
        draws : int
        """
        found = cls.empty(len(value), draws)
        _draw(value, start, found.chosen, found.height, found.best, found.evidence)
        return found

    @classmethod
    def empty(cls, count: int, draws: int) -> Draws:
        """Of so many images, nothing known yet."""
        shape = count, draws
        nodes = np.zeros(shape, np.int64), np.zeros(shape)
        return cls(*nodes, np.zeros(count, np.int64), np.zeros(count))

    def put(self, which: Int64, part: Draws) -> None:
        """What is known of some images."""
        for name, values in vars(part).items():
            getattr(self, name)[which] = values
