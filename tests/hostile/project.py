"""A small finished run with all that can lie in its folder, and the commands that read it, in process."""

from __future__ import annotations

import io
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import starfile
import typer
from typer.testing import CliRunner

from solvar.analysis import AnalysisSettings, analyze
from solvar.cli.main import app
from solvar.cli.options import failures_explained
from solvar.particles import ParticleSet, read_particles
from solvar.progress import SilentProgress
from solvar.report.html.page import page
from solvar.results.provenance import record
from solvar.results.run import Run
from solvar.results.writer import run_folder, write_run
from solvar.simulation import SimulationSettings, simulate
from synthetic import make_fit
from written import written_analysis

COUNT, BOX, PIXEL = 48, 16, 8.0
_PATIENCE = 20


@dataclass(frozen=True)
class Project:
    """Folders of a project; each test works on a copy of `run`.

    Attributes
    ----------
    run : Path
        A finished run with refined poses, picks, an analysis, volumes and a selection.
    other : Path
        A finished run of the same shape and another identity.
    truth : Path
        What the particles of both were simulated from.
    """

    run: Path
    other: Path
    truth: Path

    @contextmanager
    def copied(self, folder: Path) -> Iterator[Path]:
        """A copy of the run that may be spoilt; what is made beside it goes with it."""
        shutil.copytree(self.run, folder / "run", symlinks=True)
        try:
            yield folder / "run"
        finally:
            shutil.rmtree(folder)


@dataclass(frozen=True)
class Told:
    """How a command ended.

    Attributes
    ----------
    code : int
    sentence : str
        What it said of its failure.
    """

    code: int
    sentence: str = ""

    @property
    def is_sound(self) -> bool:
        """Whether it did its work, or refused in one sentence."""
        told = self.sentence
        one = told.startswith("solvar: ") and told.endswith(".") and "\n" not in told
        return self.code == 0 or (self.code == 2 and one and "Unexpected" not in told)


def make_project(folder: Path) -> Project:
    """Simulated particles, and two runs with made-up numbers on them."""
    settings = SimulationSettings(
        particles=COUNT, box_size=BOX, pixel_size=PIXEL, snr=1.0, shift_sd=1.0, seed=2
    )
    simulate(settings).write(folder / "truth")
    star = folder / "truth" / "particles.star"
    _add_picks(star)
    particles = read_particles(star)
    for name, seed in (("run", 0), ("other", 1)):
        _make_run(folder / name, particles, seed)
    return Project(folder / "run", folder / "other", folder / "truth")


def _add_picks(star: Path) -> None:
    blocks = starfile.read(star)
    for column, axis in enumerate("XY"):
        blocks["particles"][f"rlnCoordinate{axis}"] = 50.0 * (column + 1) + np.arange(COUNT)
    starfile.write(blocks, star, overwrite=True)


def _make_run(folder: Path, particles: ParticleSet, seed: int) -> None:
    scratch = folder.with_name(f"{folder.name}_scratch")
    scratch.mkdir()
    fit = make_fit(scratch, rank=2, count=COUNT, box=BOX, refined=True, seed=seed)
    model = replace(fit.model, pixel_size_angstrom=PIXEL)
    ours = replace(particles, poses=fit.particles.poses, halfset=fit.particles.halfset)
    with run_folder(folder) as own:
        # resumed, it is compared with the particles as they were read
        write_run(own, replace(fit, particles=ours, model=model), record(particles, fit.settings))
    run = Run(folder)
    quick = AnalysisSettings(clusters=2, grid=40, points=4)
    written_analysis(run, analyze(run, quick, SilentProgress()))
    done = _solvar("volume", folder, "--points", 2)
    assert done.code == 0, done
    (folder / "selections").mkdir()
    np.save(folder / "selections" / "mine.npy", np.arange(0, COUNT, 3))


def told_by(name: str, run: Path, project: Project) -> Told:
    """How a command that reads a run ends; a hang is an end, too."""

    def give_up(*_: Any) -> None:
        raise TimeoutError(f"{name} hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(_PATIENCE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return COMMANDS[name](run, project)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _solvar(*arguments: object) -> Told:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return Told(1, repr(done.exception))
    return Told(done.exit_code, _sentence(done.stderr) if done.exit_code else "")


def _sentence(stderr: str) -> str:
    """What was said last, behind the progress of what went well."""
    _, mark, sentence = stderr.partition("solvar: ")
    return f"{mark}{sentence}".strip()


def _explained(work: Callable[[], object]) -> Told:
    """The end of something that is no command by itself, told as one would."""
    said = io.StringIO()
    try:
        with redirect_stderr(said), failures_explained():
            work()
    except typer.Exit as end:
        return Told(end.exit_code, _sentence(said.getvalue()))
    return Told(0)


def _verify(run: Path, project: Project) -> Told:
    """What it finds is no failure of its own."""
    told = _solvar("verify", run)
    return told if told.sentence else Told(0)


def _analyze(run: Path, project: Project) -> Told:
    """Without its pictures, which take seconds."""
    with ExitStack() as patches:
        patches.enter_context(patch("solvar.report.analysis.draw_analysis", lambda *_: []))
        patches.enter_context(patch("solvar.report.html.write_report", lambda *_: None))
        return _solvar("analyze", run, "--clusters", 2, "--grid", 40, "--points", 4)


def _export(target: str, *options: object) -> Callable[[Path, Project], Told]:
    def run_export(run: Path, project: Project) -> Told:
        output = run.parent / target
        shutil.rmtree(output, ignore_errors=True)
        return _solvar("export", run, "--to", target, "-o", output, *options)

    return run_export


def _movie(run: Path, project: Project) -> Told:
    """Of the volumes that were made."""
    volumes = next((project.run / "volumes").iterdir()).name
    return _export("chimerax", "--volumes", run / "volumes" / volumes)(run, project)


def _resume(run: Path, project: Project) -> Told:
    star = project.truth / "particles.star"
    with ExitStack() as patches:
        for name in ("draw_figures", "write_report"):
            patches.enter_context(patch(f"solvar.job.{name}", lambda *_: None))
        options = ("--rank", 2, "--refine-pose", "--resume")
        return _solvar("run", star, "-o", run, *options)


def _view(run: Path, project: Project) -> Told:
    """The page as it is asked for, and everything that its controls can ask of the run."""
    from solvar.viewer import ViewerServer

    def look(server: ViewerServer) -> None:
        client = server.viewer.app.server.test_client()
        answer = client.get(f"/?token={server.viewer.guard.token}", base_url="http://127.0.0.1")
        assert answer.status_code == 200, answer
        _use_page(server.viewer.data)

    with patch.object(ViewerServer, "serve", look):
        return _solvar("view", run)


def _use_page(data: Any) -> None:
    from solvar.errors import InputError
    from solvar.viewer import figures, jobs, selections, viewing

    first, second, *_ = data.axes
    for colour in data.colourings:
        figures.latents(data, figures.Look((first, second), colour), {})
    for volume in jobs.arrived(data.run):
        figures.half_map_fsc(volume, False)
        try:
            viewing.reconstruction(data, volume.key, viewing.Contour(1.0))
        except InputError:
            continue  # the page tells it beside the volume
    for selection in selections.saved(data):
        selections.load(data, selection.name)
    viewing.model_at(data, [0.5] * data.rank, viewing.Contour(1.0))


COMMANDS: dict[str, Callable[[Path, Project], Told]] = {
    "analyze": _analyze,
    "report": lambda run, project: _explained(lambda: page(Run(run))),
    "volume": lambda run, project: _solvar("volume", run, "--points", 1, "-o", run.parent / "v"),
    "relion": _export("relion", "--latents"),
    "cluster": _export("cryodrgn", "--cluster", 1),
    "selected": lambda run, project: _export("relion", "--ind", run / "selections" / "mine.npy")(
        run, project
    ),
    "cryosparc": _export("cryosparc"),
    "chimerax": _export("chimerax"),
    "movie": _movie,
    "evaluate": lambda run, project: _solvar("evaluate", run, "--truth", project.truth),
    "resume": _resume,
    "verify": _verify,
    "view": _view,
}
