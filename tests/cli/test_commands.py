"""What the person at the keyboard meets: help, sentences for bad input, exit codes, results."""

import json
import re
import sys
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

import pytest
from typer.testing import CliRunner

import solvar
from solvar.cli import doctor
from solvar.cli.main import COMMANDS, app
from solvar.errors import InputError, SolvarError
from solvar.fitting.settings import FitSettings
from solvar.results.run import Run
from synthetic import make_fit, make_particles
from written import written


def solvar_command(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def particles_file(tmp_path, monkeypatch):
    """A path that reads as synthetic particles."""
    particles = make_particles(tmp_path, count=40, box=16)
    monkeypatch.setattr("solvar.particles.read_particles", lambda path, **_: particles)
    return particles.source


@pytest.fixture
def estimator(monkeypatch, tmp_path):
    """Stands in for the estimator; returns the list of settings that it was called with."""
    calls = []

    def fit(particles, settings, progress, workspace, processes):
        calls.append(settings)
        with progress.step("levels", 40) as step:
            step.advance(40)
            step.note("last")
        return make_fit(tmp_path, rank=settings.rank, halfsets=settings.halfsets)

    module = ModuleType("solvar.fitting.fit")
    module.fit = fit
    monkeypatch.setitem(sys.modules, "solvar.fitting.fit", module)
    monkeypatch.setattr("solvar.preflight.cost.announce", lambda *_: None)
    monkeypatch.delitem(sys.modules, "solvar.job", raising=False)
    yield calls
    sys.modules.pop("solvar.job", None)


def assert_sentence(result, code, *words):
    """One sentence on stderr, no traceback, the given exit code."""
    assert result.exit_code == code, result.output
    sentence = result.stderr.strip()
    assert "Traceback" not in sentence
    assert sentence.startswith("solvar: ") and sentence.endswith("."), sentence
    assert "\n" not in sentence
    for word in words:
        assert word in sentence


def test_help_lists_every_command_with_the_first_line_of_its_own_help():
    listed = re.sub(r"[\s│]+", " ", solvar_command("--help").stdout)
    for name, help_line in COMMANDS.items():
        assert help_line in listed
        own = import_module(f"solvar.cli.{name}")
        assert getattr(own, name).__doc__.splitlines()[0] == help_line


def test_version_is_printed():
    assert solvar_command("--version").stdout.strip() == f"solvar {solvar.__version__}"


def test_every_setting_is_an_option_of_run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text = solvar_command("run", "--help").stdout
    for name in FitSettings.model_fields:
        assert f"--{name.replace('_', '-')}" in text
    for flag in ("--zdim", "--no-halfsets", "--datadir", "--ind", "--passthrough", "--overwrite"):
        assert flag in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rank", 0], ["--rank 0", "greater than or equal to 1"]),
        (["--zdim", 1000], ["--rank 1000"]),
        (["--upsampling", 9], ["--upsampling 9"]),
        (["--mask-diameter", -3], ["--mask-diameter -3"]),
        (["--downsample", 4], ["--downsample 4"]),
    ],
)
def test_setting_out_of_range_is_named(tmp_path, arguments, words):
    result = solvar_command("run", "p.star", "-o", tmp_path / "run", *arguments)
    assert_sentence(result, 2, *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "p.star"],
        ["run", "p.star", "-o", "run", "--rank", "many"],
        ["run", "p.star", "-o", "run", "--interpolation", "magic"],
        ["run", "p.star", "-o", "run", "--no-such-option"],
        ["nonsense"],
        ["evaluate", "run"],
    ],
)
def test_misspelled_command_line_ends_with_2(arguments):
    assert solvar_command(*arguments).exit_code == 2


@pytest.mark.parametrize("command", ["run", "check"])
def test_missing_particle_file_is_one_sentence(tmp_path, command):
    extra = ["-o", tmp_path / "run"] if command == "run" else []
    result = solvar_command(command, tmp_path / "missing.star", *extra)
    assert_sentence(result, 2, "missing.star")
    assert not (tmp_path / "run" / "run.json").exists()


def test_finished_run_is_refused_before_particles_are_read(tmp_path):
    (tmp_path / "run.json").touch()
    result = solvar_command("run", tmp_path / "missing.star", "-o", tmp_path)
    assert_sentence(result, 2, "already holds a finished run", "--overwrite")


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (InputError("defocus is missing", file="p.star", row=6), 2, ["p.star, row 7"]),
        (SolvarError("The fit did not converge."), 1, ["did not converge"]),
        (ZeroDivisionError("division by zero"), 1, ["Unexpected", "--debug"]),
        (MemoryError(), 1, ["memory", "--downsample"]),
        (KeyboardInterrupt(), 130, ["Stopped"]),
        (FileNotFoundError(2, "No such file or directory", "x.mrcs"), 1, ["x.mrcs"]),
    ],
)
def test_each_kind_of_failure_has_its_exit_code(tmp_path, monkeypatch, error, code, words):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("solvar.particles.read_particles", fail)
    result = solvar_command("run", "p.star", "-o", tmp_path / "run")
    assert_sentence(result, code, *words)


def test_debug_shows_the_traceback(tmp_path):
    result = solvar_command("run", tmp_path / "missing.star", "-o", tmp_path / "run", "--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr


def test_run_writes_the_folder_and_says_what_to_look_at(tmp_path, particles_file, estimator):
    output = tmp_path / "run"
    result = solvar_command("run", particles_file, "-o", output, "--zdim", 2, "--seed", 3)
    assert result.exit_code == 0, result.output
    assert estimator == [FitSettings(rank=2, seed=3)]
    assert Run(output).rank == 2
    assert len(Run(output).figures) == 7
    for words in ("share of variance", "peak memory", "Two optics groups", "2_motion.png"):
        assert words in result.stdout
    assert "levels: 40 particles in" in result.stderr


def test_run_prints_json_alone_on_stdout(tmp_path, particles_file, estimator):
    output = tmp_path / "run"
    result = solvar_command("run", particles_file, "-o", output, "--no-halfsets", "--json")
    content = json.loads(result.stdout)
    assert content["rank"] == 10
    assert estimator[0].halfsets is False
    assert len(content["stages"]) == 2


def test_summary_says_when_nothing_moves(tmp_path):
    from dataclasses import replace

    from solvar.results.words import headline

    fit = make_fit(tmp_path)
    nothing = replace(fit.validation, reliable=fit.validation.reliable & False)
    fit = replace(fit, validation=nothing)
    written(tmp_path / "run", fit)
    assert headline(Run(tmp_path / "run")).startswith("No heterogeneity was detected")


def test_check_ends_with_2_on_an_error(particles_file, monkeypatch):
    @dataclass
    class Finding:
        level: str
        topic: str
        text: str

    @dataclass
    class Report:
        findings: list
        ok: bool

    module = ModuleType("solvar.preflight.check")
    module.check_particles = lambda *_, every_image, **__: Report(
        [Finding("error", "images", f"[NaN] in row 3, all={every_image}")], ok=False
    )
    monkeypatch.setitem(sys.modules, "solvar.preflight.check", module)
    result = solvar_command("check", particles_file, "--all")
    assert result.exit_code == 2
    assert "[NaN] in row 3, all=True" in result.stdout
    content = json.loads(solvar_command("check", particles_file, "--json").stdout)
    assert content["findings"][0]["level"] == "error"


def test_simulate_writes_particles_once(tmp_path):
    arguments = ["simulate", "-o", tmp_path / "set", "-n", 12, "--box-size", 16, "--snr", 1]
    result = solvar_command(*arguments)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "set" / "particles.star").is_file()
    assert_sentence(solvar_command(*arguments), 2, "already holds")


def test_settings_that_contradict_each_other_are_a_sentence(tmp_path):
    result = solvar_command(
        "simulate", "-o", tmp_path / "set", "--defocus-min", 20000, "--defocus-max", 1000
    )
    assert_sentence(result, 2, "defocus")


def test_evaluate_names_the_folder_that_is_no_run(tmp_path):
    result = solvar_command("evaluate", tmp_path / "nowhere", "--truth", tmp_path)
    assert_sentence(result, 2, "nowhere")


def test_doctor_tries_numba_on_a_gpu_before_it_says_that_it_works(monkeypatch):
    from numba import cuda

    def outdated(*arguments, **options):
        raise AttributeError("module 'numpy' has no attribute 'row_stack'")

    monkeypatch.setattr(cuda, "is_available", lambda: True)
    monkeypatch.setattr("solvar.imaging.projector.make_projector", outdated)
    level, _, text = doctor._numba_cuda()
    assert level == "warning"
    assert "row_stack" in text and "works" not in text


def test_doctor_finds_this_machine_healthy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = solvar_command("doctor", "--json")
    assert result.exit_code == 0, result.output
    topics = {finding["topic"] for finding in json.loads(result.stdout)["findings"]}
    assert topics >= {"versions", "machine", "numba", "torch", "figures", "disk"}
    assert not list(tmp_path.iterdir())
