"""How well class means of a tilt series agree with given volumes, under several models of the noise.

A folder of two states as `../shared/data/tomo/two_states` (its README): for each class the mean volume of a
fit with one noise for all images, with the noise of the exposures, and with other damping; then plain means
within the mask of that fit, under noise that follows CTF², and under what nobody knows: the noise that the
true volume leaves, and images that were drawn of it. Printed is the FSC with the true volume in that mask at
shells 5 to 8, half Nyquist of box 32 being 8.

    python benchmarks/tilt_noise.py ../shared/data/tomo/two_states [--draws 4]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel
from solvar.estimation.images import WhitenedImages
from solvar.estimation.mean import MeanProblem
from solvar.estimation.pixels import MemoryPixels
from solvar.estimation.residual_noise import renewed, residual_power
from solvar.fitting.fit import fit
from solvar.fitting.images import read_images
from solvar.fitting.result import Fit
from solvar.fitting.settings import FitSettings
from solvar.fitting.start import half_means
from solvar.imaging.fourier import fourier_filter, volume_shells
from solvar.imaging.fsc import fourier_shell_correlation
from solvar.particles import Exposures, ParticleSet, read_particles
from solvar.particles.exposure_order import NoiseGroups
from solvar.volume_file import read_volume

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
SHELLS = slice(5, 9)


def one_group(exposures: Exposures, optics: object) -> NoiseGroups:
    """All images together."""
    return NoiseGroups(np.zeros_like(exposures.particle), np.zeros(1, int), np.zeros(1, int))


def damped_otherwise(particles: ParticleSet, factor: float) -> ParticleSet:
    """With an envelope of a B-factor (Å²) for each electron per Å² in the place of the critical exposure."""
    ctf = particles.exposures.ctf
    assert ctf.dose_per_angstrom2 is not None
    bfactor = factor * ctf.dose_per_angstrom2
    ctf = replace(ctf, bfactor_angstrom2=bfactor, dose_per_angstrom2=None)
    return replace(particles, exposures=replace(particles.exposures, ctf=ctf))


def tell(name: str, mean: Float32, truth: Float32, mask: Float32, more: str = "") -> None:
    """One line of the table."""
    fsc = fourier_shell_correlation(mean, truth * mask, SHELLS.stop)[SHELLS]
    print(f"    {name:34}", *(f"{value:6.3f}" for value in fsc), more, flush=True)


def log_likelihood(found: Fit) -> float:
    """Of all images under a fit, noise included: models of other noise can be compared."""
    images = read_images(found.particles)
    store, disc = images.store, images.disc
    assert isinstance(store.pixels, MemoryPixels)
    in_shell = (disc.shell[:, None] == np.arange(disc.k_c + 1)).astype(np.float32)
    numbers = disc.weight @ in_shell
    power = found.noise_power[store.noise_group, : disc.k_c + 1]
    reference = store.reference.power[store.noise_group, : disc.k_c + 1]
    energy = (np.abs(store.pixels.data) ** 2 @ in_shell) * reference / power
    alone = -0.5 * (energy.sum() + (numbers * np.log(power)).sum())
    return float(found.posterior.log_likelihood.sum() + alone)


class Means:
    """Plain means of the images of a fit, within its mask and of one prior."""

    def __init__(self, found: Fit, truth: Float32) -> None:
        # the background of the given volumes is not 0, and images have none
        self.mask = found.model.mask
        self.truth = (truth - np.median(truth)) * self.mask
        self.images = replace(read_images(found.particles), inverted=found.inverted)
        halves = [np.flatnonzero(found.particles.halfset == h) for h in (1, 2)]
        _, self.precision = half_means([self._band(self.images, half) for half in halves])

    def _band(self, images: WhitenedImages, index: NDArray[np.int64] | None = None) -> Band:
        return Band(images, index, support=self.mask)

    def mean(self, images: WhitenedImages) -> Float32:
        """Of all particles."""
        band = self._band(images)
        assert band.box == images.box
        # a half has half the information, and the prior is that of a mean of all
        return MeanProblem(band).solve(self.precision, 8)

    def true_slices(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.complex64]]]:
        """What the true volume makes of each image, whitened: rows and pixels, batch by batch."""
        band = self._band(self.images)
        model = BandModel(band, ColumnModel(self.truth[None], 0.0))
        for batch in band.batches():
            yield batch.row, model.slices(batch.frame, batch.ctf)[:, 0].copy()

    def scale_truth(self) -> Float64:
        """Give the true volume the strength that the images have in each shell, (S,)."""
        pixels, shell = self._pixels(), self.images.disc.shell
        in_shell = (shell[:, None] == np.arange(shell.max() + 1)).astype(np.float32)
        top, bottom = np.zeros((2, in_shell.shape[1]))
        for row, ideal in self.true_slices():
            data = self._data(pixels.data[row])
            top += (ideal.conj() * data).real.sum(axis=0) @ in_shell
            bottom += (np.abs(ideal) ** 2).sum(axis=0) @ in_shell
        gain = np.maximum(top / bottom, 0)
        box = len(self.truth)
        each = np.append(gain, 0)[np.minimum(volume_shells(box), len(gain))].astype(np.float32)
        self.truth = fourier_filter(self.truth[None], each, 1)[0]
        return gain

    def _data(self, data: NDArray[np.complex64]) -> NDArray[np.complex64]:
        return -data if self.images.inverted else data

    def _pixels(self) -> MemoryPixels:
        assert isinstance(self.images.store.pixels, MemoryPixels)
        return self.images.store.pixels

    def with_pixels(self, data: NDArray[np.complex64], ctf: Float32) -> WhitenedImages:
        """The same images with other whitened pixels."""
        store = replace(self.images.store, pixels=MemoryPixels(data, ctf))
        return replace(self.images, store=store)

    def follows_ctf(self) -> Float64:
        """Part of the noise power that follows CTF², (S,): what the true volume leaves, against CTF²."""
        pixels, disc = self._pixels(), self.images.disc
        left, passed = (np.empty(pixels.ctf.shape, np.float32) for _ in range(2))
        for row, ideal in self.true_slices():
            left[row] = np.abs(self._data(pixels.data[row]) - ideal) ** 2
            passed[row] = pixels.ctf[row] ** 2
        found = np.zeros(disc.k_c + 1)
        for shell in range(1, disc.k_c + 1):
            x, y = (values[:, disc.shell == shell].ravel() for values in (passed, left))
            found[shell] = max(np.polyfit(x, y / np.median(disc.weight), 1)[0], 0.0)
        return found

    def under_structural(self, part: Float64) -> WhitenedImages:
        """Images whitened by noise of which this part follows CTF²."""
        pixels = self._pixels()
        power = 1 + part[self.images.disc.shell].astype(np.float32) * pixels.ctf**2
        factor = 1 / np.sqrt(power / power.mean(axis=0))
        return self.with_pixels(pixels.data * factor, pixels.ctf * factor)

    def under_true_noise(self) -> WhitenedImages:
        """Images whitened by what the true volume leaves, by exposure and shell."""
        model = BandModel(self._band(self.images), ColumnModel(self.truth[None], 0.0))
        groups = len(self.images.noise.power)
        power = residual_power(model, np.arange(len(self.images)), groups)
        ratio = power.power / np.maximum(power.count, 1)
        return replace(self.images, noise=renewed(self.images.noise, ratio))

    def drawn(self, seed: int) -> WhitenedImages:
        """Images of the true volume with noise of unit power."""
        rng, pixels = np.random.default_rng(seed), self._pixels()
        data = np.empty_like(pixels.data)
        for row, ideal in self.true_slices():
            noise = rng.standard_normal((*ideal.shape, 2)) * np.sqrt(0.5)
            own = np.sqrt(2.0) * noise.view(np.complex128)[..., 0]
            data[row] = self._data((ideal + own).astype(np.complex64))
        return self.with_pixels(data, pixels.ctf)


def of_class(folder: Path, name: str, draws: int) -> None:
    """All lines of a class."""
    particles = read_particles(folder / f"{name}_sim.star", strip_prefix="data")
    truth, _ = read_volume(folder / f"{name}.mrc")
    print(f"{name}: {len(particles)} particles, {len(particles.exposures)} images")
    print("    shell", " " * 28, *(f"{shell:6}" for shell in range(SHELLS.start, SHELLS.stop)))
    settings = FitSettings(rank=1)
    with patch.object(NoiseGroups, "of", one_group):
        shared = fit(particles, settings)
        found = [log_likelihood(shared)]
    own = fit(particles, settings)
    found.append(log_likelihood(own))
    tell("fit, one noise", shared.model.mean, truth, shared.model.mask)
    more = f"log-likelihood {found[1] - found[0]:+.1f}"
    tell("fit, noise of exposures", own.model.mean, truth, own.model.mask, more)
    for factor in (0.0, 4.0):
        other = fit(damped_otherwise(particles, factor), settings)
        gain = log_likelihood(other) - found[1]
        named = f"fit, B-factor {factor:g} a unit of dose"
        tell(named, other.model.mean, truth, other.model.mask, f"log-likelihood {gain:+.1f}")
    means = Means(own, truth)
    gain = means.scale_truth()
    print("    strength of the images in the volume's", (gain[SHELLS] / gain[1:4].mean()).round(2))
    tell("mean, noise of exposures", means.mean(means.images), truth, means.mask)
    part = means.follows_ctf()
    power = part[SHELLS].mean() * float(np.mean(means.images.store.pixels.ctf**2))
    changed = means.mean(means.under_structural(part))
    tell("mean, a part follows CTF²", changed, truth, means.mask, f"{power:.3f} of the rest")
    tell("mean, true noise", means.mean(means.under_true_noise()), truth, means.mask)
    for seed in range(draws):
        tell(f"mean of drawn images, seed {seed}", means.mean(means.drawn(seed)), truth, means.mask)


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=4)
    options = parser.parse_args()
    for name in ("10076_classD_32", "10076_classE_32"):
        of_class(options.folder, name, options.draws)


if __name__ == "__main__":
    main()
