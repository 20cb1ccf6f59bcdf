"""Checkpoints: whole or absent, bit for bit, and never those of another job."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from solvar.errors import InputError
from solvar.estimation.prior import Prior
from solvar.files import OwnedFolder, Shelf, Writer, owned
from solvar.fitting.settings import FitSettings
from solvar.results.checkpoint import Checkpoint, is_interrupted, read_tree, write_tree
from solvar.results.inputs import InputFile
from solvar.results.provenance import Provenance

PROVENANCE = Provenance(
    32 * "a", "1.0", (), "now", (InputFile("/a.star", 5, "x"), InputFile("/m.mrc", 7, "y"))
)
SETTINGS = FitSettings(rank=3)


def test_nested_content_comes_back_to_the_last_bit(tmp_path) -> None:
    rng = np.random.default_rng(0)
    content = {
        "rng": rng.bit_generator.state,
        "prior": Prior(rng.normal(size=4), np.full(4, np.inf)),
        "batches": [np.arange(3), np.array([], np.int64)],
        "pair": (1.0 / 3, None, "text", True),
        "volumes": (rng.normal(size=(2, 3)) + 1j).astype(np.complex64),
        "number": np.float64(0.1),
    }
    write_tree(tmp_path / "x.npz", content)
    found = read_tree(tmp_path / "x.npz")
    assert found["rng"] == content["rng"] and found["pair"] == content["pair"]
    np.testing.assert_array_equal(found["prior"].columns, content["prior"].columns)
    np.testing.assert_array_equal(found["volumes"], content["volumes"])
    assert [len(batch) for batch in found["batches"]] == [3, 0] and found["number"] == 0.1


def test_a_damaged_file_is_named(tmp_path) -> None:
    path = tmp_path / "x.npz"
    write_tree(path, {"a": np.zeros(100)})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"x\.npz: is damaged"):
        read_tree(path)


@pytest.fixture
def own(tmp_path) -> Iterator[OwnedFolder]:
    with owned(tmp_path, "test") as folder:
        yield folder


def _begun(own: OwnedFolder) -> Checkpoint:
    checkpoint = Checkpoint(own.root, own)
    checkpoint.begin(SETTINGS, PROVENANCE, resume=False)
    checkpoint.save("mean", {"result": 1})
    return checkpoint


def test_only_a_resumed_run_sees_what_was_saved(tmp_path, own) -> None:
    _begun(own)
    assert is_interrupted(tmp_path)
    again = Checkpoint(tmp_path, own)
    again.begin(SETTINGS.model_copy(update={"threads": 7, "lazy": True}), PROVENANCE, resume=True)
    assert again.load("mean", Shelf()) == {"result": 1} and again.load("other", Shelf()) is None
    again.begin(SETTINGS, PROVENANCE, resume=False)
    assert again.load("mean", Shelf()) is None and not is_interrupted(tmp_path)


@pytest.mark.parametrize(
    ("settings", "provenance", "sentence"),
    [
        ({"rank": 4}, {}, "--rank was 3, now it is 4"),
        ({"refine_pose": True}, {}, "--refine-pose was False, now it is True"),
        (
            {},
            {"inputs": (InputFile("/a.star", 6, "x"), PROVENANCE.inputs[1])},
            "/a.star has changed",
        ),
        ({}, {"inputs": PROVENANCE.inputs[:1]}, "/m.mrc is gone"),
        ({}, {"inputs": (*PROVENANCE.inputs, InputFile("/b", 1, "z"))}, "/b is new"),
        ({}, {"version": "2.0"}, "solvar 1.0, this is 2.0"),
    ],
)
def test_another_job_is_refused_by_its_difference(
    tmp_path, own, settings, provenance, sentence
) -> None:
    _begun(own)
    changed = FitSettings(**{"rank": 3, **settings})
    with pytest.raises(InputError) as caught:
        Checkpoint(tmp_path, own).begin(changed, replace(PROVENANCE, **provenance), resume=True)
    assert sentence in str(caught.value) and "--overwrite" in str(caught.value)
    assert Checkpoint(tmp_path, own, PROVENANCE.run_id).load("mean", Shelf()) == {"result": 1}


def test_steps_on_the_way_are_dropped_when_the_step_is_done(own) -> None:
    checkpoint = _begun(own)
    checkpoint.keep("band sweeps", lambda: {"sweep": 1}, always=True)
    assert checkpoint.load("band sweeps", Shelf()) == {"sweep": 1}
    checkpoint.save("band", {"result": 2})
    assert checkpoint.load("band sweeps", Shelf()) is None and checkpoint.load("band", Shelf()) == {
        "result": 2
    }


def test_writing_takes_a_small_share_of_the_time(own, monkeypatch) -> None:
    clock = iter([0.0, 2.0, 10.0, 23.0, 24.0])
    monkeypatch.setattr("solvar.results.checkpoint.time.monotonic", lambda: next(clock))
    checkpoint = _begun(own)
    kept = []
    for sweep in range(3):  # at 0 s, which takes 2 s; at 10 s, too soon; at 23 s
        checkpoint.keep("sweeps", lambda sweep=sweep: {"sweep": sweep})
        kept.append(checkpoint.load("sweeps", Shelf())["sweep"])
    assert kept == [0, 0, 2]


def test_leftovers_of_a_killed_writer_are_removed_and_nothing_else(tmp_path) -> None:
    number = 16 * "7"
    orphans = [
        f"checkpoint/.mean.{number}.partial.npz",
        f".run.{number}.partial.json",
        f"figures/.a.{number}.partial.png",
    ]
    kept = [".mine.partial", f"notes.{number}.partial.txt", ".hidden", ".a.12.partial.png"]
    # below a folder that is no result: another run, and its writer may be alive
    kept += [f"other/.run.{number}.partial.json"]
    (tmp_path / "other").mkdir()
    with owned(tmp_path, "test") as own:
        for path in own.claim(Writer("test", ("*/*",)), ["checkpoint/mean.npz", "figures/a.png"]):
            path.touch()
    for name in (*orphans, *kept):
        (tmp_path / name).write_bytes(b"half")
    with owned(tmp_path, "test"):
        pass
    assert not any((tmp_path / name).exists() for name in orphans)
    assert all((tmp_path / name).exists() for name in kept)


def test_one_process_alone_writes(tmp_path, own) -> None:
    _begun(own)
    other = Checkpoint(tmp_path, None)
    other.begin(SETTINGS, PROVENANCE, resume=True)
    other.save("band", {"result": 3})
    other.keep("sweeps", lambda: {"sweep": 1}, always=True)
    other.remove()
    names = sorted(path.name for path in (tmp_path / "checkpoint").iterdir())
    assert names == ["job.json", "mean.npz"]
    assert json.loads((tmp_path / "checkpoint" / "job.json").read_text())["settings"]["rank"] == 3
