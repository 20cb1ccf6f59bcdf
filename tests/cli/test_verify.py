"""`solvar verify` names every file that is not what it was, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
from typer.testing import CliRunner

from solvar.cli.main import app
from synthetic import make_fit
from written import written


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    written(folder / "run", make_fit(folder, rank=2))
    written(folder / "other", make_fit(folder, rank=2, seed=1))
    return folder


def _problems(run: Path) -> list[str]:
    done = CliRunner().invoke(app, ["verify", str(run), "--json"])
    found = json.loads(done.stdout)["problems"]
    assert done.exit_code == (2 if found else 0)
    return [f"{Path(each['path']).name} {each['problem']}" for each in found]


def test_a_run_as_it_was_written_passes(finished: Path) -> None:
    assert _problems(finished / "run") == []


def _take_other_model(run: Path) -> None:
    """The model of another run, with a manifest that knows it."""
    shutil.copy(run.parent / "other" / "model.h5", run / "model.h5")
    _note_again(run, "model.h5")


def _note_again(run: Path, name: str) -> None:
    from solvar.files import Ledger

    ledger = Ledger.read(run)
    ledger.seal([name])


def _change_latent(run: Path) -> None:
    with h5py.File(run / "particles.h5", "r+") as file:
        file["z"][0, 0] += 1


def _link_mask(run: Path) -> None:
    (run / "mask.mrc").rename(run / "moved.mrc")
    (run / "mask.mrc").symlink_to("moved.mrc")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_take_other_model, "model.h5 belongs to another run"),
        (_change_latent, "particles.h5 holds other bytes"),
        (_link_mask, "mask.mrc is no file any more"),
        (lambda run: (run / "mean.mrc").unlink(), "mean.mrc is missing"),
        (lambda run: os.truncate(run / "mean.mrc", 1024), "mean.mrc has 1024 bytes instead of"),
        (lambda run: (run.parent / "input.cs").write_bytes(b"xxxxx"), "input.cs holds other data"),
        (lambda run: (run.parent / "input.cs").unlink(), "input.cs is gone"),
    ],
)
def test_each_change_is_named(
    finished: Path, tmp_path: Path, change: Callable[[Path], object], problem: str
) -> None:
    kept = (finished / "input.cs").read_bytes()
    run = finished / "changed"
    shutil.copytree(finished / "run", run)
    try:
        change(run)
        found = _problems(run)
        assert len(found) == 1 and found[0].startswith(problem)
    finally:
        shutil.rmtree(run)
        (finished / "input.cs").write_bytes(kept)


def test_a_run_without_a_manifest_cannot_be_verified(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "run", tmp_path / "run")
    (tmp_path / "run" / "manifest.json").unlink()
    done = CliRunner().invoke(app, ["verify", str(tmp_path / "run")])
    assert done.exit_code == 2 and "has no manifest" in done.stderr
