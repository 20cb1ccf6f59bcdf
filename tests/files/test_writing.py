"""What is written is whole or absent, and goes through no link."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from solvar.files import open_log, remove_orphans, replacing, writing


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A file elsewhere, to which links may lead."""
    path = tmp_path / "elsewhere" / "thesis.txt"
    path.parent.mkdir()
    path.write_text("ten years of work")
    return path


def test_temporary_names_cannot_be_foreseen(tmp_path: Path) -> None:
    names = set()
    for _ in range(20):
        with replacing(tmp_path / "map.mrc") as temporary:
            names.add(temporary.name)
            assert temporary.parent == tmp_path and temporary.suffix == ".mrc"
            assert temporary.name not in {"map.mrc", str(os.getpid())}
    assert len(names) == 20 and all(writing._TEMPORARY.fullmatch(name) for name in names)


@pytest.mark.parametrize("dangling", [False, True])
def test_a_planted_temporary_name_is_never_followed(
    tmp_path: Path, precious: Path, monkeypatch, dangling: bool
) -> None:
    monkeypatch.setattr(writing.secrets, "token_hex", lambda count: "0" * 2 * count)
    target = precious.with_name("new") if dangling else precious
    planted = tmp_path / ".map.0000000000000000.partial.mrc"
    planted.symlink_to(target)
    with pytest.raises(FileExistsError), replacing(tmp_path / "map.mrc") as temporary:
        temporary.write_text("overwritten")
    assert precious.read_text() == "ten years of work" and os.readlink(planted) == str(target)
    assert not (tmp_path / "map.mrc").exists() and not precious.with_name("new").exists()


def test_a_link_in_place_of_the_file_is_replaced(tmp_path: Path, precious: Path) -> None:
    path = tmp_path / "map.mrc"
    path.symlink_to(precious)
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new" and not path.is_symlink()
    assert precious.read_text() == "ten years of work"


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "map.mrc"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise ZeroDivisionError
    assert [each.name for each in tmp_path.iterdir()] == ["map.mrc"] and path.read_text() == "old"


def test_orphans_go_where_the_manifest_says_and_nothing_else_does(
    tmp_path: Path, precious: Path
) -> None:
    name = ".map.0123456789abcdef.partial.mrc"
    mine, others = tmp_path / "run" / "figures", tmp_path / "run" / "data"
    for folder in (mine, others):
        folder.mkdir(parents=True)
        (folder / name).write_text("")
    kept = [mine / "map.partial", mine / ".map.partial.mrc", mine / ".map.0123.partial"]
    for path in kept:
        path.write_text("")
    (mine / f"{name}s").symlink_to(precious)
    (tmp_path / "run" / "linked").symlink_to(precious.parent)
    (precious.parent / name).write_text("")
    remove_orphans(tmp_path / "run", ["figures", "linked", "gone"])
    assert not (mine / name).exists()
    for path in (*kept, others / name, precious.parent / name, mine / f"{name}s"):
        assert os.path.lexists(path)


@pytest.mark.parametrize("kind", ["link", "hard link", "dangling link", "pipe", "folder"])
def test_a_log_is_appended_to_a_plain_file_alone(tmp_path: Path, precious: Path, kind: str) -> None:
    path = tmp_path / "run.log"
    {
        "link": lambda: path.symlink_to(precious),
        "hard link": lambda: os.link(precious, path),
        "dangling link": lambda: path.symlink_to(precious.with_name("new")),
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
    }[kind]()
    with pytest.raises(OSError, match=r"not a file|another name|symbolic|directory|device"):
        open_log(path)
    assert precious.read_text() == "ten years of work" and not precious.with_name("new").exists()


def test_a_log_goes_on_where_it_ended(tmp_path: Path) -> None:
    for line in ("first\n", "second\n"):
        with open_log(tmp_path / "run.log") as stream:
            stream.write(line)
    assert (tmp_path / "run.log").read_text() == "first\nsecond\n"
