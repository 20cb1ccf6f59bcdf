"""What a run will cost: a model of few terms, calibrated on adk_64 with two cores.

Work is the pixels of all particles and columns, plus the Fourier transforms of the columns at every
step. Memory is the whitened images, the slices of one batch, and the targets of all batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solvar.estimation.schedule import split_batches
from solvar.estimation.settings import FitSettings
from solvar.imaging.fourier import HalfDisc

# CPU seconds, summed over all sweeps: a pixel of a column of a particle; a voxel of a column at a step
_PIXEL_SECONDS, _VOXEL_SECONDS = 0.31e-6, 0.095e-6
_START_SECONDS = 2.5
_STEPS_PER_BATCH = 4
# on two cores the work takes two thirds of its time on one
_PARALLEL_SHARE = 2 / 3
_START_MIB, _CACHE_BYTES, _SLICE_BYTES, _VOXEL_BYTES = 370.0, 12, 29, 4
_WORK_VOLUMES = 5


@dataclass(frozen=True)
class Plan:
    """Wall seconds after compilation and peak memory in MiB, good to a factor of about 1.5."""

    seconds: float
    memory_mib: float


def plan_run(count: int, box_size: int, k_c: int, settings: FitSettings, cores: int) -> Plan:
    """What `solvar run` is expected to cost.

    Parameters
    ----------
    count : int
        Particles.
    box_size : int
        Edge of the images after downsampling, pixels.
    k_c : int
        Finest frequency.
    settings : FitSettings
    cores : int
        Cores that the run may use.
    """
    pixels, voxels = float(len(HalfDisc.of_radius(k_c))), float(box_size) ** 3
    columns = 1 + settings.columns
    everybody = _batches(count, settings)
    halves = 2 * _batches(count // 2, settings) if settings.halfsets else everybody
    steps = _STEPS_PER_BATCH * (halves + everybody)
    work = columns * (count * pixels * _PIXEL_SECONDS + steps * voxels * _VOXEL_SECONDS)
    speed = 1 / (1 - _PARALLEL_SHARE + _PARALLEL_SHARE / cores)
    batch = count / min(everybody, halves)
    held = columns * (
        batch * pixels * _SLICE_BYTES + (halves + _WORK_VOLUMES) * voxels * _VOXEL_BYTES
    )
    memory = _START_MIB + (count * pixels * _CACHE_BYTES + held) / 2**20
    return Plan(_START_SECONDS + work / speed, memory)


def _batches(count: int, settings: FitSettings) -> int:
    return len(split_batches(np.arange(count), settings.batch_size, np.random.default_rng(0)))
