"""The queue of reconstructions: one at a time, whole or absent."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("dash", reason="solvar[view] is not installed")

from solvar.errors import InputError
from solvar.files import Ledger, owned
from solvar.imaging.fsc import half_map_fsc
from solvar.viewer import jobs, selections
from solvar.viewer.data import ViewerData
from solvar.viewer.jobs import JobQueue
from solvar.viewer.layout import job_lines, volume_options
from solvar.volume_file import write_volume
from solvar.volumes import Targets, VolumeSettings, reconstruct
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
    found = jobs.arrived(run)
    assert [volume.key for volume in found] == [
        "path-001/path-001_001", "path-001/path-001_002", "path-002/path-002_001",
    ]  # fmt: skip
    assert found[1].z == (2.0, 0.0, 0.0) and found[1].file == "volumes/path-001/path-001_002.mrc"
    assert len(ViewerData(run).reconstruction(found[1].file).data) == 16
    assert {path.name for path in (run.folder / "volumes").iterdir()} == {"path-001", "path-002"}
    assert [o["value"] for o in volume_options(found)] == ["live", *(v.key for v in found)]
    assert job_lines(queue.jobs) == []


def test_failure_is_told_and_leaves_nothing(run, queue):
    # the made-up run has a source that is no particle file
    queue.submit("point", np.zeros((1, 3)))
    finish(queue)
    (job,) = queue.jobs
    assert job.state == "failed" and "cannot be read again" in job.step
    assert not (run.folder / "volumes").exists()
    assert len(job_lines(queue.jobs)) == 1


def test_stopped_jobs_leave_nothing(run, queue):
    names = [queue.submit("point", np.zeros((1, 3)), MODEL) for _ in range(2)]
    for name in names:
        queue.stop(name)
    queue.stop("nothing of this name")
    finish(queue)
    assert [job.state for job in queue.jobs] == ["stopped", "stopped"]
    assert not (run.folder / "volumes").exists()


def test_a_job_that_is_stopped_while_it_writes_leaves_nothing(run, queue):
    before = {path for path in run.folder.rglob("*") if path.is_file()}
    queue.submit("path", np.zeros((2000, 3)), MODEL)
    folder = run.folder / "volumes" / "path-001"
    while not list(folder.glob("*.mrc")):
        time.sleep(0.01)
    # the page's own selections are saved meanwhile; other commands have to wait
    kept = selections.save(ViewerData(run), "meanwhile", np.arange(3))
    with (
        pytest.raises(InputError, match="is being written to by `solvar view`"),
        owned(run.folder, "another"),
    ):
        pass
    queue.stop("path-001")
    finish(queue)
    assert [job.state for job in queue.jobs] == ["stopped"]
    after = {path for path in run.folder.rglob("*") if path.is_file()}
    assert after - before == {kept} and not folder.exists()
    assert Ledger.read(run.folder).problem_of("selections/meanwhile.npy") is None


@pytest.mark.slow
def test_a_viewer_that_is_killed_takes_its_job_with_it(run):
    code = (
        "import sys, time, numpy as np; from pathlib import Path\n"
        "from solvar.viewer.jobs import JobQueue; from solvar.volumes import VolumeSettings\n"
        "if __name__ == '__main__':\n"
        "    queue = JobQueue(Path(sys.argv[1]))\n"
        "    queue.submit('path', np.zeros((5000, 3)), VolumeSettings(method='reproject'))\n"
        "    time.sleep(100)\n"
    )
    script = run.folder.parent / "viewer.py"
    script.write_text(code)
    volumes = run.folder / "volumes"
    with subprocess.Popen([sys.executable, str(script), str(run.folder)]) as viewer:
        while not list(volumes.glob("*/*.mrc")):
            time.sleep(0.01)
        viewer.kill()
    count = -1
    while count != (count := len(list(volumes.glob("*/*")))):
        time.sleep(0.5)
    assert jobs.arrived(run) == []
    selections.save(ViewerData(run), "next", np.arange(3))  # which is the viewer's next write
    assert not volumes.exists()


def test_the_page_says_who_else_writes(run, queue):
    with owned(run.folder, "solvar analyze"):
        queue.submit("point", np.zeros((1, 3)), MODEL)
        finish(queue)
        with pytest.raises(InputError, match=r"by `solvar analyze` \(.*\)\.$"):
            selections.save(ViewerData(run), "one", np.arange(3))
    (job,) = queue.jobs
    assert job.state == "failed" and "is being written to by `solvar analyze`" in job.step
    assert "--output" not in job.step
    assert not (run.folder / "volumes").exists() and not (run.folder / "selections").exists()


@pytest.mark.parametrize("name", ["volumes", "volumes/point-001"])
def test_links_are_not_written_through(run, queue, tmp_path, name):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (run.folder / name).parent.mkdir(exist_ok=True)
    (run.folder / name).symlink_to(elsewhere)
    asked = queue.submit("point", np.zeros((1, 3)), MODEL)
    finish(queue)
    assert list(elsewhere.iterdir()) == []
    assert queue.jobs[0].state == ("failed" if name == "volumes" else "done")
    assert asked == ("point-001" if name == "volumes" else "point-002")


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
    assert jobs.arrived(run) == []
    assert jobs.find(run, "a/x") is None


def test_only_volumes_of_the_run_in_its_folder_are_opened(run, tmp_path):
    targets = Targets(np.zeros((2, 3)), ("one", "two"))
    reconstruct(run, targets, run.folder / "volumes" / "mine", MODEL)
    first, second = (found.file for found in jobs.arrived(run))
    (run.folder / first).rename(tmp_path / "moved.mrc")
    (run.folder / first).symlink_to(tmp_path / "moved.mrc")
    with pytest.raises(InputError, match="it is a link, not a file"):
        ViewerData(run).reconstruction(first)
    write_volume(run.folder / second, run.model.mean, 2.0, run_id="another")
    with pytest.raises(InputError, match="belongs to another run"):
        ViewerData(run).reconstruction(second)
    path = run.folder / "volumes" / "mine" / "volumes.json"
    path.write_text(path.read_text().replace(run.run_id, "0" * 32))
    assert jobs.arrived(run) == []


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
    told = write_reconstruction(folder, "one", made, place, VolumeSettings(), run.run_id)
    table = {
        "format": "solvar-volumes", "format_version": 1, "run_id": run.run_id, "settings": {},
        "particles": None, "pixel_size_angstrom": 2.0,
        "volumes": [{"name": "one", "z": [0, 0, 0], **told}],
    }  # fmt: skip
    (folder / "volumes.json").write_text(json.dumps(table))
    (found,) = jobs.arrived(run)
    np.testing.assert_allclose(found.fsc, curves.corrected, atol=1e-6)
    assert found.particles == 150 and found.resolution_angstrom == told["resolution_angstrom"]
