"""Calls of `solvar volume`: each keeps its records, none mixes with another or leaves half a result."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from made_up import distribution
from solvar import FitSettings, fit, read_particles
from solvar.cli.main import app
from solvar.errors import InputError
from solvar.files import Ledger, Writer, owned
from solvar.results.run import Run
from solvar.results.writer import RUN
from solvar.volume_file import read_volume, run_id_of
from solvar.volumes import Targets, VolumeSettings, reconstruct
from solvar.volumes.table import finished_tables
from synthetic import make_fit
from written import written

MODEL = VolumeSettings(method="reproject")  # needs no images


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """40 particles, rank 2, box 16."""
    return written(tmp_path / "run", make_fit(tmp_path, rank=2))


def volume(run: Run, *options: object) -> Path:
    """The folder of one call with the model alone."""
    line = ["volume", str(run.folder), "--method", "reproject", "--json", *map(str, options)]
    done = CliRunner().invoke(app, line)
    if done.exit_code:
        raise InputError(done.stderr)
    return Path(json.loads(done.stdout)["folder"])


def points(path: Path, *latents: float) -> Path:
    path.write_text("z1\n" + "".join(f"{value}\n" for value in latents))
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_call_keeps_its_records(run: Run, tmp_path: Path) -> None:
    csv = points(tmp_path / "odd [1].csv", 1, 2)
    calls = {
        "reproject-component2-001": ["--component", 2, "--points", 3],
        "reproject-clusters-001": ["--clusters", 2],
        "reproject-odd__1_-001": ["--at", csv],
        "reproject-points-001": ["--at", "0.5", "--at", "1"],
        "reproject-points-002": ["--at", "0.5"],
    }
    told = {name: volume(run, *options) for name, options in calls.items()}
    assert {name: path.name for name, path in told.items()} == {name: name for name in calls}
    tables = finished_tables(run)
    assert {name: len(table.volumes) for name, table in tables.items()} == dict(
        zip(sorted(calls), (2, 3, 2, 2, 1), strict=True)
    )
    manifest = Ledger.read(run.folder)
    for name, table in tables.items():
        files = [file for record in table.volumes for file in record.files]
        assert names(run.folder / "volumes" / name) == sorted([*files, "volumes.json"])
        for file in files:
            assert run_id_of(run.folder / "volumes" / name / file) == run.run_id
            assert manifest.problem_of(f"volumes/{name}/{file}") is None


def test_the_same_call_again_is_refused_or_replaces_its_own_result(run: Run) -> None:
    folder, other = volume(run, "--points", 2), volume(run, "--points", 3)
    before, kept = tree(folder), tree(other)
    with pytest.raises(InputError, match=r"001: already holds these volumes.*--overwrite"):
        volume(run, "--points", 2)
    # threads and places on disk make no other volume
    with pytest.raises(InputError, match="already holds these volumes"):
        volume(run, "--points", 2, "--threads", 1, "--scratch", run.folder)
    assert tree(folder) == before
    (folder / "component1_002.mrc").unlink()
    assert volume(run, "--points", 2, "--overwrite") == folder
    assert names(folder) == sorted(before) and tree(other) == kept
    shutil.rmtree(other)  # as a user would who needs it no more
    volume(run, "--at", "0")
    assert not [name for name in Ledger.read(run.folder).files if other.name in name]


def test_new_clusters_never_meet_old_volumes(run: Run, tmp_path: Path) -> None:
    csv = points(tmp_path / "clusters.csv", -2, 0, 2)
    first = volume(run, "--at", csv)
    before = tree(first)
    points(csv, -1, 1)
    second = volume(run, "--at", csv, "--overwrite")  # which is about calls that asked for the same
    assert tree(first) == before
    assert names(second) == ["clusters_001.mrc", "clusters_002.mrc", "volumes.json"]
    assert (first.name, second.name) == ("reproject-clusters-001", "reproject-clusters-002")


@pytest.mark.parametrize("place", ["elsewhere", "run/volumes/mine [1]"])
def test_a_named_folder_holds_one_call(run: Run, tmp_path: Path, place: str) -> None:
    output = tmp_path / place
    assert volume(run, "--points", 3, "-o", output) == output
    (output / "mine.mrc").write_bytes(b"somebody's")
    before = tree(output)
    for again in (["--points", 3], ["--clusters", 2]):
        with pytest.raises(InputError, match=r"already holds volumes.*--overwrite"):
            volume(run, *again, "-o", output)
    assert tree(output) == before
    volume(run, "--clusters", 2, "-o", output, "--overwrite")
    ours = {"cluster_001.mrc", "cluster_002.mrc", "volumes.json"}
    assert set(names(output)) - {"manifest.json"} == {*ours, "mine.mrc"}


@pytest.mark.parametrize("place", [".", "analysis", "volumes", "volumes/a/b", "motion"])
def test_volumes_have_one_place_in_the_run_folder(run: Run, place: str) -> None:
    before = tree(run.folder)
    with pytest.raises(InputError, match=r"lies in the run folder.*volumes/NAME"):
        volume(run, "-o", run.folder / place)
    assert tree(run.folder) == before


@pytest.mark.parametrize("name", ["mean.mrc", "point_001.mrc", "volumes.json"])
def test_files_of_others_are_not_replaced(run: Run, tmp_path: Path, name: str) -> None:
    """Neither somebody's nor another kind of result, with or without --overwrite."""
    output = tmp_path / "out"
    output.mkdir()
    (output / name).write_bytes(b"other")
    if name == "mean.mrc":
        (output / name).unlink()
        with owned(output, "test") as own:
            own.file(RUN, name).write_bytes(b"other")
    targets = Targets(np.zeros((2, 2)), ("point_001", "mean"))
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"did not write it|is a result of another kind"):
            reconstruct(run, targets, output, MODEL, overwrite=overwrite)
    assert set(names(output)) - {"manifest.json"} == {name}
    assert (output / name).read_bytes() == b"other"


@pytest.mark.parametrize("place", [None, "run/volumes/mine", "volumes-elsewhere"])
def test_links_are_refused_and_nothing_is_written_elsewhere(
    run: Run, tmp_path: Path, place: str | None
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "reproject-points-001").mkdir()
    (run.folder / "volumes").symlink_to(elsewhere)
    if place == "volumes-elsewhere":  # the run is reached through a link of its own
        (tmp_path / "link").symlink_to(run.folder)
        place = "link/volumes/mine"
    with pytest.raises(InputError, match="is a link"):
        volume(run, "--at", "0", *([] if place is None else ["-o", tmp_path / place]))
    assert [p.name for p in elsewhere.rglob("*")] == ["reproject-points-001"]


def test_a_failing_call_leaves_nothing_and_keeps_what_was_there(run: Run, monkeypatch) -> None:
    folder = volume(run, "--points", 2)
    before, before_all = tree(folder), tree(run.folder)
    with pytest.raises(InputError):  # the made-up images cannot be read
        volume(run, "--points", 2, "--method", "kernel")
    assert tree(run.folder) == before_all

    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module("solvar.volumes.reconstruct"), "write_json", fail)
    targets = Targets(np.ones((1, 2)), ("one",))
    with pytest.raises(KeyboardInterrupt):
        reconstruct(run, targets, run.folder / "volumes" / "new", MODEL)
    assert tree(folder) == before and names(run.folder / "volumes") == [folder.name]
    with pytest.raises(KeyboardInterrupt):
        reconstruct(run, targets, run.folder.parent / "deep" / "new", MODEL)
    assert not (run.folder.parent / "deep").exists()


KILLED = """
import os, signal, sys
import numpy as np
from solvar.results.run import Run
from solvar.volumes import Targets, VolumeSettings, reconstruct
import solvar.volume_file, solvar.files.ledger

if sys.argv[3] == "half":
    import mrcfile
    new, calls = mrcfile.new, []
    def killed(*a, **k):
        calls.append(1)
        file = new(*a, **k)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return file
    mrcfile.new = killed
else:
    solvar.files.ledger.Ledger.seal = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
targets = Targets(np.eye(2), ("one", "two"))
reconstruct(sys.argv[1], targets, sys.argv[2], VolumeSettings(method="reproject"))
"""


@pytest.mark.parametrize("place", ["run/volumes/mine", "elsewhere"])
@pytest.mark.parametrize("moment", ["half", "end"])
def test_what_a_killed_call_left_is_recognised(run: Run, tmp_path: Path, place, moment) -> None:
    output = tmp_path / place
    line = [sys.executable, "-c", KILLED, str(run.folder), str(output), moment]
    assert subprocess.run(line).returncode == -9
    home = run.folder if place.startswith("run") else output
    if moment == "half":
        assert [p for p in output.iterdir() if ".partial" in p.name]
        assert finished_tables(run) == {}
    with owned(home, "another"):
        pass
    assert not list(home.rglob("*.partial*"))
    # a writer of volumes removes them; at the very end they were whole
    other = output if home == output else run.folder / "volumes" / "other"
    if home == output and moment == "end":
        with pytest.raises(InputError, match="already holds volumes"):
            volume(run, "--at", "0", "-o", other)
    else:
        volume(run, "--at", "0", "-o", other)
    left = {p.name for p in output.iterdir()} - {"manifest.json"} if output.exists() else set()
    point = {"point_001.mrc", "volumes.json"} if other == output else set()
    assert left == ({"one.mrc", "two.mrc", "volumes.json"} if moment == "end" else point)
    manifest = Ledger.read(home)
    assert [name for name in manifest.files if manifest.problem_of(name)] == []


def test_one_writer_at_a_time(run: Run, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from solvar.files import owned\n"
        "with owned(Path(sys.argv[1]), 'solvar analyze'): print('held', flush=True); input()"
    )
    line = [sys.executable, "-c", code, str(run.folder)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        for output in ([], ["-o", run.folder / "volumes" / "mine"]):
            with pytest.raises(InputError, match="being written to by `solvar analyze`"):
                volume(run, "--points", 2, *output)
        volume(run, "--points", 2, "-o", tmp_path / "elsewhere")
        holder.stdin.write(b"\n")
        holder.stdin.close()
    assert not (run.folder / "volumes").exists()


def test_a_run_that_was_replaced_meanwhile_gets_no_volumes(run: Run, tmp_path: Path) -> None:
    written(run.folder, make_fit(tmp_path, rank=2, seed=1))
    with pytest.raises(InputError, match="another run than the one that was opened"):
        reconstruct(run, Targets(np.zeros((1, 2)), ("a",)), run.folder / "volumes" / "a", MODEL)


def test_volumes_of_an_earlier_run_are_not_those_of_the_next(run: Run, tmp_path: Path) -> None:
    first = volume(run, "--points", 2)
    kept = shutil.copytree(first, tmp_path / "kept")
    again = written(run.folder, make_fit(tmp_path, rank=2, seed=1))
    assert not first.exists()  # they went with their run
    shutil.copytree(kept, first)
    assert finished_tables(again) == {}
    assert volume(again, "--points", 2).name != first.name
    assert list(finished_tables(again)) == ["reproject-component1-002"]


def test_a_run_that_may_not_be_written_to_has_volumes_elsewhere(
    run: Run, tmp_path: Path, monkeypatch
) -> None:
    """Also those of a run whose record names a folder for its images."""
    seen = []

    def whiten(run, original, wanted, scratch, *_):
        seen.append(scratch)
        raise InputError("enough")

    monkeypatch.setattr("solvar.volumes.methods.open_source", whiten)
    before = {path: path.stat().st_mtime_ns for path in [run.folder, *run.folder.rglob("*")]}
    for options in ([], ["--scratch", tmp_path / "fast"]):
        line = ["--method", "kernel", "-o", tmp_path / "out", *options]
        with pytest.raises(InputError, match="enough"):
            volume(run, *line)
    assert seen == [tmp_path / "out", tmp_path / "fast"]
    volume(run, "-o", tmp_path / "out")
    assert {p: p.stat().st_mtime_ns for p in [run.folder, *run.folder.rglob("*")]} == before


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\nb", ".a", "é" * 120])
def test_names_that_are_none_for_files_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="no name for the file"):
        Targets(np.zeros((1, 2)), (name,))
    with pytest.raises(InputError, match="different names"):
        Targets(np.zeros((2, 2)), ("a", "a"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "other"),
        ("run_id", 3),
        ("pixel_size_angstrom", -1.0),
        ("pixel_size_angstrom", "2"),
        ("volumes", []),
        ("volumes", {}),
        *((f"volumes.{k}", v) for k, v in {
            "files": ["../../mean.mrc"], "z": [float("nan"), 0], "particles": -1, "fsc": {},
            "resolution_angstrom": "7",
        }.items()),
        ("volumes.files", ["/etc/x.mrc"]),
        ("volumes.files", []),
    ],
)  # fmt: skip
def test_a_table_that_is_damaged_is_no_table(run: Run, key: str, value: object) -> None:
    path = volume(run, "--at", "0") / "volumes.json"
    table = json.loads(path.read_text())
    inner = key.partition(".")[2]
    if inner:
        table["volumes"][0][inner] = value
    else:
        table[key] = value
    assert len(finished_tables(run)) == 1
    path.write_text(json.dumps(table))
    assert finished_tables(run) == {}


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "missing"])
def test_a_table_is_a_plain_file(run: Run, kind: str) -> None:
    path = volume(run, "--at", "0") / "volumes.json"
    moved = path.rename(run.folder / "moved.json")
    {
        "link": lambda: path.symlink_to(moved),
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "missing": lambda: None,
    }[kind]()
    started = time.monotonic()
    assert finished_tables(run) == {}
    assert time.monotonic() - started < 5


def test_a_writer_of_volumes_removes_only_volumes(run: Run) -> None:
    """Whatever a manifest that came with the run says."""
    kept = ["analysis/kept.mrc", "volumes/a/kept.txt", "kept.mrc"]
    with owned(run.folder, "test") as own:
        for path in own.claim(Writer("volumes", ("*.mrc", "*/*", "*/*/*")), kept):
            path.write_bytes(b"x")
        own._written.clear()  # as if it had been killed
    volume(run, "--at", "0")
    assert all((run.folder / name).exists() for name in kept)


def test_a_method_that_a_distribution_adds_makes_the_volumes(tiny_stack, tmp_path, monkeypatch):
    source = """
        from solvar.volumes import Reconstruction

        class Shifted:
            def __init__(self, source, run, settings):
                self.source, self.run = source, run

            def volume(self, target):
                volume = self.run.volume_at(target) + 1
                return Reconstruction(volume, None, len(self.source.images))
    """
    distribution(
        tmp_path, "shifting", source, "[solvar.volume_methods]\nshifted = shifting:Shifted\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = fit(read_particles(tiny_stack / "particles.star"), FitSettings(rank=1), tmp_path / "run")
    targets = Targets(np.zeros((1, 1)), ("middle",))
    settings = VolumeSettings(method="shifted")
    (record,) = reconstruct(run, targets, tmp_path / "volumes", settings)
    made, _ = read_volume(tmp_path / "volumes" / "middle.mrc")
    np.testing.assert_array_equal(made, run.model.mean + np.float32(1))
    assert record["particles"] == 400
