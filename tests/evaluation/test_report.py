"""Truth folders and the whole comparison of a run with them."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from solvar.cli.metrics import metrics_table, poses_table
from solvar.errors import InputError
from solvar.estimation.low_rank import LowRankModel
from solvar.estimation.posterior import PoseRefinement, Posterior
from solvar.evaluation import Estimate, Truth, captured_variance, evaluate
from solvar.evaluation.volumes import particles_of, state_volumes
from solvar.fitting.result import Fit
from solvar.fitting.settings import FitSettings
from solvar.imaging.fourier import crop_volume
from solvar.imaging.rotations import from_rotation_vector
from solvar.particles import Poses, read_particles
from solvar.simulation import SimulationSettings, simulate
from written import written


@pytest.fixture(scope="module")
def gaussian(tmp_path_factory):
    """A set with exact latents, on disk, and the estimate that an ideal program would make."""
    settings = SimulationSettings(
        particles=600, box_size=32, pixel_size=5.0, heterogeneity="gaussian", rank=3, seed=1
    )
    folder = tmp_path_factory.mktemp("gaussian")
    particles = simulate(settings)
    particles.write(folder)
    return particles, folder, ideal_estimate(particles)


def ideal_estimate(particles):
    truth = particles.truth_volumes()
    variance = (truth.eigenvolumes.astype(float) ** 2).sum(axis=(1, 2, 3))
    rng = np.random.default_rng(0)
    error = rng.standard_normal(particles.latent.shape) * np.sqrt(0.1 * variance)
    precision = np.broadcast_to(np.diag(10 / variance), (len(particles), 3, 3))
    unit = truth.eigenvolumes / np.sqrt(variance)[:, None, None, None].astype(np.float32)
    model = LowRankModel(truth.mean, unit, variance, truth.mask, 5.0)
    posterior = Posterior(
        particles.latent + error, precision, 2 * particles.contrast, np.zeros(len(particles))
    )
    poses = particles.poses
    row = np.arange(len(particles))
    return Estimate(model, posterior, row, poses.rotation, poses.shift_angstrom)


def rows_of(estimate, index):
    posterior = estimate.posterior
    return Estimate(
        estimate.model,
        Posterior(
            posterior.z[index],
            posterior.precision[index],
            posterior.contrast[index],
            posterior.log_likelihood[index],
        ),
        estimate.row[index],
        estimate.rotation[index],
        estimate.shift_angstrom[index],
    )


def test_an_ideal_estimate_gets_ideal_marks(gaussian):
    _, folder, estimate = gaussian
    metrics = evaluate(estimate, folder)
    assert metrics["covariance"]["captured_variance"] == pytest.approx(1, abs=1e-3)
    assert max(metrics["covariance"]["principal_angles_degree"]) < 0.1
    assert metrics["mean"]["correlation"] == pytest.approx(1, abs=1e-5)
    assert metrics["covariance"]["fsc_auc"] == pytest.approx(0.5, abs=1e-3)
    assert min(metrics["latents"]["knn_spearman"]) > 0.8
    assert metrics["embedding"]["imbalance_latents_to_states"] < 0.3
    assert max(metrics["populations"]["distance_over_sd"]) < 0.07
    assert min(metrics["populations"]["single_point_distance_over_sd"]) > 0.75
    assert "clustering" not in metrics
    assert metrics["latents"]["calibration_chi2"] == pytest.approx(1, abs=0.1)
    assert metrics["contrast"]["rmse"] < 1e-6
    assert metrics["poses"]["out_of_plane_degree"]["rms"] < 1e-5
    assert metrics["poses"]["shift_px"]["rms"] < 1e-5


def test_the_area_per_image_is_told_first_and_per_conformation_second(gaussian):
    _, folder, estimate = gaussian
    metrics = evaluate(estimate, folder)
    parts = [name for name, part in metrics.items() if isinstance(part, dict)]
    assert parts[:2] == ["volumes", "populations"]
    areas = [
        name for name in metrics["volumes"] if name in {"per_image_auc", "per_conformation_auc"}
    ]
    assert areas == ["per_image_auc", "per_conformation_auc"]
    told = list(metrics_table("", metrics).columns[0].cells)
    assert told.index("AUC-FSC per image") < told.index("AUC-FSC per conformation")
    assert told.index("AUC-FSC per conformation") < told.index("Captured variance")


def test_components_that_are_not_reliable_tell_nothing_of_the_population(gaussian):
    _, folder, estimate = gaussian
    first = replace(estimate, reliable=np.array([True, False, False]))
    populations = evaluate(first, folder)["populations"]
    share = np.divide(populations["distance"], populations["single_point_distance"])
    assert share[0] < 0.1 and min(share[1:]) > 0.8
    none = replace(estimate, reliable=np.zeros(3, bool))
    assert evaluate(none, folder)["populations"] == evaluate(estimate, folder)["populations"]


def test_volumes_of_conformations_are_told_for_latents_without_states(gaussian):
    particles, folder, estimate = gaussian
    truth = Truth.load(folder)
    np.testing.assert_allclose(
        truth.volume_coordinate, particles.scale * particles.ensemble.examples, rtol=1e-6
    )
    volumes = evaluate(estimate, folder)["volumes"]
    assert volumes["states"] == list(range(7)) and volumes["per_image_count"] == 70
    assert volumes["per_conformation_auc"] > 0.48
    assert volumes["per_conformation_auc"] > volumes["mean_volume_auc"]
    assert volumes["per_image_auc"] < volumes["per_conformation_auc"]
    # latents that are upside down put every conformation on the wrong side of the mean
    posterior = replace(estimate.posterior, z=-estimate.posterior.z)
    wrong = evaluate(replace(estimate, posterior=posterior), folder)["volumes"]
    assert wrong["per_conformation_auc"] < volumes["mean_volume_auc"]


def test_a_continuous_motion_is_judged_at_its_stored_conformations(tmp_path):
    settings = SimulationSettings(
        particles=400, box_size=24, pixel_size=8.0, heterogeneity="hinge-loop", seed=1
    )
    particles = simulate(settings)
    particles.write(tmp_path)
    truth = Truth.load(tmp_path)
    names = list(state_volumes(truth).values())
    assert [path.stem for path in names] == list(particles.ensemble.example_name)
    for number, place in enumerate(particles.ensemble.examples):
        rows = particles_of(truth, number)
        assert len(rows) == 10
        assert np.abs(truth.state_coordinate[rows] - place).max() < 0.35
    # rows of a selection of particles are those of the selection
    half = truth.select(np.arange(0, 400, 2))
    assert len(state_volumes(half)) == len(names) and particles_of(half, 0).max() < 200


def test_coordinates_that_are_not_those_of_the_volumes_are_refused(gaussian, tmp_path):
    _, folder, _ = gaussian
    shutil.copytree(folder / "vols", tmp_path / "vols")
    (tmp_path / "vols" / "006.mrc").unlink()
    shutil.copy(folder / "gt.npz", tmp_path)
    with pytest.raises(InputError, match="vol_coord has 7 rows and vols/ holds 6"):
        Truth.load(tmp_path)


def test_a_run_folder_and_the_fit_it_was_written_from_get_the_same_marks(gaussian, tmp_path):
    _, folder, estimate = gaussian
    particles, settings = (
        read_particles(folder / "particles.star"),
        FitSettings(rank=3, halfsets=False),
    )
    fit = Fit(
        particles=particles,
        settings=settings,
        model=estimate.model,
        posterior=estimate.posterior,
        validation=None,
        noise_power=np.ones((1, 17)),
        prior_precision=np.ones(17),
        particle_probability=np.ones(len(particles)),
        inverted=False,
    )
    run = written(tmp_path / "run", fit).folder
    from_folder, from_memory = evaluate(run, folder), evaluate(fit, folder)
    assert from_folder["covariance"] == from_memory["covariance"]
    assert from_folder["contrast"] == from_memory["contrast"]
    assert from_folder["poses"]["out_of_plane_degree"]["rms"] < 1e-4


def test_poses_are_judged_before_and_after(gaussian):
    _, folder, estimate = gaussian
    rng = np.random.default_rng(2)
    start = Poses(
        estimate.rotation @ from_rotation_vector(rng.normal(0, np.deg2rad(2), (600, 3))),
        estimate.shift_angstrom + rng.normal(0, 5.0, (600, 2)),
    )
    exact = np.tile(np.diag([1e-4] * 3 + [1.0] * 2), (600, 1, 1))
    refinement = PoseRefinement(start, exact, 2.0, 5.0)
    poses = evaluate(replace(estimate, refinement=refinement), folder)["poses"]
    assert poses["calibration"]["rotation_within_1_sd"] == 1
    assert poses["beyond_10_degree"] == 0
    assert poses["start"]["in_plane_degree"]["rms"] == pytest.approx(2, rel=0.1)
    assert poses["start"]["shift_px"]["rms"] == pytest.approx(2**0.5, rel=0.1)
    assert poses["in_plane_degree"]["rms"] < 1e-5
    # errors that know nothing of the state do not go away with an alignment of each state
    within = poses["start"].get("within_state")
    if within is not None:
        assert within["in_plane_degree"]["rms"] == pytest.approx(2, rel=0.1)
    table = poses_table(poses)
    assert [column.header for column in table.columns][2:4] == ["error before", "error after"]


def test_states_are_the_discrete_ones_or_bins_of_the_coordinate(tmp_path):
    rng = np.random.default_rng(3)
    known = Truth(tmp_path, 16, 5.0, 5.0, state=rng.integers(0, 3, 500))
    np.testing.assert_array_equal(known.state_group(), known.state)
    bins = replace(known, state=None, state_coordinate=rng.random((500, 1))).state_group()
    np.testing.assert_array_equal(np.bincount(bins), 50)
    assert (
        len(
            np.unique(
                replace(known, state=None, state_coordinate=rng.random((500, 2))).state_group()
            )
        )
        == 9
    )
    assert Truth(tmp_path, 16, 5.0, 5.0).state_group() is None


def test_metrics_are_plain_json(gaussian):
    _, folder, estimate = gaussian
    metrics = evaluate(estimate, folder)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_particles_are_matched_by_row_in_any_order(gaussian):
    _, folder, estimate = gaussian
    shuffled = rows_of(estimate, np.random.default_rng(1).permutation(600)[:400])
    metrics = evaluate(shuffled, folder)
    assert metrics["particles"] == 400
    assert metrics["contrast"]["correlation"] == pytest.approx(1)
    assert metrics["poses"]["out_of_plane_degree"]["rms"] < 1e-5


def test_a_downsampled_run_is_compared_with_cropped_truth(gaussian):
    _, folder, estimate = gaussian
    model = estimate.model
    cropped = crop_volume(model.eigenvolumes, 24)
    norm = np.sqrt((cropped**2).sum(axis=(1, 2, 3), keepdims=True))
    small = LowRankModel(
        crop_volume(model.mean, 24), cropped / norm, model.eigenvalues, model.mask, 5.0 * 32 / 24
    )
    coarse = Estimate(
        small, estimate.posterior, estimate.row, estimate.rotation, estimate.shift_angstrom
    )
    metrics = evaluate(coarse, folder)
    assert metrics["covariance"]["captured_variance"] == pytest.approx(1, abs=1e-3)
    # the ratio of pixel sizes does not enter the pose errors, which are in original pixels
    assert metrics["poses"]["shift_px"]["rms"] < 1e-5


def test_a_run_without_components_is_judged_without_latents(gaussian):
    _, folder, estimate = gaussian
    model, posterior = estimate.model, estimate.posterior
    empty = Estimate(
        LowRankModel(model.mean, model.eigenvolumes[:0], np.empty(0), model.mask, 5.0),
        Posterior(
            posterior.z[:, :0],
            posterior.precision[:, :0, :0],
            posterior.contrast,
            posterior.log_likelihood,
        ),
        estimate.row,
        estimate.rotation,
        estimate.shift_angstrom,
    )
    metrics = evaluate(empty, folder)
    assert metrics["covariance"]["captured_variance"] == 0
    assert "latents" not in metrics and "populations" not in metrics and "poses" in metrics


def test_truth_of_other_particles_is_refused(gaussian):
    _, folder, estimate = gaussian
    beyond = Estimate(
        estimate.model,
        estimate.posterior,
        estimate.row + 1,
        estimate.rotation,
        estimate.shift_angstrom,
    )
    with pytest.raises(InputError, match="600 particles, not row 601"):
        evaluate(beyond, folder)
    model = estimate.model
    wrong = LowRankModel(model.mean, model.eigenvolumes, model.eigenvalues, model.mask, 4.0)
    with pytest.raises(InputError, match=r"160\.0 Å"):
        evaluate(
            Estimate(wrong, estimate.posterior, estimate.row, estimate.rotation, beyond.rotation),
            folder,
        )


@pytest.mark.parametrize("heterogeneity", ["hinge-loop", "discrete", "rigid"])
def test_what_simulate_writes_is_what_truth_reads(tmp_path, heterogeneity):
    settings = SimulationSettings(
        particles=20, box_size=16, pixel_size=8.0, heterogeneity=heterogeneity
    )
    particles = simulate(settings)
    particles.write(tmp_path)
    truth, volumes = Truth.load(tmp_path), particles.truth_volumes()
    np.testing.assert_allclose(truth.rotation, particles.poses.rotation)
    np.testing.assert_allclose(truth.shift_angstrom, particles.poses.shift_angstrom)
    np.testing.assert_allclose(truth.contrast, particles.contrast)
    np.testing.assert_allclose(truth.mean, volumes.mean)
    if heterogeneity == "rigid":
        assert truth.eigenvolumes is None and truth.state_coordinate is None
    else:
        np.testing.assert_allclose(truth.eigenvolumes, volumes.eigenvolumes)
        np.testing.assert_allclose(truth.state_coordinate, particles.ensemble.coordinate)


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        (None, "there is no gt.npz"),
        ({"L": 16}, "column apix"),
        ({"L": 16, "apix": -1.0}, "column apix"),
        ({"L": 16, "apix": 2.0, "contrast": np.ones(3), "rotations": np.ones((4, 3, 3))}, "rows"),
        ({"L": 16, "apix": 2.0, "contrast": np.array([None], object)}, "cannot be read"),
    ],
)
def test_a_bad_truth_folder_is_refused_in_one_sentence(tmp_path, arrays, complaint):
    if arrays is not None:
        np.savez(tmp_path / "gt.npz", **arrays)
    with pytest.raises(InputError, match=complaint):
        Truth.load(tmp_path)


def test_the_reference_data_are_read_as_they_are(shared_data):
    truth = Truth.load(shared_data / "adk_64")
    assert truth.count == 3000 and truth.box_size == 64 and len(truth.volumes) == 12
    assert truth.eigenvolumes.shape == (10, 64, 64, 64)
    assert truth.state_coordinate.shape == (3000, 1)
    assert captured_variance(truth.eigenvolumes[:4], truth.eigenvolumes, k_c=32) == pytest.approx(1)
    # masked and at half Nyquist the best subspace differs a little from the unmasked one
    assert captured_variance(truth.eigenvolumes[:4], truth.eigenvolumes, mask=truth.mask) > 0.995
    random = np.random.default_rng(0).standard_normal((4, 64, 64, 64))
    assert captured_variance(random, truth.eigenvolumes, mask=truth.mask) < 0.02
