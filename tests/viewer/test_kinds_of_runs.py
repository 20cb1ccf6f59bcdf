"""The viewer over runs that lack something, and what it says when it cannot do what is asked."""

from __future__ import annotations

import errno
import time
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from export.runs import run_on
from report.reports import make_run
from solvar.errors import InputError
from solvar.particles import read_particles

pytest.importorskip("dash", reason="solvar[view] is not installed")

from solvar.viewer import figures, selections, viewing
from solvar.viewer.app import make_viewer
from solvar.viewer.columns import Column
from solvar.viewer.data import ViewerData
from solvar.viewer.figures import Look
from solvar.viewer.jobs import JobQueue
from solvar.viewer.messages import in_words
from solvar.viewer.security import HOST
from solvar.viewer.viewing import Contour

KINDS = {
    "rank 1": {"rank": 1},
    "no analysis": {"rank": 2},
    "analysed": {"rank": 3, "count": 120, "analysed": True},
    "refined poses": {"rank": 2, "refined": True},
    "no half-sets": {"rank": 2, "halfsets": False},
    "nothing reliable": {"rank": 2, "nothing_reliable": True},
}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def kind(request, tmp_path):
    viewer = make_viewer(make_run(tmp_path / "run", **request.param).folder)
    yield viewer.data
    viewer.close()


def count(x) -> int:
    """Numbers in a coordinate; plotly packs all but empty ones."""
    return len(np.frombuffer(b64decode(x["bdata"]), "<f4")) if isinstance(x, dict) else len(x)


def test_every_axis_and_colour_of_every_kind_of_run_is_drawn(kind):
    first, second, *_ = kind.axes
    for colour in (None, *kind.colourings):
        look = Look((first, second), colour, chosen=np.arange(5))
        marks = figures.marks(kind, look, np.zeros(kind.rank), [])
        figure = figures.latents(kind, look, marks)
        assert sum(count(trace["x"]) for trace in figure["data"]) == len(kind), colour
    (surface,) = viewing.model_at(kind, [0.0] * kind.rank, Contour(kind.model.level))
    assert len(surface.faces)


def test_plane_of_a_single_component_has_contrast_as_its_other_axis(tmp_path):
    data = ViewerData(make_run(tmp_path / "run", rank=1))
    assert list(data.axes) == ["z1", "contrast"]
    axes = ("z1", "contrast")
    assert data.point_at(axes, (0.7, 1.3), np.zeros(1)).tolist() == [0.7]
    middle = np.median(data.run.posterior.contrast)
    assert data.place_of(np.array([0.7]), axes) == pytest.approx((0.7, middle))
    inside = selections.select(data, {"kind": "box", "axes": axes, "x": [-9, 9], "y": [middle, 99]})
    assert len(inside) == pytest.approx(len(data) / 2, abs=1)


def test_damaged_analysis_is_none(tmp_path):
    run = make_run(tmp_path / "run", rank=2, count=120, analysed=True)
    assert "cluster" in ViewerData(run).colourings
    stored = run.folder / "analysis" / "particles.h5"
    stored.write_bytes(stored.read_bytes()[:600])
    assert "cluster" not in ViewerData(run).colourings


def test_three_particles_are_exported(tmp_path):
    run, _ = run_on("relion31", tmp_path)
    data = ViewerData(run)
    nearest = {"kind": "near", "point": data.latents[:, 0].tolist(), "many": 3}
    chosen = selections.select(data, nearest)
    selections.save(data, "three", chosen)
    sent = selections.send(data, "three", "relion")
    assert len(chosen) == sent.particles == 3 == len(read_particles(*sent.files))


def test_outline_around_nothing_selects_nothing_and_is_not_saved(tmp_path):
    data = ViewerData(make_run(tmp_path / "run", rank=2))
    outline = {"kind": "lasso", "axes": ["z1", "z2"], "x": [90, 91, 91], "y": [90, 90, 91]}
    chosen = selections.select(data, outline)
    assert len(chosen) == 0
    with pytest.raises(InputError, match="nothing is selected"):
        selections.save(data, "none", chosen)
    with pytest.raises(InputError, match="has no name"):
        selections.send(data, " ", "relion")


def test_folder_that_takes_nothing_is_a_sentence(tmp_path, monkeypatch):
    data = ViewerData(make_run(tmp_path / "run", rank=2))

    def refuse(self, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)  # root may write where nobody may
    with pytest.raises(InputError) as caught:
        selections.save(data, "some", np.arange(3))
    said = f"{data.run.folder}: cannot be written to (read-only file system)."
    assert in_words(caught.value) == said


def test_words_for_failures():
    assert in_words(InputError("there is no axis", remedy="choose one")).startswith("There is no")
    assert in_words(InputError("is missing", file="a.star")) == "a.star: is missing."
    assert in_words(KeyError("x")) is None


def test_queue_survives_a_process_that_cannot_start(tmp_path, monkeypatch):
    queue = JobQueue(make_run(tmp_path / "run", rank=2).folder)

    def fail(order):
        raise RuntimeError("no more processes")

    monkeypatch.setattr(queue, "_carry_out", fail)
    try:
        for number in (1, 2):  # the second shows that the worker is still there
            name = queue.submit("point", np.zeros((1, 2)))
            deadline = time.monotonic() + 20
            while queue.busy and time.monotonic() < deadline:
                time.sleep(0.02)
            job = next(job for job in queue.jobs if job.name == name)
            assert job.state == "failed" and "no more processes" in job.step, number
    finally:
        queue.close()


def test_text_of_thousands_of_values_becomes_numbers_in_time():
    names = np.array(
        [f"MotionCorr/job002/Movies/mic_{k % 5000:05d}.mrc" for k in range(400_000)], object
    )
    begun = time.perf_counter()
    column = Column.of_labels("rlnMicrographName", names)
    # sorting all of them takes several seconds
    assert time.perf_counter() - begun < 1.5
    assert column.labels is None
    np.testing.assert_array_equal(column.values, np.arange(400_000) % 5000)


def test_pages_asked_for_at_once_all_have_their_style(tmp_path, monkeypatch):
    import dash

    find = dash.Dash._walk_assets_directory

    def slowly(app):
        time.sleep(0.5)
        find(app)

    monkeypatch.setattr(dash.Dash, "_walk_assets_directory", slowly)
    viewer = make_viewer(make_run(tmp_path / "run", rank=2).folder)

    def ask(_):
        client = viewer.app.server.test_client()
        client.set_cookie(viewer.guard.cookie_name, viewer.guard.begin().cookie, domain=HOST)
        return client.get("/", base_url=f"http://{HOST}").text

    with ThreadPoolExecutor(3) as pool:
        pages = list(pool.map(ask, range(3)))
    viewer.close()
    assert all("viewer.css" in page and "viewer.js" in page for page in pages)
