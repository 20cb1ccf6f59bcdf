"""Stacks that are copies of each other: other files, the same images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.files import explained, open_regular, read_at
from solvar.mrc_header import MrcHeader, read_mrc_header
from solvar.particles.identity import number_files, repeated
from solvar.particles.particle_set import ParticleSet
from solvar.particles.validate import REPEATED_REMEDY

# Pixels from the middle of an image that tell stacks apart: noise is never alike.
_TELLING = 1024


def refuse_copied_stacks(particles: ParticleSet) -> None:
    """Refuse an image that is used from two copies of its stack.

    Of stacks as long as another one some pixels of the first and the last image are read, of the others
    nothing.

    Parameters
    ----------
    particles : ParticleSet

    Raises
    ------
    InputError
        With both rows, or if a stack cannot be read.
    """
    particles = particles.select(particles.originals)
    images = particles.exposures
    number = number_files(particles.stacks)
    original = _originals(particles.stacks, number, np.unique(images.stack_index))
    # a group of copies is known by its first stack; whoever has no copy is left out
    groups = np.unique(original[original != number])
    among = np.flatnonzero(np.isin(original[images.stack_index], groups))
    stack, frame = images.stack_index[among], images.frame[among]
    found = repeated(frame, original[stack])
    if found is None:
        return
    earlier, later = among[[found.earlier, found.later]]
    file, copy = (particles.stacks[images.stack_index[place]] for place in (earlier, later))
    if not _are_equal(file, copy, int(images.frame[later])):
        return
    first_row, row = (int(particles.image_row[place]) for place in (earlier, later))
    raise InputError(
        f"is the same image as row {first_row + 1}: {copy} is a copy of {file}"
        + (f"; {found.total:,} repetitions in all" if found.total > 1 else ""),
        file=particles.source,
        row=row,
        remedy=REPEATED_REMEDY,
    )


def image_places(particles: ParticleSet) -> NDArray[np.void]:
    """(M,) what no two images share: device and inode of the stack, and the place in it."""
    used, place = np.unique(particles.exposures.stack_index, return_inverse=True)
    status = [particles.stacks[stack].stat() for stack in used]
    image = np.empty(len(particles.exposures), [("device", "u8"), ("inode", "u8"), ("frame", "i8")])
    image["device"] = np.array([one.st_dev for one in status], np.uint64)[place]
    image["inode"] = np.array([one.st_ino for one in status], np.uint64)[place]
    image["frame"] = particles.exposures.frame
    return image


def _originals(
    stacks: tuple[Path, ...], number: NDArray[np.int64], used: NDArray[np.int64]
) -> NDArray[np.int64]:
    """For each stack (S,) the number of the first used one that looks the same, else its own."""
    files = {int(number[s]): stacks[s] for s in reversed(used)}
    size = {each: _size(file) for each, file in files.items()}
    shared = Counter(size.values())
    first: dict[tuple[int, bytes], int] = {}
    original = np.arange(int(number.max()) + 1)
    for each, file in sorted(files.items()):
        if shared[size[each]] > 1:
            pixels = _telling_pixels(file)
            if pixels is not None:
                original[each] = first.setdefault((size[each], pixels), each)
    return original[number]


def _size(file: Path) -> int:
    with explained(file):
        return file.stat().st_size


def _telling_pixels(file: Path) -> bytes | None:
    """Bytes from the middle of the first and the last image; None where they are constant."""
    header = read_mrc_header(file)
    count = min(_TELLING, header.shape[1] * header.shape[2])
    aside = (header.shape[1] * header.shape[2] - count) // 2
    found = np.stack(
        [_pixels(file, header, frame, aside, count) for frame in (0, header.shape[0] - 1)]
    )
    return None if (found == found[:, :1]).all() else found.tobytes()


def _are_equal(file: Path, other: Path, frame: int) -> bool:
    """Whether an image is the same in two stacks, to the last bit."""
    images = []
    for each in (file, other):
        header = read_mrc_header(each)
        if not 0 <= frame < header.shape[0]:
            return False
        images.append(_pixels(each, header, frame, 0, header.shape[1] * header.shape[2]))
    return images[0].tobytes() == images[1].tobytes()


def _pixels(
    file: Path, header: MrcHeader, frame: int, first: int, count: int
) -> NDArray[np.generic]:
    """Some pixels of an image, in the order of the file."""
    found = np.empty(count, dtype=header.dtype)
    place = frame * header.shape[1] * header.shape[2] + first
    with explained(file), open_regular(file) as opened:
        try:
            read_at(opened.fileno(), found, header.offset + place * found.itemsize)
        except EOFError:
            raise InputError("has become shorter while it was read", file=file) from None
    return found
