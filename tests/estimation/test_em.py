"""The EM step: its gradient, its fixed point, and what it must not depend on."""

from __future__ import annotations

import numpy as np
import pytest

from solvar.estimation.band import Band, band_box
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel, e_step
from solvar.estimation.image_batch import frames_of
from solvar.estimation.mean import MeanProblem
from solvar.estimation.objectives.maximum_likelihood import MaximumLikelihood
from solvar.estimation.prior import Prior
from solvar.estimation.solvers.em import IncrementalEm
from solvar.estimation.support import Support
from solvar.files import Shelf
from solvar.imaging.fourier import hermitian_weight, volume_shells
from solvar.progress import SilentProgress
from toy_band import COUNT, K_C, make_band, true_columns


@pytest.fixture(scope="module")
def band() -> Band:
    return make_band()


def _prior(band: Band, precision: float = 1.0) -> Prior:
    flat = np.full(band.k_c + 1, precision)
    return Prior(flat, flat)


@pytest.mark.parametrize("contrast_sd", [0.0, 0.2])
def test_gradient_is_the_derivative_of_the_log_likelihood(band: Band, contrast_sd: float) -> None:
    rng = np.random.default_rng(8)
    columns, batch = true_columns(band) * 0.7, np.arange(40)
    direction = rng.standard_normal(columns.shape).astype(np.float32) * band.support.mean
    gradient = MaximumLikelihood().gradient(band, ColumnModel(columns, contrast_sd), batch).columns
    images = band.images.batch(batch, band.disc)

    def objective(step: float) -> float:
        moved = (columns + step * direction).astype(np.float32)
        found, _ = e_step(BandModel(band, ColumnModel(moved, contrast_sd)), images)
        return -float(found.log_likelihood.sum())

    step = 3e-4
    numeric = (objective(step) - objective(-step)) / (2 * step)
    analytic = float(np.vdot(gradient.astype(np.float64), direction))
    assert analytic == pytest.approx(numeric, rel=1e-2)


def _run(
    band: Band, batches: list[np.ndarray], sweeps: int, start: np.ndarray | None = None
) -> np.ndarray:
    rng = np.random.default_rng(0)
    columns = true_columns(band) * 0.5 if start is None else start
    em = IncrementalEm(band, ColumnModel(columns, 0.0), _prior(band), batches)
    with SilentProgress().step("", 1) as step:
        for _ in range(sweeps):
            em.sweep(rng.permutation(len(batches)), step)
    return em.columns


def test_columns_are_the_same_to_the_last_bit_for_any_number_of_threads() -> None:
    one, three = (_run(make_band(threads), [np.arange(COUNT)], 2) for threads in (1, 3))
    np.testing.assert_array_equal(one, three)


def test_targets_in_files_are_the_same_to_the_last_bit(tmp_path) -> None:
    parts, on_disk = np.array_split(np.arange(COUNT), 3), make_band()
    on_disk.images.store.pixels.shelf = Shelf(tmp_path, least=0)
    np.testing.assert_array_equal(_run(on_disk, parts, 2), _run(make_band(), parts, 2))


def test_bands_that_take_turns_may_have_one_memory() -> None:
    alone, memory = _run(make_band(), [np.arange(COUNT)], 2), dict[str, np.ndarray]()
    for band in [make_band().working_in(memory) for _ in range(2)]:
        held = {name: values.ctypes.data for name, values in memory.items()}
        np.testing.assert_array_equal(_run(band, [np.arange(COUNT)], 2), alone)
        # the second one needs nothing of its own
        assert not held or held == {name: values.ctypes.data for name, values in memory.items()}
    assert {"slices", "residual"} <= memory.keys()


@pytest.mark.slow
def test_where_small_batches_settle_the_whole_set_stays(band: Band) -> None:
    thirds = np.array_split(np.random.default_rng(1).permutation(COUNT), 3)
    settled = _run(band, thirds, 60)
    moved = _run(band, [np.arange(COUNT)], 1, start=settled) - settled
    assert np.linalg.norm(moved) / np.linalg.norm(settled) < 2e-3


def test_columns_stay_inside_the_mask(band: Band) -> None:
    assert np.all(_run(band, [np.arange(COUNT)], 2)[:, band.support.mean == 0] == 0)


@pytest.mark.parametrize("box", [17, 18])
def test_mean_of_noise_free_images_is_the_volume(box: int) -> None:
    band = make_band(box=box)
    truth = true_columns(band)[0]
    prepared = band.projector.prepare(truth[None])
    pixels = band.images.store.pixels
    clean = band.projector.project(prepared, frames_of(band.images.rotation), pixels.ctf)[:, 0]
    pixels.data[:] = clean
    mean = MeanProblem(band).solve(np.full(K_C + 1, 1e-3), steps=12)
    # windows of the last shell's pixels reach beyond what the images hold
    seen = volume_shells(band.box) < K_C
    found, wanted = (band.spectrum(v[None])[0][seen] for v in (mean, truth))
    assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < 0.02


def test_information_counts_every_pixel_once(band: Band) -> None:
    total = np.sum(band.information * hermitian_weight(band.box), dtype=np.float64)
    # corners of windows at the finest shell may fall beyond the grid
    assert total == pytest.approx(
        np.sum(band.images.store.pixels.ctf.astype(np.float64) ** 2), rel=0.02
    )


@pytest.mark.parametrize(
    ("k_c", "box", "expected"), [(8, 64, 20), (16, 64, 36), (31, 64, 64), (32, 65, 65)]
)
def test_grid_of_a_band_holds_its_frequencies(k_c: int, box: int, expected: int) -> None:
    assert band_box(k_c, box) == expected
    assert 2 * k_c < expected


def test_columns_may_have_a_smaller_support_than_the_mean() -> None:
    band = make_band()
    half = band.support.mean * (np.arange(band.box) < band.box // 2)
    band.support = Support(band.support.mean, half.astype(np.float32))
    columns = _run(band, [np.arange(COUNT)], 2, start=band.support.masked(true_columns(band)))
    assert np.all(columns[1:, half == 0] == 0) and np.any(columns[0, half == 0] != 0)
