"""Digests of files: whole, or of blocks scattered over a file that is too long to be read twice."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from solvar.files.reading import open_inside, open_regular

_BLOCK = 64 << 10
_PIECE = 4 << 20


def digest_of(folder: Path, name: str) -> str:
    """blake2b (128 bit, as hex) of the whole file `name` below `folder`.

    Raises
    ------
    OSError
        If it cannot be read, or is or lies behind a link.
    """
    digest = hashlib.blake2b(digest_size=16)
    with open_inside(folder, name) as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def sampled_digest(path: Path, budget: int) -> str:
    """blake2b (128 bit, as hex) over a file's size and its content, or blocks of it.

    Parameters
    ----------
    path : path
    budget : int
        Bytes to read at most. A file that is longer is read in blocks of 64 KiB that are spread evenly from
        its first byte to its last.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        digest.update(str(size).encode())
        if size <= budget:
            while piece := file.read(_PIECE):
                digest.update(piece)
            return digest.hexdigest()
        blocks = max(2, budget // _BLOCK)
        for start in np.linspace(0, size - _BLOCK, blocks).astype(np.int64).tolist():
            digest.update(os.pread(file.fileno(), _BLOCK, start))
    return digest.hexdigest()
