"""The images that volumes are made from, with the poses and half-sets of the run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.estimation.band import Band
from solvar.estimation.images import WhitenedImages
from solvar.fitting.settings import FitSettings
from solvar.fitting.start import whitened_images
from solvar.imaging.fourier import crop_volume
from solvar.imaging.masks import read_mask, resample_mask
from solvar.imaging.projector import runs_here
from solvar.particles import ImageStack, ParticleSet, Poses
from solvar.progress import Progress
from solvar.results.matching import find_particles
from solvar.results.run import Run
from solvar.threads import ThreadTeam
from solvar.volumes.settings import VolumeSettings

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Source:
    """Whitened images of a run's particles in row order, and the run's model on their grid.

    Attributes
    ----------
    images : WhitenedImages
    halves : two (n,) int64
        Particles of either half-set.
    mean : (L, L, L) float32
    columns : (r, L, L, L) float32
        Eigenvolumes, of unit norm on the run's own grid.
    mask : (L, L, L) float32
    """

    images: WhitenedImages
    halves: tuple[Int64, Int64]
    mean: Float32
    columns: Float32
    mask: Float32
    settings: FitSettings
    team: ThreadTeam

    def band(self, index: Int64) -> Band:
        """All frequencies of the particles `index`."""
        k_c = self.images.disc.k_c
        return Band(self.images, index, k_c, self.mask, self.settings.projection, self.team)


def open_source(
    run: Run,
    original: ParticleSet | None,
    wanted: VolumeSettings,
    scratch: Path,
    progress: Progress,
    team: ThreadTeam,
) -> Source:
    """Read and whiten the images of a run, or those of `original` that are the same particles.

    Parameters
    ----------
    original : ParticleSet or None
        The particles at another box size, in any order; matched by their identity.
    wanted : VolumeSettings
        Its mask, if there is one, takes the place of the run's.
    scratch : path
        Where images lie that are kept on disk; no folder that the run's record names is written to.

    Raises
    ------
    InputError
        If images or particles cannot be found.
    """
    particles = particles_of(run) if original is None else _with_poses_of(run, original)
    settings = run.settings.model_copy(
        update={} if original is None else {"downsample": None, "resolution": None}
    ).model_copy(update={"lazy": wanted.lazy, "scratch": scratch})
    if not runs_here(settings.backend, settings.device):
        # the run's GPU is no part of its result: another machine does without
        settings = settings.model_copy(update={"backend": "auto", "device": None})
    stack = ImageStack(particles, settings.downsample, run.intensity_factor)
    box = stack.box_size
    volume = resample_mask(run.model.mask, box)
    if wanted.mask is not None:
        volume = read_mask(wanted.mask, box, stack.pixel_size_angstrom)
    images = whitened_images(particles, stack, volume, settings, progress, team)
    images = replace(images, inverted=bool(run.record["result"]["inverted"]))
    images = images.weighted(run.particle_probability)
    halves = tuple(np.flatnonzero(particles.halfset == half) for half in (1, 2))
    model = run.model
    return Source(
        images,
        (halves[0], halves[1]),
        crop_volume(model.mean, box),
        crop_volume(model.eigenvolumes, box),
        volume,
        settings,
        team,
    )


def particles_of(run: Run) -> ParticleSet:
    """The particles that the run was made from, with its poses and half-sets.

    Raises
    ------
    InputError
        If their files have changed since, or are gone.
    """
    try:
        return _with_poses_of(run, run.read_input(pixels=True))
    except InputError as error:
        raise InputError(
            f"the run's particles cannot be read again ({error})",
            file=run.folder,
            remedy="bring its files back, name those that have moved with the options that read them, "
            "or pass --particles FILE",
        ) from error


def _with_poses_of(run: Run, particles: ParticleSet) -> ParticleSet:
    """The run's particles, in its order, with its poses and half-sets."""
    ours = run.particles
    place = find_particles(run, np.arange(run.particle_count), particles)
    poses = Poses(ours["rotation"], ours["shift_angstrom"])
    return replace(
        run.with_own_tilts(particles.select(place), np.arange(run.particle_count)),
        poses=poses,
        halfset=ours["halfset"].astype(particles.halfset.dtype),
    )
