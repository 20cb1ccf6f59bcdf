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

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.e_step import BandModel
from solvar.estimation.image_batch import ImageBatch
from solvar.estimation.kernels import gram
from solvar.estimation.likelihood import image_posterior

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# spread of the contrasts of faint and bright particles
_WIDE_CONTRAST_SD = 0.5
_MOST_STEPS = 1000
# shares are settled when a step of EM changes none of them by more
_SETTLED = 1e-6
_STANDARD_ERRORS = 3.0


class ShellRanges:
    """A model on a band whose pixels are cut into ranges of shells, coarse ones first.

    Parameters
    ----------
    model : BandModel
        Its pose errors are taken to be none.
    edges : list of int
        The last shell of each range, rising; the last one is the band's.
    """

    def __init__(self, model: BandModel, edges: list[int]) -> None:
        self._model = model
        disc = model.band.disc
        self._cuts = [0, *(len(disc.prefix(k)) for k in edges)]
        # how many real numbers of unit variance noise has in each
        self._numbers = np.add.reduceat(disc.weight, self._cuts[:-1]).astype(np.float64)

    def products(self, batch: ImageBatch) -> Float64:
        """Gram matrices of each range, (ranges, B, r + 2, r + 2)."""
        slices = self._model.slices(batch.frame, batch.ctf)
        team, parts = self._model.band.team, []
        for first, last in zip(self._cuts[:-1], self._cuts[1:], strict=True):
            some = slices[..., first:last]
            some = some.copy() if isinstance(some, np.ndarray) else some.clone()
            data = np.ascontiguousarray(batch.data[:, first:last])
            parts.append(batch.per_pose(gram(some, data, team)))
        return np.stack(parts)

    def residual_power(self, index: Int64) -> Float64:
        """Mean power of what the model leaves of particles, per number of each range; 1 for noise."""
        left, images = np.zeros(len(self._numbers)), 0.0
        for batch in self._model.band.batches(index):
            products = self.products(batch)
            found = image_posterior(products.sum(axis=0), self._model.model.contrast_sd)
            left += products[:, :, -1, -1].sum(axis=1)
            left -= 2 * np.einsum("jbc,bc->j", products[:, :, -1, :-1], found.first)
            left += np.einsum("jbcd,bcd->j", products[:, :, :-1, :-1], found.second)
            images += len(batch.data)
        whole = self._model.band.sum(np.append(left, images))
        return whole[:-1] / np.maximum(whole[-1] * self._numbers, 1.0)

    def evidence(self, index: Int64, power: Float64) -> Float64:
        """Log-likelihood of particles as seen up to each range's end, of usual contrast or of any.

        Parameters
        ----------
        index : (N,)
        power : (ranges,)
            As of `residual_power`.

        Returns
        -------
        (N, 2 ranges) float64
            Relative to noise alone, in nats.
        """
        usual = self._model.model.contrast_sd
        spreads = usual, max(usual, _WIDE_CONTRAST_SD)
        out = np.zeros((len(index), len(spreads) * len(power)))
        for batch in self._model.band.batches(index):
            known = np.cumsum(self.products(batch) / power[:, None, None, None], axis=0)
            pairs = [(each, spread) for each in known for spread in spreads]
            for column, (products, spread) in enumerate(pairs):
                out[batch.place, column] = image_posterior(products, spread).log_likelihood
        return self._model.band.sum(out)


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
    gain = mixture.log_likelihood(evidence) - without.log_likelihood(evidence)
    beyond_chance = gain.sum() > _STANDARD_ERRORS**2 / 2
    return bool(beyond_chance and gain.sum() > _STANDARD_ERRORS * np.sqrt(np.sum(gain**2)))


def _log(share: Float64 | float) -> Float64:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(share), np.float64)
