"""A million points on a grid: counts, means, and the picture of them that a browser draws at once."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Uint8 = NDArray[np.uint8]

# A lone particle must still be seen beside a pixel that holds thousands.
_FAINTEST = 0.3
_TOP_QUANTILE = 0.995


@dataclass(frozen=True)
class Window:
    """The part of a plane that is shown, and on how many pixels.

    Attributes
    ----------
    x, y : (float, float)
        Limits, ascending.
    width, height : int
    """

    x: tuple[float, float]
    y: tuple[float, float]
    width: int = 560
    height: int = 480

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.width * self.height

    def place(self, x: Float64, y: Float64) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which points (N,) are inside, and the pixel of each of those, counted from the top left."""
        inside = np.flatnonzero(
            (x >= self.x[0]) & (x < self.x[1]) & (y >= self.y[0]) & (y < self.y[1])
        )
        column = (x[inside] - self.x[0]) * (self.width / (self.x[1] - self.x[0]))
        row = (self.y[1] - y[inside]) * (self.height / (self.y[1] - self.y[0]))
        # rounding at the very edge must not leave the picture
        across = np.minimum(column.astype(np.int64), self.width - 1)
        down = np.minimum(row.astype(np.int64), self.height - 1)
        return inside.astype(np.int64), down * self.width + across


def count(pixel: NDArray[np.int64], window: Window) -> Float64:
    """Points in each pixel, (pixels,)."""
    return np.bincount(pixel, minlength=window.pixels).astype(np.float64)


def mean(pixel: NDArray[np.int64], values: NDArray[Any], window: Window) -> Float64:
    """Mean value of the points in each pixel, (pixels,), NaN where there is none.

    Parameters
    ----------
    pixel, values : (M,)
        As `Window.place` gives it, and what each of these points has.
    """
    counts = count(pixel, window)
    total = np.bincount(pixel, weights=values, minlength=window.pixels)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def opacity(counts: Float64, top: float | None = None) -> Float64:
    """How strongly each pixel is drawn, (pixels,) from 0 where nothing is to 1.

    Logarithmic, since densities of a few and of thousands stand side by side.
    """
    filled = counts > 0
    if not filled.any():
        return np.zeros_like(counts)
    top = top or float(np.quantile(counts[filled], _TOP_QUANTILE))
    strength = np.log1p(counts) / np.log1p(max(top, 1.0))
    return np.where(filled, _FAINTEST + (1 - _FAINTEST) * np.minimum(strength, 1), 0.0)


def by_density(counts: Float64, ramp: Uint8) -> Uint8:
    """RGBA (pixels, 4): the counts on a ramp of colours (K, 3)."""
    strength = opacity(counts)
    shade = ramp[np.round(strength * (len(ramp) - 1)).astype(np.int64)]
    alpha = np.minimum(1, 2.2 * strength)
    return _rgba(shade.astype(np.float64), alpha)


def by_colour(pixel: NDArray[np.int64], colours: Uint8, window: Window) -> Uint8:
    """RGBA (pixels, 4): the mean colour of the points in each pixel.

    Parameters
    ----------
    pixel : (M,) int64
        As `Window.place` gives it.
    colours : (M, 3) uint8
    """
    channels = [np.nan_to_num(mean(pixel, channel, window)) for channel in colours.T]
    return _rgba(np.stack(channels, axis=1), opacity(count(pixel, window)))


def over(front: Uint8, back: Uint8) -> Uint8:
    """RGBA `front` painted on `back`, both (pixels, 4)."""
    a = front[:, 3:] / 255.0
    b = back[:, 3:] / 255.0 * (1 - a)
    alpha = a + b
    colour = (front[:, :3] * a + back[:, :3] * b) / np.maximum(alpha, 1e-9)
    return _rgba(colour, alpha[:, 0])


def png(rgba: Uint8, window: Window) -> str:
    """The picture (pixels, 4) as a data address."""
    from PIL import Image

    stream = io.BytesIO()
    picture = Image.fromarray(rgba.reshape(window.height, window.width, 4))
    # on this machine's own wire time counts, not bytes
    picture.save(stream, format="PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _rgba(colour: Float64, alpha: Float64) -> Uint8:
    result = np.empty((len(colour), 4), np.uint8)
    result[:, :3] = np.clip(np.rint(colour), 0, 255)
    result[:, 3] = np.rint(255 * np.clip(alpha, 0, 1))
    return result
