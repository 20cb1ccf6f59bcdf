"""Pictures as a movie that repeats for ever: WebP, GIF, or MP4 by an ffmpeg that is at hand."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solvar.files import replacing

Picture = NDArray[np.uint8]

_MILLISECONDS = 80
_SHADES = 64  # of a GIF: few, so that neighbours in a picture and in time are alike
_TURNS = 4  # an MP4 ends, and is long enough to be looked at


def movie_formats() -> tuple[str, ...]:
    """Suffixes of what can be written here. ffmpeg is another program, and comes with its own licence."""
    return (".webp", ".gif", ".mp4") if shutil.which("ffmpeg") else (".webp", ".gif")


def shown_once(movies: list[Path]) -> list[Path]:
    """One file of each movie, of those that are there in several formats: what a list names."""
    return [path for path in movies if path.suffix == ".gif"]


def write_movie(path: Path, pictures: list[Picture]) -> None:
    """Write pictures (size, size, 4), there and back; the file appears complete or not at all.

    Parameters
    ----------
    path : Path
        Whose suffix is one of `movie_formats`.
    pictures : list of (size, size, 4) uint8
        WebP keeps what is transparent, the others have it white.

    Raises
    ------
    OSError
        If it cannot be written, or the encoder fails.
    """
    write = _WRITERS[path.suffix]
    with replacing(path) as temporary:
        write(temporary, [*pictures, *pictures[-2:0:-1]])


def _write_webp(path: Path, pictures: list[Picture]) -> None:
    from PIL import Image

    first, *rest = [Image.fromarray(each) for each in pictures]
    first.save(
        path, "WEBP", save_all=True, append_images=rest, duration=_MILLISECONDS, loop=0, quality=70
    )


def _write_gif(path: Path, pictures: list[Picture]) -> None:
    from PIL import Image

    whole = [Image.fromarray(on_white(each)) for each in pictures]
    # one palette for all, of the first, the middle and the last: another for each would flicker
    shown = np.concatenate([np.asarray(whole[k]) for k in (0, len(whole) // 4, len(whole) // 2)])
    palette = Image.fromarray(shown).quantize(_SHADES)
    first, *rest = [each.quantize(palette=palette, dither=Image.Dither.NONE) for each in whole]
    first.save(
        path, "GIF", save_all=True, append_images=rest, duration=_MILLISECONDS, loop=0, disposal=1
    )


def _write_mp4(path: Path, pictures: list[Picture]) -> None:
    height, width = (2 * (edge // 2) for edge in pictures[0].shape[:2])  # H.264 wants even ones
    frames = [on_white(each[:height, :width]) for each in pictures] * _TURNS
    command = [
        "ffmpeg", "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24",
        "-s", f"{width}x{height}", "-r", f"{1000 / _MILLISECONDS:g}", "-i", "-",
        "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4", str(path.absolute()),
    ]  # fmt: skip
    content = b"".join(frame.tobytes() for frame in frames)
    done = subprocess.run(command, input=content, capture_output=True, check=False, timeout=600)
    if done.returncode:
        raise OSError(f"ffmpeg: {done.stderr.decode(errors='replace').strip()[-300:]}")


def on_white(picture: Picture) -> Picture:
    """The colours (H, W, 3) of a picture with transparency, over white."""
    opacity = picture[..., 3:].astype(np.float32) / 255
    over = opacity * picture[..., :3] + (1 - opacity) * 255
    return np.ascontiguousarray(np.round(over).astype(np.uint8))


_WRITERS: dict[str, Callable[[Path, list[Picture]], None]] = {
    ".webp": _write_webp,
    ".gif": _write_gif,
    ".mp4": _write_mp4,
}
