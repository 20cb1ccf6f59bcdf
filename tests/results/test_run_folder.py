"""What is written to a run folder is what is read from it, and nothing half done looks finished."""

import json
from dataclasses import fields, replace

import h5py
import mrcfile
import numpy as np
import pytest
import starfile

from solvar.errors import InputError
from solvar.particles.cryodrgn import read_poses
from solvar.results import writer
from solvar.results.inputs import describe_file
from solvar.results.provenance import record
from solvar.results.run import Run
from solvar.results.writer import check_folder
from synthetic import PIXEL_SIZE, make_fit
from written import written


@pytest.fixture
def fit(tmp_path):
    return make_fit(tmp_path)


def test_run_reads_back_every_number_of_the_fit(tmp_path, fit):
    run = written(tmp_path / "run", fit)
    for found, expected in (
        (run.model, fit.model),
        (run.posterior, fit.posterior),
        (run.validation, fit.validation),
        (run.change, fit.validation.change),
    ):
        for field in fields(expected):
            if field.name in ("doubt", "change"):
                continue
            np.testing.assert_allclose(
                getattr(found, field.name), getattr(expected, field.name), rtol=1e-6,
                err_msg=field.name,
            )  # fmt: skip
    assert run.settings == fit.settings
    assert run.costs == fit.costs
    assert run.warnings == fit.warnings
    np.testing.assert_array_equal(run.noise_power, fit.noise_power)
    np.testing.assert_array_equal(run.prior_precision, fit.prior_precision)
    np.testing.assert_array_equal(run.history["training"], [3.0, np.nan])


def test_what_else_could_be_reads_back(tmp_path, fit):
    found, expected = written(tmp_path / "run", fit).validation.doubt, fit.validation.doubt
    for field in fields(expected.evidence):
        values = getattr(expected.evidence, field.name)
        np.testing.assert_allclose(getattr(found.evidence, field.name), values)
    for field in fields(expected.poses):
        assert getattr(found.poses, field.name) == pytest.approx(
            getattr(expected.poses, field.name)
        )
    assert found.resolution == expected.resolution
    assert found.poses_matter is expected.poses_matter


def test_a_component_with_more_of_pose_errors_in_it_is_not_called_resolved(fit):
    doubt = fit.validation.doubt
    explained = doubt.evidence.explained.copy()
    explained[0, 0] = 0.7
    evidence = replace(doubt.evidence, explained=explained)
    for matter, verdict, cause in ((False, "resolved", None), (True, "real", "pose")):
        told = replace(doubt, evidence=evidence, poses_matter=matter)
        validation = replace(fit.validation, doubt=told)
        assert (validation.verdict(0), validation.could_be(0)) == (verdict, cause)


def test_a_run_from_before_there_were_doubts_has_none(tmp_path, fit):
    plain = replace(fit.validation, doubt=None, component_resolution_range=None)
    run = written(tmp_path / "run", replace(fit, validation=plain, corner_noise_power=None))
    assert run.validation.doubt is None and run.corner_noise_power is None
    assert run.validation.verdict(0) == "resolved" and run.validation.could_be(0) is None


def test_particles_keep_their_identity_and_order(tmp_path, fit):
    run = written(tmp_path / "run", fit)
    np.testing.assert_array_equal(run.particles["uid"], fit.particles.uid)
    np.testing.assert_array_equal(run.particles["row"], fit.particles.row)
    np.testing.assert_array_equal(run.particles["halfset"], fit.particles.halfset)
    np.testing.assert_array_equal(run.particles["rotation"], fit.particles.poses.rotation)
    assert run.particles["uid"].dtype == np.uint64


def test_other_programs_find_the_documented_names(tmp_path, fit):
    folder = written(tmp_path / "run", fit).folder
    with h5py.File(folder / "model.h5") as model:
        assert model.attrs["pixel_size_angstrom"] == PIXEL_SIZE
        assert {"mean", "eigenvolumes", "eigenvalues", "covariance_fsc", "mask"} <= set(model)
        basis = model["eigenvolumes"][()].reshape(fit.model.rank, -1)
        np.testing.assert_allclose(basis @ basis.T, np.eye(fit.model.rank), atol=1e-5)
    with h5py.File(folder / "particles.h5") as particles:
        assert set(particles) == {
            "z", "precision", "contrast", "rotation", "shift_angstrom", "log_likelihood",
            "halfset", "uid", "row", "particle_probability",
        }  # fmt: skip


def test_refined_poses_keep_the_input_beside_them(tmp_path):
    fit = make_fit(tmp_path, refined=True)
    run = written(tmp_path / "run", fit)
    expected, found = fit.pose_refinement, run.pose_refinement
    np.testing.assert_array_equal(found.start.rotation, expected.start.rotation)
    np.testing.assert_array_equal(found.start.shift_angstrom, expected.start.shift_angstrom)
    np.testing.assert_array_equal(found.covariance, expected.covariance)
    assert found.prior_rotation_degree == expected.prior_rotation_degree
    assert found.prior_shift_angstrom == expected.prior_shift_angstrom
    np.testing.assert_array_equal(run.particles["rotation"], fit.particles.poses.rotation)
    with h5py.File(run.folder / "particles.h5") as particles:
        assert {"rotation_start", "shift_start_angstrom", "pose_covariance"} <= set(particles)
        assert particles.attrs["prior_rotation_degree"] == 2.0


def test_every_file_of_a_run_holds_the_refined_poses(tmp_path):
    fit = make_fit(tmp_path, refined=True)
    folder = written(tmp_path / "run", fit).folder
    blocks = starfile.read(folder / "particles.star")
    assert set(blocks) == {"optics", "particles"}
    shift = fit.particles.poses.shift_angstrom
    np.testing.assert_allclose(blocks["particles"]["rlnOriginXAngst"], shift[:, 0], atol=1e-5)
    rotation, fraction = read_poses(folder / "poses.pkl")
    np.testing.assert_allclose(rotation, fit.particles.poses.rotation, atol=1e-6)
    np.testing.assert_allclose(fraction * 16 * PIXEL_SIZE, shift, atol=1e-4)


def test_run_with_the_poses_kept_tells_nothing_of_refinement(tmp_path, fit):
    folder = tmp_path / "run"
    written(folder, make_fit(tmp_path, refined=True))
    run = written(tmp_path / "other", fit)
    written(folder, fit)
    for kept in (run, Run(folder)):
        assert kept.pose_refinement is None and kept.pose_change is None
        assert "poses" not in kept.summary()
        assert not (kept.folder / "poses.pkl").exists()


def test_volumes_carry_their_pixel_size(tmp_path, fit):
    folder = written(tmp_path / "run", fit).folder
    names = {path.name for path in folder.glob("*.mrc")}
    assert names == {
        "mean.mrc", "mean_half1.mrc", "mean_half2.mrc", "mask.mrc",
        "variance.mrc", "variance_error.mrc",
        *(f"eigenvolume_{j:03d}.mrc" for j in (1, 2, 3)),
    }  # fmt: skip
    for name in names:
        with mrcfile.open(folder / name) as volume:
            assert volume.voxel_size.x == pytest.approx(PIXEL_SIZE)


def test_star_file_carries_latents(tmp_path, fit):
    folder = written(tmp_path / "run", fit).folder
    table = starfile.read(folder / "particles.star")["particles"]
    np.testing.assert_allclose(table["solvarZ2"], fit.posterior.z[:, 1], atol=1e-5)
    np.testing.assert_allclose(table["solvarContrast"], fit.posterior.contrast, atol=1e-5)


def test_run_without_halfsets_has_no_validation(tmp_path):
    run = written(tmp_path / "run", make_fit(tmp_path, halfsets=False))
    assert run.validation is None
    assert not (run.folder / "mean_half1.mrc").exists()


def test_numbers_that_are_not_finite_are_null_in_json(tmp_path, fit):
    folder = written(tmp_path / "run", fit, ("solvar", "run")).folder

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    content = json.loads((folder / "run.json").read_text(), parse_constant=refuse)
    assert content["result"]["component_resolution_angstrom"] == [9.0, 14.0, None]
    assert content["command"] == ["solvar", "run"]
    assert content["inputs"][0]["size"] == 5


@pytest.mark.parametrize(
    "step", ["write_volume", "_write_model", "_write_particles", "write_star", "write_json"]
)
def test_failure_at_any_step_leaves_nothing_that_looks_finished(tmp_path, fit, monkeypatch, step):
    folder = tmp_path / "run"
    written(folder, fit)

    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(writer, step, fail)
    with pytest.raises(KeyboardInterrupt):
        written(folder, fit)
    with pytest.raises(InputError, match="holds no finished run"):
        Run(folder)
    assert not [*folder.glob(".*.partial*"), *folder.glob(".solvar*")]


def test_finished_run_is_not_overwritten_unasked(tmp_path, fit):
    folder = tmp_path / "run"
    written(folder, fit)
    with pytest.raises(InputError, match="--overwrite"):
        check_folder(folder)
    assert Run(folder).rank == 3
    check_folder(folder, overwrite=True)
    assert Run(folder).rank == 3, "preparing must not harm the earlier run"


def test_overwriting_leaves_no_component_of_the_earlier_run(tmp_path, fit):
    folder = tmp_path / "run"
    written(folder, fit)
    (folder / "notes.txt").write_text("mine")
    smaller = make_fit(tmp_path, rank=2, halfsets=False)
    written(folder, smaller)
    assert not (folder / "eigenvolume_003.mrc").exists()
    assert not (folder / "mean_half1.mrc").exists()
    assert (folder / "notes.txt").read_text() == "mine"


def test_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="not a folder"):
        check_folder(tmp_path / "file")
    with pytest.raises(InputError, match="cannot be written to"):
        check_folder(tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "JSON"), ('{"format": "other"}', "not written by solvar"), ("[]", "not written by")],
)
def test_foreign_run_json_is_refused(tmp_path, content, words):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match=words):
        Run(tmp_path)


def test_run_of_a_newer_format_is_refused(tmp_path):
    future = {"format": "solvar-run", "format_version": 99, "version": "9.0"}
    (tmp_path / "run.json").write_text(json.dumps(future))
    with pytest.raises(InputError, match=r"newer solvar \(9.0\)"):
        Run(tmp_path)


def test_damaged_model_is_named(tmp_path, fit):
    run = written(tmp_path / "run", fit)
    (run.folder / "model.h5").write_bytes(b"not hdf5")
    with pytest.raises(InputError, match=r"model\.h5: is missing or damaged"):
        _ = run.model


def test_digest_of_a_large_file_depends_on_both_ends_and_the_size(tmp_path):
    path = tmp_path / "stack.mrcs"
    content = bytearray(6 << 20)
    digests = set()
    for place in (None, 0, len(content) - 1):
        changed = bytearray(content)
        if place is not None:
            changed[place] = 1
        path.write_bytes(changed)
        digests.add(describe_file(path).digest)
    path.write_bytes(content + b"\0")
    digests.add(describe_file(path).digest)
    assert len(digests) == 4


def test_provenance_names_mask_and_stacks_once(tmp_path, fit):
    mask = tmp_path / "mask.mrc"
    mask.write_bytes(b"m")
    particles = replace(fit.particles, stacks=fit.particles.stacks * 2)
    found = record(particles, fit.settings.model_copy(update={"mask": mask}))
    assert [entry.path.split("/")[-1] for entry in found.inputs] == [
        "input.cs", "stack.mrcs", "mask.mrc",
    ]  # fmt: skip


def test_probabilities_of_particles_are_kept_and_missing_in_early_runs(tmp_path, fit):
    probability = np.linspace(0, 1, len(fit.particles))
    run = written(tmp_path / "run", replace(fit, particle_probability=probability, monstrous=1))
    np.testing.assert_array_equal(run.particle_probability, probability)
    assert run.monstrous == 1
    assert run.record["result"]["junk_share"] == pytest.approx(0.5)
    star = starfile.read(run.folder / "particles.star")["particles"]
    np.testing.assert_allclose(star["solvarParticleProbability"], probability, atol=1e-6)
    record_file = run.folder / "run.json"
    early = json.loads(record_file.read_text())
    del early["result"]["junk_share"], early["result"]["monstrous"]
    record_file.write_text(json.dumps(early))
    with h5py.File(run.folder / "particles.h5", "r+") as particles:
        del particles["particle_probability"]
    before = Run(run.folder)
    assert (before.particle_probability == 1).all() and before.monstrous == 0


def test_what_is_no_probability_is_refused(tmp_path, fit):
    folder = written(tmp_path / "run", fit).folder
    with h5py.File(folder / "particles.h5", "r+") as particles:
        particles["particle_probability"][3] = 1.5
    with pytest.raises(InputError, match="is no probability"):
        _ = Run(folder).particle_probability
