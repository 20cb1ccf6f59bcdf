"""Who owns a folder writes through no link and removes nothing that solvar did not write."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from solvar.errors import InputError
from solvar.files import Ledger, OwnedFolder, Writer, owned
from solvar.files.ledger import FORMAT, FORMAT_VERSION
from solvar.simulation.writing import SIMULATION

RUN = Writer("run", ("run.json", "*.mrc", "figures/*.png"))


def _write(own: OwnedFolder, *names: str) -> None:
    for path in own.claim(RUN, names):
        path.write_text(path.name)


def _say_ours(folder: Path, *names: str, by: str = "run") -> None:
    """A manifest that lists files, whoever wrote them."""
    files = {name: {"by": by, "size": None, "digest": None} for name in names}
    content = {"format": FORMAT, "format_version": FORMAT_VERSION, "files": files}
    (folder / "manifest.json").write_text(json.dumps(content))


def test_what_was_written_is_removed_and_nothing_else(tmp_path: Path) -> None:
    with owned(tmp_path, "test") as own:
        _write(own, "run.json", "mean.mrc", "figures/1.png")
    (tmp_path / "figures" / "mine.txt").write_text("mine")
    (tmp_path / "other.mrc").write_text("mine")
    with owned(tmp_path, "test") as own:
        own.remove(RUN)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert left == {"figures", "figures/mine.txt", "other.mrc"}


def test_a_manifest_that_lists_foreign_files_removes_none(tmp_path: Path) -> None:
    names = ["thesis.txt", "data/mean.mrc", "figures/notes.md", "figures/deep/1.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    (tmp_path / "mean.mrc").write_text("of another command")
    _say_ours(tmp_path, *names)
    with owned(tmp_path, "test") as own:
        own.remove(RUN)
        with pytest.raises(InputError, match="did not write it"):
            own.file(RUN, "mean.mrc")
    assert all((tmp_path / name).read_text() == "mine" for name in names)


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("kind", ["folder", "link", "file"])
def test_nothing_is_written_or_removed_where_a_folder_should_be_or_be_none(
    tmp_path: Path, kind: str, listed: bool
) -> None:
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    for place in (folder, elsewhere):
        place.mkdir()
    (elsewhere / "1.png").write_text("mine")
    if kind == "folder":
        (folder / "mean.mrc").mkdir()
    elif kind == "link":
        (folder / "figures").symlink_to(elsewhere)
    else:
        (folder / "figures").write_text("mine")
    name = "mean.mrc" if kind == "folder" else "figures/1.png"
    if listed:
        _say_ours(folder, "run.json", name)
    (folder / "run.json").write_text("")
    with owned(folder, "test") as own:
        with pytest.raises(InputError):
            own.file(RUN, name)
        if listed:
            with pytest.raises(InputError):
                own.remove(RUN)
            # all or nothing
            assert (folder / "run.json").exists()
    assert (elsewhere / "1.png").read_text() == "mine"
    assert os.path.lexists(folder / (name if kind == "folder" else "figures"))


def test_foreign_files_with_names_of_results_are_refused(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mine.png").write_text("mine")
    with (
        owned(tmp_path, "test") as own,
        pytest.raises(InputError, match=r"mine\.png: has the name"),
    ):
        own.refuse_foreign(RUN)


def test_files_are_known_before_they_are_written_and_unfinished_after_a_failure(
    tmp_path: Path,
) -> None:
    with pytest.raises(ZeroDivisionError), owned(tmp_path, "test") as own:
        _write(own, "mean.mrc")
        own.seal(Writer("run", ("mean.mrc",)))
        path = own.file(RUN, "run.json")
        assert "run.json" in Ledger.read(tmp_path).files and not path.exists()
        raise ZeroDivisionError
    with owned(tmp_path, "test") as own:
        assert own.unfinished(RUN) == ["run.json"]
    ledger = Ledger.read(tmp_path)
    assert ledger.problem_of("mean.mrc") is None
    assert not (tmp_path / ".solvar.lock").exists()


def test_a_folder_that_stays_empty_is_removed_again(tmp_path: Path) -> None:
    with owned(tmp_path / "a" / "b", "test"):
        assert (tmp_path / "a" / "b").is_dir()
    with pytest.raises(ZeroDivisionError), owned(tmp_path / "c", "test"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_what_speaks_of_others_is_removed_first(tmp_path: Path, monkeypatch) -> None:
    """A star file beside the stack of another simulation would give its images wrong poses."""
    names = ["gt.npz", "particles.mrcs", "particles.star", "particles_noisy.star", "settings.json"]
    with owned(tmp_path, "test") as own:
        for path in own.claim(SIMULATION, names):
            path.write_text("")
    removed: list[str] = []
    unlink = Path.unlink

    def note(path: Path, missing_ok: bool = False) -> None:
        removed.append(path.name)
        unlink(path, missing_ok)

    with owned(tmp_path, "test") as own:
        monkeypatch.setattr(Path, "unlink", note)
        own.remove(SIMULATION)
        monkeypatch.undo()
    stack = removed.index("particles.mrcs")
    assert set(removed[:stack]) >= {"particles.star", "particles_noisy.star"}
