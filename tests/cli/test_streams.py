"""Whatever becomes of what a command prints, the work is done and the exit code tells how it went."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import solvar
from solvar.progress import SilentProgress, harmless
from solvar.simulation import SimulationSettings

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
# what a shell is told to do with the streams; "gone" is a pipe whose reader has left
STREAMS = {
    "closed": "<&- >&- 2>&-",
    "full": ">/dev/full 2>/dev/full",
    "full, stderr seen": ">/dev/full",
    "read-only": ">&0 2>&0 </dev/null",
    "gone": "",
    "ascii": "",
}
# in a folder with particles in `stack` and a run in `run`
COMMANDS = {
    "run": "run stack/particles.star -o again --rank 2 --no-halfsets --overwrite",
    "analyze": "analyze run --clusters 2",
    "evaluate": "evaluate run --truth stack",
    "volume": "volume run --points 2 --json --overwrite",
    "export": "export run --to relion -o out.star --overwrite",
    "check": "check stack/particles.star",
    "simulate": "simulate -o more -n 12 --box-size 16",
    "doctor": "doctor --json",
    "help of a command": "run --help",
    "help": "--help",
    "version": "--version",
}
LEFT = {"run": "again/run.json", "analyze": "run/analysis/clusters.csv", "export": "out.star"}


def ended(folder: Path, streams: str, command: str) -> tuple[int, str, str]:
    """Exit code of a command with its streams treated so, and what was seen of them."""
    line = [sys.executable, "-m", "solvar", *command.split()]
    program = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {STREAMS[streams]}', "sh", *line],
        cwd=folder, env={**os.environ, **(ASCII if streams == "ascii" else {})},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    if streams == "gone":
        program.stdout.close()
        program.stderr.close()
        return program.wait(timeout=120), "", ""
    output, errors = program.communicate(timeout=120)
    return program.returncode, output.decode("ascii"), errors.decode()


@pytest.fixture(scope="module")
def project(tiny_stack, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(tiny_stack, folder / "stack")
    particles = solvar.read_particles(folder / "stack" / "particles.star")
    solvar.fit(particles, solvar.FitSettings(rank=2, halfsets=False), folder / "run")
    return folder


# the doctor loads everything and takes long
QUICK = [name for name in COMMANDS if name != "doctor"]
TURNS = [(name, list(STREAMS)[turn % len(STREAMS)]) for turn, name in enumerate(QUICK)]
# a third of all pairs: every command meets two kinds, every kind a few commands
OTHERS = [
    (name, streams)
    for turn, name in enumerate(COMMANDS)
    for kind, streams in enumerate(STREAMS)
    if (turn + kind) % 3 == 1
]


@pytest.mark.parametrize(
    ("name", "streams"),
    [
        *TURNS,
        *(pytest.param(*each, marks=pytest.mark.slow) for each in OTHERS if each not in TURNS),
    ],
)
def test_a_command_ends_well_whatever_becomes_of_its_output(project, name, streams):
    shutil.rmtree(project / "more", ignore_errors=True)
    left = project / LEFT.get(name, "run/run.json")
    if name in LEFT:
        left.unlink(missing_ok=True)
    code, output, errors = ended(project, streams, COMMANDS[name])
    assert code == 0, errors
    assert "Traceback" not in errors and "Exception ignored" not in errors
    assert left.is_file()
    if streams == "ascii" and "--json" in COMMANDS[name]:
        assert json.loads(output)


def test_json_holds_no_escapes_but_those_of_json(tmp_path, tiny_stack):
    """In ASCII an Å becomes \\u00c5, which is JSON, and not \\xc5, which is not."""
    script = "from solvar.cli import console, streams; streams.make_output_harmless(); "
    script += "console.print_json({'name': '\\xc5 \\u03c3 \\U0001f600'}); print('\\xc5')"
    result = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **ASCII}, capture_output=True, check=True
    )
    *lines, last = result.stdout.decode("ascii").splitlines()
    assert json.loads("".join(lines)) == {"name": "Å σ 😀"} and last == r"\xc5"


@pytest.mark.parametrize("streams", ["closed", "full", "gone"])
def test_a_failure_keeps_its_exit_code(tmp_path, streams):
    assert ended(tmp_path, streams, "run missing.star -o run")[0] == 2


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path):
    """C libraries print to descriptors 1 and 2, whatever these are."""
    script = (
        "import os; from solvar.cli.streams import make_output_harmless; make_output_harmless(); "
        "file = open('result', 'w'); os.write(1, b'noise'); os.write(2, b'noise'); print('noise')"
    )
    line = f'exec "{sys.executable}" -c "{script}" <&- >&- 2>&-'
    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True)
    assert (tmp_path / "result").read_bytes() == b""


def test_a_pipe_that_does_not_block_loses_nothing():
    """As node.js makes them: what does not fit waits for the reader."""
    script = (
        "import os; from solvar.cli.streams import make_output_harmless; make_output_harmless(); "
        "os.set_blocking(1, False); print('x' * 1_000_000)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert len(result.stdout) == 1_000_001


def test_without_buffers_a_word_is_written_at_once():
    script = (
        "import os; from solvar.cli.streams import make_output_harmless; make_output_harmless(); "
        "print('one', end=''); os._exit(0)"
    )
    line = [sys.executable, "-u", "-c", script]
    assert subprocess.run(line, capture_output=True, check=True).stdout == b"one"


class Broken(SilentProgress):
    """A progress object whose stream is gone."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def step(self, name, total, unit="particles"):
        if name == "enters":
            return super().step(name, total, unit)
        raise self.error

    def message(self, text):
        raise self.error


@pytest.mark.parametrize("error", [OSError(28, "full"), ValueError("I/O operation on closed file")])
def test_a_progress_object_that_cannot_write_does_not_end_a_library_call(error):
    progress = harmless(Broken(error))
    progress.message("σ")
    with progress.step("fails", 2) as step:
        step.advance()
        step.note("half")
    with pytest.raises(KeyError), progress.step("enters", 1):
        raise KeyError  # what the work itself raises passes
    with pytest.raises(type(error)), progress.step("enters", 1):
        raise error
    drawn = solvar.simulate(SimulationSettings(particles=12, box_size=16), Broken(error))
    assert drawn.scale > 0


def test_whoever_watches_can_stop_the_work():
    with pytest.raises(KeyboardInterrupt):
        harmless(Broken(KeyboardInterrupt())).message("go on?")
