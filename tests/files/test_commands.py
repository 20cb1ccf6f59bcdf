"""Every command in a folder that somebody else has prepared: it is refused, or writes inside alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from solvar.cli import evaluate
from solvar.cli.main import app
from solvar.errors import InputError
from solvar.files import Ledger
from solvar.fitting.settings import FitSettings
from solvar.progress import SilentProgress
from solvar.report import draw_figures
from solvar.results.checkpoint import Checkpoint
from solvar.results.log import logged
from solvar.results.provenance import record
from solvar.results.run import Run
from solvar.results.writer import LOG, run_folder
from synthetic import make_fit
from written import written, written_report


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with two finished runs of the same shape: ``run`` and ``other``."""
    folder = tmp_path_factory.mktemp("finished")
    for name, seed in (("run", 0), ("other", 1)):
        written(folder / name, make_fit(folder, rank=2, seed=seed))
    _call("analyze", folder / "run", "--clusters", 2)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A run of one's own, with an analysis."""
    return Path(shutil.copytree(finished / "run", tmp_path / "run"))


def _call(*words: object) -> None:
    """Run a command; InputError if it ends with 2, and nothing but 0 or 2 is right."""
    done = CliRunner().invoke(app, [*map(str, words)])
    assert done.exit_code in (0, 2), done.output
    if done.exit_code:
        said = done.stderr.strip().splitlines()[-1]
        assert said.startswith("solvar: ") and "Unexpected" not in said
        raise InputError(said)


def _overwrite(run: Path) -> None:
    written(run, make_fit(run.parent, rank=2, seed=2))


def _begin_again(run: Path) -> None:
    fit = make_fit(run.parent, rank=2)
    with run_folder(run, overwrite=True) as own:
        checkpoint = Checkpoint(run, own)
        checkpoint.begin(fit.settings, record(fit.particles, fit.settings), resume=False)
        checkpoint.save("mean", {"mean": fit.model.mean})


def _log(run: Path) -> None:
    with (
        run_folder(run, overwrite=True) as own,
        logged(own.file(LOG, "run.log"), SilentProgress()) as told,
    ):
        told.message("begun")


def _draw(run: Path) -> None:
    with run_folder(run, overwrite=True) as own:
        draw_figures(Run(run), own)


def _simulate(folder: Path) -> None:
    _call("simulate", "-o", folder, "-n", 8, "--box-size", 16, "--pixel-size", 9, "--overwrite")


WRITERS: dict[str, Callable[[Path], object]] = {
    "run": _overwrite,
    "checkpoint": _begin_again,
    "log": _log,
    "figures": _draw,
    "report": lambda run: written_report(Run(run)),
    "analyze": lambda run: _call("analyze", run, "--clusters", 3),
    "volume": lambda run: _call(
        "volume", run, "--method", "reproject", "--points", 2, "--overwrite"
    ),
    "export": lambda run: _call(
        "export", run, "--to", "chimerax", "-o", run / "volumes" / "movie", "--overwrite"
    ),
    "evaluate": lambda run: evaluate._write({}, run),
    "simulate": _simulate,
}
# places in a folder, what may stand below them, and who might write or remove there
PLACES: dict[str, tuple[tuple[str, ...], str]] = {
    "analysis": (("analysis.json", "particles.h5", "clusters.csv"), "analyze run report"),
    "figures": (("1_eigenvalues.png", "4_latents.png"), "figures run"),
    "volumes": (("reproject-component1-001/volumes.json", "movie/morph.cxc"), "volume export run"),
    "volumes/movie": (("morph.cxc", "mean.mrc"), "export"),
    "checkpoint": (("job.json", "mean.npz"), "checkpoint run"),
    "run.log": ((), "log"),
    "report.html": ((), "report run"),
    "run.json": ((), "run analyze"),
    "mean.mrc": ((), "run export"),
    "metrics.json": ((), "evaluate"),
    "manifest.json": ((), "run analyze volume evaluate"),
    ".solvar.lock": ((), "run analyze volume export evaluate"),
    "vols": (("000.mrc",), "simulate"),
    "particles.star": ((), "simulate run"),
}
_LISTED_BY = {
    "analysis": "analysis", "figures": "figures", "volumes": "volumes", "checkpoint": "checkpoint",
    "run.log": "log", "report.html": "report", "metrics.json": "evaluation", "vols": "simulation",
}  # fmt: skip


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _list_in_manifest(run: Path, names: list[str], by: str) -> None:
    path = run / "manifest.json"
    content = json.loads(path.read_text())
    content["files"] |= {name: {"by": by, "size": None, "digest": None} for name in names}
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_nothing_outside_is_changed_through_a_link(
    run: Path, tmp_path: Path, place: str, listed: bool
) -> None:
    names, writers = PLACES[place]
    outside, kept = tmp_path / "outside", tmp_path / "kept"
    for name in names or ("file",):
        (outside / name).parent.mkdir(parents=True, exist_ok=True)
        (outside / name).write_text("ten years of work")
    if listed:
        by = _LISTED_BY.get(place.partition("/")[0], "run")
        _list_in_manifest(run, [f"{place}/{name}" for name in names] or [place], by)
    shutil.rmtree(run / place, ignore_errors=True)
    (run / place).unlink(missing_ok=True)
    (run / place).parent.mkdir(exist_ok=True)
    (run / place).symlink_to(outside if names else outside / "file")
    shutil.copytree(run, kept, symlinks=True)
    before = _tree(outside)
    for name in writers.split():
        shutil.rmtree(run)
        shutil.copytree(kept, run, symlinks=True)
        with suppress(InputError):
            WRITERS[name](run)
        assert _tree(outside) == before


def test_links_under_names_that_could_be_foreseen_lead_nowhere(run: Path, tmp_path: Path) -> None:
    precious = tmp_path / "thesis.txt"
    precious.write_text("ten years of work")
    for path in [each for each in run.rglob("*") if each.is_file()]:
        for who in (os.getpid(), os.getppid(), 0):
            path.with_name(f".{path.stem}.{who}.partial{path.suffix}").symlink_to(precious)
    for name in ("run", "checkpoint", "log", "report", "analyze", "volume", "evaluate"):
        WRITERS[name](run)
    assert precious.read_text() == "ten years of work"


@pytest.mark.parametrize(("command", "by"), {
    "run": "run", "checkpoint": "checkpoint", "analyze": "analysis", "volume": "volumes",
    "evaluate": "evaluation", "simulate": "simulation",
}.items())  # fmt: skip
def test_a_made_up_manifest_removes_no_foreign_file(
    run: Path, tmp_path: Path, command: str, by: str
) -> None:
    folder = run
    if command == "simulate":
        folder = tmp_path / "set"
        _simulate(folder)
    names = ["thesis.txt", "notes.md", "data/mean.mrc", "analysis/mine.txt", "volumes/a/b/c.mrc"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    _list_in_manifest(folder, names, by)
    WRITERS[command](folder)
    assert all((folder / name).read_text() == "mine" for name in names)
    (run.parent / "thesis.txt").write_text("mine")
    for name in ("../thesis.txt", str(run.parent / "thesis.txt"), "a/../../thesis.txt"):
        kept = (folder / "manifest.json").read_text()
        _list_in_manifest(folder, [name], by)
        before = _tree(folder)
        with pytest.raises(InputError, match=r"manifest\.json, column .*: is damaged"):
            WRITERS[command](folder)
        assert _tree(folder) == before
        (folder / "manifest.json").write_text(kept)
    assert (run.parent / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("options", [[], ["--overwrite"], ["--resume"]])
def test_somebodys_checkpoint_folder_stays(
    tiny_stack: Path, tmp_path: Path, options: list[str]
) -> None:
    for name in ("weights.npz", "job.json", "sub/epoch_10.pt"):
        (tmp_path / "checkpoint" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "checkpoint" / name).write_text("a week on a GPU")
    before = _tree(tmp_path)
    with pytest.raises(InputError, match=r"solvar did not write it|interrupted"):
        _call("run", tiny_stack / "particles.star", "-o", tmp_path, "--rank", 1, *options)
    assert _tree(tmp_path) == before


@pytest.mark.parametrize("name", ["model.h5", "particles.h5"])
@pytest.mark.parametrize("command", ["analyze", "volume", "export", "figures"])
def test_files_of_another_run_of_the_same_shape_are_refused(
    finished: Path, run: Path, name: str, command: str
) -> None:
    shutil.copy(finished / "other" / name, run / name)
    if command == "export" and name == "particles.h5":
        return  # maps have nothing to do with it
    before = _tree(run)
    if command == "figures":
        said: list[str] = []
        with run_folder(run, overwrite=True) as own:
            progress = SilentProgress()
            progress.message = said.append  # type: ignore[method-assign]
            draw_figures(Run(run), own, progress)
        assert any("belongs to another run" in each for each in said)
        return
    with pytest.raises(InputError, match="belongs to another run"):
        WRITERS[command](run)
    changed = {name for name, content in _tree(run).items() if before.get(name) != content}
    assert not changed


def test_what_was_made_of_a_run_goes_when_it_is_replaced(run: Path) -> None:
    WRITERS["volume"](run)
    (run / "analysis" / "mine.txt").write_text("mine")
    _overwrite(run)
    names = set(Ledger.read(run).files)
    assert not any(name.startswith(("analysis/", "volumes/")) for name in names)
    assert not (run / "volumes").exists()
    assert [path.name for path in (run / "analysis").iterdir()] == ["mine.txt"]


def test_a_resumed_finished_run_knows_all_its_files(tiny_stack: Path, tmp_path: Path) -> None:
    """As after a kill between run.json and the end of the report."""
    line = ["run", tiny_stack / "particles.star", "-o", tmp_path / "run", "--rank", 1]
    _call(*line)
    path = tmp_path / "run" / "manifest.json"
    content = json.loads(path.read_text())
    for entry in content["files"].values():
        entry.update(size=None, digest=None)
    path.write_text(json.dumps(content))
    _call(*line, "--resume")
    ledger = Ledger.read(tmp_path / "run")
    assert {ledger.problem_of(name) for name in ledger.files} == {None}
    # an attempt that is refused is noted in the log, and nothing else changes
    with pytest.raises(InputError, match="--seed was 0, now it is 1"):
        _call(*line, "--resume", "--seed", 1)
    ledger = Ledger.read(tmp_path / "run")
    assert {ledger.problem_of(name) for name in ledger.files} == {None}


@pytest.mark.slow
def test_of_two_runs_in_one_folder_one_is_refused(tiny_stack: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    line = [sys.executable, "-m", "solvar", "run", str(tiny_stack / "particles.star")]
    line += ["-o", str(folder), "--threads", "1", "--rank"]
    first = subprocess.Popen([*line, "2"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (folder / "run.log").exists():
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    second = subprocess.run([*line, "3", "--overwrite"], capture_output=True, text=True, timeout=60)
    assert second.returncode == 2
    assert f"is being written to by `solvar run` (process {first.pid} on" in second.stderr
    _, said = first.communicate(timeout=120)
    assert first.returncode == 0, said
    record = json.loads((folder / "run.json").read_text())
    assert record["settings"]["rank"] == record["result"]["rank"] == 2
    assert Run(folder).posterior.z.shape == (400, 2)
    assert Run(folder).settings == FitSettings(rank=2, threads=1)
