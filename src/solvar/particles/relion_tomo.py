"""Refusing subtomograms in star files, and tilt series that are described by several files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from solvar.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_REMEDY = (
    "pass a star file with one row a tilt, grouped by rlnGroupName (Warp 1, M), or single particles"
)


def refuse_subtomograms(path: Path, particles: pd.DataFrame, optics: pd.DataFrame | None) -> None:
    """Refuse star files of tomography.

    Parameters
    ----------
    path : Path
    particles, optics : DataFrame
        The blocks of the file.

    Raises
    ------
    InputError
        If images are three-dimensional, or columns belong to tomograms.
    """
    for table in (optics, particles):
        if table is None:
            continue
        tomo = [c for c in table.columns if c.startswith("rlnTomo")] + [
            c for c in ("rlnCtfImage", "rlnIs2dStack") if c in table.columns
        ]
        if tomo:
            raise InputError(
                "subtomograms, and tilt series with tomograms beside them (RELION 4 and 5, WarpTools), "
                "are not supported",
                file=path,
                column=tomo[0],
                remedy=_REMEDY,
            )
        edges = table.get("rlnImageDimensionality")
        if edges is not None and (edges.astype(str) == "3").any():
            raise InputError(
                "three-dimensional images (subtomograms) are not supported",
                file=path,
                column="rlnImageDimensionality",
                remedy=_REMEDY,
            )
