"""The noise of images, from what a model leaves of them.

The corners of images tell the noise where no particle is: smeared by the window through which they are
seen, nothing at the lowest frequencies, and not what lies under the particle. The residuals of a model tell
all three. Under its posterior an image of noise power Φ leaves E|y - C P W ζ|² = Φ on average: to a model
that was fitted to it a little less, to another a little more, by as much. The mean of the two is used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.e_step import BandModel, ImagePlane, e_step
from solvar.estimation.image_batch import ImageBatch
from solvar.estimation.kernels import on_host
from solvar.estimation.noise import NoiseModel

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_CHUNK = 256
# a spectrum is believed within these bounds of the one before; what is beyond comes in the next round
_SMALLEST, _LARGEST = 0.2, 5.0
_STANDARD_ERRORS = 3.0


@dataclass(frozen=True, eq=False)
class ResidualPower:
    """Power of residuals, per group (`NoiseGroups`) and shell, in units of the noise that was assumed.

    Attributes
    ----------
    power : (G, S) float64
        Summed.
    count : (G, S) float64
        What it should add up to: how many real numbers were seen.
    """

    power: Float64
    count: Float64

    def __add__(self, other: ResidualPower) -> ResidualPower:
        """Of both."""
        return ResidualPower(self.power + other.power, self.count + other.count)

    @property
    def is_chance(self) -> bool:
        """Whether all shells, of all groups together, are what was assumed within three standard errors."""
        power, count = self.power.sum(axis=0), self.count.sum(axis=0)
        return bool(np.all(np.abs(power - count) <= _STANDARD_ERRORS * np.sqrt(2 * count)))

    def ratio(self) -> Float64:
        """Measured over assumed noise power, (G, S).

        A group's own ratio is trusted by how much groups differ beyond chance against how well it is known;
        the rest is that of all groups. 1 in shells that were not seen.
        """
        total, images = self.power.sum(axis=0), self.count.sum(axis=0)
        whole = np.where(images > 0, total / np.maximum(images, 1), 1.0)
        # a sum of n squared standard normal numbers has relative variance 2/n
        chance = 2 * whole**2 / np.maximum(self.count, 1)
        own = np.where(self.count > 0, self.power / np.maximum(self.count, 1), whole)
        known = self.count > 0
        excess = np.where(known, (own - whole) ** 2 - chance, 0).sum(axis=0)
        spread = np.maximum(excess / np.maximum(known.sum(axis=0), 1), 0)
        trust = spread / (spread + chance)
        return np.clip(whole + trust * (own - whole), _SMALLEST, _LARGEST)


def residual_power(model: BandModel, index: Int64, groups: int) -> ResidualPower:
    """What a model without pose errors leaves of some particles, all processes together.

    Parameters
    ----------
    model : BandModel
    index : (N,) int64
        Particles.
    groups : int
        G.
    """
    band = model.band
    # the last shell of a band that is not the finest is cut
    shells = band.k_c + (band.k_c == band.images.disc.k_c)
    in_shell = (band.disc.shell[:, None] == np.arange(shells)).astype(np.float32)
    in_shell[band.images.store.doubted[: len(band.disc)]] = 0
    each = band.disc.weight @ in_shell
    power, count = np.zeros((groups, shells)), np.zeros((groups, shells))
    for batch in model.batches(index, _CHUNK):
        _, plane = e_step(model, batch)
        left = _expected_power(plane, batch) @ in_shell
        group = band.images.store.noise_group[batch.row]
        np.add.at(power, group, left)
        # of an image of weight w the noise has w times its power
        weight = np.ones(len(batch)) if batch.weight is None else batch.weight
        np.add.at(count, group, batch.per_image(weight)[:, None] * each)
    return ResidualPower(band.sum(power), band.sum(count))


def _expected_power(plane: ImagePlane, batch: ImageBatch) -> Float32:
    """E|y - C P W ζ|² of the images at every pixel, (R, n)."""
    slices = on_host(plane.slices)
    real, data = slices.view(np.float32), batch.data.view(np.float32)
    first = plane.first.astype(np.float32)
    left = data - np.matmul(first[:, None], real)[:, 0]
    spread = plane.mixing - plane.first[:, :, None] * plane.first[:, None, :]
    value, axes = np.linalg.eigh(spread)
    root = (axes * np.sqrt(np.maximum(value, 0))[:, None, :]).astype(np.float32)
    unknown = np.matmul(root.transpose(0, 2, 1), real)
    total = left**2 + np.einsum("rcn,rcn->rn", unknown, unknown)
    return total[:, 0::2] + total[:, 1::2]


def renewed(noise: NoiseModel, ratio: Float64) -> NoiseModel:
    """The noise model with its power multiplied by (G, S), S shells at most."""
    power = noise.power.copy()
    power[:, : ratio.shape[1]] *= ratio
    return NoiseModel(power)
