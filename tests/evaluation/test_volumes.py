"""Masked FSC, its area, and the two averages of CryoBench."""

import itertools

import numpy as np
import pytest
import torch

from solvar.errors import InputError
from solvar.estimation.low_rank import LowRankModel
from solvar.evaluation import (
    StateProducts,
    Truth,
    fsc_auc,
    masked_fsc,
    per_conformation_fsc,
    per_image_auc,
    state_volumes,
)
from solvar.evaluation.volumes import particles_of, volume_metrics
from solvar.imaging.fourier import crop_volume
from solvar.imaging.fsc import resolution
from solvar.imaging.masks import soft_sphere
from solvar.volume_file import write_volume

BOX = 16


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def slow_fsc(first, second, mask):
    """Every coefficient of the full grid by itself, in the order of the definition."""
    box = len(first)
    a, b = (np.fft.fftn((v * mask).astype(np.float64)) for v in (first, second))
    cross, left, right = np.zeros(box), np.zeros(box), np.zeros(box)
    frequency = [i if i < box / 2 else i - box for i in range(box)]
    for z, y, x in itertools.product(range(box), repeat=3):
        shell = round(np.sqrt(frequency[z] ** 2 + frequency[y] ** 2 + frequency[x] ** 2))
        if shell <= box // 2:
            cross[shell] += (a[z, y, x] * np.conj(b[z, y, x])).real
            left[shell] += abs(a[z, y, x]) ** 2
            right[shell] += abs(b[z, y, x]) ** 2
    return (cross / np.sqrt(np.maximum(left * right, 1e-60)))[: box // 2 + 1]


def test_masked_fsc_agrees_with_a_sum_over_the_full_grid():
    first = noise(BOX, BOX, BOX)
    second = first + noise(BOX, BOX, BOX, seed=1)
    mask = soft_sphere(BOX, 12)
    expected = slow_fsc(first, second, mask)
    np.testing.assert_allclose(masked_fsc(first, second, mask), expected, atol=1e-5)
    np.testing.assert_allclose(masked_fsc(first, 3 * second, mask), expected, atol=1e-5)


def test_masked_fsc_agrees_with_teamtomo():
    # its shells are triangles two voxels wide and ours are steps, so curves must be smooth to compare
    oracle = pytest.importorskip("torch_fourier_shell_correlation")
    box = 48
    frequency = np.sqrt(sum(f**2 for f in np.meshgrid(*[np.fft.fftfreq(box)] * 3, indexing="ij")))
    falling = np.fft.fftn(noise(box, box, box)) * np.exp(-((frequency / 0.2) ** 2))
    first = np.fft.ifftn(falling).real.astype(np.float32)
    second = (first + 0.1 * noise(box, box, box, seed=1)).astype(np.float32)
    mask = soft_sphere(box, 40)
    theirs = oracle.fsc(torch.from_numpy(first * mask), torch.from_numpy(second * mask)).numpy()
    ours = masked_fsc(first, second, mask)
    assert ours[3] > 0.95 and ours[-1] < 0.3  # the whole range is compared
    np.testing.assert_allclose(ours[2:-1], theirs[2:-1], atol=0.03)
    crossing = resolution(theirs, box, 0.5)
    assert resolution(ours, box, 0.5) == pytest.approx(crossing, rel=0.02)


def test_a_soft_mask_removes_what_is_outside():
    first = noise(BOX, BOX, BOX)
    mask = soft_sphere(BOX, 10)
    elsewhere = first + 5 * noise(BOX, BOX, BOX, seed=1) * (mask == 0)
    assert masked_fsc(first, elsewhere).min() < 0.9
    np.testing.assert_allclose(masked_fsc(first, elsewhere, mask), 1, atol=1e-5)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        masked_fsc(noise(8, 8, 8), noise(6, 6, 6))


def test_area_of_identical_volumes_is_a_half():
    volume = noise(BOX, BOX, BOX)
    assert fsc_auc(masked_fsc(volume, volume)) == pytest.approx(0.5, abs=1e-6)
    assert fsc_auc(masked_fsc(volume, -volume)) == 0


def test_area_is_clipped_and_trapezoidal():
    # k/L = 0, 0.25, 0.5: 0.25·(1 + 0.5)/2 + 0.25·(0.5 + 0)/2
    assert fsc_auc(np.array([1.2, 0.5, -0.7])) == pytest.approx(0.25)
    straight = np.linspace(1, 0, 33)
    np.testing.assert_allclose(fsc_auc(np.stack([straight, np.ones(33)])), [0.25, 0.5])


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    """Three states on a line of volumes, 90 particles, and the model that spans them exactly."""
    folder = tmp_path_factory.mktemp("states")
    mean, direction = noise(BOX, BOX, BOX), noise(1, BOX, BOX, BOX, seed=1)
    direction /= np.linalg.norm(direction)
    mask = soft_sphere(BOX, 14)
    amplitude = np.array([-40.0, 0.0, 40.0])
    for state, z in enumerate(amplitude):
        write_volume(folder / f"{state:03d}.mrc", mean + np.float32(z) * direction[0], 5.0)
    state = np.repeat([0, 1, 2], [60, 20, 10])
    paths = {f"{n:03d}": folder / f"{n:03d}.mrc" for n in range(3)}
    truth = Truth(folder, BOX, 5.0, 5.0, state=state, mask=mask, volumes=paths)
    model = LowRankModel(mean, direction, np.array([900.0]), mask, 5.0)
    return model, truth, amplitude[state][:, None]


def test_forms_of_the_latents_are_the_fsc_of_the_volumes(linear):
    model, truth, _ = linear
    products = StateProducts.of(model, state_volumes(truth), truth.mask)
    z = np.array([[-13.0], [55.0]])
    states = [model.mean - 40 * model.eigenvolumes[0], model.mean + 40 * model.eigenvolumes[0]]
    for curve, latent, true in zip(products.fsc(z, np.array([0, 2])), z, states, strict=True):
        volume = model.mean + np.float32(latent[0]) * model.eigenvolumes[0]
        np.testing.assert_allclose(curve, masked_fsc(volume, true, truth.mask), atol=1e-4)


def test_perfect_latents_get_the_largest_area_of_both_kinds(linear):
    model, truth, z = linear
    metrics = volume_metrics(model, z, truth)
    assert metrics["states"] == [0, 1, 2]
    assert metrics["per_conformation_auc"] == pytest.approx(0.5, abs=1e-4)
    assert metrics["per_image_auc"] == pytest.approx(0.5, abs=1e-4)
    # state 1 is the mean; the others are not
    unmoved = metrics["mean_volume_auc_by_state"]
    assert unmoved[1] == pytest.approx(0.5, abs=1e-4) and max(unmoved[0], unmoved[2]) < 0.45


def test_noise_of_single_latents_lowers_the_area_per_image_and_not_per_conformation(linear):
    model, truth, z = linear
    error = np.tile([[30.0], [-30.0]], (45, 1))  # zero mean in each state
    products = StateProducts.of(model, state_volumes(truth), truth.mask)
    per_state = fsc_auc(per_conformation_fsc(z + error, truth, products))
    images = per_image_auc(z + error, truth, products)
    np.testing.assert_allclose(per_state, 0.5, atol=1e-4)
    assert images.mean < 0.48
    assert images.quantiles() == sorted(images.quantiles())


def test_per_image_weighs_states_by_their_particles_and_per_conformation_equally(linear):
    model, truth, z = linear
    spoilt = np.where(truth.state[:, None] == 2, -z, z)  # the rarest state is at the wrong end
    metrics = volume_metrics(model, spoilt, truth)
    wrong = metrics["per_conformation_auc_by_state"][2]
    assert metrics["per_conformation_auc"] == pytest.approx((0.5 + 0.5 + wrong) / 3, abs=1e-4)
    expected = (80 * 0.5 + 10 * wrong) / 90
    assert metrics["per_image_auc"] == pytest.approx(expected, abs=1e-4)
    unmoved = np.dot(metrics["mean_volume_auc_by_state"], [60, 20, 10]) / 90
    assert metrics["per_image_mean_volume_auc"] == pytest.approx(unmoved)
    # a sample of each state keeps the weights
    products = StateProducts.of(model, state_volumes(truth), truth.mask)
    sample = per_image_auc(spoilt, truth, products, images_per_state=5)
    assert len(sample.auc) == 15
    assert sample.mean == pytest.approx(expected, abs=1e-4)


def test_true_volumes_are_cropped_to_the_box_of_the_model(linear):
    model, truth, z = linear
    small = LowRankModel(
        crop_volume(model.mean, 12),
        crop_volume(model.eigenvolumes, 12),
        model.eigenvalues,
        crop_volume(model.mask, 12),
        5.0 * BOX / 12,
    )
    metrics = volume_metrics(small, z, truth.resampled(12))
    assert metrics["per_conformation_auc"] == pytest.approx(0.5, abs=1e-3)
    assert len(metrics["per_conformation_fsc"][0]) == 7


def test_a_true_volume_of_another_extent_is_refused(linear):
    model, truth, z = linear
    wrong = LowRankModel(model.mean, model.eigenvolumes, model.eigenvalues, model.mask, 4.0)
    with pytest.raises(InputError, match=r"80\.0 Å"):
        volume_metrics(wrong, z, truth)


def test_volumes_without_a_state_of_their_number_are_left_out(linear, tmp_path):
    _, truth, _ = linear
    assert state_volumes(truth.select(np.flatnonzero(truth.state != 1))).keys() == {0, 2}
    assert state_volumes(Truth(tmp_path, BOX, 5.0, 5.0, volumes=truth.volumes)) == {}


def test_a_step_of_a_motion_borrows_its_nearest_particles(tmp_path):
    state = np.arange(40)
    steps = Truth(tmp_path, BOX, 5.0, 5.0, state=state, state_coordinate=state[:, None] / 40.0)
    assert set(particles_of(steps, 0)) == set(range(10))
    alone = Truth(tmp_path, BOX, 5.0, 5.0, state=state)
    np.testing.assert_array_equal(particles_of(alone, 7), [7])


def test_the_reference_volumes_are_found_by_their_frames(shared_data):
    truth = Truth.load(shared_data / "adk_64")
    volumes = state_volumes(truth)
    assert list(volumes) == [0, 9, 18, 26, 35, 44, 53, 62, 71, 79, 88, 97]
    assert truth.discrete_state() is None
