"""run.log: what happened and when, for whoever looks at a run that failed at night."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from solvar._version import __version__
from solvar.commands import command_line
from solvar.errors import InputError
from solvar.files import open_log
from solvar.progress import Progress, Step


@contextmanager
def logged(path: Path, progress: Progress, command: Sequence[str] = ()) -> Iterator[Progress]:
    """Yield `progress` with every step, message and log record also written to `path`.

    Lines are appended, each written out at once: a killed run leaves its log up to the last step,
    and a repeated one keeps the log of the attempt before. The last line says how the run ended.
    """
    try:
        stream = open_log(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"cannot be written to ({reason})", file=path, remedy="remove it"
        ) from error
    handler = _LogFile(progress, path, stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    log = logging.Logger("solvar.run", logging.INFO)  # its own: two runs in a process do not mix
    log.addHandler(handler)
    package = logging.getLogger("solvar")
    # with a handler in place, logging no longer prints warnings by itself
    teller = _Teller(progress)
    for each in (handler, teller):
        package.addHandler(each)
    level = package.level
    package.setLevel(logging.INFO)
    log.info("solvar %s: %s", __version__, command_line(*command) or "called from Python")
    try:
        yield _LoggedProgress(progress, log)
        log.info("finished")
    except BaseException as error:
        log.error("stopped: %s", str(error) or type(error).__name__)
        raise
    finally:
        package.setLevel(level)
        for each in (handler, teller):
            package.removeHandler(each)
        handler.close()


class _LogFile(logging.StreamHandler[TextIO]):
    """A log that ends nothing: what cannot be written, as on a full disk, is lost and told once."""

    def __init__(self, progress: Progress, path: Path, stream: TextIO) -> None:
        super().__init__(stream)
        self._progress, self._path, self._told = progress, path, False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self._told:
            self._told = True
            self._progress.message(
                f"{self._path} cannot be written ({sys.exc_info()[1]}); the run goes on"
            )

    def close(self) -> None:
        super().close()
        # lines that found no room are tried once more here
        with suppress(OSError):
            self.stream.close()


class _Teller(logging.Handler):
    """Tells warnings to whoever watches the run."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.WARNING)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        self._progress.message(record.getMessage())


class _LoggedProgress:
    """Passes everything on and notes it."""

    def __init__(self, progress: Progress, log: logging.Logger) -> None:
        self._progress, self._log = progress, log

    @contextmanager
    def step(self, name: str, total: int, unit: str = "particles") -> Iterator[Step]:
        started = time.perf_counter()
        with self._progress.step(name, total, unit) as step:
            noted = _LoggedStep(step)
            yield noted
        remark = f" ({noted.remark})" if noted.remark else ""
        self._log.info("%s: %.2f s%s", name, time.perf_counter() - started, remark)

    def message(self, text: str) -> None:
        self._progress.message(text)
        self._log.info("%s", text)


class _LoggedStep:
    def __init__(self, step: Step) -> None:
        self._step, self.remark = step, ""

    def advance(self, amount: int = 1) -> None:
        self._step.advance(amount)

    def note(self, text: str) -> None:
        self.remark = text
        self._step.note(text)
