"""Arrays and texts in a form that a page can carry: base 64, in which no text can end its element."""

from __future__ import annotations

import base64
import gzip
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGEST = 32_000  # of an int16; the rest of its range stays free for rounding


def packed(content: bytes) -> str:
    """Base 64 of the gzipped content; the page unpacks it with the browser's own decompressor."""
    # without a time stamp the same run gives the same page
    return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode("ascii")


def quantised(values: NDArray[Any]) -> dict[str, Any]:
    """Numbers as int16 with a scale: ``value = scale · number``, good to 1/32,000 of the largest.

    What is not finite becomes 0.
    """
    values = np.nan_to_num(np.asarray(values, np.float64), posinf=0.0, neginf=0.0)
    scale = float(np.abs(values).max(initial=0.0)) / _LARGEST or 1.0
    return {"scale": scale, "int16": base64_of(np.round(values / scale).astype("<i2"))}


def base64_of(values: NDArray[Any]) -> str:
    """The bytes of an array in base 64."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def webp(content: bytes) -> str:
    """A WebP file as a data address."""
    return "data:image/webp;base64," + base64.b64encode(content).decode("ascii")


def png(rgba: NDArray[np.uint8]) -> str:
    """An image (H, W, 4) or (H, W), row 0 on top, as a data address."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(rgba).save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
