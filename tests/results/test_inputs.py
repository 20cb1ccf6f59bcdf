"""Inputs that changed are refused by name: when a run goes on, and when a later command reads them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from solvar.errors import InputError
from solvar.fitting.settings import FitSettings
from solvar.job import run_job
from solvar.particles import read_particles
from solvar.results import checkpoint
from solvar.results.inputs import change_of, describe_file, describe_files, refuse_changed
from solvar.results.run import Run

SETTINGS = FitSettings(rank=1, resolution=40.0)


class _Cut(Exception):
    """The lights go out."""


@pytest.fixture(scope="module")
def finished(tiny_stack: Path, tmp_path_factory) -> Path:
    """A run beside its particles."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(tiny_stack, folder / "data")
    run_job(read_particles(folder / "data" / "particles.star"), SETTINGS, folder / "run")
    return folder


def _replace_middle(path: Path) -> None:
    """Noise in place of the middle half of a file, which keeps its size and its time."""
    size, times = path.stat().st_size, path.stat()
    with path.open("r+b") as file:
        file.seek(size // 4)
        file.write(np.random.default_rng(0).bytes(size // 2))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_stack_that_changed_between_kill_and_resume_is_refused(
    tiny_stack: Path, tmp_path: Path, monkeypatch
) -> None:
    shutil.copytree(tiny_stack, tmp_path / "data")
    star, stack = tmp_path / "data" / "particles.star", tmp_path / "data" / "particles.mrcs"
    write = checkpoint.write_tree

    def cut(*content: object) -> None:
        write(*content)
        raise _Cut

    with monkeypatch.context() as patched, pytest.raises(_Cut):
        patched.setattr(checkpoint, "write_tree", cut)
        run_job(read_particles(star), SETTINGS, tmp_path / "run")
    _replace_middle(stack)
    with pytest.raises(InputError, match=r"particles\.mrcs has changed \(holds other data\)"):
        run_job(read_particles(star), SETTINGS, tmp_path / "run", resume=True)


def test_other_rows_of_the_same_files_are_another_job(
    tiny_stack: Path, tmp_path: Path, monkeypatch
) -> None:
    star, write = tiny_stack / "particles.star", checkpoint.write_tree

    def cut(*content: object) -> None:
        write(*content)
        raise _Cut

    with monkeypatch.context() as patched, pytest.raises(_Cut):
        patched.setattr(checkpoint, "write_tree", cut)
        run_job(read_particles(star, ind=np.arange(300)), SETTINGS, tmp_path / "run")
    with pytest.raises(InputError, match="other particles were selected"):
        run_job(
            read_particles(star, ind=np.arange(100, 400)), SETTINGS, tmp_path / "run", resume=True
        )


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("name", ["particles.star", "particles.mrcs"])
def test_a_later_command_refuses_an_input_that_changed(
    finished: Path, tmp_path: Path, name: str, pixels: bool
) -> None:
    shutil.copytree(finished / "data", tmp_path / "data")
    run = Run(finished / "run")
    run.record["particles"]["source"] = str(tmp_path / "data" / "particles.star")
    assert len(run.read_input(pixels=pixels)) == 400, "a copy is as good"
    path = tmp_path / "data" / name
    content = bytearray(path.read_bytes())
    if name == "particles.star":
        content = content.replace(b"mic00001.mrc", b"mic00009.mrc", 1)
    else:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: holds other data since the run was made"):
        run.read_input(pixels=pixels)


def test_a_long_file_is_told_by_blocks_and_by_its_time(tmp_path: Path) -> None:
    path, budget = tmp_path / "stack.mrcs", 1 << 20
    path.write_bytes(np.random.default_rng(0).bytes(6 << 20))
    before = describe_file(path, budget)
    assert change_of(before) is None and not before.is_whole
    copy = Path(shutil.copy2(path, tmp_path / "copy.mrcs"))
    assert change_of(before, copy) is None
    os.utime(copy, ns=(0, before.modified_ns + 10**10))
    assert change_of(before, copy) == "was written to"
    for place in (0, len(path.read_bytes()) - 1):
        changed = bytearray(path.read_bytes())
        changed[place] ^= 1
        copy.write_bytes(changed)
        assert change_of(before, copy) == "holds other data"
    copy.write_bytes(path.read_bytes()[:-1])
    assert change_of(before, copy) == f"has {(6 << 20) - 1} bytes and had {6 << 20}"
    copy.unlink()
    with pytest.raises(InputError, match=r"copy\.mrcs: is gone since the run was made"):
        refuse_changed([before], [copy])


def test_many_files_share_what_is_read_of_them(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("solvar.results.inputs._ALTOGETHER", 1 << 20)
    paths = [tmp_path / f"{number}.mrcs" for number in range(4)]
    for path in paths:
        path.write_bytes(bytes(1 << 20))
    assert {each.sampled for each in describe_files([*paths, paths[0]])} == {1 << 18}
