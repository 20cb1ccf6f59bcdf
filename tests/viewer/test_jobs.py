"""The queue of reconstructions: one at a time, whole or absent."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

pytest.importorskip("dash", reason="solvar[view] is not installed")

from solvar.viewer import jobs
from solvar.viewer.jobs import JobQueue
from solvar.viewer.layout import job_lines, volume_options
from solvar.volumes import VolumeSettings
from solvar.volumes.fsc import half_map_fsc
from solvar.volumes.volume import Halves, Reconstruction
from solvar.volumes.writing import Placement, write_reconstruction

MODEL = VolumeSettings(method="reproject")  # needs no images

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def queue(run):
    opened = JobQueue(run.folder)
    yield opened
    opened.close()


def finish(queue, seconds=90):
    deadline = time.monotonic() + seconds
    most_running = 0
    while queue.busy:
        assert time.monotonic() < deadline, queue.jobs
        most_running = max(most_running, sum(job.state == "running" for job in queue.jobs))
        time.sleep(0.02)
    return most_running


def test_volumes_arrive_in_order_one_job_at_a_time(run, queue):
    z = np.array([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    first, second = queue.submit("path", z, MODEL), queue.submit("path", z[:1], MODEL)
    assert (first, second) == ("path-001", "path-002")
    assert finish(queue) == 1
    assert [job.state for job in queue.jobs] == ["done", "done"]
    found = jobs.arrived(run.folder)
    assert [volume.key for volume in found] == [
        "path-001/path-001_001", "path-001/path-001_002", "path-002/path-002_001",
    ]  # fmt: skip
    assert found[1].z == (2.0, 0.0, 0.0) and found[1].path.is_file()
    assert {path.name for path in (run.folder / "volumes").iterdir()} == {"path-001", "path-002"}
    assert [o["value"] for o in volume_options(found)] == ["live", *(v.key for v in found)]
    assert job_lines(queue.jobs) == []


def test_failure_is_told_and_leaves_nothing(run, queue):
    # the made-up run has a source that is no particle file
    queue.submit("point", np.zeros((1, 3)))
    finish(queue)
    (job,) = queue.jobs
    assert job.state == "failed" and "cannot be read again" in job.step
    assert list((run.folder / "volumes").glob("*")) == []
    assert jobs.arrived(run.folder) == []
    assert len(job_lines(queue.jobs)) == 1


def test_stopped_jobs_leave_nothing(run, queue):
    names = [queue.submit("point", np.zeros((1, 3)), MODEL) for _ in range(2)]
    for name in names:
        queue.stop(name)
    queue.stop("nothing of this name")
    finish(queue)
    assert [job.state for job in queue.jobs] == ["stopped", "stopped"]
    assert jobs.arrived(run.folder) == []


def test_names_of_earlier_sessions_are_not_taken_again(run, queue):
    (run.folder / "volumes" / "point-001").mkdir(parents=True)
    assert queue.submit("point", np.zeros((1, 3)), MODEL) == "point-002"
    finish(queue)


def test_damaged_or_foreign_tables_are_passed_over(run):
    volume = {
        "files": ["x.mrc"],
        "fsc": None,
        "resolution_angstrom": "high",
        "particles": 1,
        "z": [],
    }
    mistyped = json.dumps({"pixel_size_angstrom": 1, "volumes": [volume]})
    texts = {"a": "{", "b": "{}", "c": '{"volumes": [{"files": []}]}', "d": mistyped}
    for name, text in texts.items():
        (run.folder / "volumes" / name).mkdir(parents=True)
        (run.folder / "volumes" / name / "volumes.json").write_text(text)
    assert jobs.arrived(run.folder) == []
    assert jobs.find(run.folder, "a/x") is None


def test_volume_with_half_maps_has_the_curve_of_its_resolution(run):
    rng = np.random.default_rng(0)
    volume = run.model.mean
    pair = np.stack([volume + 0.02 * rng.normal(size=volume.shape) for _ in range(2)])
    pair = pair.astype(np.float32)
    curves = half_map_fsc(pair, run.model.mask, 9)
    made = Reconstruction(volume, Halves(pair, pair, curves.corrected, curves), 150)
    folder = run.folder / "volumes" / "point-001"
    folder.mkdir(parents=True)
    place = Placement(run.pixel_size_angstrom, 0.0)
    told = write_reconstruction(folder, "point-001_001", made, place, VolumeSettings())
    table = {"pixel_size_angstrom": 2.0, "volumes": [{"z": [0, 0, 0], **told}]}
    (folder / "volumes.json").write_text(json.dumps(table))
    (found,) = jobs.arrived(run.folder)
    np.testing.assert_allclose(found.fsc, curves.corrected, atol=1e-6)
    assert found.particles == 150 and found.resolution_angstrom == told["resolution_angstrom"]
