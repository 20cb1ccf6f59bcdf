"""Poses from images alone: draws, fits, frames, and a consensus that finds what the images show."""

from __future__ import annotations

from copy import copy
from threading import Barrier

import numpy as np
import pytest

from solvar.estimation.abinitio.consensus import (
    Consensus,
    Stage,
    moments_of,
    signal_power,
    step,
)
from solvar.estimation.abinitio.drawing import drawn_poses
from solvar.estimation.abinitio.draws import Draws
from solvar.estimation.abinitio.moving import moved_images
from solvar.estimation.abinitio.placing import placed
from solvar.estimation.abinitio.start import bands_to, judged, run_stages
from solvar.estimation.abinitio.trial import Drawn, Trial
from solvar.estimation.band import Band
from solvar.estimation.image_batch import frames_of
from solvar.estimation.junk import Mixture, holds_particles
from solvar.estimation.kernels import gram
from solvar.estimation.pixels import MemoryPixels
from solvar.estimation.whitening import in_memory_images
from solvar.imaging import rotations
from solvar.imaging.fourier import HalfDisc, centring_phase, crop_volume
from solvar.imaging.frames import common_move, frame_between, mirrored, shifts_by
from solvar.imaging.masks import soft_sphere
from solvar.imaging.point_groups import PointGroup
from solvar.imaging.projector import Projection
from solvar.imaging.rotations import from_rotation_vector
from solvar.progress import SilentProgress
from solvar.threads import ThreadTeam

BOX, K_C, COUNT, SHIFT_SD = 32, 14, 400, 0.03


class Set:
    """Images of one rigid molecule without symmetry at known poses."""

    def __init__(self, strength: float = 1.0, seed: int = 3) -> None:
        rng = np.random.default_rng(seed)
        disc = HalfDisc.of_radius(K_C)
        self.rotation = rotations.random(COUNT, rng)
        self.shift = SHIFT_SD * rng.standard_normal((COUNT, 2))
        weight = np.sqrt(disc.weight)
        ctf = (weight * rng.uniform(0.3, 1.0, (COUNT, len(disc)))).astype(np.float32)
        noise = rng.standard_normal((2, COUNT, len(disc)))
        data = np.where(disc.weight == 1, noise[0], noise[0] + 1j * noise[1]).astype(np.complex64)
        power = (ctf**2 @ (disc.shell[:, None] == np.arange(K_C + 1))).astype(np.float32)
        pixels = MemoryPixels(data, ctf)
        # poses are not told
        nothing = np.tile(np.eye(3), (COUNT, 1, 1))
        self.images = in_memory_images(pixels, nothing, disc, BOX, 4.0, power)
        self.mask = soft_sphere(BOX, 0.8 * BOX)
        self.team = ThreadTeam(2)
        band = self.band(K_C)
        self.volume = strength * self._molecule(band.box, rng) * band.support.mean
        prepared = band.projector.prepare(self.volume[None].astype(np.float32))
        seen = band.projector.project(prepared, frames_of(self.rotation), ctf)[:, 0]
        # shifts centre: the content lies where they lead away from
        pixels.data[:] += seen * centring_phase(disc, -self.shift)

    @staticmethod
    def _molecule(box: int, rng: np.random.Generator) -> np.ndarray:
        axis = np.arange(box) - box // 2
        grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
        centres = 0.16 * box * rng.standard_normal((7, 3))
        blobs = [np.exp(-np.sum((grid - c) ** 2, axis=-1) / 4) for c in centres]
        return np.asarray(0.03 * np.sum(blobs, axis=0), np.float32)

    @property
    def on_grid(self) -> np.ndarray:
        return crop_volume(self.volume, self.band(K_C).box)

    def on(self, threads: int) -> Set:
        other = copy(self)
        other.team = ThreadTeam(threads)
        return other

    def band(self, k_c: int) -> Band:
        return Band(self.images, None, min(k_c, K_C), self.mask, None, self.team)


@pytest.fixture(scope="module")
def rigid() -> Set:
    return Set()


def test_draws_are_as_frequent_as_their_probability_and_sum_to_the_evidence() -> None:
    rng = np.random.default_rng(0)
    value = rng.normal(0, 2, (3, 40)).astype(np.float32)
    found = Draws.of(value.copy(), rng.random(3), 20_000)
    weight = np.exp(value.astype(np.float64))
    share = np.stack([np.bincount(each, minlength=40) for each in found.chosen]) / 20_000
    np.testing.assert_allclose(share, weight / weight.sum(axis=1, keepdims=True), atol=1.1e-4)
    np.testing.assert_allclose(found.evidence, np.log(weight.sum(axis=1)), atol=1e-5)
    np.testing.assert_array_equal(found.best, value.argmax(axis=1))
    of_chosen = np.take_along_axis(value, found.chosen, axis=1)
    np.testing.assert_allclose(found.height, of_chosen, atol=1e-5)
    assert (np.diff(found.chosen, axis=1) >= 0).all()


def test_draws_of_a_posterior_far_below_zero_and_of_one_node() -> None:
    value = np.full((1, 5), -1e6, np.float32)
    value[0, 3] = -1e6 + 100
    found = Draws.of(value, np.array([0.999]), 4)
    assert found.chosen.tolist() == [[3] * 4] and np.isfinite(found.height).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_products_with_moved_images_are_those_of_the_formula(channels: int) -> None:
    rng = np.random.default_rng(1)
    disc, fine = HalfDisc.of_radius(5), HalfDisc.of_radius(7)
    draw = rng.standard_normal
    slices = draw((6, channels, len(disc))) + 1j * draw((6, channels, len(disc)))
    slices = slices.astype(np.complex64)
    data = (draw((3, len(fine))) + 1j * draw((3, len(fine)))).astype(np.complex64)
    image, shift = np.array([0, 0, 1, 1, 2, 2]), 0.1 * draw((6, 2))
    team = ThreadTeam(2)
    found = gram(slices, moved_images(data, image, shift, disc, team), team)[:, :-1]
    moved = data[image, : len(disc)] * centring_phase(disc, shift)
    rows = np.concatenate([slices, moved[:, None]], axis=1)
    expected = np.einsum("rip,rjp->rij", slices, rows.conj()).real
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_poses_are_the_same_on_one_thread_and_on_two(rigid: Set) -> None:
    index = np.arange(130)
    one, two = (
        placed(bands_to(rigid.on(count).band, K_C), rigid.on_grid[None], index, SHIFT_SD)
        for count in (1, 2)
    )
    np.testing.assert_array_equal(one.rotation, two.rotation)
    np.testing.assert_array_equal(one.evidence, two.evidence)


def test_poses_are_drawn_on_the_cpu_wherever_slices_are_computed(rigid: Set) -> None:
    band = rigid.band(K_C)
    torch = Band(rigid.images, None, K_C, rigid.mask, Projection(backend="torch"), rigid.team)
    assert len(torch.for_threads) == 1 and len(torch.on_cpu.for_threads) == rigid.team.size
    assert band.on_cpu is band
    columns, index = rigid.on_grid[None], np.arange(20)
    one, other = (placed([each], columns, index, SHIFT_SD) for each in (band, torch))
    np.testing.assert_array_equal(one.rotation, other.rotation)


@pytest.mark.timeout(60)
def test_a_failure_in_every_batch_is_raised_and_hangs_nobody(rigid: Set, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no")

    monkeypatch.setattr("solvar.estimation.abinitio.drawing.moved_images", fail)
    with pytest.raises(ValueError, match="no"):
        placed(bands_to(rigid.band, K_C), rigid.on_grid[None], np.arange(COUNT), SHIFT_SD)
    # every thread is free again: they meet
    meeting = Barrier(2)
    assert sorted(rigid.team.mapped(lambda _: meeting.wait(timeout=10), range(2))) == [0, 1]


@pytest.mark.parametrize("mirror", [False, True])
def test_frame_is_found_though_a_third_of_the_poses_are_lost(mirror: bool) -> None:
    rng = np.random.default_rng(2)
    first = rotations.random(300, rng)
    turn = rotations.random(1, rng)[0]
    error = from_rotation_vector(0.03 * rng.standard_normal((300, 3)))
    second = turn @ (mirrored(first) if mirror else first) @ error
    second[:100] = rotations.random(100, rng)
    frame = frame_between(first, second)
    assert frame.mirror == mirror
    assert np.median(frame.angle) < 0.08
    np.testing.assert_allclose(frame.rotation, turn, atol=0.02)
    assert np.linalg.norm(frame.of(first)[100:] - second[100:], axis=(1, 2)).max() < 0.3


def test_true_volume_places_particles_and_speaks_for_itself(rigid: Set) -> None:
    bands = bands_to(rigid.band, K_C)
    index = np.arange(60)
    found = placed(bands, rigid.on_grid[None], index, SHIFT_SD)
    frame = frame_between(found.rotation, rigid.rotation[index], mirror=False)
    assert np.rad2deg(np.median(frame.angle)) < 8
    assert np.abs(found.shift - rigid.shift[index]).std() < 0.012
    assert found.evidence.mean() > 10 * found.evidence.std() / np.sqrt(len(index))


def test_finer_bands_sharpen_draws(rigid: Set) -> None:
    index = np.arange(40)
    spread = []
    for k_c in (8, K_C):
        bands = bands_to(rigid.band, k_c)
        moves = rigid.shift[index][:, None]
        trial = Trial(index, moves, np.zeros((40, 1), np.float32), SHIFT_SD, 128)
        volume = rigid.on_grid[None]
        (drawn,) = drawn_poses(bands, volume, trial, np.random.default_rng(0))
        error = drawn.rotation @ np.swapaxes(rigid.rotation[index, None], -1, -2)
        trace = np.trace(error, axis1=2, axis2=3)
        spread.append(np.rad2deg(np.arccos(np.clip((trace - 1) / 2, -1, 1))).mean())
    assert spread[1] < 0.7 * spread[0]


def test_a_volume_that_has_left_the_point_of_picking_comes_back(rigid: Set) -> None:
    band, everybody, rng = rigid.band(10), np.arange(COUNT), np.random.default_rng(5)
    move, power = np.array([0.07, -0.05, 0.04]), signal_power(band, everybody)
    shift = rigid.shift + shifts_by(rigid.rotation, move)
    parts = [
        Drawn.of(batch, rigid.rotation[batch.place][:, None], shift[batch.place][:, None])
        for batch in band.batches(everybody)
    ]
    moments = moments_of(band, parts, COUNT)
    consensus = Consensus(moments, moments.data, shift, SHIFT_SD).on(band, power)

    def away() -> float:
        found = placed([band], consensus.volume[None], everybody[:100], SHIFT_SD)
        return float(np.linalg.norm(common_move(found.rotation, found.shift)))

    begun = away()
    for _ in range(40):
        some = np.sort(rng.permutation(COUNT)[:100])
        consensus = step([band], some, consensus, power, Stage(10, 20, 100, 0.4), rng)
    # the search reaches 2.5 standard deviations: of a volume so far off it sees but a part

    assert begun > 0.035 and away() < 0.015


def test_power_of_the_molecule_is_that_of_its_slices(rigid: Set) -> None:
    band = rigid.band(K_C)
    found = signal_power(band, np.arange(COUNT))
    prepared = band.projector.prepare(rigid.volume[None].astype(np.float32))
    plain = np.ones((COUNT, len(band.disc)), np.float32)
    slices = band.projector.project(prepared, frames_of(rigid.rotation), plain)[:, 0]
    square = (slices.real**2 + slices.imag**2).mean(axis=0)
    shells = slice(2, 8)
    true = np.bincount(band.disc.shell, square) / np.bincount(band.disc.shell)
    np.testing.assert_allclose(found[shells], true[shells], rtol=0.25)


def _started(images: Set, seed: int):
    stages = (Stage(8, 25, 60, 0.4, raised=2.0), Stage(10, 60, 60, 0.4, raised=2.0))
    judges, pool = np.arange(100), np.arange(100, COUNT)
    rng = np.random.default_rng(seed)
    with SilentProgress().step("", 1) as step:
        first, found = run_stages(images.band, stages, pool, SHIFT_SD, rng, step)
    return judged(bands_to(images.band, 10), first, found, judges, PointGroup.named("C1"))


@pytest.mark.slow
def test_random_start_finds_the_molecule_and_two_of_them_agree(rigid: Set) -> None:
    one, two = (_started(rigid, seed) for seed in (0, 1))
    for start in (one, two):
        frame = frame_between(start.judged.rotation, rigid.rotation[:100])
        assert np.rad2deg(np.median(frame.angle)) < 25
        told = start.judged.evidence[:, None]
        assert holds_particles(told, Mixture.of(told))
    agreement = frame_between(one.judged.rotation, two.judged.rotation)
    assert np.mean(agreement.angle < np.pi / 6) > 0.6


@pytest.mark.slow
def test_noise_speaks_for_no_molecule() -> None:
    told = _started(Set(strength=0.0), 0).judged.evidence[:, None]
    assert not holds_particles(told, Mixture.of(told))
