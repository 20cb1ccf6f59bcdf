"""run.log tells the story of a run, also of one that failed."""

import logging
import os
from pathlib import Path

import pytest

from solvar.errors import InputError
from solvar.progress import SilentProgress
from solvar.results.log import logged


def test_steps_messages_and_warnings_are_kept_in_order(tmp_path):
    path = tmp_path / "run.log"
    with logged(path, SilentProgress(), ("solvar", "run", "p.star")) as progress:
        with progress.step("mean", 10) as step:
            step.advance(10)
            step.note("half 1")
        progress.message("Compiling.")
        logging.getLogger("solvar.particles").warning("no half-sets")
    lines = path.read_text().splitlines()
    for line, words in zip(
        lines, ("solvar run p.star", "mean: 0.", "Compiling.", "no half-sets", "finished"),
        strict=True,
    ):  # fmt: skip
        assert words in line
    assert "(half 1)" in lines[1]


def test_warnings_are_told_once_to_whoever_watches(tmp_path):
    told = []

    class Watcher(SilentProgress):
        def message(self, text):
            told.append(text)

    with logged(tmp_path / "run.log", Watcher()):
        logging.getLogger("solvar.particles").warning("no half-sets")
        logging.getLogger("solvar.particles").info("a detail")
    assert told == ["no half-sets"]
    assert "a detail" in (tmp_path / "run.log").read_text()


def test_a_failed_attempt_says_why_and_is_followed_by_the_next(tmp_path):
    path = tmp_path / "run.log"
    with pytest.raises(InputError), logged(path, SilentProgress()):
        raise InputError("defocus is missing", file="p.star")
    with logged(path, SilentProgress()):
        pass
    lines = path.read_text().splitlines()
    assert lines[1].endswith("stopped: p.star: defocus is missing.")
    assert lines[-1].endswith("finished")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk here is always full")
def test_a_full_disk_loses_lines_of_the_log_and_says_so_once(tmp_path, capsys):
    told = []

    class Watcher(SilentProgress):
        def message(self, text):
            told.append(text)

    with logged(tmp_path / "run.log", Watcher()) as progress:
        logging.getLogger("solvar").handlers[0].setStream(open("/dev/full", "w"))  # noqa: SIM115
        with progress.step("mean", 10):
            progress.message("Compiling.")
        logging.getLogger("solvar.particles").info("a detail")
    assert told[0] == "Compiling." and "No space left on device" in told[1] and len(told) == 2
    assert capsys.readouterr().err == ""


def test_words_that_are_not_utf8_are_logged_with_escapes(tmp_path, capsys):
    with logged(tmp_path / "run.log", SilentProgress(), ("solvar", os.fsdecode(b"na\xffve"))):
        pass
    assert r"na\377ve" in (tmp_path / "run.log").read_text()
    assert capsys.readouterr().err == ""


def test_nothing_is_logged_after_the_run(tmp_path):
    path = tmp_path / "run.log"
    with logged(path, SilentProgress()):
        pass
    before = path.read_text()
    logging.getLogger("solvar").warning("later")
    assert path.read_text() == before
