"""One writer a folder: whoever comes second is told who was first, and nobody waits for the dead."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from solvar.errors import InputError
from solvar.files import Writer, lock, owned, refuse_locked
from solvar.files.lock import FILE, FolderLock

NOTES = Writer("notes", ("notes.txt",))


@contextmanager
def _process_that_holds(folder: Path) -> Iterator[int]:
    """Another process that owns a folder; it is killed at the end, if it still lives."""
    ready, told = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            with owned(folder, "solvar run"):
                os.write(told, b"x")
                time.sleep(60)
        finally:
            os._exit(1)
    try:
        assert os.read(ready, 1)
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(told)


def _write_lock(folder: Path, age: float = 0.0, **changes: object) -> Path:
    """A lock file such as a dead process leaves, or one on another machine."""
    path = folder / FILE
    path.write_text(json.dumps({**lock._holder("solvar run"), **changes}))
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def _without_kernel_locks(handle: int, kind: int) -> None:
    raise OSError(errno.ENOLCK, "no locks available")


def test_who_comes_second_is_told_who_was_first(tmp_path: Path) -> None:
    with _process_that_holds(tmp_path) as pid:
        named = rf"by `solvar run` \(process {pid} on {platform.node()}, since 20"
        with pytest.raises(InputError, match=named), owned(tmp_path, "solvar analyze"):
            pass
        with pytest.raises(InputError, match=named):
            refuse_locked(tmp_path)
    # it was killed: nothing is waited for
    begun = time.monotonic()
    with owned(tmp_path, "solvar analyze"):
        assert time.monotonic() - begun < 0.5
    assert list(tmp_path.iterdir()) == []


def test_of_many_threads_one_holds_the_folder_at_a_time(tmp_path: Path) -> None:
    inside, most, refused = 0, 0, []
    barrier = threading.Barrier(8)

    def enter() -> None:
        nonlocal inside, most
        barrier.wait()
        for _ in range(5):
            try:
                with owned(tmp_path, "solvar view"):
                    inside += 1
                    most = max(most, inside)
                    time.sleep(0.002)
                    inside -= 1
            except InputError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and refused
    assert all(f"`solvar view` (process {os.getpid()} on" in said for said in refused)


@pytest.mark.parametrize(
    ("age", "is_alive"),
    [(0, True), (290, True), (310, False), (-3600, False), (-290, True)],
    ids=["now", "lately", "long ago", "in an hour", "clocks that differ"],
)
def test_a_lock_of_another_machine_counts_for_five_minutes(
    tmp_path: Path, age: float, is_alive: bool
) -> None:
    path = _write_lock(tmp_path, age, host="node17", boot="another", pid=1)
    if is_alive:
        for enter in (lambda: FolderLock(tmp_path, "solvar run"), lambda: refuse_locked(tmp_path)):
            with pytest.raises(InputError, match=r"process 1 on node17.*again in 5 minutes"):
                enter()
        assert path.exists()
    else:
        refuse_locked(tmp_path)
        FolderLock(tmp_path, "solvar run").release()
        assert not path.exists()


def test_the_holder_touches_its_lock(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(lock, "_BEAT_SECONDS", 0.02)
    with owned(tmp_path, "solvar run"):
        path = tmp_path / FILE
        os.utime(path, (1, 1))
        deadline = time.monotonic() + 5
        while path.stat().st_mtime == 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def _link(place: Path, other: Path) -> None:
    place.symlink_to(other)


def _hard_link(place: Path, other: Path) -> None:
    os.link(other, place)


FOREIGN: dict[str, Callable[[Path, Path], object]] = {
    "link": _link,
    "hard link": _hard_link,
    "dangling link": lambda place, other: place.symlink_to(other.with_name("nowhere")),
    "pipe": lambda place, other: os.mkfifo(place),
    "folder": lambda place, other: place.mkdir(),
    "text": lambda place, other: place.write_text("my list"),
    "other JSON": lambda place, other: place.write_text("[]"),
    "nested JSON": lambda place, other: place.write_text("[" * 4000),
    "large": lambda place, other: place.write_bytes(bytes(1 << 20)),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_lock_is_refused_and_stays(tmp_path: Path, kind: str) -> None:
    folder, other = tmp_path / "run", tmp_path / "thesis.txt"
    folder.mkdir()
    other.write_text("ten years of work")
    FOREIGN[kind](folder / FILE, other)
    before = os.lstat(folder / FILE)
    for enter in (lambda: FolderLock(folder, "solvar run"), lambda: refuse_locked(folder)):
        with pytest.raises(InputError, match="is no lock of solvar"):
            enter()
    assert other.read_text() == "ten years of work" and not (tmp_path / "nowhere").exists()
    after = os.lstat(folder / FILE)
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)


def test_a_lock_that_nobody_has_signed_yet_is_waited_for(tmp_path: Path) -> None:
    # as left by a dead process, and locked by one that is about to sign or only looks
    path = _write_lock(tmp_path, pid=2**22 + 1)
    handle = os.open(path, os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    refuse_locked(tmp_path)
    threading.Timer(0.1, os.close, [handle]).start()
    with owned(tmp_path, "solvar run"):
        pass
    assert not path.exists()


@pytest.mark.parametrize("stale", [False, True])
def test_without_kernel_locks_one_of_several_wins(tmp_path: Path, monkeypatch, stale: bool) -> None:
    monkeypatch.setattr(fcntl, "flock", _without_kernel_locks)
    if stale:
        _write_lock(tmp_path, pid=2**22 + 1)
    held: list[FolderLock] = []
    refused: list[str] = []
    barrier = threading.Barrier(4)

    def enter() -> None:
        barrier.wait()
        try:
            held.append(FolderLock(tmp_path, "solvar run"))
        except InputError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 1 and len(refused) == 3
    assert all(f"(process {os.getpid()} on" in said for said in refused)
    held[0].release()
    assert list(tmp_path.iterdir()) == []


def test_without_kernel_locks_the_process_decides(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(fcntl, "flock", _without_kernel_locks)
    monkeypatch.setattr(lock, "_SETTLING_SECONDS", 0.0)
    _write_lock(tmp_path)
    with pytest.raises(InputError, match=f"process {os.getpid()}"):
        FolderLock(tmp_path, "solvar run")
    # the number is in use again, by a process that began later
    _write_lock(tmp_path, started="1")
    FolderLock(tmp_path, "solvar run").release()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_to_is_named(
    tmp_path: Path, monkeypatch, number: int
) -> None:
    open_file = os.open

    def refuse(path: object, flags: int, *more: int) -> int:
        if flags & os.O_CREAT or (flags & os.O_RDWR and number != errno.ENOSPC):
            raise OSError(number, os.strerror(number), str(path))
        return open_file(path, flags, *more)

    (tmp_path / "run").mkdir()
    monkeypatch.setattr(os, "open", refuse)
    refuse_locked(tmp_path / "run")
    for folder in (tmp_path / "run", tmp_path / "new"):
        named = pytest.raises(InputError, match=f"{folder}: cannot be written to")
        with named, owned(folder, "solvar run"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_folder_that_was_removed_meanwhile_is_not_written_to(tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def lost() -> pytest.RaisesExc[InputError]:
        return pytest.raises(InputError, match="was removed, or taken over")

    with lost(), owned(folder, "solvar run") as first:
        first.file(NOTES, "notes.txt").write_text("first")
        shutil.rmtree(folder)
        with owned(folder, "solvar run") as second:
            second.file(NOTES, "notes.txt").write_text("second")
            with lost():
                first.file(NOTES, "notes.txt")
            with lost():
                first.remove(NOTES)
    assert (folder / "notes.txt").read_text() == "second"
    assert {path.name for path in folder.iterdir()} == {"notes.txt", "manifest.json"}


def test_a_folder_that_another_made_and_removed_is_made_again(tmp_path: Path, monkeypatch) -> None:
    folder, times = tmp_path / "run", 0
    open_lock = lock._open

    def vanish(path: Path, create: bool) -> int:
        nonlocal times
        times += 1
        if times == 1:
            folder.rmdir()
        return open_lock(path, create)

    monkeypatch.setattr(lock, "_open", vanish)
    with owned(folder, "solvar run") as own:
        own.file(NOTES, "notes.txt").write_text("here")
    assert times == 2 and (folder / "notes.txt").exists()
