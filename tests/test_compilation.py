"""Compiled code is kept where nobody else can have put it, and a bad place costs a compilation alone."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from solvar.compilation import kept_in

LOOP = """
from solvar.compilation import compiled

@compiled()
def double(values):
    for i in range(len(values)):
        values[i] *= {factor}
"""


def load(folder: Path, factor: float = 2.0):
    """A module with one compiled loop, as a new process would see it."""
    path = folder / "loops.py"
    path.write_text(LOOP.format(factor=factor))
    specification = importlib.util.spec_from_file_location("loops", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.double


def doubled(loop) -> list[float]:
    import numpy as np

    values = np.arange(3.0)
    loop(values)
    return values.tolist()


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A source file beside which nothing can be written; its user has no place of their own either."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/dev/null/x")
    return Path("/dev/null/package/loops.py")


def test_places_are_taken_in_order_and_only_if_they_can_be_written(nowhere, tmp_path, monkeypatch):
    assert kept_in(nowhere) is None
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    own = kept_in(nowhere)
    assert own is not None and own.parent == tmp_path / "home" / ".cache" / "solvar"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "chosen"))
    assert kept_in(nowhere).parent == tmp_path / "chosen"
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/dev/null/y")
    assert kept_in(nowhere) == own
    assert kept_in(tmp_path / "loops.py") == tmp_path / "__pycache__"


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_folder_that_others_can_prepare_is_not_used(nowhere, tmp_path, monkeypatch, mode):
    monkeypatch.setenv("HOME", str(tmp_path))
    own = kept_in(nowhere)
    own.chmod(mode)
    assert kept_in(nowhere) is None
    own.chmod(0o700)
    own.parent.chmod(mode)  # who may rename the folder; a sticky one keeps others from it
    assert kept_in(nowhere) == (own if mode == 0o1777 else None)


def test_no_folder_of_the_working_folder_is_taken_for_the_users_own(nowhere, tmp_path, monkeypatch):
    """What `~` becomes without HOME and without an entry for the user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert kept_in(nowhere) is None
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert kept_in(nowhere) is None and not list(tmp_path.iterdir())


def test_code_is_kept_until_its_source_changes(tmp_path):
    first, second = load(tmp_path), load(tmp_path)
    assert doubled(first) == doubled(second) == [0, 2, 4]
    assert not first.stats.cache_hits and second.stats.cache_hits
    assert doubled(load(tmp_path, 3.0)) == [0, 3, 6]


@pytest.mark.parametrize("content", [b"", b"garbage", b"cos\nsystem\n"])
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_a_damaged_file_costs_a_compilation(tmp_path, content, suffix):
    doubled(load(tmp_path))
    (kept,) = (tmp_path / "__pycache__").glob(f"*.{suffix}")
    kept.write_bytes(content)
    assert doubled(load(tmp_path)) == [0, 2, 4]


def test_a_full_disk_costs_a_compilation_and_never_leaves_older_code(tmp_path, monkeypatch):
    doubled(load(tmp_path))

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr("numba.core.caching.IndexDataCacheFile._save_data", full)
        assert doubled(load(tmp_path, 3.0)) == [0, 3, 6]
    assert doubled(load(tmp_path, 3.0)) == [0, 3, 6]
