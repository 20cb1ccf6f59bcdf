"""What a run was read with is kept: no later command needs an option of it again."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.recfunctions import repack_fields
from typer.testing import CliRunner

from export.runs import assert_same_particles
from other_formats import write_cryodrgn, write_cryosparc
from solvar.cli.main import app
from solvar.particles import Reading, read_particles
from solvar.results.run import Run


def solvar_command(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def cryodrgn_files(folder: Path, stack: Path) -> dict:
    """An image stack with pickles; the star file that they were made from is not beside it."""
    (folder / "particles.mrcs").symlink_to(stack / "particles.mrcs")
    write_cryodrgn(read_particles(stack / "particles.star"), folder)
    return {"path": "particles.mrcs", "poses": "poses.pkl", "ctf": "ctf.pkl"}


def star_with_pickles(folder: Path, stack: Path) -> dict:
    """Poses of the pickle replace the noisy ones of the star file; images lie elsewhere."""
    (folder / "noisy.star").write_text((stack / "particles_noisy.star").read_text())
    (folder / "images").symlink_to(stack)
    write_cryodrgn(read_particles(stack / "particles.star"), folder)
    return {"path": "noisy.star", "poses": "poses.pkl", "ctf": "ctf.pkl", "datadir": "images"}


def cryosparc_with_passthrough(folder: Path, stack: Path) -> dict:
    """Images and alignments in one file, the CTF in another, with other names before the images."""
    write_cryosparc(read_particles(stack / "particles.star"), folder / "all.cs")
    (folder / "images").mkdir()
    (folder / "images" / "particles.mrcs").symlink_to(stack / "particles.mrcs")
    table = np.load(folder / "all.cs")
    table["blob/path"] = b"old/place/particles.mrcs"
    (folder / "all.cs").unlink()
    other = ["uid", *(name for name in table.dtype.names if name.startswith("ctf/"))]
    main = [name for name in table.dtype.names if not name.startswith("ctf/")]
    np.save(folder / "main.npy", repack_fields(table[main]))
    np.save(folder / "passthrough.npy", repack_fields(table[other])[::-1])
    for name in ("main", "passthrough"):
        (folder / f"{name}.npy").rename(folder / f"{name}.cs")
    return {
        "path": "main.cs",
        "passthrough": "passthrough.cs",
        "strip_prefix": "old/place",
        "datadir": "images",
    }


FILES = [cryodrgn_files, star_with_pickles, cryosparc_with_passthrough]


@pytest.fixture(scope="module", params=FILES, ids=lambda make: make.__name__)
def run(request, tiny_stack, tmp_path_factory):
    """A run by the command line on relative paths, with its options; others start elsewhere."""
    folder = tmp_path_factory.mktemp("again")
    given = request.param(folder, tiny_stack)
    path = given.pop("path")
    options = [part for name, v in given.items() for part in ("--" + name.replace("_", "-"), v)]
    np.savetxt(folder / "rows.txt", np.random.default_rng(1).permutation(400)[:300], fmt="%d")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        solvar_command(
            "run", path, *options, "--ind", "rows.txt", "-o", "run", "--rank", 1,
            "--mask", tiny_stack / "mask.mrc",
        )  # fmt: skip
        keyword = {"passthrough": (given.pop("passthrough"),)} if "passthrough" in given else {}
        wanted = read_particles(path, **given, **keyword, ind=folder / "rows.txt")
    return Run(folder / "run"), wanted


def test_the_input_is_read_exactly_as_it_was(run):
    opened, wanted = run
    found = opened.read_input()
    assert_same_particles(found, wanted)
    np.testing.assert_array_equal(found.row, wanted.row)
    assert found.reading == wanted.reading == opened.reading


def test_run_json_holds_absolute_paths_of_all_that_was_read(run):
    opened, wanted = run
    record = json.loads((opened.folder / "run.json").read_text())
    kept = record["particles"]["reading"]
    for name in ("datadir", "poses", "ctf", "working_folder"):
        assert kept[name] is None or Path(kept[name]).is_absolute()
    inputs = {entry["path"]: entry["size"] for entry in record["inputs"]}
    assert wanted.reading.files and all(inputs[str(path)] > 0 for path in wanted.reading.files)


def test_volume_export_and_analyze_need_no_option_again(run, tmp_path):
    opened, wanted = run
    solvar_command("volume", opened.folder, "--points", 2, "-o", tmp_path / "volumes")
    assert len(list(tmp_path.glob("volumes/*_half1.mrc"))) == 2
    solvar_command("export", opened.folder, "--to", "relion", "-o", tmp_path / "out.star")
    in_file_order = wanted.select(np.argsort(wanted.row))
    # names are absolute here
    assert_same_particles(read_particles(tmp_path / "out.star"), in_file_order, uid=False)
    result = solvar_command("analyze", opened.folder)
    assert "were not compared: all particles are in one image file" in " ".join(
        result.stdout.split()
    )
    assert "Defocus" not in result.stdout


def test_evaluate_compares_the_poses_of_the_input(run, tiny_stack):
    opened, _ = run
    told = json.loads(
        solvar_command("evaluate", opened.folder, "--truth", tiny_stack, "--json").stdout
    )
    # the pickle's poses are the true ones, to single precision
    assert told["poses"]["out_of_plane_degree"]["mean"] < 0.01


def test_an_option_given_again_takes_the_place_of_the_recorded_one(tiny_stack, tmp_path):
    given = cryodrgn_files(tmp_path, tiny_stack)
    path = tmp_path / given.pop("path")
    files = {name: tmp_path / value for name, value in given.items()}
    options = [part for name, value in files.items() for part in (f"--{name}", value)]
    folder = tmp_path / "run"
    solvar_command("run", path, *options, "-o", folder, "--rank", 1)
    (tmp_path / "ctf.pkl").rename(tmp_path / "moved.pkl")
    for command in (
        ("volume", folder, "--points", 1, "-o", tmp_path / "volumes"),
        ("export", folder, "--to", "relion", "-o", tmp_path / "out"),
    ):
        refused = CliRunner().invoke(app, [str(part) for part in command])
        assert refused.exit_code == 2 and "ctf.pkl: no such file" in refused.stderr
        solvar_command(*command, "--ctf", tmp_path / "moved.pkl")
    assert Run(folder, {"ctf": tmp_path / "moved.pkl"}).reading == Reading(
        poses=files["poses"], ctf=tmp_path / "moved.pkl"
    )


def test_a_run_that_kept_no_options_still_opens(tiny_stack, tmp_path):
    solvar_command("run", tiny_stack / "particles.star", "-o", tmp_path / "run", "--rank", 1)
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text())
    del record["particles"]["reading"]
    path.write_text(json.dumps(record))
    assert_same_particles(
        Run(tmp_path / "run").read_input(), read_particles(tiny_stack / "particles.star")
    )


def test_a_file_that_holds_other_particles_now_is_refused(tiny_stack, tmp_path):
    (tmp_path / "images").symlink_to(tiny_stack)
    star = tmp_path / "particles.star"
    text = (tiny_stack / "particles.star").read_text()
    star.write_text(text)
    solvar_command(
        "run", star, "--datadir", tmp_path / "images", "-o", tmp_path / "run", "--rank", 1
    )
    head, rows = text.split("000001@", 1)
    first, second, rest = ("000001@" + rows).split("\n", 2)
    star.write_text(head + "\n".join([second, first, rest]))
    refused = CliRunner().invoke(app, ["volume", str(tmp_path / "run")])
    assert refused.exit_code == 2
    assert "particles.star: holds other data since the run was made" in refused.stderr


def without_constants(folder: Path, stack: Path) -> Path:
    """A star file with no optics block."""
    (folder / "particles.mrcs").symlink_to(stack / "particles.mrcs")
    text = (stack / "particles.star").read_text()
    path = folder / "bare.star"
    path.write_text(text[text.index("data_particles") :])
    return path


def cryosparc_without_constants(folder: Path, stack: Path) -> Path:
    (folder / "particles.mrcs").symlink_to(stack / "particles.mrcs")
    write_cryosparc(read_particles(stack / "particles.star"), folder / "all.cs")
    table = np.load(folder / "all.cs")
    lost = ("ctf/accel_kv", "ctf/cs_mm", "ctf/amp_contrast", "blob/psize_A")
    kept = repack_fields(table[[name for name in table.dtype.names if name not in lost]])
    with (folder / "bare.cs").open("wb") as file:
        np.save(file, kept)
    return folder / "bare.cs"


@pytest.mark.parametrize("make", [without_constants, cryosparc_without_constants])
def test_given_constants_are_kept_and_written_where_the_input_has_none(make, tiny_stack, tmp_path):
    optics = read_particles(tiny_stack / "particles.star").optics
    path, run = make(tmp_path, tiny_stack), tmp_path / "run"
    given = {
        "--pixel-size": optics.pixel_size_angstrom[0],
        "--voltage": optics.voltage_kv[0],
        "--cs": optics.spherical_aberration_mm[0],
        "--amplitude-contrast": optics.amplitude_contrast[0],
    }
    refused = CliRunner().invoke(app, ["check", str(path)])
    assert refused.exit_code == 2 and all(option in refused.stderr for option in given)
    options = [part for pair in given.items() for part in pair]
    solvar_command("run", path, *options, "-o", run, "--rank", 1)
    found = Run(run).read_input()
    assert found.optics.voltage_kv[0] == optics.voltage_kv[0]
    assert read_particles(run / "particles.star").optics.voltage_kv[0] == optics.voltage_kv[0]
    solvar_command("volume", run, "--points", 1, "-o", tmp_path / "volumes")
    for kind in ("relion", "cryosparc", "cryodrgn"):
        solvar_command("export", run, "--to", kind, "-o", tmp_path / kind)
