"""Recognising subtomograms and tilt series in star files, which are refused for now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from solvar.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_REMEDY = "pass single-particle data: one image per particle"


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
        If images are three-dimensional, columns belong to tomograms, or the rows are several tilts
        of each particle.
    """
    for table in (optics, particles):
        if table is None:
            continue
        tomo = [c for c in table.columns if c.startswith("rlnTomo")] + [
            c for c in ("rlnCtfImage", "rlnIs2dStack") if c in table.columns
        ]
        if tomo:
            raise InputError(
                "subtomograms are not supported", file=path, column=tomo[0], remedy=_REMEDY
            )
        edges = table.get("rlnImageDimensionality")
        if edges is not None and (edges.astype(str) == "3").any():
            raise InputError(
                "three-dimensional images (subtomograms) are not supported",
                file=path,
                column="rlnImageDimensionality",
                remedy=_REMEDY,
            )
    if _is_tilt_series(particles):
        raise InputError(
            "the rows are tilts of the same particles (a tilt series), which is not supported",
            file=path,
            column="rlnGroupName",
            remedy=_REMEDY,
        )


def _is_tilt_series(particles: pd.DataFrame) -> bool:
    """Whether groups are particles seen at several tilts, as Warp and M write them.

    In single-particle files a group is a micrograph, or some of them, and its rows share their CTF
    scale. In tilt series a group is one particle, each of its rows comes from another image of the
    series, and the scale follows the cosine of the tilt.
    """
    needed = ("rlnGroupName", "rlnMicrographName", "rlnCtfScalefactor")
    if not all(name in particles.columns for name in needed):
        return False
    group, micrograph, scale = (particles[name] for name in needed)
    size = group.groupby(group).transform("size").to_numpy()
    if not np.any(size > 1):
        return False
    distinct = micrograph.groupby(group).transform("nunique").to_numpy()
    scales = scale.groupby(group).transform("nunique").to_numpy()
    several = size > 1
    return bool(np.all(distinct[several] == size[several]) and np.any(scales[several] > 1))
