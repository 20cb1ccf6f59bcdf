"""One volume for all particles, from images without poses, by stochastic EM.

A step draws a few poses for each of a hundred images from their posteriors under the present volume, and
makes a new one of what these images say there and of what the steps before have left, fading out. So few
images make volumes noisy, and that is what leads out of the first, featureless ones: averages of more, or
of smaller steps, take many times as long.

Each image keeps one of its shifts from one visit to the next and draws from a handful of candidates around
it, or from the prior: a Markov chain in place of a sum over fifty shifts at every rotation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.abinitio.drawing import drawn_poses
from solvar.estimation.abinitio.trial import Drawn, Trial, log_prior_of
from solvar.estimation.back_projection import BackProjection
from solvar.estimation.band import Band
from solvar.estimation.image_batch import frames_of
from solvar.estimation.information import SamplingInformation, SamplingSum, shell_mean
from solvar.imaging import rotations
from solvar.imaging.fourier import centring_phase, crop_volume, moved_volume
from solvar.imaging.frames import move_of, sums_of_move

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# shifts that a visit tries, one of them the present one
SHIFTS = 5
# steps of shifts around the present one, as a share of the shortest wave
_NEAR = 0.2
# precision of the volume's coefficients, as a share of what the images of a shell say on average
_PRECISION = 0.2
# draws of an image that a volume is made of
_SUMMED = 8
# shells of less information than this share of the best were not looked at yet
_SPOKEN = 1e-6


@dataclass(frozen=True)
class Stage:
    """Some steps at a band.

    Attributes
    ----------
    k_c : int
    steps : int
    images : int
        Of a step.
    share : float
        What they count for beside all before.
    raised : float
        By how much amplitudes of shells are raised, at most, to those that images have: poses that are
        still wrong wash them out.
    draws : int
        Poses that are drawn for an image.
    enough : float
        The stage ends early where more than this share of the particles has settled.
    """

    k_c: int
    steps: int
    images: int
    share: float
    raised: float = 1.0
    draws: int = 8
    enough: float = 1.0


@dataclass(frozen=True, eq=False)
class Moments:
    """What some images say of a volume: back-projected data, and D, a particle.

    Attributes
    ----------
    data : (l, l, l) float32
    sampling : (2 k_c + 3,)³ float64
        As `SamplingInformation.grid`.
    """

    data: Float32
    sampling: Float64

    def blended(self, later: Moments, share: float) -> Moments:
        """With so much of what later images say."""
        return Moments(
            (1 - share) * self.data + np.float32(share) * later.data,
            (1 - share) * self.sampling + share * later.sampling,
        )

    def moved(self, move: Float64) -> Moments:
        """Of a volume that has moved by (x, y, z), box lengths."""
        return replace(self, data=moved_volume(self.data, move))

    def on(self, band: Band) -> Moments:
        """On the grid of a band that is no coarser."""
        pad = (2 * band.k_c + 3 - len(self.sampling)) // 2
        return Moments(crop_volume(self.data, band.box), np.pad(self.sampling, pad))


@dataclass(frozen=True, eq=False)
class Consensus:
    """A volume under way.

    Attributes
    ----------
    moments : Moments
    volume : (l, l, l) float32
    shift : (N, 2) float64
        Where each particle's chain of shifts is, box lengths; those of this process's particles.
    shift_sd : float
        Standard deviation of shifts an axis.
    settled : float
        Share of the particles, of late, most of whose draws are about the same pose.
    """

    moments: Moments
    volume: Float32
    shift: Float64
    shift_sd: float
    settled: float = 0.0

    def on(self, band: Band, power: Float64) -> Consensus:
        """On the grid of a band that is no coarser."""
        moments = self.moments.on(band)
        return replace(self, moments=moments, volume=_volume(band, moments, power, 1.0))


def at_random(
    band: Band,
    index: Int64,
    power: Float64,
    raised: float,
    shift_sd: float,
    rng: np.random.Generator,
) -> Consensus:
    """What particles look like together at random rotations.

    Parameters
    ----------
    band : Band
    index : (M,)
        In ascending order.
    power : (S,)
        Of the molecule in the images, as of `signal_power`.
    raised : float
        See `Stage`.
    shift_sd : float
        Of shifts, box lengths an axis.
    rng : Generator
    """
    shift = shift_sd * rng.standard_normal((len(band.images), 2))
    rotation = rotations.random(len(index), rng)
    parts = [
        Drawn.of(batch, rotation[batch.place][:, None], np.zeros((len(batch), 1, 2)))
        for batch in band.batches(index)
    ]
    moments = moments_of(band, parts, len(index))
    return Consensus(moments, _volume(band, moments, power, raised), shift, shift_sd)


def step(
    bands: Sequence[Band],
    index: Int64,
    consensus: Consensus,
    power: Float64,
    stage: Stage,
    rng: np.random.Generator,
) -> Consensus:
    """The consensus once particles `index`, in ascending order, have had their say.

    Parameters
    ----------
    bands : sequence of Band
        From the one of the grid to the one of the volume.
    index : (M,)
    consensus : Consensus
    power : (S,)
    stage : Stage
    rng : Generator
    """
    band = bands[-1]
    trial = _candidates(consensus, index, bands[0].k_c, stage.draws, rng)
    parts = list(drawn_poses(bands, consensus.volume[None], trial, rng))
    shift, told, sums = consensus.shift.copy(), np.zeros(2), np.zeros((3, 4))
    # as many random numbers in every process, whatever its share
    drawn = rng.random(len(index))
    for part in parts:
        number = int(drawn[part.place[0]] * part.shift.shape[1])
        kept = part.shift[:, number]
        shift[index[part.place]] = kept
        told += np.sum(kept**2) / 2, np.sum(part.are_settled)
        sums += sums_of_move(part.rotation[:, number], kept)
    variance, settled = band.sum(told) / len(index)
    slowly = stage.share / 4
    moments = consensus.moments.blended(moments_of(band, parts, len(index)), stage.share)
    # about the point that particles were picked by: elsewhere, shifts hold poses in a hand, or at a turn
    moments = moments.moved(-slowly * move_of(band.sum(sums)))
    return Consensus(
        moments,
        _volume(band, moments, power, stage.raised),
        shift,
        float(np.sqrt((1 - slowly) * consensus.shift_sd**2 + slowly * variance)),
        float((1 - stage.share) * consensus.settled + stage.share * settled),
    )


def _candidates(
    consensus: Consensus, index: Int64, k_c: int, draws: int, rng: np.random.Generator
) -> Trial:
    """Shifts that particles may have next: anywhere, or, every other time, close to where they are.

    Either is a draw from a set whose members could each have been the present one: the prior and the
    posterior of the chain stay what they are.
    """
    count, present, sd = len(index), consensus.shift[index], consensus.shift_sd
    random = rng.standard_normal((count, SHIFTS, 2))
    if rng.random() < 0.5:
        moves = sd * random
        moves[:, 0] = present
        log_prior = np.zeros((count, SHIFTS))
    else:
        size = _NEAR / k_c
        moves = (present + size * rng.standard_normal((count, 2)))[:, None] + size * random
        moves[:, 0] = present
        log_prior = log_prior_of(moves, sd)
    return Trial(index, moves, log_prior.astype(np.float32), sd, draws)


def moments_of(band: Band, parts: list[Drawn], count: int) -> Moments:
    """What drawn particles say of a volume, a particle of `count`."""
    data = BackProjection(band.projector, 1)
    sampling = SamplingSum(band.images, band.disc, band.team)
    for part in parts:
        batch = part.images
        # some of them, evenly spread, are as good; one draw of all images at a time copies little
        some = range(0, part.shift.shape[1], max(1, part.shift.shape[1] // _SUMMED))
        weight = np.float32(1 / len(some))
        for number in some:
            frame = frames_of(part.rotation[:, number], None, batch.stretch)
            moved = centring_phase(band.disc, part.shift[:, number])
            moved *= batch.data
            data.add(moved[:, None], frame, weight * batch.ctf)
            sampling.add(frame, weight * batch.ctf**2)
    total = band.sum(data.sum())[0] / np.float32(count)
    return Moments(total, band.sum(sampling.sum()) / count)


def _volume(band: Band, moments: Moments, power: Float64, most_raised: float) -> Float32:
    """The volume that moments ask for under a weak prior, its shells as strong as those of the images."""
    information = SamplingInformation(band.k_c, moments.sampling).on_grid(band.box, band.k_c)
    mean = shell_mean(information, band.box, band.k_c + 1)
    # shells that no image has spoken of yet hold nothing, and must not be divided by nothing
    mean = np.maximum(mean, mean[mean > _SPOKEN * mean.max()].min())
    voxels = np.float32(band.box**3)
    spectrum = band.spectrum(moments.data[None]) / (
        voxels * (information + band.expand(_PRECISION * mean))
    )
    volume = band.volumes(spectrum)[0] * band.support.mean
    spectrum = band.spectrum(volume[None])
    square = spectrum.real**2 + spectrum.imag**2
    found = shell_mean(square[0], band.box, band.k_c + 1)
    wanted = power[: band.k_c + 1]
    raised = np.sqrt(np.clip(wanted / np.maximum(found, 1e-30), 1, most_raised**2))
    return band.volumes(spectrum / band.expand(1 / raised))[0]


def signal_power(band: Band, index: Int64) -> Float64:
    """Power of the molecule's slices without CTF in each shell, as images have it beyond their noise, (S,).

    Parameters
    ----------
    band : Band
    index : (M,)
        The particles that tell.
    """
    shells = band.k_c + 1
    signal, sampling = np.zeros(shells), np.zeros(shells)
    shell = band.disc.shell
    # two real numbers of unit variance a pixel
    for batch in band.batches(index):
        square = batch.data.real**2 + batch.data.imag**2 - 2.0
        signal += np.bincount(shell, square.sum(axis=0, dtype=np.float64), shells)
        sampling += np.bincount(shell, (batch.ctf**2).sum(axis=0, dtype=np.float64), shells)
    signal, sampling = band.sum(signal), band.sum(sampling)
    power = np.maximum(signal, 0) / np.maximum(sampling, 1e-30)
    # the sum of an image is not seen
    power[0] = 0
    return power
