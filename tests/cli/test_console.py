"""Progress tells name, amount, rate and time in whatever it is shown."""

import io

import pytest

from solvar.cli import console
from solvar.cli.metrics import HEADLINES, metrics_table


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.123, "0.12 s"),
        (3.44, "3.4 s"),
        (125, "2 min 05 s"),
        (4320, "1 h 12 min"),
    ],
)
def test_duration_fits_its_size(seconds, words):
    assert console.duration(seconds) == words


def test_plain_progress_says_how_far_and_how_fast(capsys, monkeypatch):
    monkeypatch.setattr(console, "_LINE_EVERY_SECONDS", 0.0)
    progress = console.PlainProgress()
    with progress.step("mean", 10, "particles") as step:
        step.note("half 1")
        step.advance(4)
        step.advance(6)
    progress.message("Compiling.")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("mean: 40 %, ")
    assert "particles/s" in lines[0] and "left (half 1)" in lines[0]
    assert lines[1].startswith("mean: 10 particles in ")
    assert lines[2] == "Compiling."


def test_nested_bars_end_with_one_line_each():
    progress = console.RichProgress()
    progress.console.file = io.StringIO()
    with progress.step("outer [1]", 2, "levels") as outer:
        with progress.step("inner", 5) as inner:
            inner.advance(5)
            progress.message("half [way]")
        outer.advance()
    text = progress.console.file.getvalue()
    for words in ("outer [1]: 1 levels in", "inner: 5 particles in", "half [way]"):
        assert words in text


def test_failed_step_is_not_reported_as_done(capsys):
    with pytest.raises(ValueError), console.PlainProgress().step("mean", 10):
        raise ValueError
    assert "mean" not in capsys.readouterr().err


def test_bars_are_for_terminals_only(monkeypatch):
    assert isinstance(console.make_progress(), console.PlainProgress)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(console.make_progress(), console.RichProgress)


def test_metrics_are_grouped_and_those_without_a_name_still_shown():
    metrics = {
        "rank": 4,
        "covariance": {"captured_variance": 0.91234, "novel_measure": [1.0, None]},
        "poses": {"shift_px": {"mean": 0.5}, "drift": {"mean": 0.5, "rms": 1.0}},
    }
    names, values, _ = (list(column.cells) for column in metrics_table("t", metrics).columns)
    assert names == [
        "Rank",
        "Captured variance",
        "Covariance: novel measure",
        "Common drift, removed",
    ]
    assert values == ["4", "0.9123", "1  –", "mean 0.5, rms 1"]


def test_the_short_table_of_metrics_holds_captured_variance_and_latents_alone():
    metrics = {
        "rank": 4,
        "covariance": {"captured_variance": 0.91, "fsc_auc": 0.4},
        "latents": {"knn_spearman": [0.9, 0.8], "knn_r2": [0.7, 0.6]},
    }
    columns = metrics_table("t", metrics, HEADLINES).columns
    names, values, _ = (list(column.cells) for column in columns)
    assert names == ["Captured variance", "True motions, rank correlation"]
    assert values == ["0.91", "0.9  0.8"]
