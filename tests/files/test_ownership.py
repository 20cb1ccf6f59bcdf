"""A folder that is owned: results of different kinds, killed writers, and folders inside each other."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from solvar.errors import InputError
from solvar.files import Ledger, Writer, inside, owned

FIRST = Writer("first", ("*.txt", "a/*.txt", "a/b/*.txt"))
SECOND = Writer("second", ("*.txt",))
ORPHAN = f".x.{16 * '7'}.partial.txt"


def test_a_result_is_not_replaced_by_one_of_another_kind(tmp_path: Path) -> None:
    with owned(tmp_path, "test") as own:
        own.file(FIRST, "x.txt").write_text("first")
    with owned(tmp_path, "test") as own:
        for write in (
            lambda: own.file(SECOND, "x.txt"),
            lambda: own.refuse_foreign(SECOND),
            lambda: own.refuse_taken(SECOND, ["x.txt"]),
        ):
            with pytest.raises(InputError, match=r"x\.txt: is a result of another kind \(first\)"):
                write()
        with pytest.raises(InputError, match="never replaced"):
            own.unlisted(["x.txt"])
        (tmp_path / "x.txt").unlink()
        own.file(SECOND, "x.txt").write_text("second")  # the place is free
    assert Ledger.read(tmp_path).files["x.txt"].by == "second"


def test_what_a_killed_command_wrote_is_known(tmp_path: Path) -> None:
    with owned(tmp_path, "test") as own:
        own.file(FIRST, "a/whole.txt").write_text("whole")
    with pytest.raises(KeyboardInterrupt), owned(tmp_path, "test") as own:
        for path in own.claim(FIRST, ["a/b/x.txt", "y.txt"]):
            path.write_text("half")
        raise KeyboardInterrupt
    with owned(tmp_path, "test") as own:
        own.file(FIRST, "new.txt").write_text("being written")
        assert sorted(own.unfinished(FIRST)) == ["a/b/x.txt", "y.txt"]
        own.adopt(["y.txt"])
        assert own.unfinished(FIRST) == ["a/b/x.txt"]
    assert Ledger.read(tmp_path).problem_of("y.txt") is None


def test_folders_that_are_empty_then_go_with_the_results_in_them(tmp_path: Path) -> None:
    with owned(tmp_path, "test") as own:
        for path in own.claim(FIRST, ["a/b/x.txt", "y.txt"]):
            path.write_text("x")
        (tmp_path / "other").mkdir()
        own.remove(FIRST)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_temporary_files_of_other_owners_stay(tmp_path: Path) -> None:
    """A folder may lie in one that is owned, too, and its writer may be alive."""
    with owned(tmp_path, "test") as own:
        own.file(FIRST, "a/x.txt").write_text("x")
    places = {name: tmp_path / name / ORPHAN for name in (".", "a", "a/b", "run", "run/volumes")}
    for path in places.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    with owned(tmp_path, "test"):
        pass
    assert [name for name, path in places.items() if path.exists()] == ["a/b", "run", "run/volumes"]


def test_threads_may_share_the_right(tmp_path: Path) -> None:
    with owned(tmp_path, "test") as own:

        def write(number: int) -> None:
            for k in range(20):
                own.file(FIRST, f"a/{number}_{k}.txt").write_text("x")

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    manifest = Ledger.read(tmp_path)
    assert len(manifest.files) == 80
    assert not [name for name in manifest.files if manifest.problem_of(name)]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("run", "."),
        ("run/a/b", "a/b"),
        ("link/a", "a"),
        ("run/out/a", "out/a"),  # through a link that leads out
        ("into/x", "a/x"),
        ("run/../run/a", "a"),
        ("elsewhere", None),
        ("run2/a", None),
    ],
)
def test_a_path_is_inside_a_folder_whatever_links_lead_there(
    tmp_path: Path, path: str, name: str | None
) -> None:
    for folder in ("run/a", "run2", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "link").symlink_to("run")
    (tmp_path / "into").symlink_to("run/a")
    (tmp_path / "run" / "out").symlink_to(tmp_path / "elsewhere")
    assert inside(tmp_path / "run", tmp_path / path) == name
    assert inside(tmp_path / "link", tmp_path / path) == name
    assert inside(tmp_path / "missing", tmp_path / path) is None


def test_what_is_left_of_a_removal_is_known_to_be_unfinished(tmp_path: Path, monkeypatch) -> None:
    with owned(tmp_path, "test") as own:
        for path in own.claim(FIRST, ["a/x.txt", "a/y.txt"]):
            path.write_text("x")

    unlink = Path.unlink

    def killed(self: Path, missing_ok: bool = False) -> None:
        if self.name == "y.txt":
            raise KeyboardInterrupt
        unlink(self, missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt), owned(tmp_path, "test") as own:
            own.remove(FIRST, first="a/x.txt")
    with owned(tmp_path, "test") as own:
        assert sorted(own.unfinished(FIRST)) == ["a/x.txt", "a/y.txt"]
        own.remove(FIRST)
    assert list(tmp_path.iterdir()) == []


def test_no_folder_is_made_that_the_manifest_does_not_lead_to(tmp_path: Path, monkeypatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), owned(tmp_path, "test") as own:
        monkeypatch.setattr(Ledger, "save", killed)
        own.file(FIRST, "a/x.txt")
    assert not (tmp_path / "a").exists()
