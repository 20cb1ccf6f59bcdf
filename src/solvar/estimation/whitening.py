"""Images are read once, whitened and re-centred."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.finite import require_finite_images
from solvar.estimation.images import CHUNK, ImageStore, WhitenedImages
from solvar.estimation.noise import NoiseModel
from solvar.estimation.outliers import PowerRanges, monstrous
from solvar.estimation.pixels import Pixels
from solvar.imaging.aberrations import odd_correction
from solvar.imaging.ctf import evaluate_ctf
from solvar.imaging.fourier import HalfDisc, centring_phase, images_to_disc
from solvar.imaging.grid import per_image
from solvar.imaging.optics import Optics
from solvar.imaging.recorded import as_recorded
from solvar.parallel import OneProcess, Processes, dealt
from solvar.particles import Exposures, ImageStack, ParticleSet
from solvar.progress import Progress
from solvar.threads import ThreadTeam, prefetched

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# pixels that a background makes noisier by more say little of the noise itself
_DOUBTED = 1.05


def whiten(
    particles: ParticleSet,
    stack: ImageStack,
    noise: NoiseModel,
    disc: HalfDisc,
    progress: Progress,
    team: ThreadTeam,
    make_pixels: Callable[[Int64, int], Pixels],
    processes: Processes | None = None,
) -> WhitenedImages:
    """Read every image once, in file order, and keep its whitened, re-centred half disc.

    Parameters
    ----------
    noise : NoiseModel
        Of S > k_c shells.
    disc : HalfDisc
        Pixels to keep.
    make_pixels : callable
        Makes memory or files for the pixels of the particles (M,) that this process owns, n pixels each.
    processes : Processes, optional
        Who else reads a part.

    Notes
    -----
    Eight arguments: what is read, what it becomes, and the company it is read in.
    """
    processes = processes or OneProcess()
    own = own_rows(particles, processes)
    exposures = own_exposures(particles, processes)
    shown = particles.exposures.places(own)
    noise_group = particles.noise_groups.of_image[shown]
    pixels = make_pixels(own[exposures.particle], len(disc))
    ctf_power = np.empty((len(shown), disc.k_c + 1), dtype=np.float32)
    ranges = PowerRanges(disc)
    power = np.empty((len(shown), len(ranges)), dtype=np.float32)
    in_shell = (disc.shell[:, None] == np.arange(disc.k_c + 1)).astype(np.float32)
    extent = stack.extent_angstrom
    odd = odd_correction(disc.kx, disc.ky, extent, particles.optics)
    scale = noise.whitening(disc)
    freed = noise.normalisation
    deviation = np.ones((1, 2, len(disc))) if freed is None else freed.deviation(disc)
    # no slices of one long array: each would keep all of it
    starts = range(0, len(shown), CHUNK)
    rows = [np.arange(start, min(start + CHUNK, len(shown))) for start in starts]
    parts = [shown[row] for row in rows]

    def keep(row: Int64, images: Float32) -> None:
        some, group = exposures.rows(row), exposures.optics_group[row]
        factor = scale[noise_group[row]]
        if freed is not None:
            larger = freed.free(images, noise_group[row], deviation)
            factor = factor if larger is None else factor / larger
        data = images_to_disc(images, disc, team.size)
        ctf = np.empty(data.shape, np.float32)
        shift = particles.poses.shift_angstrom[own[some.particle]]
        moves = some.moves(shift) / per_image(extent, group)

        def change(first: int, last: int) -> None:
            here, modelled = slice(first, last), some.rows(np.arange(first, last))
            data[here] *= centring_phase(disc, moves[here])
            if odd is not None:
                data[here] *= odd[group[here]]
            if some.sign is not None:
                data[here] *= some.sign[here, None]
            data[here] *= factor[here].astype(np.float32)
            value, undo = recorded_ctf(modelled, particles.optics, disc, extent)
            if undo is not None:
                data[here] *= undo.astype(np.float32)
            ctf[here] = factor[here] * value
            ctf_power[row[here]] = ctf[here] ** 2 @ in_shell
            power[row[here]] = ranges.power(data[here])

        team.over_items(len(row), len(disc), change)
        require_finite_images(data, particles, shown[row])
        pixels.write(row, data, ctf)

    with progress.step("Reading and whitening images", len(shown), "images") as step:
        for row, images in zip(rows, prefetched(stack.read, parts), strict=True):
            keep(row, images)
            step.advance(len(row))
    store = ImageStore(
        disc=disc,
        box=stack.box_size,
        pixel_size_angstrom=stack.pixel_size_angstrom,
        pixels=pixels,
        ctf_power=ctf_power,
        group=exposures.optics_group,
        noise_group=noise_group,
        reference=noise,
        doubted=np.any(deviation[:, 0] > _DOUBTED, axis=0),
        **_places(own, exposures, particles),
        tilt=exposures.tilt,
        tilt_image=_tilt_images(exposures, shown),
        processes=processes,
        stretch=particles.grid.stretch,
        image_extent_angstrom=None if isinstance(extent, float) else extent,
    )
    shift = _moves_of_copies(particles, extent)
    found = WhitenedImages(store, NoiseModel(noise.power), particles.poses.rotation, shift)
    found = found.of_contrast(exposures.contrast)
    return found.weighted(_weight(particles, own, exposures, power, found))


def _weight(
    particles: ParticleSet,
    own: Int64,
    exposures: Exposures,
    power: Float32,
    images: WhitenedImages,
) -> Float64:
    """0 for particles (N,) of which an image has a monstrous power (M, ranges), 1 for the others."""
    largest = np.zeros((len(images), power.shape[1]), np.float32)
    np.maximum.at(largest, own[exposures.particle], power)
    group = np.zeros(len(images), np.int64)
    group[own[exposures.particle]] = exposures.optics_group
    sums = images.processes.sum
    largest, group = sums(largest), sums(group)
    shown, place = np.unique(particles.image_of, return_inverse=True)
    return np.where(monstrous(largest[shown], group[shown]), 0.0, 1.0)[place.reshape(-1)]


def recorded_ctf(
    exposures: Exposures, optics: Optics, disc: HalfDisc, extent: float | Float64
) -> tuple[Float64, Float64 | None]:
    """CTF (M, n) of images as their files hold them, and what undoes its application; see `as_recorded`."""
    group = exposures.optics_group
    ctf = evaluate_ctf(disc.kx, disc.ky, extent, exposures.ctf, optics, group)
    return as_recorded(ctf, optics, group)


def own_rows(particles: ParticleSet, processes: Processes) -> Int64:
    """The particles whose images this process reads; symmetry copies share those of their particle."""
    own = dealt(particles.halfset, processes)
    return own[particles.image_of[own] == own]


def own_exposures(particles: ParticleSet, processes: Processes) -> Exposures:
    """The images that this process reads, in the order of an `ImageStore`."""
    return particles.exposures.of(own_rows(particles, processes))


def _tilt_images(exposures: Exposures, shown: Int64) -> Int64 | None:
    """`tilt_image` of an `ImageStore` of the images at positions `shown` among all."""
    if exposures.tilt is None:
        return None
    return shown if exposures.tilt_image is None else exposures.tilt_image


def _places(own: Int64, exposures: Exposures, particles: ParticleSet) -> dict[str, Any]:
    """`first` and `count` of an `ImageStore` that holds the images of the particles `own`."""
    count = exposures.counts()
    first = np.full(len(particles), -1)
    first[own] = np.cumsum(count) - count
    first = first[particles.image_of]
    if (count == 1).all():
        return {"first": first, "count": None}
    several = np.zeros(len(particles), np.int64)
    several[own] = count
    return {"first": first, "count": several[particles.image_of]}


def _moves_of_copies(particles: ParticleSet, extent: float | Float64) -> Float64:
    """By how much symmetry copies are moved beyond their particle, (N, d) box lengths; 0 for others."""
    if particles.copy_of is None:
        return np.zeros_like(particles.poses.shift_angstrom)
    shift = particles.poses.shift_angstrom
    group = particles.exposures.first_of(particles.exposures.optics_group)
    return (shift - shift[particles.image_of]) / per_image(extent, group)


def in_memory_images(
    pixels: Pixels,
    rotation: Float64,
    disc: HalfDisc,
    box: int,
    pixel_size_angstrom: float,
    ctf_power: Float32,
) -> WhitenedImages:
    """Images (N) that are whitened already, all of them this process's.

    Parameters
    ----------
    pixels : Pixels
    rotation : (N, 3, 3)
    disc : HalfDisc
    box : int
        Edge in pixels.
    pixel_size_angstrom : float
    ctf_power : (N, k_c + 1)
        As in `ImageBatch`.
    """
    count = len(rotation)
    noise = NoiseModel(np.ones((1, disc.k_c + 2)))
    store = ImageStore(
        disc=disc,
        box=box,
        pixel_size_angstrom=pixel_size_angstrom,
        pixels=pixels,
        ctf_power=ctf_power,
        group=np.zeros(count, np.int64),
        noise_group=np.zeros(count, np.int64),
        reference=noise,
        doubted=np.zeros(len(disc), bool),
        first=np.arange(count),
        count=None,
        tilt=None,
        processes=OneProcess(),
    )
    return WhitenedImages(store, noise, rotation, np.zeros((count, 2)))
