"""`solvar export` at the keyboard: files, JSON, sentences."""

import json

import pytest
import starfile
from typer.testing import CliRunner

from export.runs import run_on, write_clusters
from solvar.cli.export import app


@pytest.fixture
def run(tmp_path):
    return run_on("relion31", tmp_path, refined=True)[0]


def export(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_cluster_with_refined_poses_and_latents(run, tmp_path):
    write_clusters(run, [3, 1, 1, 3, 2, 2])
    out = tmp_path / "new" / "cluster.star"
    arguments = ("--cluster", 1, "--cluster", 2, "--refined-poses", "--latents")
    result = export(run.folder, "--to", "relion", "-o", out, *arguments)
    assert result.exit_code == 0, result.output
    assert str(out) in result.stdout
    table = starfile.read(out)["particles"]
    assert table["rlnImageName"].str[:6].astype(int).tolist() == [2, 3, 5, 6]
    assert "solvarZ3" in table.columns


def test_json_lists_the_files_and_what_they_hold(run, tmp_path):
    (tmp_path / "ind.txt").write_text("0\n4\n")
    chosen = ("--ind", tmp_path / "ind.txt", "--json")
    result = export(run.folder, "--to", "cryodrgn", "-o", tmp_path / "out", *chosen)
    told = json.loads(result.stdout)
    names = [str(tmp_path / "out" / f"{name}.pkl") for name in ("ind", "ctf", "poses")]
    assert told == {"target": "cryodrgn", "files": names, "particles": 2, "poses": "refined"}
    result = export(run.folder, "--to", "chimerax", "-o", tmp_path / "maps", "--json")
    told = json.loads(result.stdout)
    assert len(told["files"]) == 6 and told["particles"] is told["poses"] is None


@pytest.mark.parametrize(
    ("to", "option", "line"),
    [
        ("relion", "--refined-poses", "Wrote out[/particles.star: 6 particles with refined poses"),
        ("relion", "--input-poses", "Wrote out[/particles.star: 6 particles with input poses"),
        ("cryodrgn", "--input-poses", "6 particles with input poses"),
        ("chimerax", None, "Wrote out[/morph.cxc"),
    ],
)
def test_the_last_line_says_how_many_particles_were_written(
    run, tmp_path, monkeypatch, to, option, line
):
    monkeypatch.chdir(tmp_path)
    options = [] if option is None else [option]
    result = export(run.folder, "--to", to, "-o", "out[", *options)
    assert result.stdout.splitlines()[-1] == line


def test_list_and_its_complement(run, tmp_path):
    (tmp_path / "ind.txt").write_text("0\n4\n")
    arguments = ("--ind", tmp_path / "ind.txt", "--not")
    export(run.folder, "--to", "relion", "-o", tmp_path / "out", *arguments)
    names = starfile.read(tmp_path / "out" / "particles.star")["particles"]["rlnImageName"]
    assert names.str[:6].astype(int).tolist() == [2, 3, 4, 6]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--to", "imod"), "choose from relion"),
        (("--to", "relion", "--cluster", 1), "solvar analyze"),
        (("--to", "relion", "--components", "1;2"), "write them as 1,2"),
        (("--to", "relion", "--particles", "nowhere.star"), "nowhere.star"),
        (("--to", "relion", "--ind", "nowhere.txt"), "nowhere.txt"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(run, tmp_path, arguments, word):
    result = export(run.folder, "-o", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    sentence = result.stderr.strip()
    assert sentence.startswith("solvar: ") and "\n" not in sentence and word in sentence
    assert not (tmp_path / "out").exists()
