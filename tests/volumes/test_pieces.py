"""Neighbours, targets and postprocessing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from solvar.errors import InputError
from solvar.imaging.fourier import volume_shells
from solvar.imaging.fsc import resolution
from solvar.volumes.neighbours import ellipsoid_distances, nested_balls
from solvar.volumes.postprocess import (
    guinier_bfactor,
    local_resolution,
    locally_filtered,
    sharpened,
    weighted,
)
from solvar.volumes.targets import along_component, cluster_centres, from_file, from_text
from solvar.volumes.writing import Placement

RNG = np.random.default_rng(0)


def test_ellipsoids_are_each_particles_own_error_bars() -> None:
    z = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    precision = np.stack([np.eye(2), 9 * np.eye(2), np.diag([1.0, 0.25])])
    np.testing.assert_allclose(ellipsoid_distances(z, precision, np.zeros(2)), [1, 9, 1])


def test_nested_balls_hold_the_nearest_of_a_half_and_nobody_twice() -> None:
    distance, half = RNG.random(100), np.arange(0, 100, 2)
    shells = nested_balls(distance, half, (0.1, 0.4))
    assert [len(shell) for shell in shells] == [5, 15]
    together = np.concatenate(shells)
    assert len(set(together)) == 20
    assert set(together) <= set(half)
    assert distance[together].max() <= np.sort(distance[half])[19]


def _run(z: np.ndarray) -> SimpleNamespace:
    variance = z.var(axis=0)
    model = SimpleNamespace(eigenvalues=variance)
    precision = np.tile(np.diag(51 / variance), (len(z), 1, 1))
    posterior = SimpleNamespace(z=z, precision=precision)
    return SimpleNamespace(
        rank=z.shape[1],
        particle_count=len(z),
        posterior=posterior,
        model=model,
        validation=SimpleNamespace(reliable=np.ones(z.shape[1], bool)),
        copy_of=None,
        particle_probability=np.ones(len(z)),
        is_real=lambda component: True,
        folder=Path("run"),
    )


def test_a_walk_along_a_component_stays_in_a_bent_cloud() -> None:
    angle = RNG.uniform(0, np.pi, 1500)
    z = 10 * np.column_stack([np.cos(angle), np.sin(angle)]) + RNG.normal(0, 0.3, (1500, 2))
    walk = along_component(_run(z), 1, 9)
    radius = np.linalg.norm(walk.z, axis=1)
    np.testing.assert_allclose(radius, 10, atol=1.5)
    assert np.all(np.diff(walk.z[:, 0]) > 0)
    assert [len(along_component(_run(z), 1, count)) for count in (1, 2)] == [1, 2]
    with pytest.raises(InputError, match="component 3"):
        along_component(_run(z), 3, 5)


def test_cluster_centres_are_found_and_ordered() -> None:
    z = np.concatenate([RNG.normal(m, 0.2, (50, 2)) for m in (-4, 0, 5)])
    found = cluster_centres(_run(z), 3)
    np.testing.assert_allclose(found.z, [[-4, -4], [0, 0], [5, 5]], atol=0.2)


def test_points_from_a_file_and_from_text(tmp_path: Path) -> None:
    run = _run(RNG.normal(size=(20, 3)))
    path = tmp_path / "path.csv"
    path.write_text("name,z1,z3\nopen/../x,1,2\nclosed,3,4\n")
    found = from_file(run, path)
    np.testing.assert_array_equal(found.z, [[1, 0, 2], [3, 0, 4]])
    assert found.name == ("open_.._x", "closed")
    np.testing.assert_array_equal(from_text(run, "1,2").z, [[1, 2, 0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("z1\nx\n", "row 1"),
        ("a,b\n1,2\n", "no points"),
        ("z1,z9\n1,2\n", "3 components"),
        ("", "CSV"),
    ],
)
def test_bad_point_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        from_file(_run(RNG.normal(size=(20, 3))), path)
    assert message in str(caught.value)


def test_resolution_is_interpolated_between_shells() -> None:
    assert resolution(np.array([1, 1, 0.5, 0.0]), 100.0, 0.25) == pytest.approx(40)
    assert resolution(np.ones(5), 100.0) == 25
    assert resolution(np.zeros(5), 100.0) == np.inf


def test_sharpening_multiplies_a_shell_by_the_b_factor() -> None:
    axis = np.arange(32)
    wave = np.cos(2 * np.pi * 4 * axis / 32)[None, None] * np.ones((32, 32, 1))
    sharp = sharpened(wave.astype(np.float32), -200.0, 2.0)
    np.testing.assert_allclose(sharp, wave * np.exp(50 * (4 / 64) ** 2), rtol=1e-4, atol=1e-4)


def decaying(bfactor: float, box: int = 64, pixel_size: float = 1.0) -> np.ndarray:
    """White noise whose amplitudes fall as exp(-B k²/4)."""
    noise = np.random.default_rng(1).standard_normal((box,) * 3).astype(np.float32)
    return sharpened(noise, bfactor, pixel_size)


def test_a_guinier_fit_finds_the_b_factor_that_undoes_the_decay() -> None:
    found = guinier_bfactor(decaying(80.0), 1.0, 3.0)
    assert found.note is None
    assert found.value == pytest.approx(-80, rel=0.05)


def test_no_b_factor_is_made_up_where_a_guinier_fit_cannot_hold() -> None:
    for limit in (9.0, 16.0, np.inf):
        found = guinier_bfactor(decaying(80.0), 1.0, limit)
        assert found.value == 0
        assert found.note is not None and "needs 5 shells" in found.note
    rising = guinier_bfactor(decaying(-80.0), 1.0, 3.0)
    assert rising.value == 0 and rising.note is not None and "do not fall" in rising.note


def test_weights_are_the_correlation_with_the_truth_and_end_where_the_fsc_does() -> None:
    volume = decaying(0.0, 16)
    fsc = np.array([1, 1, 0.5, -0.1, 0.6])
    spectrum = np.fft.rfftn(weighted(volume, fsc)) / np.fft.rfftn(volume)
    shell = volume_shells(16)
    for s, weight in enumerate([1, 1, np.sqrt(2 / 3), 0, 0, 0]):
        np.testing.assert_allclose(spectrum[shell == s].real, weight, atol=1e-4)


def test_a_local_filter_keeps_detail_only_where_it_is_resolved() -> None:
    axis = np.arange(32)
    wave = np.cos(2 * np.pi * 8 * axis / 32)[None, :, None] * np.ones((32, 32, 32), np.float32)
    resolution = np.full((32, 32, 32), 2.5, np.float32)  # shell 12.8
    resolution[..., 16:] = 8.0  # shell 4
    found = locally_filtered(wave.astype(np.float32), resolution, 1.0)
    np.testing.assert_allclose(found[..., :16], wave[..., :16], atol=1e-4)
    np.testing.assert_allclose(found[..., 16:], 0, atol=1e-4)


def test_a_constant_resolution_filters_as_a_plain_low_pass() -> None:
    volume = decaying(0.0, 24)
    found = locally_filtered(volume, np.full(volume.shape, 4.0, np.float32), 1.0)  # shell 6
    ratio = np.fft.rfftn(found) / np.fft.rfftn(volume)
    shell = volume_shells(24)
    for s, weight in ((0, 1), (6, 1), (7, 0.5), (8, 0), (12, 0)):
        np.testing.assert_allclose(ratio[shell == s].real, weight, atol=1e-3)


def placement_run(box: int, pixel_size: float) -> SimpleNamespace:
    return SimpleNamespace(pixel_size_angstrom=pixel_size, model=SimpleNamespace(box_size=box))


@pytest.mark.parametrize(("box", "run_box"), [(64, 32), (65, 32), (64, 33), (48, 48)])
def test_volumes_at_another_box_share_their_centre_with_those_of_the_run(
    box: int, run_box: int
) -> None:
    run = placement_run(run_box, 128 / run_box)
    place = Placement.over(run, box, 128 / box, None)
    centre = place.origin_angstrom + box // 2 * place.pixel_size_angstrom
    assert centre == pytest.approx(run_box // 2 * 128 / run_box)
    # another calibration scales everything about the corner of the run's volumes
    scaled = Placement.over(run, box, 128 / box, 1.1 * 128 / box)
    assert scaled.pixel_size_angstrom == pytest.approx(1.1 * place.pixel_size_angstrom)
    assert scaled.origin_angstrom == pytest.approx(1.1 * place.origin_angstrom)


def test_local_resolution_is_better_where_the_halves_agree() -> None:
    from scipy.ndimage import gaussian_filter

    signal = sum(gaussian_filter(RNG.normal(size=(32, 32, 32)), s) * s**1.5 for s in (0.5, 1, 2, 4))
    noise = RNG.normal(size=(2, 32, 32, 32))
    noise[:, :, :, :16] *= 0.05
    found = local_resolution((signal + noise).astype(np.float32), 1.0)
    good, bad = np.median(found[:, :, 4:12]), np.median(found[:, :, 20:28])
    assert good < 3
    assert bad > 1.5 * good
