"""One writer a folder: a lock that dies with who holds it.

The kernel's lock on `.solvar.lock` decides between processes of one machine, and is gone when its holder is,
however it ended. Some file systems do not carry such locks to other machines, or have none. So the
file also says who holds it (host, boot, process, start), and the holder touches it every half minute: a lock
of another machine that was not touched for five minutes is stale.
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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from solvar.errors import InputError

FILE = ".solvar.lock"
_BEAT_SECONDS = 30.0
_STALE_SECONDS = 300.0
_LARGEST = 4096
# the file may be replaced between opening and locking, by a holder that ends
_TRIES = 20
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


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
        self._handle = _acquire(self._path)
        try:
            content = json.dumps(_holder(purpose)).encode()
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, content, 0)
        except BaseException:
            self.release()
            raise
        self._ended = threading.Event()
        threading.Thread(target=self._beat, name="solvar-lock", daemon=True).start()

    def release(self) -> None:
        """Let others write; the file goes with the lock."""
        if hasattr(self, "_ended"):
            self._ended.set()
        # removed before it is unlocked: who waits for it sees that it is another file now
        if _is_same(self._handle, self._path):
            self._path.unlink(missing_ok=True)
        os.close(self._handle)

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT_SECONDS):
            try:
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
        _refuse_held(path, handle)
    finally:
        os.close(handle)


def _acquire(path: Path) -> int:
    """A handle of the lock file that holds the lock."""
    for _ in range(_TRIES):
        handle = _open(path, create=True)
        try:
            _refuse_held(path, handle)
            if _is_same(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
    raise InputError(
        "is taken by one process after the other", file=path.parent, remedy="try again"
    )


def _open(path: Path, create: bool) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        handle = os.open(path, flags | os.O_CREAT if create else flags, 0o644)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _foreign(path) from error
        raise
    found = os.fstat(handle)
    # another name of somebody's file must not be written to
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or found.st_size > _LARGEST:
        os.close(handle)
        raise _foreign(path)
    return handle


def _foreign(path: Path) -> InputError:
    return InputError("is no lock of solvar", file=path, remedy="remove it, if it is yours")


def _refuse_held(path: Path, handle: int) -> None:
    """Raise InputError if somebody else holds the lock; else lock it, where the file system can."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        known = True
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise _held(path, _content(path, handle)) from error
        known = False
    content = _content(path, handle)
    if not content:
        return
    here = _holder("")
    if (content.get("host"), content.get("boot")) == (here["host"], here["boot"]):
        alive = not known and _start_of(content.get("pid")) == content.get("started")
    else:
        alive = _age(path, handle) < _STALE_SECONDS
    if alive:
        raise _held(path, content)


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
    except FileNotFoundError:
        return False
