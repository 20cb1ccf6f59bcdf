"""The loop over lines of sight of `surface.py`, compiled.

More than seven arguments: compiled code takes numbers and arrays; numba knows no dataclass of ours.
"""

from __future__ import annotations

from solvar.compilation import compiled


@compiled()
def cast(  # type: ignore[no-untyped-def]
    volume, rotation, reach, step, level, depth, highest, place
):
    """Where each line of sight first reaches a level, or comes nearest to it.

    Parameters
    ----------
    volume : (L, L, L) float32
        [z, y, x], looked at from outside a ball of radius `reach` about its centre.
    rotation : (3, 3)
        Rows: right, down, away, in x, y, z.
    reach, step : float
        Voxels: half the edge of the picture, and between the places where density is looked at.
    level : float
    depth : (S, S)
        Gets voxels from the near side of the ball to the surface; 2 `reach` where there is none.
    highest : (S, S)
        Gets the largest density on the line.
    place : (S, S)
        Gets how deep the surface is, or without one the largest density.
    """
    size = depth.shape[0]
    box = volume.shape[0]
    centre = box // 2
    steps = int(2 * reach / step) + 1
    for row in range(size):
        down = -reach + 2 * reach * row / (size - 1)
        for column in range(size):
            right = -reach + 2 * reach * column / (size - 1)
            before = 0.0
            best = -1e30
            best_at = 0.0
            found = 2 * reach
            for number in range(steps):
                away = -reach + number * step
                x = rotation[0, 0] * right + rotation[1, 0] * down + rotation[2, 0] * away + centre
                y = rotation[0, 1] * right + rotation[1, 1] * down + rotation[2, 1] * away + centre
                z = rotation[0, 2] * right + rotation[1, 2] * down + rotation[2, 2] * away + centre
                i, j, k = int(z), int(y), int(x)
                value = 0.0
                if z >= 0 and y >= 0 and x >= 0 and i < box - 1 and j < box - 1 and k < box - 1:
                    c, b, a = z - i, y - j, x - k
                    low = (volume[i, j, k] * (1 - a) + volume[i, j, k + 1] * a) * (1 - b) + (
                        volume[i, j + 1, k] * (1 - a) + volume[i, j + 1, k + 1] * a
                    ) * b
                    high = (volume[i + 1, j, k] * (1 - a) + volume[i + 1, j, k + 1] * a) * (
                        1 - b
                    ) + (volume[i + 1, j + 1, k] * (1 - a) + volume[i + 1, j + 1, k + 1] * a) * b
                    value = low * (1 - c) + high * c
                if value > best:
                    best = value
                    best_at = number * step
                if value >= level:
                    share = 1.0 if number == 0 else (level - before) / (value - before)
                    found = (number - 1 + share) * step
                    best_at = found
                    break
                before = value
            depth[row, column] = found
            highest[row, column] = best
            place[row, column] = best_at
