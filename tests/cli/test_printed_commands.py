"""What is printed as a command runs as it was meant, when it is pasted into a shell."""

from __future__ import annotations

import html
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from report.reports import make_run
from solvar.cli.demo import _print_result
from solvar.cli.main import app
from solvar.cli.summary import print_summary
from solvar.commands import command_line, explained
from solvar.errors import InputError
from solvar.export import ExportOptions, Selection, export
from solvar.report.html.page import page
from solvar.results.run import Run
from synthetic import make_fit
from written import written

NAMES = [
    *("two  words", "it's", 'a"b', "$(touch owned)", "`touch owned`", "a;b|c&d", "#a", "~", "*"),
    *("-x", "--overwrite", "[red]x[/red]", ":red_heart:", "back\\slash", "ü", "!x"),
    *("a\nb", "tab\there", "\x1b[31m'!\\1", "\x7f8", "z\u200bw\ufe0f\u3164", "a\u2066b\u2069"),
    *(f"a{chr(c)}b" for c in range(0x202A, 0x202F)),
]
HOSTILE = "-a  b's\n[red]\u202e$(touch owned)\u200b#\\:smile:"
LINE = re.compile(r"^ *(solvar .*)$", re.MULTILINE)


@pytest.fixture
def run_in_bash(tmp_path, monkeypatch):
    """Runs a line as a shell would; gives the words that the program `solvar` was called with."""
    programs, told = tmp_path / "bin", tmp_path / "told"
    programs.mkdir()
    (programs / "solvar").write_text('#!/bin/sh\nprintf "%s\\0" "$@" > "$TOLD"\n')
    (programs / "solvar").chmod(0o755)
    monkeypatch.setenv("TOLD", str(told))
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def run(line: str) -> list[str]:
        told.unlink(missing_ok=True)
        done = subprocess.run(["bash", "-c", line], capture_output=True)
        assert done.returncode == 0 and not done.stderr, (line, done.stderr)
        assert not (work / "owned").exists()
        return [os.fsdecode(word) for word in told.read_bytes().split(b"\0")[:-1]]

    return run


@pytest.mark.parametrize("name", [*NAMES, HOSTILE, "", os.fsdecode(b"caf\xe9"), "'" * 3])
def test_a_shell_reads_the_words_that_were_meant(run_in_bash, name):
    line = explained(command_line("solvar", "view", name), "why\n$(touch owned)\u202e")
    assert line.isprintable() and not re.search("[\ufe0f\u3164]", line)
    assert run_in_bash(line) == ["view", name]


def test_a_path_is_never_taken_for_an_option():
    assert command_line("solvar", "view", Path("-x"), "-x") == "solvar view ./-x -x"


def operand(name: str) -> str:
    return f"./{name}" if name.startswith("-") else name


@pytest.mark.parametrize("name", [*NAMES, HOSTILE])
def test_commands_after_a_run(run_in_bash, capsys, name):
    fit = make_fit(Path(), rank=2)
    fit = replace(fit, particles=replace(fit.particles, source=Path(name)))
    print_summary(written(Path(name), fit))
    printed = capsys.readouterr().out
    folder = operand(name)
    commands = [run_in_bash(line) for line in LINE.findall(printed.partition("Next\n")[2])]
    assert commands == [["analyze", folder], ["volume", folder], ["view", folder]]
    assert all(c.isprintable() for c in printed.replace("\n", ""))


def test_commands_after_an_analysis_in_its_report_and_after_a_demonstration(run_in_bash, capsys):
    make_run(Path(HOSTILE), rank=2, count=60)
    result = CliRunner().invoke(app, ["analyze", "--clusters", "2", "--", HOSTILE])
    assert result.exit_code == 0, result.output
    folder, analysis = operand(HOSTILE), operand(f"{HOSTILE}/analysis")
    commands = [run_in_bash(line) for line in LINE.findall(result.stdout.partition("Next\n")[2])]
    assert commands[0] == ["view", folder]
    for command in commands[1:]:
        name = "clusters" if command is commands[1] else "trajectory_[a-z]+"
        assert command[:3] == ["volume", folder, "--at"]
        assert re.fullmatch(rf"{re.escape(analysis)}/{name}\.csv", command[3])
    shown = re.findall(r"<code>(.*?)</code>", page(Run(HOSTILE)), re.DOTALL)
    pasted = [html.unescape(re.sub(r"<[^>]*>", "", each)) for each in shown]
    assert [run_in_bash(line) for line in pasted] == [
        ["view", folder],
        ["volume", folder, "--all-clusters"],
        ["export", folder, "--to", "relion", "--cluster", "1", "-o", "cluster1"],
    ]
    _print_result(Run(HOSTILE), Path(HOSTILE) / "truth", {}, Path(HOSTILE) / "x.png", 1.0)
    *_, last = LINE.findall(capsys.readouterr().out)
    assert run_in_bash(last) == ["evaluate", folder, "--truth", operand(f"{HOSTILE}/truth")]


def test_the_command_of_a_report_is_the_one_that_was_given(run_in_bash):
    given = ["run", HOSTILE, "-o", "a\tb", "it's", "--rank", "3"]
    fit = make_fit(Path(), rank=2)
    text = page(written(Path("run"), fit, ("/bin/solvar", *given)))
    shown = re.search(r">Command</th>\s*<td>(.*?)</td>", text, re.DOTALL).group(1)
    assert run_in_bash(html.unescape(shown)) == given
    # two blanks of a name stay two when they are copied from the page
    assert re.search(r"^code \{[^}]*white-space: pre-wrap", text, re.MULTILINE)
    assert re.search(r"^#record td \{[^}]*white-space: pre-wrap", text, re.MULTILINE)


def test_commands_in_remedies(run_in_bash):
    run = make_run(Path(HOSTILE), rank=2)
    with pytest.raises(InputError) as caught:
        export(run, "relion", "out", ExportOptions(Selection(clusters=(1,))))
    assert run_in_bash(re.search("`(solvar .*)`", str(caught.value)).group(1)) == [
        "analyze",
        operand(HOSTILE),
    ]


def test_check_ends_with_the_run_that_it_was_asked_about(run_in_bash, tiny_stack):
    source = Path("-my stack's.star")
    source.write_text((tiny_stack / "particles.star").read_text())
    given = ["--datadir", str(tiny_stack), "--rank", "2", "--no-halfsets", "--lazy"]
    result = CliRunner().invoke(app, ["check", *given, "--", str(source)])
    assert result.exit_code == 0, result.output
    (line,) = LINE.findall(result.stdout)
    command, particles, *options = run_in_bash(line)
    assert (command, particles) == ("run", f"./{source}")
    assert options == ["-o", "run", *given[2:], *given[:2]]
