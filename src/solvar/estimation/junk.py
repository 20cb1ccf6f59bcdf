"""Whether an image shows a particle at all: the likelihood of a model against that of noise alone.

A particle may be seen less well than the model says, for its pose is a little off, or it is faint. That must
not pass for an image without one. The images are therefore taken for a mixture of

    nothing                      the image is noise alone
    a particle up to shell k     as the model has it up to there, and unlike it beyond: pose errors blur
                                 the fine shells first
    a faint or bright one        the same, with a wide spread of the contrast

whose shares maximise the likelihood of a sample (a concave problem). What the model gets wrong about
particles on average, by whatever cause, counts as noise: the residual power of each range of shells
takes the place of the noise power that images were whitened by.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.e_step import BandModel
from solvar.estimation.kernels import gram
from solvar.estimation.likelihood import image_posterior
from solvar.parallel import OneProcess, Processes

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# spread of the contrasts of faint and bright particles
_WIDE_CONTRAST_SD = 0.5
_MOST_STEPS = 1000
# shares are settled when a step of EM changes none of them by more
_SETTLED = 1e-6
_STANDARD_ERRORS = 3.0


@dataclass(frozen=True, eq=False)
class RangeProducts:
    """What the images of N particles say of a model, range of shells by range of shells, coarse ones first.

    Attributes
    ----------
    gram : (ranges, N, r + 2, r + 2) float64
        Gram matrices, as of `kernels.gram`.
    numbers : (ranges, N) float64
        How many real numbers of unit variance the noise of each has.
    contrast_sd : float
        Of the model.
    """

    gram: Float64
    numbers: Float64
    contrast_sd: float

    def residual_power(self, processes: Processes | None = None) -> Float64:
        """Mean power of what the model leaves of the images, (ranges,): 1 for noise.

        Of those of all processes, of which each has others.
        """
        found = image_posterior(self.gram.sum(axis=0), self.contrast_sd)
        left = self.gram[:, :, -1, -1].sum(axis=1)
        left -= 2 * np.einsum("jbc,bc->j", self.gram[:, :, -1, :-1], found.first)
        left += np.einsum("jbcd,bcd->j", self.gram[:, :, :-1, :-1], found.second)
        sums = np.stack([left, self.numbers.sum(axis=1)])
        left, numbers = (processes or OneProcess()).sum(sums)
        return np.asarray(left / np.maximum(numbers, 1.0), np.float64)

    def evidence(self, power: Float64) -> Float64:
        """Log-likelihood of particles as seen up to each range's end, of usual contrast or of any.

        Parameters
        ----------
        power : (ranges,)
            As of `residual_power`.

        Returns
        -------
        (N, 2 ranges) float64
            Relative to noise alone, in nats.
        """
        spreads = self.contrast_sd, max(self.contrast_sd, _WIDE_CONTRAST_SD)
        known = np.cumsum(self.gram / power[:, None, None, None], axis=0)
        pairs = [(each, spread) for each in known for spread in spreads]
        found = [image_posterior(products, spread).log_likelihood for products, spread in pairs]
        return np.stack(found, axis=1)


def range_products(model: BandModel, index: Int64, edges: list[int]) -> RangeProducts:
    """Products of particles with a model whose pose errors are taken to be none.

    Parameters
    ----------
    model : BandModel
    index : (N,)
        Of the particles that this process owns.
    edges : list of int
        The last shell of each range, rising; the last one is the band's.
    """
    band, disc = model.band, model.band.disc
    cuts = [0, *(len(disc.prefix(k)) for k in edges)]
    numbers = np.add.reduceat(disc.weight, cuts[:-1]).astype(np.float64)
    gram_matrices = np.zeros((len(edges), len(index), *[model.model.rank + 2] * 2))
    images = np.zeros(len(index))
    for batch in model.batches(index):
        slices = model.slices(batch.frame, batch.ctf)
        images[batch.place] = batch.images_each()
        for j, (first, last) in enumerate(pairwise(cuts)):
            # the kernels want images that lie together in memory
            some = slices[..., first:last] + 0
            data = np.ascontiguousarray(batch.data[:, first:last])
            gram_matrices[j, batch.place] = batch.per_pose(gram(some, data, band.team))
    return RangeProducts(gram_matrices, numbers[:, None] * images, model.model.contrast_sd)


@dataclass(frozen=True, eq=False)
class Mixture:
    """Shares of images that show nothing, and that show a particle in each of some ways.

    Attributes
    ----------
    nothing : float
    ways : (H,) float64
        All shares add up to 1.
    """

    nothing: float
    ways: Float64

    @classmethod
    def of(cls, evidence: Float64, *, nothing: bool = True) -> Mixture:
        """The likeliest one for images of log-likelihoods (N, H); without `nothing` it has no such images."""
        density = np.concatenate([np.zeros((len(evidence), 1)), evidence], axis=1)
        peak = density.max(axis=1, keepdims=True)
        density = np.exp(density - peak)
        share = np.ones(density.shape[1])
        share[0] = float(nothing)
        share /= share.sum()
        for _ in range(_MOST_STEPS):
            weight = density * share
            new = np.mean(weight / weight.sum(axis=1, keepdims=True), axis=0)
            done = np.abs(new - share).max() < _SETTLED
            share = new
            if done:
                break
        return cls(float(share[0]), share[1:])

    def log_likelihood(self, evidence: Float64) -> Float64:
        """Of images of log-likelihoods (N, H), (N,)."""
        return np.logaddexp(_log(self.nothing), self._log_particle(evidence))

    def probability(self, evidence: Float64) -> Float64:
        """That an image shows a particle, (N,)."""
        if self.nothing == 0:
            return np.ones(len(evidence))
        odds = self._log_particle(evidence) - np.log(self.nothing)
        return 1 / (1 + np.exp(-np.clip(odds, -700, 700)))

    def _log_particle(self, evidence: Float64) -> Float64:
        weighted = evidence + _log(self.ways)
        peak = weighted.max(axis=1)
        return peak + np.log(np.exp(weighted - peak[:, None]).sum(axis=1))


def holds_junk(evidence: Float64, mixture: Mixture) -> bool:
    """Whether images that show nothing explain a sample better than any mixture without them.

    By three standard errors of the summed gain, and by more than ½T², T = 3, which chance alone gains where
    there are none (T is normal). A few images, however strange, do not suffice: n that gain alike have a
    sum of √n standard errors.
    """
    without = Mixture.of(evidence, nothing=False)
    return _is_gain(mixture.log_likelihood(evidence) - without.log_likelihood(evidence))


def holds_particles(evidence: Float64, mixture: Mixture) -> bool:
    """Whether a mixture explains a sample better than nothing alone does, as `holds_junk`."""
    return _is_gain(mixture.log_likelihood(evidence))


def _is_gain(gain: Float64) -> bool:
    """Whether gains in log-likelihood of images (N,) are beyond chance and not those of a few."""
    beyond_chance = gain.sum() > _STANDARD_ERRORS**2 / 2
    return bool(beyond_chance and gain.sum() > _STANDARD_ERRORS * np.sqrt(np.sum(gain**2)))


def _log(share: Float64 | float) -> Float64:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(share), np.float64)
