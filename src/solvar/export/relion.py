"""RELION: a star file of version 3.1, whatever the particles came from.

Rows that came from a star file keep every column as it is spelled there. Optical constants move to
`data_optics` and origins to Å where the file was older; names of images that would not be found from the
new file become absolute. Nothing else changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.export.reading_back import read_alone
from solvar.export.target import Job, Target, Writer
from solvar.particles import ParticleSet
from solvar.particles.relion_aberrations import ABERRATIONS
from solvar.particles.relion_write import (
    ORIGINAL,
    ORIGINS_PIXEL,
    as_text,
    complete_blocks,
    ctf_columns,
    image_names,
    lasting_images,
    optics_table,
    original_rows,
    pose_columns,
)
from solvar.particles.star_blocks import write_blocks
from solvar.results.writer import latent_columns

if TYPE_CHECKING:
    import pandas as pd

# They say in the old dialect what `data_optics` says in the new one.
_OLD_CONSTANTS = ("rlnPixelSize", "rlnDetectorPixelSize", "rlnMagnification")


def files(job: Job) -> Mapping[str, Writer]:
    """One star file, after the stacks that are written for it."""
    _refuse_signs(job.particles.particles)
    return job.with_stacks("particles.star", lambda path: write(path, job))


def write(path: Path, job: Job) -> None:
    """Write the chosen particles as RELION 3.1; the file appears complete or not at all.

    Parameters
    ----------
    path : Path
    job : Job
    """
    particles = job.written
    if particles.source_format == "relion":
        blocks, name = original_rows(particles)
    else:
        blocks, name = complete_blocks(particles)
    table, optics = blocks.pop(name), blocks.pop("optics", None)
    if job.stacks is not None:
        if ORIGINAL not in table.columns:
            # by this symmetry copies are still known
            table[ORIGINAL] = image_names(job.particles.particles)
        table["rlnImageName"] = image_names(particles)
    table["rlnImageName"] = lasting_images(table["rlnImageName"], particles, path)
    if job.ctf_replaced or not _is_complete(optics, table):
        optics, table = _regrouped(optics, table, particles, job.ctf_replaced)
        if job.ctf_replaced:
            table = table.assign(**ctf_columns(particles.exposures.ctf))
    poses = pose_columns(particles, False, table)
    if not job.poses_replaced:
        # what the file says of its own poses stays as it is spelled
        poses = {column: v for column, v in poses.items() if column not in table.columns}
    table = table.assign(**{column: as_text(values) for column, values in poses.items()})
    table = table.drop(columns=[c for c in ORIGINS_PIXEL if c in table.columns])
    if job.options.latents:
        latents = latent_columns(job.run.posterior, job.run.particle_probability)
        in_run = job.particles.in_run[particles.exposures.particle[particles.row_images]]
        table = table.assign(**{c: as_text(v[in_run]) for c, v in latents.items()})
    first = {name: blocks.pop(name) for name in ("general",) if name in blocks}
    write_blocks(path, {**first, "optics": optics, "particles": table, **blocks})


def _refuse_signs(particles: ParticleSet) -> None:
    if particles.exposures.signs_differ:
        raise InputError(
            "has images of both signs, which RELION cannot tell apart",
            file=particles.source,
            remedy="export to cryoSPARC, or the images of one sign at a time with --ind",
        )


def _is_complete(optics: pd.DataFrame | None, table: pd.DataFrame) -> bool:
    """Whether the file's own optics have all that RELION 3.1 expects, with distinct names."""
    if optics is None or "rlnOpticsGroup" not in table.columns:
        return False
    expected = (
        *("rlnOpticsGroup", "rlnOpticsGroupName", "rlnVoltage", "rlnSphericalAberration"),
        *("rlnAmplitudeContrast", "rlnImagePixelSize", "rlnImageSize", "rlnImageDimensionality"),
    )
    if any(column not in optics.columns for column in expected):
        return False
    return bool(optics["rlnOpticsGroupName"].is_unique)


def _regrouped(
    old: pd.DataFrame | None, table: pd.DataFrame, particles: ParticleSet, replaced: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A complete optics table for the particles, with the columns of an incomplete one kept.

    But for its aberrations where its CTFs were replaced.
    """
    used, first, group = np.unique(
        particles.exposures.optics_group, return_index=True, return_inverse=True
    )
    optics = optics_table(particles.optics).iloc[used].reset_index(drop=True)
    optics["rlnOpticsGroup"] = as_text(np.arange(1, len(used) + 1))
    repeated = optics["rlnOpticsGroupName"].duplicated(keep=False)
    apart = optics["rlnOpticsGroupName"] + "_" + optics["rlnOpticsGroup"]
    optics["rlnOpticsGroupName"] = optics["rlnOpticsGroupName"].where(~repeated, apart)
    gone = (*optics.columns, *_OLD_CONSTANTS, *(ABERRATIONS if replaced else ()))
    moved = [c for c in gone if c in table.columns]
    if old is not None:
        if replaced:
            old = old.drop(columns=[c for c in ABERRATIONS if c in old.columns])
        kept = old.iloc[_optics_rows(old, table)[first]].reset_index(drop=True)
        optics = kept.assign(**{column: optics[column] for column in optics.columns})
    number = as_text(group.reshape(-1) + 1)
    return optics, table.drop(columns=moved).assign(rlnOpticsGroup=number)


def _optics_rows(optics: pd.DataFrame, table: pd.DataFrame) -> NDArray[np.int64]:
    """(M,) row of the old optics table of each row; the reader has checked that it is there."""
    if "rlnOpticsGroup" not in table.columns:
        return np.zeros(len(table), dtype=np.int64)
    if "rlnOpticsGroup" in optics.columns:
        known = optics["rlnOpticsGroup"].astype(float).to_numpy()
    else:
        known = np.arange(1.0, len(optics) + 1)
    asked = table["rlnOpticsGroup"].astype(float).to_numpy()
    order = np.argsort(known)
    return order[np.searchsorted(known[order], asked)].astype(np.int64)


TARGET = Target("relion", files, read_alone, suffix=".star", takes_images=True)
