"""The program starts quickly because nothing heavy is loaded before it is used."""

import subprocess
import sys

import pytest

import solvar

HEAVY = (
    "torch", "numba", "scipy", "matplotlib", "pandas", "h5py", "sklearn", "starfile", "plotly", "jinja2",
)  # fmt: skip


def loaded_after(code: str) -> set[str]:
    """Heavy packages that are loaded once `code` has run in a fresh interpreter."""
    tail = f"\nimport sys; print('|', *[m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code + tail], capture_output=True, text=True, check=True
    )
    return set(done.stdout.rsplit("|", 1)[1].split())


def test_importing_solvar_loads_nothing_heavy():
    assert loaded_after("import solvar") == set()


def test_opening_a_run_loads_nothing_that_draws_or_computes():
    assert loaded_after("import solvar; solvar.Run") == set()


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments):
    code = (
        "from solvar.cli.main import app\n"
        f"try:\n    app({arguments})\nexcept SystemExit as end:\n    assert not end.code"
    )
    assert loaded_after(code) == set()


@pytest.mark.parametrize("name", solvar.__all__)
def test_every_public_name_can_be_imported(name):
    if name == "fit":
        pytest.importorskip("solvar.fitting.fit")
    if name == "evaluate":
        pytest.importorskip("solvar.evaluation.report")
    assert getattr(solvar, name) is not None
    assert name in dir(solvar)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = solvar.nonsense
