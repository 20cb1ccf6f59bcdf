"""Simulated sets: signal, noise, truth, and the files that describe them."""

import mrcfile
import numpy as np
import pytest
import starfile
from pydantic import ValidationError

from solvar.imaging.rotations import from_euler
from solvar.particles import read_particles
from solvar.simulation import SimulationSettings, blob_volume, simulate
from solvar.simulation.ensemble import build_ensemble
from solvar.simulation.truth import conformation_volumes

SMALL = {"particles": 200, "box_size": 32, "pixel_size": 5.0, "seed": 4}


def small(**changes):
    return SimulationSettings(**{**SMALL, **changes})


def all_of(particles):
    return np.arange(len(particles))


@pytest.mark.parametrize("heterogeneity", ["hinge-loop", "discrete", "rigid", "gaussian"])
@pytest.mark.parametrize("snr", [0.05, 1.0])
def test_signal_to_noise_ratio_is_the_one_asked_for(heterogeneity, snr):
    particles = simulate(small(heterogeneity=heterogeneity, snr=snr))
    clean = particles.clean_images(all_of(particles))
    noise = particles.images(all_of(particles)) - clean
    assert clean.var() == pytest.approx(snr, rel=1e-3)
    assert noise.var() == pytest.approx(1, rel=0.02)


def test_noise_has_the_power_spectrum_of_its_optics_group():
    particles = simulate(small(particles=2000, optics_groups=2))
    noise = particles.images(all_of(particles)) - particles.clean_images(all_of(particles))
    power = np.abs(np.fft.fftshift(np.fft.fft2(noise), axes=(1, 2))) ** 2 / noise[0].size
    for group in (0, 1):
        measured = power[particles.optics_group == group].mean(axis=0)
        np.testing.assert_allclose(measured, particles.noise_power[group], rtol=0.25)
        assert np.mean(measured / particles.noise_power[group]) == pytest.approx(1, abs=0.01)


def test_an_image_does_not_depend_on_its_company():
    particles = simulate(small())
    together = particles.images(all_of(particles))
    np.testing.assert_allclose(particles.images(np.array([17, 3])), together[[17, 3]], atol=2e-5)


def test_images_are_linear_in_the_latents_of_a_gaussian_set():
    particles = simulate(small(heterogeneity="gaussian", rank=3, contrast_sd=0.0))
    truth, z = particles.truth_volumes(), particles.latent
    unit = truth.eigenvolumes / np.sqrt((truth.eigenvolumes**2).sum((1, 2, 3), keepdims=True))
    positions, weights = particles.ensemble.place(particles.ensemble.coordinate[7:8])
    sigma = particles.ensemble.sigma_angstrom
    exact = particles.scale * blob_volume(positions[0], weights[0], sigma, 32, 5.0)
    low_rank = truth.mean + np.tensordot(z[7], unit, axes=1)
    np.testing.assert_allclose(low_rank, exact, atol=1e-5 * exact.max())


def test_modes_of_a_gaussian_set_are_orthonormal_and_orthogonal_to_the_mean():
    particles = simulate(small(heterogeneity="gaussian", rank=3))
    truth = particles.truth_volumes()
    basis = np.concatenate([truth.mean[None], truth.eigenvolumes]).reshape(4, -1)
    gram = (basis @ basis.T).astype(np.float64)
    variance = particles.scale**2 * particles.ensemble.modes.variance
    np.testing.assert_allclose(np.diag(gram)[1:], variance, rtol=1e-4)
    assert variance.sum() == pytest.approx(0.2 * gram[0, 0], rel=1e-4)
    np.testing.assert_allclose(gram - np.diag(np.diag(gram)), 0, atol=1e-4 * gram[0, 0])
    assert particles.latent.var(axis=0) == pytest.approx(variance, rel=0.3)


@pytest.mark.slow
def test_truth_of_continuous_motion_agrees_with_a_monte_carlo_average():
    particles = simulate(small(particles=600))
    truth = particles.truth_volumes()
    ensemble = particles.ensemble
    volumes = conformation_volumes(ensemble, ensemble.coordinate, 32, 5.0, particles.scale)
    drawn = np.stack([volume.ravel() for volume in volumes])
    mean = drawn.mean(axis=0)
    np.testing.assert_allclose(truth.mean.ravel(), mean, atol=0.03 * mean.max())
    eigenvalues = (truth.eigenvolumes**2).sum(axis=(1, 2, 3))
    sampled = np.linalg.svd(drawn - mean, compute_uv=False)[:4] ** 2 / 600
    np.testing.assert_allclose(eigenvalues[:4], sampled, rtol=0.15)


def test_a_smaller_motion_is_a_part_of_the_whole_one():
    whole, part = (
        build_ensemble(SimulationSettings(particles=3, motion=motion)) for motion in (1.0, 0.4)
    )
    ends, within = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0.3, 0.7], [0.7, 0.3]])
    np.testing.assert_allclose(part.place(ends)[0], whole.place(within)[0], atol=1e-9)


def test_truth_does_not_depend_on_how_it_is_divided_into_blocks(monkeypatch):
    particles = simulate(small(heterogeneity="discrete", states=5))
    whole = particles.truth_volumes().eigenvolumes
    monkeypatch.setattr("solvar.simulation.truth._BLOCK_BYTES", 2 * 4 * 32**3)
    parts = particles.truth_volumes().eigenvolumes
    assert len(whole) == len(parts) == 4
    overlap = np.abs(np.einsum("jzyx,jzyx->j", whole, parts))
    np.testing.assert_allclose(overlap, (whole**2).sum(axis=(1, 2, 3)), rtol=1e-3)


def test_mask_holds_all_of_every_conformation():
    particles = simulate(small())
    truth = particles.truth_volumes()
    for volume in (truth.mean, *truth.eigenvolumes[:4]):
        outside = np.linalg.norm(volume * (1 - truth.mask))
        assert outside < 0.1 * np.linalg.norm(volume)
    assert 0.02 < truth.mask.mean() < 0.4


def test_pose_errors_have_the_size_asked_for():
    particles = simulate(small(particles=4000, box_size=16, pose_error=4.0, shift_error=1.5))
    true, noisy = particles.poses, particles.noisy_poses
    relative = np.swapaxes(true.rotation, 1, 2) @ noisy.rotation
    angle = np.rad2deg(np.arccos((np.trace(relative, axis1=1, axis2=2) - 1) / 2))
    assert np.sqrt((angle**2).mean()) == pytest.approx(4.0, rel=0.05)
    moved = (noisy.shift_angstrom - true.shift_angstrom) / 5.0
    np.testing.assert_allclose(moved.std(axis=0), 1.5, rtol=0.05)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    particles = simulate(small(optics_groups=2, heterogeneity="discrete", states=3))
    return particles, folder, particles.write(folder)


def test_written_files_describe_the_particles_exactly(written):
    particles, _, star = written
    tables = starfile.read(star)
    table, optics = tables["particles"], tables["optics"]
    angles = table[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy().T
    np.testing.assert_allclose(from_euler(*angles), particles.poses.rotation, atol=1e-6)
    shift = table[["rlnOriginXAngst", "rlnOriginYAngst"]].to_numpy()
    np.testing.assert_allclose(shift, particles.poses.shift_angstrom, atol=1e-5)
    np.testing.assert_allclose(table["rlnDefocusU"], particles.ctf.defocus_u_angstrom, atol=1e-4)
    assert sorted(set(table["rlnRandomSubset"])) == [1, 2]
    assert list(optics["rlnImagePixelSize"]) == [5.0, 5.0]
    assert set(table["rlnOpticsGroup"]) == {1, 2}


def test_the_reader_finds_the_particles_that_were_written(written):
    particles, _, star = written
    found = read_particles(star)
    np.testing.assert_allclose(found.poses.rotation, particles.poses.rotation, atol=1e-6)
    np.testing.assert_allclose(
        found.poses.shift_angstrom, particles.poses.shift_angstrom, atol=1e-5
    )
    for name in ("defocus_u_angstrom", "defocus_v_angstrom", "defocus_angle_radian"):
        expected = getattr(particles.ctf, name)
        np.testing.assert_allclose(getattr(found.exposures.ctf, name), expected, rtol=1e-6)
    np.testing.assert_array_equal(found.exposures.optics_group, particles.optics_group)
    np.testing.assert_array_equal(found.halfset, particles.halfset)
    np.testing.assert_allclose(found.optics.voltage_kv, particles.optics.voltage_kv)


def test_written_stack_is_float32_with_its_pixel_size_and_is_valid(written):
    particles, folder, _ = written
    with mrcfile.open(folder / "particles.mrcs") as stack:
        assert stack.is_image_stack() and stack.data.dtype == np.float32
        assert float(stack.voxel_size.x) == 5.0
        np.testing.assert_allclose(stack.data, particles.images(all_of(particles)), atol=2e-5)
        assert float(stack.header.rms) == pytest.approx(stack.data.std(), rel=1e-4)
    assert not list(folder.rglob(".*"))


def test_written_truth_has_the_layout_of_the_reference_data(written):
    particles, folder, _ = written
    truth = np.load(folder / "gt.npz")
    np.testing.assert_allclose(
        truth["rotations"], np.swapaxes(particles.poses.rotation, 1, 2), atol=1e-12
    )
    np.testing.assert_allclose(truth["shift_px"], -particles.poses.shift_angstrom / 5.0)
    assert truth["population"].sum() == pytest.approx(1)
    assert truth["state_coord"].shape == (200, 2) and truth["state"].max() == 2
    assert sorted(path.name for path in (folder / "vols").iterdir()) == [
        "000.mrc",
        "001.mrc",
        "002.mrc",
    ]
    with mrcfile.open(folder / "gt_eigenvolumes.mrc") as file:
        assert file.data.shape == (2 * 32, 32, 32)


def test_models_of_an_atom_file_are_simulated_as_states(tmp_path):
    lines = []
    for model in (1, 2, 3):
        lines.append(f"MODEL     {model:4d}")
        for number in range(1, 6):
            x, y = 6.0 * number, 4.0 * model * (number == 5)
            lines.append(
                f"ATOM  {number:5d}  CA  ALA A{number:4d}    {x:8.3f}{y:8.3f}{0.0:8.3f}"
                "  1.00  0.00           C"
            )
        lines.append("ENDMDL")
    path = tmp_path / "path.pdb"
    path.write_text("\n".join(lines) + "\nEND\n")
    particles = simulate(small(atoms=path, heterogeneity="discrete", blob_sigma=5.0))
    assert set(particles.ensemble.coordinate[:, 0]) == {0.0, 0.5, 1.0}
    assert len(particles.truth_volumes().eigenvolumes) == 2
    assert np.isfinite(particles.images(np.arange(3))).all()


@pytest.mark.parametrize(
    "bad",
    [
        {"snr": 0},
        {"box_size": 33},
        {"particles": 0},
        {"defocus_min": 2e4, "defocus_max": 1e4},
        {"atoms": "x.pdb", "heterogeneity": "hinge-loop"},
        {"diameter": 1e4},
        {"motion": 0.5, "heterogeneity": "rigid"},
        {"colour": "red"},
    ],
)
def test_settings_that_make_no_sense_are_refused(bad):
    with pytest.raises(ValidationError):
        SimulationSettings(**bad)
