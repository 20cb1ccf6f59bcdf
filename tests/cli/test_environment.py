"""Whatever environment a command is started in, it works or says in one sentence why it cannot."""

from __future__ import annotations

import inspect
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest
from typer.models import OptionInfo
from typer.testing import CliRunner

import solvar
from solvar.cli.main import COMMANDS, app
from solvar.cli.options import option_name
from solvar.errors import InputError
from solvar.fitting.settings import FitSettings
from solvar.particles import read_particles

BAD = os.fsdecode(b"na\xffve")


def invoked(*arguments) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stderr


def assert_sentence(code: int, errors: str, *words: str) -> None:
    sentence = errors.strip()
    assert code == 2 and sentence.startswith("solvar: ") and "\n" not in sentence, errors
    for word in words:
        assert word in sentence, sentence


# what torchrun would say to the first of two processes, and what makes nonsense of it
LAUNCH = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
NONSENSE = {
    "NUMBA_NUM_THREADS": ("0", "-1", "abc", "100000", "1.5"),
    "OMP_NUM_THREADS": ("abc", "100000", "4,0", "9" * 30),
    "LOKY_MAX_CPU_COUNT": ("abc",),
    "NUMBA_DISABLE_JIT": ("1",),
    "WORLD_SIZE": ("abc", "0", "-1", "1.5", "²"),
    "RANK": ("", "2", "-1", "abc"),
    "MASTER_PORT": ("", "0", "70000", "abc"),
    "MASTER_ADDR": ("",),
    "LOCAL_WORLD_SIZE": ("0", "3", "abc"),
    "LOCAL_RANK": ("2", "-1", "abc"),
}


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, values in NONSENSE.items() for v in values]
)
def test_nonsense_is_refused_by_its_name(tiny_stack, tmp_path, monkeypatch, name, value):
    about_processes = name in LAUNCH or name.startswith("LOCAL_")
    for other, good in LAUNCH.items() if about_processes else ():
        monkeypatch.setenv(other, good)
    monkeypatch.setenv(name, value)
    code, errors = invoked("run", tiny_stack / "particles.star", "-o", tmp_path / "run")
    assert_sentence(code, errors, name, "unset")
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize("number", ["0", "-1", "1025", "1" + "0" * 30])
@pytest.mark.parametrize(
    "command", ["run p.star -o run", "check p.star", "volume run", "demo -o demo"]
)
def test_an_absurd_number_of_threads_is_refused(tmp_path, monkeypatch, command, number):
    monkeypatch.chdir(tmp_path)
    code, errors = invoked(*command.split(), "--threads", number)
    assert code == 2 and "--threads" in errors and "1" in errors and "Traceback" not in errors
    assert not list(tmp_path.iterdir())


def _paths_of(command: str) -> list[tuple[str, list[str]]]:
    """Every parameter of a command that is a path, with a command line that gives it a bad name."""
    body = getattr(import_module(f"solvar.cli.{command}"), command)
    parameters = inspect.signature(body).parameters.values()

    def given(parameter: inspect.Parameter, value: str) -> list[str]:
        is_option = isinstance(parameter.annotation.__metadata__[0], OptionInfo)
        return [option_name(parameter.name), value] if is_option else [value]

    needed = {p.name: given(p, "x") for p in parameters if p.default is inspect.Parameter.empty}
    lines = [(p.name, {**needed, p.name: given(p, BAD)}) for p in parameters if _takes_path(p)]
    return [
        (name, [command, *(w for words in line.values() for w in words)]) for name, line in lines
    ]


def _takes_path(parameter: inspect.Parameter) -> bool:
    return "Path" in str(get_args(parameter.annotation)[0])


PATHS = {f"{c} {name}": line for c in COMMANDS for name, line in _paths_of(c)}


@pytest.mark.parametrize("line", PATHS.values(), ids=PATHS.keys())
def test_a_name_that_is_not_utf8_is_refused_at_once(tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    assert_sentence(*invoked(*line), r"na\udcffve", "UTF-8")
    assert not list(tmp_path.iterdir())


def test_library_calls_refuse_such_names_before_any_work(tiny_stack, tmp_path, monkeypatch):
    particles = read_particles(tiny_stack / "particles.star")
    with pytest.raises(InputError, match="UTF-8"):
        solvar.fit(particles, FitSettings(rank=1), tmp_path / BAD)
    with pytest.raises(InputError, match="UTF-8"):
        solvar.fit(particles, FitSettings(rank=1, mask=tmp_path / BAD), tmp_path / "run")
    shutil.copytree(tiny_stack, tmp_path / BAD)
    with pytest.raises(InputError, match="no star file can hold"):
        read_particles(tmp_path / BAD / "particles.star")
    monkeypatch.chdir(tmp_path / BAD)  # where images are looked for is written down
    with pytest.raises(InputError, match="UTF-8"):
        solvar.fit(read_particles(particles.source), FitSettings(rank=1), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_working_folder_that_is_gone_is_told(tmp_path):
    line = f'cd "{tmp_path}" && mkdir gone && cd gone && rmdir ../gone && '
    line += f'exec "{sys.executable}" -m solvar analyze "{tmp_path}"'
    result = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
    assert_sentence(result.returncode, result.stderr, "working folder is gone")


def _stranger() -> list[str] | None:
    """What starts a program as a user without a name who may write nothing here; None if nothing does."""
    keep = "+dac_read_search"  # read what root alone may, as an interpreter below /root
    for line in (
        ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups",
         f"--inh-caps={keep}", f"--ambient-caps={keep}"],
        ["unshare", "--user", "--map-user=12345"],
    ):  # fmt: skip
        test = [*line, sys.executable, "-c", "import os; os.getuid() == 12345 or 1 / 0"]
        if shutil.which(line[0]) and not subprocess.run(test, capture_output=True).returncode:
            return line
    return None


# what a command has no use for; each of it alone ended or spoiled one
ODD = {
    "HOME": "/dev/null/x",
    "TMPDIR": "/nonexistent",
    "MPLBACKEND": "nonsense",
    "PYTHONWARNINGS": "error",
    "TZ": "nonsense/x",
    "TERM": "nonsense",
    "COLUMNS": "abc",
    "LINES": "-3",
    "FORCE_COLOR": "nonsense",
    "LOKY_MAX_CPU_COUNT": "",
    "RANK": "3",
    "LOCAL_WORLD_SIZE": "abc",
}
UNSET = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "USER", "LOGNAME")


@pytest.fixture
def open_folder(tiny_stack):
    """A folder that everybody may write to, with particles; those of pytest are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(tiny_stack, folder / "stack")
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o777)
        yield folder


@pytest.mark.slow
def test_a_user_without_name_home_and_places_to_write_gets_a_run(open_folder):
    """In a folder with settings of other programs that may be anybody's."""
    stranger = _stranger()
    if stranger is None:
        pytest.skip("neither setpriv nor unshare can change the user here")
    (open_folder / "matplotlibrc").write_bytes(b"text.usetex: True\nbackend: tkagg\n\xff\n")
    (open_folder / ".numba_config.yaml").write_text("cache_dir: anybodys\n")
    environment = {name: value for name, value in os.environ.items() if name not in UNSET}
    environment = {**environment, **ODD}

    def command(*words: object) -> str:
        line = [*stranger, sys.executable, "-m", "solvar", *(str(word) for word in words)]
        result = subprocess.run(
            line, cwd=open_folder, env=environment, capture_output=True, text=True, timeout=240
        )
        assert result.returncode == 0, result.stderr
        for word in ("Traceback", "Exception", "Matplotlib", "solvar: "):
            assert word not in result.stderr, result.stderr
        return result.stderr

    run = "run stack/particles.star -o run --rank 1 --no-halfsets --interpolation trilinear"
    told = command(*run.split())
    assert "was not drawn" not in told and "was not written" not in told
    # not with unshare: who is root of the namespace owns the sources
    assert told.count("NUMBA_CACHE_DIR") == (1 if stranger[0] == "setpriv" else 0)
    command("analyze", "run", "--clusters", 2)
    left = {path.name for path in open_folder.iterdir()}
    assert left == {"matplotlibrc", ".numba_config.yaml", "stack", "run"}


def test_a_file_of_the_working_folder_cannot_say_from_where_compiled_code_is_loaded(tmp_path):
    """Numba reads .numba_config.yaml where it is started, if there is a reader of yaml."""
    (tmp_path / ".numba_config.yaml").write_text("cache_dir: anybodys\n")
    (tmp_path / "yaml.py").write_text("def safe_load(file): return {'cache_dir': 'anybodys'}\n")
    script = "import numba; print(repr(numba.config.CACHE_DIR))"
    environment = {name: value for name, value in os.environ.items() if name not in UNSET}

    def told(script: str) -> str:
        line = [sys.executable, "-c", script]
        result = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
        return result.stdout.strip()

    assert told(script) == "'anybodys'"
    assert told(f"from solvar.cli.environment import settle; settle(); {script}") == "''"


def _limited(gib: float, *arguments: object) -> subprocess.CompletedProcess[str]:
    size = int(gib * 2**30)
    return subprocess.run(
        [sys.executable, "-m", "solvar", *(str(argument) for argument in arguments)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size)),
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere address space cannot be limited")
def test_little_address_space_is_enough_or_refused_before_libraries_are_loaded(
    tiny_stack, tmp_path
):
    star, output = tiny_stack / "particles.star", tmp_path / "run"
    result = _limited(1.5, "run", star, "-o", output, "--rank", 1, "--no-halfsets")
    assert result.returncode == 0, result.stderr
    assert (output / "run.json").is_file()
    for arguments in (("run", star, "-o", tmp_path / "small"), ("volume", output), ("doctor",)):
        result = _limited(0.75, *arguments)
        assert result.returncode == 1 and result.stderr.count("\n") == 1, result.stderr
        assert "limited to 0.75 GiB" in result.stderr and "takes 1.25 GiB" in result.stderr
    assert not (tmp_path / "small").exists()
    assert _limited(0.75, "--help").returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere address space cannot be limited")
def test_free_memory_ends_where_the_address_space_does():
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)); "
        "from solvar.machine import available_memory; print(available_memory())"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert 0 < int(result.stdout) < 1 << 30
