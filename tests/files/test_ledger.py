"""manifest.json knows what solvar wrote, and is believed no further."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from solvar.errors import InputError
from solvar.files import Ledger
from solvar.files.ledger import FILE, FORMAT, FORMAT_VERSION, Entry


def _manifest(folder: Path, files: object, **changes: object) -> None:
    content = {"format": FORMAT, "format_version": FORMAT_VERSION, "files": files, **changes}
    (folder / FILE).write_text(json.dumps(content))


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "a/../x", ".", "", "a//b", "a/./b", "a\\b", "a\0b", "a/b/c/d/e"],
)
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    _manifest(tmp_path, {name: {"by": "run", "size": None, "digest": None}})
    with pytest.raises(InputError, match="is damaged"):
        Ledger.read(tmp_path)


@pytest.mark.parametrize(
    "entry",
    [
        None, [], "run", {}, {"by": 3}, {"by": "run", "size": 1, "digest": None},
        {"by": "run", "size": True, "digest": "00"}, {"by": "run", "size": 1.5, "digest": "00"},
        {"by": None, "size": None, "digest": None},
    ],
)  # fmt: skip
def test_an_entry_that_is_none_is_refused(tmp_path: Path, entry: object) -> None:
    _manifest(tmp_path, {"mean.mrc": entry})
    with pytest.raises(InputError, match=r"column mean\.mrc: is damaged"):
        Ledger.read(tmp_path)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "another format": lambda path: _manifest(path.parent, {}, format="other"),
    "a later version": lambda path: _manifest(path.parent, {}, format_version=99),
    "no list": lambda path: _manifest(path.parent, []),
    "a list": lambda path: path.write_text("[]"),
    "no JSON": lambda path: path.write_text("{"),
    "no number": lambda path: path.write_text('{"format": NaN}'),
    "deep": lambda path: path.write_text("[" * 100_000),
    "no text": lambda path: path.write_bytes(b"\xff\xfe"),
    "a pipe": lambda path: os.mkfifo(path),
    "a folder": lambda path: path.mkdir(),
    "a link": lambda path: path.symlink_to(path.with_name("other.json")),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "other.json").write_text(json.dumps({"format": FORMAT}))
    DAMAGE[kind](tmp_path / FILE)
    with pytest.raises(InputError, match=FILE):
        Ledger.read(tmp_path)


def test_what_has_become_of_a_file_is_told(tmp_path: Path) -> None:
    names = ["same", "other", "longer", "gone", "linked", "half"]
    ledger = Ledger(tmp_path, {name: Entry("run") for name in names})
    for name in names:
        (tmp_path / name).write_text("content")
    ledger.seal(names[:-1])
    (tmp_path / "other").write_text("CONTENT")
    (tmp_path / "longer").write_text("content and more")
    (tmp_path / "gone").unlink()
    (tmp_path / "linked").rename(tmp_path / "moved")
    (tmp_path / "linked").symlink_to("moved")
    again = Ledger.read(tmp_path)
    assert {name: again.problem_of(name) for name in names} == {
        "same": None,
        "other": "holds other bytes",
        "longer": "has 16 bytes instead of 7",
        "gone": "is missing",
        "linked": "is no file any more",
        "half": "was not finished by the command that wrote it",
    }


def test_files_that_were_not_written_are_forgotten_and_an_empty_manifest_goes(
    tmp_path: Path,
) -> None:
    ledger = Ledger(tmp_path, {"never": Entry("run"), "written": Entry("run")})
    (tmp_path / "written").write_text("content")
    ledger.seal(["never", "written"])
    assert list(Ledger.read(tmp_path).files) == ["written"]
    (tmp_path / "written").unlink()
    ledger.seal(["written"])
    assert not (tmp_path / FILE).exists() and Ledger.read(tmp_path).files == {}
