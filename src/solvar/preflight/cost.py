"""What a run will cost, from a measurement of this machine and a count of the work.

The time of one image and of one step between batches is measured on made-up images, in less than a second;
the passes over the particles are counted from the schedule. How many sweeps a band takes is known only
afterwards: the counts below are those of usual data.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band, band_box
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.held_out import MOST_FOR_SCALE
from solvar.estimation.pixels import BYTES_PER_PIXEL, MemoryPixels
from solvar.estimation.prior import Prior
from solvar.estimation.solvers import make_column_solver
from solvar.estimation.whitening import in_memory_images
from solvar.files.shelf import LEAST
from solvar.fitting.memory import volume_memory
from solvar.fitting.schedule import (
    BandSchedule,
    batch_count,
    pose_schedule,
    schedule_bands,
    schedule_final,
    spare_columns,
    under_spatial_prior,
)
from solvar.fitting.settings import FitSettings
from solvar.fitting.start import finest_frequency, goes_to_disk, load_mask
from solvar.fitting.warm import compile_kernels
from solvar.imaging import rotations
from solvar.imaging.fourier import HalfDisc, images_to_disc
from solvar.imaging.masks import mask_diameter, soft_sphere
from solvar.parallel import Processes
from solvar.particles import ImageStack, ParticleSet
from solvar.preflight.abinitio_cost import ab_initio_seconds
from solvar.progress import Progress, SilentProgress
from solvar.threads import ThreadTeam

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_IMAGES, _TURNS, _READ = 128, 3, 64
# Made-up images end here, so that a look costs the same whatever the box. What an image takes grows faster
# than its pixels, and a step faster than its voxels, because volumes outgrow the caches: powers measured for
# shells 24 to 63 and ranks 2 to 10, to within a third.
_MEASURED_K, _PIXEL_POWER, _VOXEL_POWER = 24, 1.3, 1.2
# passes over all particles with one column: back-projection, information and spread of a point, twice
_MEAN_PASSES = 5
# sweeps of usual data before held-out particles gain no more: first band, others
_FIRST_SWEEPS, _SWEEPS = 3, 2
# an E-step alone, such as that of held-out particles, relative to a visit of a sweep
_E_STEP = 0.55
# with poses: rounds at the finest band, sweeps with further columns, passes of the solver, a search and means
_POSE_ROUNDS, _WITH_MOTIONS, _POSE_PASSES = 6, 1.6, 8.0
# the made-up images stay in the processor's cache, those of a run do not
_IN_PRACTICE = 1.35
# import, figures, report
_FIXED_SECONDS = 6.0
_FIXED_BYTES, _TABLE_BYTES = 450 * 2**20, 600
# of a tilt series, an image: its row has a pose and a dose of its own beside
_TILT_BYTES = 1100


@dataclass(frozen=True)
class Speed:
    """Seconds on this machine.

    Attributes
    ----------
    reading : float
        Of reading and whitening an image.
    image : float
        Of an image in a sweep over all columns at the finest band.
    step : float
        Of the step between two batches there.
    """

    reading: float
    image: float
    step: float


@dataclass(frozen=True)
class ExpectedCost:
    """Expected cost of a run.

    Attributes
    ----------
    seconds : float
        Wall time after compilation.
    memory : int
        Peak resident memory, bytes.
    disk : int
        Whitened images on disk and what waits beside them, bytes; 0 if all stays in memory.
    """

    seconds: float
    memory: int
    disk: int

    def __str__(self) -> str:
        disk = f" and {self.disk / 2**30:.1f} GiB of disk" if self.disk else ""
        return f"about {_rounded(self.seconds)}, {self.memory / 2**30:.1f} GiB of memory{disk}"


def announce(
    particles: ParticleSet, settings: FitSettings, progress: Progress, processes: Processes
) -> None:
    """Say what a run will cost that these processes share."""
    with ThreadTeam(settings.threads) as team:
        compile_kernels(settings, team, progress)
        cost = expected(particles, settings, team, processes.size)
    progress.message(f"This run takes {cost}")


def expected(
    particles: ParticleSet, settings: FitSettings, team: ThreadTeam, processes: int = 1
) -> ExpectedCost:
    """The cost of a run on this machine, shared by some processes; kernels must be compiled."""
    # the first images tell: the headers of all stacks are the run's to read
    few = particles.select(np.arange(min(_READ, len(particles))))
    stack = ImageStack(few, settings.downsample)
    k_c = finest_frequency(stack, settings.resolution)
    speed = measure_speed(stack, k_c, settings, team)
    count, images = len(particles), len(particles.exposures)
    cost = cost_of(count, stack.box_size, k_c, settings, speed, images, processes)
    if not settings.ab_initio:
        return cost
    edge = 0.5 * mask_diameter(load_mask(settings, stack)) / stack.box_size
    seconds = ab_initio_seconds(count // processes, edge, k_c, settings.columns, team)
    return replace(cost, seconds=cost.seconds + seconds)


def cost_of(
    count: int,
    box_size: int,
    k_c: int,
    settings: FitSettings,
    speed: Speed,
    images: int | None = None,
    processes: int = 1,
) -> ExpectedCost:
    """What `solvar run` is expected to cost the first of the processes that share it.

    Parameters
    ----------
    count : int
        Particles.
    box_size : int
        Edge of the images after downsampling, pixels.
    k_c : int
        Finest frequency.
    settings : FitSettings
    speed : Speed
    images : int, optional
        Of all particles; default: one each.
    processes : int
    """
    everybody, all_images = count, count if images is None else images
    count, images = everybody // processes, all_images // processes
    seconds = _FIXED_SECONDS + images * speed.reading
    seconds += _MEAN_PASSES * images * speed.image / (1 + settings.columns)
    passes, steps = _sweeps_of_fit(everybody, box_size, k_c, settings)
    seconds += passes * images * speed.image + steps * speed.step
    cache = images * len(HalfDisc.of_radius(k_c)) * BYTES_PER_PIXEL
    volumes = volume_memory(everybody, box_size, k_c, settings)
    on_disk = goes_to_disk(cache + volumes.waiting, settings)
    precisions, waiting = 8 * everybody * settings.columns**2, volumes.waiting
    memory = volumes.staying + _of_particles(everybody, all_images, count, settings)
    if precisions < LEAST:
        memory += precisions
    else:
        waiting += precisions
    if not on_disk:
        return ExpectedCost(seconds, memory + cache + waiting, 0)
    disk = cache // (2 if settings.cache_precision == "float16" else 1) + waiting
    return ExpectedCost(seconds, memory, disk)


def measure_speed(stack: ImageStack, k_c: int, settings: FitSettings, team: ThreadTeam) -> Speed:
    """Time a few images of the stack and some made-up ones."""
    box = stack.box_size
    disc = HalfDisc.of_radius(k_c)
    some = np.arange(min(_READ, len(stack)))
    images_to_disc(stack.read(some[:1]), disc, team.size)  # opens the file, plans the transform
    begun = time.perf_counter()
    images_to_disc(stack.read(some), disc, team.size)
    reading = 2 * (time.perf_counter() - begun) / len(some)  # CTF and phases cost as much again
    coarse = disc.prefix(min(k_c, _MEASURED_K))
    many = sweep_seconds(_IMAGES, box, coarse, settings, team)
    one = sweep_seconds(1, box, coarse, settings, team)
    image = _IN_PRACTICE * max(many - one, 0.0) / (_IMAGES - 1)
    pixels = len(disc) / len(coarse)
    voxels = (band_box(k_c, box) / band_box(coarse.k_c, box)) ** 3
    return Speed(reading, image * pixels**_PIXEL_POWER, one * voxels**_VOXEL_POWER)


def sweep_seconds(
    count: int, box: int, disc: HalfDisc, settings: FitSettings, team: ThreadTeam
) -> float:
    """Seconds of a sweep over one batch of made-up images."""
    rng = np.random.default_rng(0)
    pixels = MemoryPixels.empty(count, len(disc))
    # noise, and columns that are nearly nothing beside it: steps of a fit to it lead nowhere
    pixels.data.view(np.float32)[:] = rng.standard_normal((count, 2 * len(disc)))
    pixels.ctf[:] = 1
    power = np.ones((count, disc.k_c + 1), np.float32)
    rotation = rotations.random(count, rng)
    images = in_memory_images(pixels, rotation, disc, box, 1.0, power)
    grid = band_box(disc.k_c, box)
    mask = soft_sphere(grid, 0.85 * grid)
    band = Band(images, np.arange(count), disc.k_c, mask, settings.projection, team)
    noise = 1e-3 * rng.standard_normal((1 + settings.columns, *[band.box] * 3))
    columns = noise.astype(np.float32) * band.support.mean
    flat = np.ones(disc.k_c + 1)
    model, prior = ColumnModel(columns, contrast_sd=0.1), Prior(flat, flat)
    chosen = settings.solver, settings.objective
    fit = make_column_solver(*chosen, band, model, prior, [band.index])
    seconds = []
    for _ in range(_TURNS):
        begun = time.perf_counter()
        with SilentProgress().step("", 1) as step:
            fit.sweep(np.zeros(1, np.int64), step)
        seconds.append(time.perf_counter() - begun)
    return min(seconds[1:])


@dataclass(frozen=True)
class _Size:
    """Pixels and voxels of a band relative to the finest one."""

    pixels: float
    voxels: float

    @classmethod
    def of(cls, schedule: BandSchedule, box_size: int, k_c: int) -> _Size:
        pixels = len(HalfDisc.of_radius(schedule.k_c)) / len(HalfDisc.of_radius(k_c))
        return cls(pixels, (band_box(schedule.k_c, box_size) / band_box(k_c, box_size)) ** 3)


def _sweeps(
    number: int, schedule: BandSchedule, k_c: int, settings: FitSettings, of_round: bool = False
) -> float:
    """Sweeps of the half models at a band, of the fit itself or of a round of pose refinement."""
    if settings.solver == "adam":
        return schedule.most_sweeps
    least = max(1 + schedule.fewest_sweeps, _SWEEPS if number else _FIRST_SWEEPS)
    usual = float(min(schedule.most_sweeps, least))
    if settings.has_spatial_prior and not of_round:
        # once more under it, and both are judged
        usual += under_spatial_prior(schedule, k_c).most_sweeps + _E_STEP
    return usual * _WITH_MOTIONS if settings.refine_pose else usual


def _sweeps_of_fit(
    count: int, box_size: int, k_c: int, settings: FitSettings
) -> tuple[float, float]:
    """Passes over the particles and M-steps of a fit, in units of those of the finest band."""
    passes = _final_sweeps(count, settings)
    steps = passes * _batches(count, settings)
    for number, schedule in enumerate(schedule_bands(k_c, settings, count)):
        size = _Size.of(schedule, box_size, k_c)
        sweeps = _sweeps(number, schedule, k_c, settings)
        passes += (sweeps + 2 * _E_STEP) * size.pixels
        steps += sweeps * _batches(count, settings, halves=True) * size.voxels
    if settings.refine_pose:
        more, at_a_time = _round_passes(box_size, k_c, settings)
        passes += _POSE_ROUNDS * more
        steps += _POSE_ROUNDS * at_a_time * _batches(count, settings, halves=True)
    return passes, steps


def _final_sweeps(count: int, settings: FitSettings) -> float:
    """Sweeps of the final model, in units of one with r columns."""
    schedule = schedule_final(count, settings)
    wide = 1 + spare_columns(count, settings) / (1 + settings.columns)
    return schedule.sweeps + wide * schedule.wide_sweeps


def _round_passes(box_size: int, k_c: int, settings: FitSettings) -> tuple[float, float]:
    """Sweeps of a round of pose refinement in units of the finest band: by pixels, and by voxels."""
    pixels, voxels = _POSE_PASSES, 0.0
    for number, schedule in enumerate(pose_schedule(k_c, settings)):
        size = _Size.of(schedule, box_size, k_c)
        sweeps = _sweeps(number, schedule, k_c, settings, of_round=True)
        pixels, voxels = pixels + sweeps * size.pixels, voxels + sweeps * size.voxels
    return pixels, voxels


def _of_particles(count: int, images: int, own: int, settings: FitSettings) -> int:
    """Bytes of everything but whitened images, volumes and precisions; `own` is this process's share."""
    rank = settings.columns
    latents = count * 8 * (rank + 2)
    # Gram matrices and covariances of latents of held-out particles
    amplitudes = min(own // 2, MOST_FOR_SCALE) * 8 * ((rank + 2) ** 2 + rank**2)
    table = images * (_TABLE_BYTES if images == count else _TILT_BYTES)
    return _FIXED_BYTES + latents + amplitudes + table


def _batches(count: int, settings: FitSettings, halves: bool = False) -> int:
    """Batches of a sweep over all particles, in one model or in those of the half-sets."""
    models = 2 if halves and settings.halfsets else 1
    return models * batch_count(max(count // models, 1), settings.batch_size)


def _rounded(seconds: float) -> str:
    """A round figure: an estimate has no decimals."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds > 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
