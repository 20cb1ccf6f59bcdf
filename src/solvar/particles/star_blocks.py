"""The data blocks of a star file as tables."""

from __future__ import annotations

import linecache
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from solvar.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

REFINEMENT = "pass the particle star file of a 3D refinement (run_data.star)"


def read_blocks(path: Path, as_text: bool = False) -> dict[str, pd.DataFrame]:
    """Every block of a star file as a table; a block without a loop becomes one row.

    Parameters
    ----------
    path : Path
    as_text : bool
        Keep every value as it is spelled in the file.
    """
    import pandas as pd
    import starfile

    linecache.checkcache(str(path))
    try:
        text_columns = _column_names(path) if as_text else []
        raw = starfile.read(path, always_dict=True, parse_as_string=text_columns)
    # starfile and pandas raise whatever a damaged table makes them stumble over
    except Exception as error:
        raise InputError(
            f"cannot be read as a star file ({str(error).strip()})",
            file=path,
            remedy="check that every row has one value per column",
        ) from error
    tables = {
        name: block if isinstance(block, pd.DataFrame) else pd.DataFrame([block or {}])
        for name, block in raw.items()
    }
    # starfile reads the text "nan" as a missing value even in text columns
    return {n: t.fillna("nan") for n, t in tables.items()} if as_text else tables


def _column_names(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as file:
        return [line.split()[0][1:] for line in file if line.lstrip().startswith("_")]


def particle_block(blocks: Mapping[str, pd.DataFrame], path: Path) -> str:
    """Name of the block that holds the particles: the one with image names."""
    named = [n for n, block in blocks.items() if "rlnImageName" in block.columns]
    for name in ("particles", "images", "", *named):
        if name in named:
            return name
    found = ", ".join(f"data_{n}" for n in blocks) or "no data block"
    raise InputError(
        f"is missing ({found} in the file)",
        file=path,
        column="rlnImageName",
        remedy=REFINEMENT,
    )
