"""The figures are drawn for every kind of run and show what they should."""

import subprocess
import sys

import numpy as np
import pytest

from solvar.evaluation import Truth
from solvar.files import owned
from solvar.report import draw_figures, style
from solvar.report.recovery import draw_recovery
from solvar.report.volumes import window
from solvar.results.run import Run
from synthetic import make_fit
from written import written


def run_of(folder, fit):
    written(folder, fit)
    return Run(folder)


@pytest.mark.parametrize(
    ("kind", "drawn"),
    [
        ({"rank": 3}, 7),
        ({"rank": 1}, 7),
        ({"rank": 9, "count": 2500}, 7),
        ({"rank": 2, "halfsets": False}, 5),
        ({"rank": 2, "refined": True}, 8),
        ({"rank": 2, "refined": True, "count": 2500}, 8),
    ],
)
def test_every_kind_of_run_is_drawn(tmp_path, kind, drawn):
    run = run_of(tmp_path / "run", make_fit(tmp_path, **kind))
    with owned(run.folder, "test") as own:
        paths = draw_figures(run, own)
    assert len(paths) == drawn
    assert paths == run.figures
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_recovery_shows_the_truth_of_two_motions(tmp_path):
    run = run_of(tmp_path / "run", make_fit(tmp_path, rank=2))
    state = np.random.default_rng(0).random((run.particle_count, 2))
    truth = Truth(tmp_path, 16, 3.0, 3.0, state_coordinate=state)
    draw_recovery(run, truth, tmp_path / "picture.png", ("hinge", "loop"))
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_resolution_ticks_lie_at_box_over_resolution():
    positions, labels = style.resolution_ticks(shells=32, box_angstrom=192.0)
    np.testing.assert_allclose(positions, [192.0 / float(label) for label in labels])
    assert len(labels) >= 4
    assert max(positions) <= 31


def test_window_holds_the_molecule_and_little_else(tmp_path):
    model = make_fit(tmp_path, box=32).model
    crop, edge_angstrom = window(model)
    assert (model.mean[crop] ** 2).sum() > 0.98 * (model.mean**2).sum()
    assert edge_angstrom == model.mask[crop].shape[0] * model.pixel_size_angstrom
    assert edge_angstrom < 32 * model.pixel_size_angstrom


def test_matplotlib_is_loaded_only_to_draw():
    code = "import sys, solvar.report; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
