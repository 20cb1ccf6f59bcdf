"""What a fit starts from: whitened images, the means of the half-sets, the sign, and the prior they imply."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.images import WhitenedImages
from solvar.estimation.mean import MeanProblem
from solvar.estimation.noise import estimate_noise
from solvar.estimation.pixels import BYTES_PER_PIXEL, DiskPixels, MemoryPixels, Pixels
from solvar.estimation.poses import (
    WIDE_SPREAD,
    PoseSolver,
    PoseState,
    TiltShifts,
    pose_errors_depend_on_conformation,
)
from solvar.estimation.prior import Prior, mean_precision
from solvar.estimation.support import Support
from solvar.estimation.tilt_contrast import TiltContrasts
from solvar.estimation.whitening import whiten
from solvar.fitting.calibration import with_measured_noise, with_tilt_contrasts
from solvar.fitting.context import Context
from solvar.fitting.memory import volume_memory
from solvar.fitting.schedule import schedule_bands
from solvar.fitting.settings import FitSettings
from solvar.fitting.state import FitState
from solvar.imaging.fourier import HalfDisc, crop_volume
from solvar.imaging.fsc import fourier_shell_correlation
from solvar.imaging.masks import default_mask, mask_diameter, read_mask
from solvar.machine import available_memory
from solvar.parallel import Processes, agreed, processes_here
from solvar.particles import ImageStack, ParticleSet
from solvar.progress import Progress
from solvar.threads import ThreadTeam

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

START_CONTRAST_SD = 0.15
_SMALLEST_K = 4
# of the free memory, what whitened images may take before they go to disk
_MEMORY_SHARE = 0.5
# Prior of the very first mean, relative to the mean information: all but none
_WEAK = 1e-3
# steps of conjugate gradients of a mean; the first means serve for their FSC alone, which one gives
MEAN_STEPS = 3
_CG_STEPS = (1, MEAN_STEPS)


def finest_frequency(stack: ImageStack, resolution: float | None) -> int:
    """k_c of the finest band: the last whole shell before Nyquist, or that of `resolution` in Å."""
    nyquist = (stack.box_size - 1) // 2
    if resolution is None:
        return nyquist
    wanted = int(stack.box_size * stack.pixel_size_angstrom / resolution)
    if wanted < _SMALLEST_K:
        raise InputError(
            f"a resolution of {resolution:g} Å leaves fewer than {_SMALLEST_K} shells of the "
            f"{stack.box_size * stack.pixel_size_angstrom:.0f} Å box",
            column="resolution",
            remedy="ask for a finer resolution",
        )
    return min(wanted, nyquist)


def start_state(
    particles: ParticleSet, settings: FitSettings, images: WhitenedImages, solver: PoseSolver | None
) -> FitState:
    """Nothing known but the noise, monstrous images, and the input poses where they are to be refined."""
    poses = None
    if solver is not None:
        axes, memory = particles.exposures.shift_axes, solver.start(len(particles))
        poses = PoseState.of(particles.poses.rotation, memory=memory, axes=axes)
    tilts = TiltShifts.none(particles.exposures.tilt_images) if settings.refine_tilts else None
    contrasts = (
        TiltContrasts.none(particles.exposures.tilt_images) if settings.tilt_contrast else None
    )
    random = np.random.default_rng(settings.seed).bit_generator.state
    weight = np.ones(len(particles)) if images.weight is None else images.weight
    return FitState(
        images.noise, dict(random), weight, poses=poses, tilts=tilts, contrasts=contrasts
    )


def with_means(context: Context, state: FitState) -> FitState:
    """With the means of the half-sets, the prior that they imply, and the noise and contrasts they see."""
    sd = start_contrast_sd(context.settings)
    state, bands = _with_means_alone(context, state)
    if state.contrasts is not None:
        state = with_tilt_contrasts(context, state, bands, mean_models(bands, state.means, sd))
        state, bands = _with_means_alone(context, state)
    return with_measured_noise(context, state, bands, mean_models(bands, state.means, sd))


def _with_means_alone(context: Context, state: FitState) -> tuple[FitState, list[Band]]:
    """With the means of the half-sets and the prior that they imply, and the bands of these."""
    bands = [context.band(state, part, context.k_max) for part in range(len(context.parts))]
    means, precision = half_means(bands)
    means = [context.shelf.keep(mean) for mean in means]
    return replace(state, means=means, prior=Prior(precision, precision)), bands


def start_contrast_sd(settings: FitSettings) -> float:
    """Standard deviation of contrasts before anything is known of them; 0 where they are not refined."""
    return START_CONTRAST_SD if settings.refine_contrast else 0.0


def mean_models(bands: list[Band], means: list[Float32], contrast_sd: float) -> list[ColumnModel]:
    """Models of bands that know their mean (L, L, L) alone."""
    return [
        ColumnModel(crop_volume(mean, band.box)[None] * band.support.mean, contrast_sd)
        for mean, band in zip(means, bands, strict=True)
    ]


def with_sign(context: Context, state: FitState) -> FitState:
    """With the images turned around if the molecule is dark in them."""
    invert = should_invert(context.settings.density, state.means, context.support(state).mean)
    if not agreed(invert, context.images.processes):
        return state
    means = [context.shelf.keep(-mean) for mean in state.means]
    return replace(state, inverted=True, means=means)


def with_kind_of_pose_errors(context: Context, state: FitState) -> FitState:
    """Told whether the input poses were fitted to these images, where they are to be refined."""
    if state.poses is None or context.settings.ab_initio:
        return state
    depend = pose_errors_depend_on_conformation(
        lambda k: [context.band(state, part, k) for part in range(len(context.parts))],
        state.means,
        context.k_max,
    )
    depend = agreed(depend, context.images.processes)
    poses = replace(state.poses, depends_on_conformation=depend)
    if depend:
        poses = replace(poses, prior=replace(poses.prior, spread=np.array(WIDE_SPREAD)))
    return replace(state, poses=poses)


def mean_form(context: Context, state: FitState) -> FitState:
    """What has the form of a state with means."""
    flat = np.zeros(context.k_max + 1)
    means = [np.zeros((context.images.box,) * 3, np.float32) for _ in context.parts]
    return replace(state, means=means, prior=Prior(flat, flat))


def load_mask(settings: FitSettings, stack: ImageStack) -> Float32:
    """Where the mean lives before half-maps tell, and outside of which noise is measured."""
    return load_support(settings, stack).mean


def load_support(settings: FitSettings, stack: ImageStack) -> Support:
    """Where mean and columns live: the mask file or a soft sphere, and focus masks if there are any."""
    box, pixel_size = stack.box_size, stack.pixel_size_angstrom
    if settings.mask is not None:
        mask = read_mask(settings.mask, box, pixel_size)
    else:
        mask = default_mask(box, pixel_size, settings.mask_diameter)
    if not settings.focus_mask:
        return Support.of(mask)
    focus = np.stack([read_mask(each.path, box, pixel_size) for each in settings.focus])
    if not settings.block_columns:
        together = focus.max(axis=0)
        return Support(np.maximum(mask, together), together)
    if settings.focus[0].columns is None:
        focus = focus.max(axis=0, keepdims=True)
    return Support.of_blocks(mask, focus, settings.block_columns)


def whitened_images(
    particles: ParticleSet,
    stack: ImageStack,
    mask: Float32,
    settings: FitSettings,
    progress: Progress,
    team: ThreadTeam,
    processes: Processes | None = None,
) -> WhitenedImages:
    """Whitened images up to the finest band; on disk where they do not fit into memory.

    Raises
    ------
    InputError
        If the settings ask for a resolution that leaves too few shells.
    """
    disc = HalfDisc.of_radius(finest_frequency(stack, settings.resolution))
    shells = disc.k_c + 2
    noise = estimate_noise(particles, stack, mask_diameter(mask), shells, settings.seed, processes)
    if noise.normalisation is not None and (told := noise.normalisation.sentence()):
        progress.message(told)

    ctf_scale = float(np.median(noise.whitening(disc)))

    def make_pixels(own: Int64, pixels: int) -> Pixels:
        return choose_pixels(particles.halfset[own], disc, settings, progress, ctf_scale)

    return whiten(particles, stack, noise, disc, progress, team, make_pixels, processes)


def choose_pixels(
    halfset: NDArray[np.int8],
    disc: HalfDisc,
    settings: FitSettings,
    progress: Progress,
    ctf_scale: float = 1.0,
) -> Pixels:
    """Memory for the whitened pixels of particles (M,), or files where they and the models do not fit."""
    need = len(halfset) * len(disc) * BYTES_PER_PIXEL
    box = 2 * disc.k_c + 4  # no band's is larger
    waiting = volume_memory(len(halfset), box, disc.k_c, settings).waiting
    if not goes_to_disk(need + waiting, settings):
        return MemoryPixels.empty(len(halfset), len(disc))
    folder = settings.scratch or Path(tempfile.gettempdir())
    schedules = schedule_bands(disc.k_c, settings, len(halfset))
    bands = [len(disc.prefix(each.k_c)) for each in schedules]
    pixels = DiskPixels(folder, halfset, bands, settings.cache_precision == "float16", ctf_scale)
    size = need / 2**30 * (0.5 if settings.cache_precision == "float16" else 1)
    progress.message(f"Whitened images ({size:.1f} GiB) are kept on disk, in {folder}")
    return pixels


def goes_to_disk(need: int, settings: FitSettings) -> bool:
    """Whether `need` bytes of images and models are kept on disk: as the settings say, or by what is free."""
    if settings.lazy is not None:
        return settings.lazy
    return need > _MEMORY_SHARE * available_memory() / processes_here()


def half_means(
    bands: list[Band], steps: tuple[int, ...] = _CG_STEPS
) -> tuple[list[Float32], Float64]:
    """`band_means` on the full grid."""
    means, precision = band_means(bands, steps)
    return [crop_volume(mean, bands[0].images.box) for mean in means], precision


def band_means(
    bands: list[Band], steps: tuple[int, ...] = _CG_STEPS
) -> tuple[list[Float32], Float64]:
    """Means of disjoint sets of particles on the bands' grid, and the prior that their FSC implies.

    The first means are all but unregularised; their FSC sets the prior of the second ones. Either take so
    many steps of conjugate gradients.
    """
    bands = [band.of_mean for band in bands]
    shells = bands[0].k_c + 1
    information = np.mean([band.shell_information for band in bands], axis=0)
    precision = np.full(shells, _WEAK * information.mean())
    problems = [MeanProblem(band) for band in bands]
    for count in steps:
        means = [problem.solve(precision, count) for problem in problems]
        precision = mean_precision(
            fourier_shell_correlation(means[0], means[1], shells), information
        )
    return means, precision


def should_invert(density: str, means: list[Float32], mask: Float32) -> bool:
    """Whether the images must be inverted to make the molecule bright.

    "bright" and "dark" say what the images are; "auto" looks at the mean: its strongest voxels are those of
    the molecule.
    """
    if density != "auto":
        return density == "dark"
    mean = np.sum(means, axis=0, dtype=np.float64)
    return float(np.sum(mask * mean**3)) < 0
