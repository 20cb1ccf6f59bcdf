"""Damaged files through every reader: read, or refused in a sentence that names a file."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hostile.fuzzing import ACCEPTED, CRASH, HANG, MEMORY, REFUSED, TRACEBACK, UNNAMED, fuzz
from hostile.mutations import mutated
from hostile.samples import Sample, foreign_samples, own_samples
from solvar.errors import InputError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory need Linux")

_FORMATS = Path(__file__).parents[3] / "shared" / "data" / "formats"


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return own_samples(tmp_path_factory.mktemp("own") / "files")


def test_undamaged_samples_are_read(samples):
    for sample in samples:
        sample.read(sample.path)


def test_damaged_files_are_read_or_refused(samples):
    found = list(fuzz(samples, range(300), seed=11))
    assert [outcome for outcome in found if outcome.is_bad] == []
    kinds = Counter(outcome.kind for outcome in found)
    assert kinds[ACCEPTED] > 10 and kinds[REFUSED] > 100


def test_damaged_files_of_other_programs_are_read_or_refused(tmp_path):
    if not _FORMATS.is_dir():
        pytest.skip(f"{_FORMATS} is not there")
    found = list(fuzz(foreign_samples(_FORMATS, tmp_path / "formats"), range(150), seed=12))
    assert len(found) == 150
    assert [outcome for outcome in found if outcome.is_bad] == []


def test_damage_is_a_function_of_seed_and_number(samples):
    for sample in samples:
        content = sample.path.read_bytes()
        # HDF5 and archives hold times; their damage is the same, their bytes are not
        if sample.path.suffix not in (".h5", ".npz"):
            first, second = (
                mutated(content, sample.path.suffix, np.random.default_rng([3, 4])) for _ in "12"
            )
            assert first == second


def _misbehave(kind: str):
    def read(path):
        if kind == TRACEBACK:
            raise KeyError("x")
        if kind == UNNAMED:
            raise InputError("something is wrong")
        if kind == HANG:
            while True:
                pass
        if kind == MEMORY:
            try:
                np.ones(2**40)
            except MemoryError as error:
                raise InputError("is too large", file=path) from error
        if kind == CRASH:
            os.kill(os.getpid(), signal.SIGKILL)

    return read


@pytest.mark.parametrize("kind", [TRACEBACK, UNNAMED, HANG, MEMORY, CRASH])
def test_harm_is_seen_and_the_next_input_is_still_read(tmp_path, kind):
    for name in "ab":
        (tmp_path / name).write_text("content")
    samples = [Sample(tmp_path / "a", _misbehave(kind)), Sample(tmp_path / "b", lambda path: None)]
    found = list(fuzz(samples, range(4), seconds=1.0))
    assert [outcome.kind for outcome in found] == [kind, ACCEPTED, kind, ACCEPTED]
    assert (tmp_path / "a").read_text() == "content"
