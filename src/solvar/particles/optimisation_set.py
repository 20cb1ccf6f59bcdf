"""RELION's optimisation sets: small star files that name the particles and the tomograms of a job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from solvar.errors import InputError
from solvar.files import open_regular, read_bytes
from solvar.particles.stack_paths import StackFinder
from solvar.particles.star_blocks import read_blocks

if TYPE_CHECKING:
    import pandas as pd

PARTICLES, TOMOGRAMS = "rlnTomoParticlesFile", "rlnTomoTomogramsFile"
# of a file with two to six names, and of a folder that is looked through for one
_LARGEST, _MOST = 65536, 1000
_TOMOGRAMS_STAR = "tomograms.star"


def members(path: Path) -> tuple[str, str | None] | None:
    """Particles' and tomograms' star file as an optimisation set spells them; None for other files."""
    try:
        if path.stat().st_size > _LARGEST:
            return None
        with open_regular(path) as file:
            if PARTICLES.encode() not in read_bytes(file, _LARGEST):
                return None
        blocks = read_blocks(path)
    except (OSError, InputError):
        return None
    for block in blocks.values():
        if PARTICLES in block.columns and len(block):
            tomograms = block[TOMOGRAMS].iloc[0] if TOMOGRAMS in block.columns else None
            return str(block[PARTICLES].iloc[0]), None if tomograms is None else str(tomograms)
    return None


def tomograms_of(particles: Path, general: pd.DataFrame | None) -> Path:
    """The star file of the tomograms that particles are of.

    It is named in the particles' own file, as this program writes it, or in an optimisation set beside it, or
    is the `tomograms.star` there.

    Parameters
    ----------
    particles : Path
    general : DataFrame or None
        The block `data_general` of their file.

    Raises
    ------
    InputError
        If there is none.
    """
    if general is not None and TOMOGRAMS in general.columns:
        return located(str(general[TOMOGRAMS].iloc[0]), particles)
    for path in _stars(particles.parent):
        named = members(path)
        if named is not None and named[1] and Path(named[0]).name == particles.name:
            return located(named[1], path)
    beside = particles.parent / _TOMOGRAMS_STAR
    if beside.is_file():
        return beside
    raise InputError(
        "has particles of tomograms, and nothing beside it says how these were tilted",
        file=particles,
        remedy="pass the optimisation set in its place, or --tomograms tomograms.star",
    )


def located(name: str, named_by: Path) -> Path:
    """The file that an optimisation set names: beside it, or from a folder above, as RELION's project is one.

    Raises
    ------
    InputError
        If it is in none of these.
    """
    place = StackFinder(named_by).first_file(name)
    if place is not None:
        return place
    raise InputError(
        f"names {name}, which is neither beside it nor below a folder above it",
        file=named_by,
        remedy="pass the particles, with --tomograms tomograms.star",
    )


def _stars(folder: Path) -> Iterator[Path]:
    found = sorted(folder.glob("*.star"))
    return iter([path for path in found if path.is_file()][:_MOST])
