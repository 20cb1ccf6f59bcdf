"""Products of slices on a device agree with the compiled ones on the host."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from solvar.estimation import device_kernels, kernels
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel
from solvar.estimation.objectives.maximum_likelihood import MaximumLikelihood
from solvar.estimation.poses.objective import derivatives_of
from solvar.imaging.projector import make_projector
from solvar.threads import ThreadTeam
from toy_band import make_band, true_columns

BATCH, CHANNELS = 5, 3


def images(rng, *shape):
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


@pytest.fixture(params=[7, 4099], ids=["few pixels", "several blocks"])
def batch(request):
    """Slices, data, tangent, first and second moments, frequencies."""
    rng, n = np.random.default_rng(1), request.param
    first = rng.normal(size=(BATCH, CHANNELS))
    wave = rng.normal(size=(2, n)).astype(np.float32)
    shapes = (BATCH, CHANNELS, n), (BATCH, n), (BATCH, 3, n)
    second = rng.normal(size=(BATCH, CHANNELS, 2))
    return (*(images(rng, *shape) for shape in shapes), first, second, wave)


def test_gram_matrices_agree(batch):
    slices, data, *_ = batch
    expected = kernels.gram(slices, data, ThreadTeam(1))
    found = kernels.gram(torch.as_tensor(slices), data, ThreadTeam(1))
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


def test_residuals_agree(batch):
    slices, data, _, first, second, _ = batch
    expected = np.empty((BATCH, 2, data.shape[1]), dtype=np.complex64)
    found = torch.empty(expected.shape, dtype=torch.complex64)
    arguments = data, second, first[:, :2], ThreadTeam(1)
    kernels.residual(slices, *arguments, out=expected)
    kernels.residual(torch.as_tensor(slices), *arguments, out=found)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-6 * np.abs(expected).max())


def test_pose_products_agree(batch):
    slices, data, tangent, first, _, wave = batch
    team = ThreadTeam(1)
    expected = kernels.pose_products(slices, tangent, data, first, wave, team)
    tensors = torch.as_tensor(slices), torch.as_tensor(tangent)
    found = kernels.pose_products(*tensors, data, first, wave, team)
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())


def test_small_pieces_give_the_same(batch, monkeypatch):
    slices, data, *_ = batch
    whole = device_kernels.gram(torch.as_tensor(slices), data)
    monkeypatch.setattr(device_kernels, "_PIECE_VALUES", 1)
    np.testing.assert_allclose(device_kernels.gram(torch.as_tensor(slices), data), whole, rtol=1e-6)


def test_a_step_of_the_fit_is_the_same_on_either_side():
    """E-step, gradient and pose derivatives with the torch projector and with numba's."""
    band = make_band()
    columns, index = true_columns(band), band.index[:100]
    found = []
    for backend in ("numba", "torch"):
        band.projector = make_projector(band.box, band.disc, backend=backend, team=band.team)
        band._buffers.clear()
        model = ColumnModel(columns, 0.1)
        gradient = MaximumLikelihood().gradient(band, model, index)
        images = band.images.batch(index, band.disc)
        slopes = derivatives_of(BandModel(band, model), images)
        second = gradient.statistics.second
        found.append((gradient.columns, second, slopes.gradient, slopes.curvature))
        kinds = {type(room) for room in band._buffers.values()}
        assert kinds == {np.ndarray if backend == "numba" else torch.Tensor}
    for host, device in zip(*found, strict=True):
        np.testing.assert_allclose(device, host, atol=2e-5 * np.abs(host).max())
