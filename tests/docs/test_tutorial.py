"""The tutorials, executed: every ```bash block, in order, as a reader would type it.

A block that cannot be run stands behind a line ``<!-- not run: reason -->``.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path

import numpy as np
import pytest

from other_formats import write_cryosparc
from solvar.particles import ImageStack, read_particles
from solvar.results.run import Run
from solvar.simulation import SimulationSettings, simulate

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"(<!-- not run: .+ -->\n)?^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A file that a page names in running text or prints in code: a folder of the tutorial, and a suffix.
NAMED = re.compile(r"`((?:run|motion|path|chimerax|cluster1|example)/[\w/.-]+\.\w+)`")


def blocks(page: Path) -> list[str]:
    """The commands of a page that are to be executed."""
    return [commands for skipped, commands in BLOCK.findall(page.read_text()) if not skipped]


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """A folder to work in, with this checkout's `solvar` first on the path."""
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "solvar"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m solvar "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def follow(page: Path) -> None:
    """Execute a page; a viewer is opened, looked at, and ended with Ctrl-C."""
    for commands in blocks(page):
        if "solvar view" in commands:
            look_at_viewer(commands)
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands], capture_output=True, text=True
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"


def look_at_viewer(command: str) -> None:
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # a shell that runs tests in the background hands down that Ctrl-C is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        printed = ""
        while "Ctrl-C" not in printed:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            printed += line
        address = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", printed)
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        assert b"solvar" in browser.open(address.group(), timeout=30).read()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0


def is_there(page: Path) -> None:
    """Every file that the page names was made."""
    named = set(NAMED.findall(page.read_text()))
    assert named, "the page names no file"
    assert [name for name in sorted(named) if not Path(name).is_file()] == []


def refinement_job(folder: Path) -> None:
    """A cryoSPARC job as the tutorial has it: alignments in one file, images and CTF in the other."""
    settings = SimulationSettings(particles=1000, box_size=32, pixel_size=6, snr=0.2, shift_sd=1)
    simulate(settings).write(folder)
    write_cryosparc(read_particles(folder / "particles.star"), folder / "all.cs")
    table = np.load(folder / "all.cs")
    aligned = [name for name in table.dtype.names if name.startswith("alignments3D/")]
    rest = [name for name in table.dtype.names if name not in aligned and name != "uid"]
    for name, columns in (("J42_particles", aligned), ("J42_passthrough_particles", rest)):
        part = np.empty(len(table), [(c, table.dtype[c]) for c in ["uid", *columns]])
        for column in part.dtype.names:
            part[column] = table[column]
        with (folder / f"{name}.cs").open("wb") as file:
            np.save(file, part)
    (folder / "all.cs").unlink()


def loaded(path: Path) -> int:
    """Read a particle file by its own name, from its folder, from elsewhere and by the command line."""
    counts = set()
    for folder in (Path.cwd(), path.parent, Path("/")):
        with contextlib.chdir(folder):
            particles = read_particles(path)
            ImageStack(particles).read([0, len(particles) - 1])
            counts.add(len(particles))
    checked = ["solvar", "check", path.absolute(), "--rank", "1"]
    done = subprocess.run(checked, cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (count,) = counts
    return count


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_tutorial_from_a_relion_job_does_what_it_says(shell):
    pytest.importorskip("dash", reason="solvar[view] is not installed")
    follow(DOCS / "tutorial-relion.md")
    is_there(DOCS / "tutorial-relion.md")
    count = loaded(shell / "cluster1" / "particles.star")
    assert 0 < count == loaded(shell / "cluster1.cs") < 2000
    assert loaded(shell / "run" / "particles.star") == 2000
    selected(shell, "relion", ".star")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_tutorial_from_a_cryosparc_job_does_what_it_says(shell):
    pytest.importorskip("dash", reason="solvar[view] is not installed")
    refinement_job(shell / "J42")
    follow(DOCS / "tutorial-cryosparc.md")
    is_there(DOCS / "tutorial-cryosparc.md")
    exported = np.load(shell / "cluster1" / "particles.cs")
    job = np.load(shell / "J42" / "J42_particles.cs")
    assert 0 < loaded(shell / "cluster1" / "particles.cs") == len(exported) < len(job)
    rows = job[np.isin(job["uid"], exported["uid"])]
    for name in job.dtype.names:
        np.testing.assert_array_equal(exported[name], rows[name])
    assert loaded(shell / "run" / "particles.star") == len(job)
    selected(shell, "cryosparc", ".cs")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_tutorial_from_tilt_series_does_what_it_says(shell):
    follow(DOCS / "tutorial-tilt-series.md")
    is_there(DOCS / "tutorial-tilt-series.md")
    assert 0 < loaded(shell / "cluster1" / "particles.star") < 300
    assert loaded(shell / "run" / "particles.star") == 300


def selected(shell: Path, to: str, suffix: str) -> None:
    """What the page of the viewer does for a selection that is saved and exported."""
    from solvar.viewer import selections
    from solvar.viewer.data import ViewerData

    data = ViewerData(Run(shell / "run"))
    selections.save(data, "three", np.array([0, 5, 7]))
    assert selections.send(data, "three", to).particles == 3
    assert loaded(shell / "run" / "selections" / f"three{suffix}") == 3
