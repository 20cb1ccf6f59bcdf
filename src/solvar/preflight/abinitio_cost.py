"""What it takes to find poses from images alone: the work, counted, and how fast this machine multiplies."""

from __future__ import annotations

import time

import numpy as np

from solvar.estimation.abinitio.consensus import SHIFTS
from solvar.estimation.abinitio.drawing import ROTATION_STEP
from solvar.estimation.abinitio.placing import DRAWS
from solvar.estimation.abinitio.start import GRID_SHELL, band_shells
from solvar.estimation.poses.grids import ALL_ROTATIONS
from solvar.fitting.abinitio import FINER, POOL, START, finer_stages
from solvar.fitting.pose_round import DRAWS_COLUMNS
from solvar.imaging.fourier import HalfDisc
from solvar.threads import ThreadTeam

# two starts agree, as a rule
_STARTS = 2
# draws, phases and slices beside the matrix products of the grid
_BESIDE_PRODUCTS = 1.8
# a pixel of a drawn slice, seconds of one core
_DRAWN_PIXEL = 2.5e-8
# shifts with which everybody is searched, and how often: in the consensus and in three or four rounds by the
# mean, as a rule, then in one with columns, and those who look misplaced in later ones
_PLACING_SHIFTS, _BY_MEAN, _BY_COLUMNS = 21, 4.5, 1.5
_ROWS, _TURNS = 96, 3


def ab_initio_seconds(count: int, edge: float, k_max: int, rank: int, team: ThreadTeam) -> float:
    """Wall time of all searches for the poses of N particles.

    Parameters
    ----------
    count : int
        N.
    edge : float
        Radius of the molecule's mask, box lengths.
    k_max : int
        Finest frequency.
    rank : int
        Of the fit.
    team : ThreadTeam
    """
    speed = _multiplications_a_second() * team.size
    pool = min(count, POOL)
    total = 0.0
    for starts, stages in ((_STARTS, START), (1, finer_stages(k_max))):
        for stage in stages:
            k_c = min(stage.k_c, k_max)
            images = starts * stage.steps * min(stage.images, pool)
            total += images * _image_seconds(k_c, edge, SHIFTS, stage.draws, speed, team)
    # who of the pool shows a particle
    k_c = min(START[-1].k_c, k_max)
    total += pool * _image_seconds(k_c, edge, _PLACING_SHIFTS, DRAWS, speed, team)
    k_c, volumes = min(FINER[-1].k_c, k_max), 1 + min(rank, DRAWS_COLUMNS)
    for searches, slices in ((_BY_MEAN, 1), (_BY_COLUMNS, volumes)):
        draws = slices * DRAWS
        each = _image_seconds(k_c, edge, _PLACING_SHIFTS, draws, speed, team)
        total += searches * count * each
    return total


def _image_seconds(
    k_c: int, edge: float, shifts: int, draws: int, speed: float, team: ThreadTeam
) -> float:
    """One image at a band: all rotations at its first shells, then slices at those drawn."""
    grid = min(k_c, GRID_SHELL)
    rotations = ALL_ROTATIONS / (ROTATION_STEP / (edge * grid)) ** 3
    products = shifts * rotations * 2 * len(HalfDisc.of_radius(grid)) / speed
    pixels = 0
    for shell in band_shells(k_c)[1:]:
        pixels += draws * len(HalfDisc.of_radius(shell))
        draws //= 2
    return _BESIDE_PRODUCTS * products + pixels * _DRAWN_PIXEL / team.size


def _multiplications_a_second() -> float:
    """Of one core in a matrix product of the shape that counts."""
    rows = np.ones((_ROWS, 320), np.float32)
    columns = np.ones((320, 8192), np.float32)
    seconds = []
    for _ in range(_TURNS):
        begun = time.perf_counter()
        rows @ columns
        seconds.append(time.perf_counter() - begun)
    return float(rows.size * columns.shape[1] / min(seconds))
