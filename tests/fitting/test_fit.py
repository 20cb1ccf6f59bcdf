"""The whole estimator on simulated particles with known truth."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import mrcfile
import numpy as np
import pytest

from solvar.errors import InputError
from solvar.evaluation import Truth, captured_variance, evaluate
from solvar.fitting.result import Fit

GAUSSIAN = {"heterogeneity": "gaussian", "rank": 2}


def _captured(fit: Fit, folder) -> float:
    return evaluate(fit, Truth.load(folder))["covariance"]["captured_variance"]


def test_recovers_the_subspace_and_the_contrasts(simulated, fitted) -> None:
    folder = simulated(**GAUSSIAN)
    fit = fitted(folder, rank=2)
    report = evaluate(fit, Truth.load(folder))
    assert report["covariance"]["captured_variance"] > 0.93
    assert report["contrast"]["correlation"] > 0.7
    ratio = np.array(report["covariance"]["eigenvalues"]) / report["covariance"]["true_eigenvalues"]
    assert np.all((ratio > 0.75) & (ratio < 1.25))
    assert fit.validation is not None and fit.validation.reliable.all()
    # an image adds to what the prior knows of a particle
    deviation = np.sqrt(fit.model.eigenvalues)
    precision = fit.posterior.precision * np.outer(deviation, deviation)
    assert np.linalg.eigvalsh(precision).min() > 0.95


def test_eigenvolumes_are_orthonormal_and_ordered(simulated, fitted) -> None:
    model = fitted(simulated(**GAUSSIAN), rank=3).model
    flat = model.eigenvolumes.reshape(3, -1).astype(np.float64)
    np.testing.assert_allclose(flat @ flat.T, np.eye(3), atol=1e-5)
    assert np.all(np.diff(model.eigenvalues) <= 0)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e-18, 1e30])
def test_the_unit_of_the_images_does_not_matter(simulated, fitted, tmp_path, size) -> None:
    """Single precision holds neither squares of 1e-30 nor their inverses."""
    folder, scaled = simulated(**GAUSSIAN), tmp_path / "scaled"
    shutil.copytree(folder, scaled)
    with mrcfile.open(scaled / "particles.mrcs", "r+") as stack:
        stack.data[:] = stack.data.astype(np.float64) * size
    plain, fit = fitted(folder, rank=2), fitted(scaled, rank=2)
    assert plain.intensity_factor == 1 and abs(np.log2(fit.intensity_factor * size)) < 10
    sigma = [each.posterior.z / np.sqrt(each.model.eigenvalues) for each in (plain, fit)]
    for column, other in zip(sigma[0].T, sigma[1].T, strict=True):
        assert abs(np.corrcoef(column, other)[0, 1]) > 0.999
    assert any("images were multiplied by" in warning for warning in fit.warnings)


@pytest.mark.slow
def test_raw_images_give_the_result_of_normalised_ones(simulated, fitted, tmp_path) -> None:
    """Counts, each image on a background and of a strength of its own."""
    folder, raw = simulated(**GAUSSIAN), tmp_path / "raw"
    shutil.copytree(folder, raw)
    rng = np.random.default_rng(5)
    with mrcfile.open(raw / "particles.mrcs", "r+") as stack:
        count, box, _ = stack.data.shape
        y, x = (np.mgrid[:box, :box] - box // 2) / (box / 2)
        own = rng.normal(size=(4, count, 1, 1))
        slow = own[0] + 0.5 * own[1] * x + 0.5 * own[2] * (x**2 + y**2)
        stack.data[:] = np.exp(0.2 * own[3]) * (1000 + 30 * (stack.data + slow))
    plain, fit = fitted(folder, rank=2), fitted(raw, rank=2)
    same = np.corrcoef(plain.model.mean.ravel(), fit.model.mean.ravel())[0, 1]
    flat = [each.model.eigenvolumes.reshape(2, -1) for each in (plain, fit)]
    assert same > 0.999
    assert np.linalg.svd(flat[0] @ flat[1].T, compute_uv=False).min() > 0.97
    assert _captured(fit, folder) > _captured(plain, folder) - 0.01
    assert any("taken out" in warning for warning in fit.warnings) and not plain.warnings
    assert fit.normalisation is not None
    assert 15 < fit.normalisation.numbers()["strength_percent"] < 25


def test_particles_without_heterogeneity_yield_no_reliable_component(simulated, fitted) -> None:
    fit = fitted(simulated(heterogeneity="rigid"), rank=3)
    assert fit.validation is not None
    assert not fit.validation.reliable.any()
    # consistent with zero: below a hundredth of what the mean varies by with contrast alone
    assert fit.model.eigenvalues.max() < 1e-2 * np.sum(fit.model.mean.astype(np.float64) ** 2)


def test_an_unneeded_component_is_reported_as_noise(simulated, fitted) -> None:
    fit = fitted(simulated(**GAUSSIAN), rank=4)
    assert fit.validation is not None
    assert fit.validation.reliable.tolist() == [True, True, False, False]
    assert fit.model.eigenvalues[2] < 0.1 * fit.model.eigenvalues[1]


@pytest.mark.slow
def test_latents_of_the_fitted_model_are_calibrated(simulated, fitted) -> None:
    folder = simulated(**GAUSSIAN, particles=4000, snr=0.1)
    report = evaluate(fitted(folder, rank=2), Truth.load(folder))
    assert report["latents"]["calibration_chi2"] == pytest.approx(1.0, abs=0.05)


def test_thread_count_changes_no_bit_of_the_result(simulated, fitted) -> None:
    folder = simulated(**GAUSSIAN)
    one, two = (fitted(folder, rank=2, threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(one.model.eigenvolumes, two.model.eigenvolumes)
    np.testing.assert_array_equal(one.posterior.z, two.posterior.z)


@pytest.mark.slow
def test_permuted_rows_seed_and_batches_hardly_change_the_subspace(simulated, fitted) -> None:
    folder = simulated(**GAUSSIAN)
    order = np.random.default_rng(1).permutation(1200)
    variants: list[tuple[np.ndarray | None, dict[str, int]]] = [
        (None, {}), (order, {}), (None, {"seed": 5}), (None, {"batch_size": 90})
    ]  # fmt: skip
    captured = [_captured(fitted(folder, o, rank=2, **kw), folder) for o, kw in variants[:1]]
    for o, kw in variants[1:]:
        fit = fitted(folder, o, rank=2, **kw)
        truth = Truth.load(folder)
        captured.append(
            captured_variance(fit.model.eigenvolumes, truth.eigenvolumes, mask=truth.mask)
        )
    assert np.ptp(captured) < 0.01


def test_halfsets_do_not_depend_on_row_order(simulated, fitted) -> None:
    order = np.random.default_rng(2).permutation(1200)
    folder = simulated(**GAUSSIAN)
    straight, shuffled = fitted(folder, rank=1), fitted(folder, order, rank=1)
    np.testing.assert_array_equal(straight.particles.halfset[order], shuffled.particles.halfset)


Variant = dict[str, object]


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant",
    [
        {"interpolation": "trilinear"},
        {"interpolation": "nearest"},
        {"upsampling": 1.5},
        {"refine_contrast": False},
        {"halfsets": False},
        {"resolution": 20.0},
        {"downsample": 24},
        {"downsample": 27},
        {"batch_size": 5000},
        {"backend": "torch"},
    ],
    ids=str,
)
def test_every_setting_recovers_the_subspace(
    simulated: Callable, fitted: Callable, variant: Variant
) -> None:
    folder = simulated(**GAUSSIAN)
    assert _captured(fitted(folder, rank=2, **variant), folder) > 0.88


@pytest.mark.slow
def test_nufft_projector_recovers_the_subspace(simulated, fitted) -> None:
    pytest.importorskip("finufft")
    folder = simulated(**GAUSSIAN)
    assert _captured(fitted(folder, rank=2, interpolation="nufft"), folder) > 0.9


@pytest.mark.slow
def test_several_optics_groups_are_whitened_apart(simulated, fitted) -> None:
    folder = simulated(**GAUSSIAN, optics_groups=3)
    fit = fitted(folder, rank=2)
    assert fit.noise_power.shape[0] == 3
    assert _captured(fit, folder) > 0.9


def test_dark_particles_are_noticed_and_inverted(simulated, fitted) -> None:
    folder = simulated(**GAUSSIAN)
    bright, dark = fitted(folder, rank=1), fitted(folder, rank=1, density="dark")
    assert not bright.inverted and dark.inverted
    assert np.vdot(bright.model.mean, dark.model.mean) < 0


def test_more_components_than_particles_can_support_are_refused(simulated, fitted) -> None:
    with pytest.raises(InputError, match="rank"):
        fitted(simulated(**GAUSSIAN), rank=200)


def test_a_resolution_coarser_than_the_first_shells_is_refused(simulated, fitted) -> None:
    with pytest.raises(InputError, match="resolution"):
        fitted(simulated(**GAUSSIAN), rank=1, resolution=100.0)


@pytest.mark.slow
def test_rank_auto_keeps_what_the_half_sets_confirm(simulated, fitted) -> None:
    rich = fitted(simulated(heterogeneity="gaussian", rank=2, snr=0.3), rank="auto")
    assert rich.validation is not None
    assert rich.model.rank == 2
    assert rich.validation.reliable.all()
    assert rich.posterior.z.shape == (1200, 2)
    rigid = fitted(simulated(heterogeneity="rigid"), rank="auto")
    assert rigid.validation is not None
    # one component stays to be looked at, and it is called noise
    assert rigid.model.rank == 1
    assert not rigid.validation.reliable.any()


def test_pose_errors_of_a_rigid_molecule_are_named_and_make_no_motion(simulated, fitted) -> None:
    folder = simulated(heterogeneity="rigid", pose_error=6.0, shift_error=0.0)
    fit = fitted(folder, rank=2, star="particles_noisy.star")
    validation = fit.validation
    assert validation is not None and validation.doubt is not None
    assert not validation.reliable.any()
    assert validation.could_be(0) == "pose"
    assert validation.doubt.poses.rotation_degree == pytest.approx(6.0, rel=0.25)
    assert any("--refine-pose" in warning for warning in fit.warnings)


def test_noise_that_is_stronger_under_the_particle_is_measured(simulated, fitted, tmp_path) -> None:
    folder, changed = simulated(heterogeneity="rigid"), tmp_path / "changed"
    shutil.copytree(folder, changed)
    with mrcfile.open(changed / "particles.mrcs", "r+") as stack:
        box = stack.data.shape[-1]
        axis = np.arange(box) - box // 2
        inside = np.hypot(axis[:, None], axis) < 0.4 * box
        stack.data[:] *= np.where(inside, 1.3, 1.0).astype(np.float32)
    fit = fitted(changed, rank=2)
    assert fit.corner_noise_power is not None and fit.validation is not None
    ratio = (fit.noise_power / fit.corner_noise_power)[0, 3:-2]
    assert 1.15 < ratio.mean() < 1.5
    assert not fit.validation.reliable.any()
