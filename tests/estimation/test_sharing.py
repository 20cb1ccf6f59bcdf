"""Particles live with their process: others see sums, and what is large reaches the first one in pieces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from company import Member, together
from solvar.estimation import held_out, latents
from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel, gram_matrices, told_by_products
from solvar.estimation.held_out import held_out_scale
from solvar.estimation.junk import range_products
from solvar.estimation.latents import place_particles
from solvar.estimation.log_likelihood import log_likelihood
from solvar.files import Shelf
from solvar.parallel import OneProcess, Processes, dealt
from solvar.progress import SilentProgress
from toy_band import COUNT, RANK, make_band, true_columns

HALVES = np.repeat([1, 2], COUNT // 2)


def shared_band(processes: Processes) -> Band:
    """The toy band, of which this process owns a share."""
    band = make_band(1)
    first = np.full(COUNT, -1)
    own = dealt(HALVES, processes)
    first[own] = own
    store = replace(band.images.store, first=first, processes=processes)
    return band.seeing(replace(band.images, store=store))


def model_of(band: Band) -> ColumnModel:
    """What the images were drawn from."""
    return ColumnModel(true_columns(band), 0.1)


def test_posteriors_do_not_depend_on_who_is_looked_at_together():
    band = make_band(1)
    products = gram_matrices(BandModel(band, model_of(band)), band.index)
    factor = np.linalg.cholesky(np.eye(RANK) + 0.1)
    for contrast_sd in (0.0, 0.1):
        whole = held_out._summed(products, factor, contrast_sd)
        for each in (1, 7, 100):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(held_out, "_AT_A_TIME", each)
                np.testing.assert_array_equal(
                    held_out._summed(products, factor, contrast_sd), whole
                )


@pytest.mark.parametrize("size", [2, 4])
def test_amplitudes_are_sums_over_all_processes(size):
    band = make_band(1)
    expected = held_out_scale(gram_matrices(BandModel(band, model_of(band)), band.index), 0.1, 4)

    def work(processes: Processes):
        own = shared_band(processes)
        products = gram_matrices(BandModel(own, model_of(own)), own.index)
        assert len(products) == len(dealt(HALVES, processes)) < COUNT
        found = held_out_scale(products, 0.1, 4, processes=processes)
        assert processes.largest < 8 * RANK**2 * 10
        return found

    first, *others = together(size, work)
    np.testing.assert_allclose(first.factor, expected.factor, rtol=1e-9)
    assert first.contrast_sd == pytest.approx(expected.contrast_sd, rel=1e-9)
    for other in others:
        np.testing.assert_array_equal(other.factor, first.factor)
        assert other.contrast_sd == first.contrast_sd


@pytest.mark.parametrize("size", [2, 4])
def test_what_products_tell_of_each_particle_is_known_everywhere(size):
    band, index = make_band(1), np.array([400, 3, 77, 5, 599])
    expected = log_likelihood(band, model_of(band), index)

    def work(processes: Processes):
        own = shared_band(processes)
        return log_likelihood(own, model_of(own), index)

    for found in together(size, work):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_who_owns_none_of_the_particles_asks_for_no_image():
    def work(processes: Processes):
        band = shared_band(processes)
        index = dealt(HALVES, Member(0, processes._room))
        model = BandModel(band, model_of(band))
        told = told_by_products(model, index, lambda products: products[:, 0])
        return told, len(gram_matrices(model, index))

    (first, count), (second, none) = together(2, work)
    assert count > COUNT // 3 and none == 0
    np.testing.assert_array_equal(first, second)
    assert first.shape == (count, RANK + 2) and (first != 0).any(axis=1).all()


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_first_process_gets_every_posterior_in_pieces(size, on_disk, tmp_path, monkeypatch):
    band = make_band(1)
    error = 0.01 * np.eye(RANK)
    eigenvalues = np.array([2.0, 0.5])
    with SilentProgress().step("", 1) as step:
        expected = place_particles(band, model_of(band), eigenvalues, step, error)
        piece = 8 * RANK**2 * 40
        monkeypatch.setattr(latents, "_PIECE_BYTES", piece)
        # a batch of ten images
        monkeypatch.setattr(BandModel, "chunk", lambda *_: 10)

        def work(processes: Processes):
            own = shared_band(processes)
            if on_disk:
                own.images.store.pixels.shelf = Shelf(tmp_path, least=1)
            found = place_particles(own, model_of(own), eigenvalues, step, error)
            assert isinstance(processes, Member) and 0 < processes.largest <= piece
            return found

        first, *others = together(size, work)
    for name, values in vars(expected).items():
        np.testing.assert_allclose(getattr(first, name), values, rtol=1e-5, atol=1e-7)
        assert getattr(first, name).flags.writeable != on_disk
    assert all(len(values) == 0 for other in others for values in vars(other).values())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [2, 4])
def test_residual_power_is_that_of_all_images(size):
    edges = [3, 7]

    def of(band: Band, index: np.ndarray, processes: Processes) -> np.ndarray:
        products = range_products(BandModel(band, model_of(band)), index, edges)
        assert products.gram.shape[1] == len(index)
        return products.residual_power(processes)

    band = make_band(1)
    expected = of(band, band.index, OneProcess())

    def work(processes: Processes):
        return of(shared_band(processes), dealt(HALVES, processes), processes)

    for found in together(size, work):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
