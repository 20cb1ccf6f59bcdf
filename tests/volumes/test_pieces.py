"""Neighbours, targets and postprocessing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from solvar.errors import InputError
from solvar.volumes.fsc import resolution
from solvar.volumes.neighbours import distances, nested_balls
from solvar.volumes.postprocess import local_resolution, sharpened
from solvar.volumes.targets import along_component, cluster_centres, from_file, from_text

RNG = np.random.default_rng(0)


def test_distances_use_each_particles_own_error_bar() -> None:
    z = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    precision = np.stack([np.eye(2), 9 * np.eye(2), np.diag([1.0, 0.25])])
    np.testing.assert_allclose(distances(z, precision, np.zeros(2)), [1, 9, 1])


def test_nested_balls_hold_the_nearest_of_a_half_and_nobody_twice() -> None:
    distance, half = RNG.random(100), np.arange(0, 100, 2)
    shells = nested_balls(distance, half, (0.1, 0.4))
    assert [len(shell) for shell in shells] == [5, 15]
    together = np.concatenate(shells)
    assert len(set(together)) == 20
    assert set(together) <= set(half)
    assert distance[together].max() <= np.sort(distance[half])[19]


def _run(z: np.ndarray) -> SimpleNamespace:
    model = SimpleNamespace(eigenvalues=z.var(axis=0))
    return SimpleNamespace(
        rank=z.shape[1], posterior=SimpleNamespace(z=z), model=model, folder=Path("run")
    )


def test_a_walk_along_a_component_stays_in_a_bent_cloud() -> None:
    angle = RNG.uniform(0, np.pi, 4000)
    z = 10 * np.column_stack([np.cos(angle), np.sin(angle)]) + RNG.normal(0, 0.3, (4000, 2))
    walk = along_component(_run(z), 1, 9)
    radius = np.linalg.norm(walk.z, axis=1)
    np.testing.assert_allclose(radius, 10, atol=1.0)
    assert np.all(np.diff(walk.z[:, 0]) > 0)
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


def test_local_resolution_is_better_where_the_halves_agree() -> None:
    from scipy.ndimage import gaussian_filter

    signal = sum(gaussian_filter(RNG.normal(size=(32, 32, 32)), s) * s**1.5 for s in (0.5, 1, 2, 4))
    noise = RNG.normal(size=(2, 32, 32, 32))
    noise[:, :, :, :16] *= 0.05
    found = local_resolution((signal + noise).astype(np.float32), 1.0)
    good, bad = np.median(found[:, :, 4:12]), np.median(found[:, :, 20:28])
    assert good < 3
    assert bad > 1.5 * good
