"""Atomic models in files: PDB and mmCIF."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from solvar.errors import InputError
from solvar.files import believable, explained, open_regular, read_bytes, refuse_claim

if TYPE_CHECKING:
    import gemmi


def read_structure(path: str | Path) -> gemmi.Structure:
    """A PDB or mmCIF file (also gzipped) without waters and hydrogens, of one or several models.

    Raises
    ------
    InputError
        If it cannot be read, or its first model holds no atoms.
    """
    import gemmi

    content = _unpacked(path)
    try:
        structure = gemmi.read_structure_string(content)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"cannot be read as PDB or mmCIF ({error})", file=path) from error
    structure.remove_waters()
    structure.remove_hydrogens()
    structure.remove_empty_chains()
    if not len(structure) or not structure[0].count_atom_sites():
        raise InputError("holds no atoms", file=path, remedy="give a file with coordinates")
    return structure


def _unpacked(path: str | Path) -> bytes:
    """The content of a file that may be gzipped."""
    with explained(path), open_regular(path) as file:
        content = read_bytes(file)
        if content[:2] != b"\x1f\x8b":
            return content
        # one byte more than is believed tells that there is more
        most = believable(len(content))
        try:
            unpacked = gzip.GzipFile(fileobj=io.BytesIO(content)).read(most + 1)
        except (EOFError, zlib.error) as error:
            raise InputError(f"cannot be unpacked ({error})", file=path) from error
        refuse_claim(len(unpacked), len(content))
    return unpacked
