"""One writer a folder: a lock that dies with who holds it.

The kernel's lock on `.solvar.lock` decides between processes of one machine, and is gone when its holder is,
however it ended. Some file systems do not carry such locks to other machines, or have none. So the
file also says who holds it (host, boot, process, start), and the holder touches it every half minute: a lock
of another machine that was not touched for five minutes is stale.

Where there are no locks, who finds nobody alive puts a file of its own in place of the one that is there,
waits longer than others need between finding nobody and doing the same, and holds the lock if its file is the
one that stayed (Fischer's algorithm).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import secrets
import stat
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from solvar.errors import InputError

FILE = ".solvar.lock"
_BEAT_SECONDS = 30.0
_STALE_SECONDS = 300.0
_LARGEST = 4096
# so long a lock may be held by one who has not yet said so: by its name who is refused is told of it
_PATIENCE_SECONDS = 1.0
_PAUSE_SECONDS = 0.01
_SETTLING_SECONDS = 0.5


class FolderLock:
    """The right to write in a folder, until it is released or the process ends.

    Parameters
    ----------
    folder : path
        Exists.
    purpose : str
        What is done, such as "solvar run", for those who are refused.

    Raises
    ------
    InputError
        If another process writes there, or the lock file is a link or somebody else's.
    OSError
        If the folder cannot be written to.
    """

    def __init__(self, folder: Path, purpose: str) -> None:
        self._path = Path(folder) / FILE
        self._handle = _acquire(self._path, _holder(purpose))
        self._ended = threading.Event()
        threading.Thread(target=self._beat, name="solvar-lock", daemon=True).start()

    def refuse_lost(self) -> None:
        """Raise InputError if the folder was removed or taken over: others may write there now."""
        if not _is_same(self._handle, self._path):
            raise InputError(
                "was removed, or taken over by another process, while this one wrote to it",
                file=self._path.parent,
                remedy="start again",
            )

    def release(self) -> None:
        """Let others write; the file goes with the lock."""
        self._ended.set()
        _give_up(self._handle, self._path)

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT_SECONDS):
            try:
                # a lock of somebody else must not be kept alive
                if not _is_same(self._handle, self._path):
                    return
                os.utime(self._path, follow_symlinks=False)
            except OSError:
                return  # the folder is gone: writing will tell


def refuse_locked(folder: Path) -> None:
    """Raise InputError if another process writes in `folder`, which need not exist; changes nothing."""
    path = Path(folder) / FILE
    try:
        handle = _open(path, create=False)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EROFS):
            return  # who may not write there will hear of that
        raise
    try:
        # shared: who looks must not be in the way of another who looks
        locked = _try_lock(handle, fcntl.LOCK_SH)
        content = _content(path, handle)
        if _is_alive(path, handle, content, locked):
            raise _held(path, content)
    finally:
        os.close(handle)


def _acquire(path: Path, us: dict[str, Any]) -> int:
    """A handle of the lock file, which says that it is ours."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        handle = _open(path, create=True)
        try:
            locked = _try_lock(handle, fcntl.LOCK_EX)
            content = _content(path, handle)
            if _is_alive(path, handle, content, locked) or time.monotonic() > deadline:
                raise _held(path, content)
            # the file may have been removed since it was opened, by a holder that ended
            if locked and _is_same(handle, path):
                _say(handle, path, us)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        if locked is None and (settled := _settled(path, us)) is not None:
            return settled
        time.sleep(_PAUSE_SECONDS)


def _settled(path: Path, us: dict[str, Any]) -> int | None:
    """A handle of a lock file that took the place of a stale one and stayed; None if another one did."""
    ours = path.with_name(f".lock.{secrets.token_hex(8)}.partial")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(ours, flags, 0o644)
    try:
        _say(handle, ours, us)
        with suppress(FileNotFoundError):  # an owner has removed it, as an orphan
            os.replace(ours, path)
            time.sleep(_SETTLING_SECONDS)
        if _is_same(handle, path):
            return handle
    except BaseException:
        ours.unlink(missing_ok=True)
        _give_up(handle, path)
        raise
    os.close(handle)
    return None


def _say(handle: int, path: Path, us: dict[str, Any]) -> None:
    """Write into a lock file who holds it; it goes if that cannot be written."""
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(us).encode(), 0)
    except OSError:
        if _is_same(handle, path):
            path.unlink(missing_ok=True)
        raise


def _give_up(handle: int, path: Path) -> None:
    # removed before it is unlocked: who waits for it sees that it is another file now
    if _is_same(handle, path):
        path.unlink(missing_ok=True)
    os.close(handle)


def _open(path: Path, create: bool) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with suppress(FileNotFoundError):
        # looked at before it is opened: to open a device may already do something
        _refuse_foreign(path, os.stat(path, follow_symlinks=False))
    try:
        handle = os.open(path, flags | os.O_CREAT if create else flags, 0o644)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _foreign(path) from error
        raise
    try:
        _refuse_foreign(path, os.fstat(handle))
    except InputError:
        os.close(handle)
        raise
    return handle


def _refuse_foreign(path: Path, found: os.stat_result) -> None:
    """Raise InputError unless it is a small file without another name, to which it would be written, too."""
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or found.st_size > _LARGEST:
        raise _foreign(path)


def _foreign(path: Path) -> InputError:
    return InputError("is no lock of solvar", file=path, remedy="remove it, if it is yours")


def _try_lock(handle: int, kind: int) -> bool | None:
    """Whether the kernel gave us its lock; None where the file system has none."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_alive(path: Path, handle: int, content: dict[str, Any], locked: bool | None) -> bool:
    """Whether the holder that a lock file names is there.

    Parameters
    ----------
    locked : bool or None
        As `_try_lock` returned it.
    """
    if not content:
        return False
    here = _holder("")
    if (content.get("host"), content.get("boot")) == (here["host"], here["boot"]):
        # where the kernel gave us its lock, that process has ended, or ended its work
        return not locked and _start_of(content.get("pid")) == content.get("started")
    # one that comes with a received folder may bear any time, and none is touched in the future
    return abs(_age(path, handle)) < _STALE_SECONDS


def _content(path: Path, handle: int) -> dict[str, Any]:
    """What the file says of its holder; empty if it says nothing."""
    text = os.pread(handle, _LARGEST, 0)
    if not text:
        return {}
    try:
        found = json.loads(text)
        if isinstance(found, dict) and found.get("format") == "solvar-lock":
            return found
    except (ValueError, RecursionError):
        pass
    raise _foreign(path)


def _held(path: Path, content: dict[str, Any]) -> InputError:
    who = f"`{content.get('purpose', 'solvar')}`"
    if content:
        who += f" (process {content.get('pid')} on {content.get('host')}, since {content.get('since')})"
    remedy = "wait until it has ended, or choose another --output"
    if content and content.get("host") != platform.node():
        remedy += f"; if that machine is down, try again in {_STALE_SECONDS / 60:.0f} minutes"
    return InputError(f"is being written to by {who}", file=path.parent, remedy=remedy)


def _holder(purpose: str) -> dict[str, Any]:
    return {
        "format": "solvar-lock",
        "host": platform.node(),
        "boot": _first_line("/proc/sys/kernel/random/boot_id"),
        "pid": os.getpid(),
        "started": _start_of(os.getpid()),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "purpose": purpose,
    }


def _start_of(pid: Any) -> str:
    """When a process of this machine started, in ticks; empty if there is none of that number."""
    if type(pid) is not int:
        return ""
    # the name of the program, in brackets, may hold anything
    fields = _first_line(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 else ""


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    except (OSError, ValueError):
        return ""


def _age(path: Path, handle: int) -> float:
    """Seconds since the lock was touched, by the clock of the file system that holds it."""
    probe = path.with_name(f".probe.{secrets.token_hex(8)}.partial")
    touched = os.fstat(handle).st_mtime
    try:
        new = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            return os.fstat(new).st_mtime - touched
        finally:
            os.close(new)
            probe.unlink(missing_ok=True)
    except OSError:
        return time.time() - touched


def _is_same(handle: int, path: Path) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path, follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return False
