"""What other distributions add by entry points works as if it were built in, and breaks nothing."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from made_up import distribution
from solvar import plugins
from solvar.cli import doctor
from solvar.errors import InputError
from solvar.estimation.objectives import OBJECTIVES
from solvar.estimation.poses import SOLVERS
from solvar.fitting import settings as fit_settings
from solvar.fitting.fit import fit
from solvar.fitting.settings import FitSettings
from solvar.imaging.fourier import HalfDisc
from solvar.imaging.projector import make_projector
from solvar.particles import read_particles
from solvar.particles.registry import FORMATS
from solvar.results.record import settings_of
from solvar.volumes import settings as volume_settings
from solvar.volumes.methods import METHODS
from solvar.volumes.settings import VolumeSettings

WORKING = """
    from solvar.estimation.objectives import MaximumLikelihood
    from solvar.estimation.poses import GaussNewton
    from solvar.imaging.projector.numba_backend import make
    from solvar.particles import relion
    from solvar.particles.table import Format

    devices = ("cpu",)
    OBJECTIVE, SOLVER = MaximumLikelihood(), GaussNewton()
    FORMAT = Format(
        "relion",
        lambda path: path.suffix == ".json",
        lambda path, reading: relion.read(path.with_name("particles.star"), reading),
    )

    def method(source, run, settings):
        ...
"""
ENTRIES = """
    [solvar.objectives]
    other = good:OBJECTIVE
    [solvar.pose_solvers]
    other = good:SOLVER
    [solvar.projectors]
    other = good
    [solvar.volume_methods]
    other = good:method
    [solvar.formats]
    other = good:FORMAT
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder on the path, whose modules are forgotten after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def good(place):
    """A distribution that adds one of everything under the name "other"."""
    distribution(place, "good", WORKING, ENTRIES)


def test_settings_take_the_names_that_a_distribution_adds(good):
    chosen = {"objective": "other", "pose_solver": "other", "backend": "other", "solver": "adam"}
    assert FitSettings(**chosen).model_dump().items() >= chosen.items()
    assert VolumeSettings(method="other").method == "other"
    assert callable(METHODS["other"])
    assert OBJECTIVES["other"].gradient and SOLVERS["other"].steps
    with pytest.raises(ValidationError, match="give --solver adam with --objective other"):
        FitSettings(objective="other")


def test_a_backend_that_is_added_makes_projectors_on_its_devices(good):
    rotation, disc = np.eye(3, dtype=np.float32)[None], HalfDisc.of_radius(3)
    volumes = np.random.default_rng(0).normal(size=(1, 8, 8, 8)).astype(np.float32)
    seen = []
    for backend in ("other", "numba"):
        projector = make_projector(8, disc, backend=backend)
        scale = np.ones((1, len(disc)), np.float32)
        seen.append(projector.project(projector.prepare(volumes), rotation, scale))
    np.testing.assert_array_equal(*seen)
    with pytest.raises(InputError, match="other does not run on cuda"):
        make_projector(8, disc, backend="other", device="cuda")


@pytest.mark.slow
def test_a_fit_with_what_was_added_is_that_of_what_it_is_made_of(good, tiny_stack):
    particles = read_particles(tiny_stack / "particles.star")
    settings = {"rank": 1, "resolution": 30, "refine_pose": True, "pose_solver": "other"}
    found = [
        fit(particles, FitSettings(**settings, backend="other")),
        fit(particles, FitSettings(**(settings | {"pose_solver": "newton"}))),
    ]
    np.testing.assert_array_equal(*(each.posterior.z for each in found))
    np.testing.assert_array_equal(*(each.particles.poses.rotation for each in found))


def test_doctor_tells_what_is_added_and_what_is_broken(good, place):
    distribution(
        place, "broken", "raise RuntimeError('no license')", "[solvar.formats]\nbad = broken\n"
    )
    rows = doctor._plugins()
    assert len(rows) == 6
    assert ("ok", "plug-ins", "objective 'other' of good") in rows
    assert [text for level, _, text in rows if level == "warning"] == [
        "the plug-in 'bad' of broken cannot be loaded (RuntimeError: no license); mend or remove broken."
    ]


def test_a_format_that_is_added_reads_what_no_built_in_one_knows_under_its_own_name(
    good, place, tiny_stack
):
    shutil.copytree(tiny_stack, place / "stack")
    (place / "stack" / "particles.json").write_text("{}")
    found = read_particles(place / "stack" / "particles.json")
    # not "relion", as it calls itself: that would have its rows written back as RELION's
    assert found.source_format == "other"
    np.testing.assert_array_equal(
        found.poses.rotation, read_particles(tiny_stack / "particles.star").poses.rotation
    )


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("raise RuntimeError('no license')", r"cannot be loaded \(RuntimeError: no license\)"),
        ("import nothing_of_this_name", r"cannot be loaded \(ModuleNotFoundError: .*\)"),
        ("raise SystemExit(3)", r"cannot be loaded \(SystemExit: 3\)"),
        ("", r"cannot be loaded \(AttributeError: .*\)"),
        ("THING = 1", "is no objective: it has no gradient"),
    ],
)
def test_a_broken_plugin_is_told_in_one_sentence(place, source, told):
    distribution(place, "broken", source, "[solvar.objectives]\nbad = broken:THING\n")
    settings = FitSettings(objective="bad", solver="adam")
    with pytest.raises(
        InputError, match=f"^the plug-in 'bad' of broken {told}; mend or remove broken.$"
    ):
        OBJECTIVES[settings.objective]
    assert OBJECTIVES["ml"].gradient


def test_a_broken_format_leaves_others_alone_and_is_told_where_nobody_knows_a_file(
    good, place, tiny_stack
):
    source = """
        def read(path, reading): ...
        def recognises(path): return 1 / 0
    """
    entries = "[solvar.formats]\nbad = broken\nworse = broken:MISSING\n"
    distribution(place, "broken", source, entries)
    assert read_particles(tiny_stack / "particles.star").source_format == "relion"
    shutil.copytree(tiny_stack, place / "stack")
    for name in ("particles.json", "particles.xyz"):
        (place / "stack" / name).write_text("?")
    assert len(read_particles(place / "stack" / "particles.json")) == 400
    with pytest.raises(InputError) as told:
        read_particles(place / "stack" / "particles.xyz")
    assert "'bad' of broken failed (ZeroDivisionError: division by zero)" in str(told.value)
    assert "'worse' of broken cannot be loaded" in str(told.value)


def test_no_distribution_takes_a_built_in_name(place, tiny_stack):
    entries = "[solvar.objectives]\nml = thief\n[solvar.formats]\nrelion = thief\n"
    distribution(place, "thief", "raise RuntimeError('imported')", entries)
    assert FitSettings().objective == "ml"
    assert type(OBJECTIVES["ml"]).__module__.startswith("solvar.")
    (place / "unknown.xyz").write_text("?")
    with pytest.raises(InputError) as told:
        read_particles(place / "unknown.xyz")
    assert "thief" not in str(told.value)


def test_names_that_are_no_words_are_never_found(place):
    entries = (
        "[solvar.volume_methods]\n../up = odd:f\n--output = odd:f\n a b = odd:f\nfine = odd:f\n"
    )
    distribution(place, "odd", "def f(*_): ...", entries)
    assert [plugin.name for plugin in plugins.plugins(plugins.VOLUME_METHODS)] == ["fine"]


def test_a_damaged_distribution_hides_no_other(good, place):
    distribution(place, "aaa", "", "[solvar.objectives]\nthis line has no value\n")
    assert OBJECTIVES["other"].gradient


def test_a_name_of_two_distributions_is_nobodys(good, place):
    distribution(place, "second", "", "[solvar.objectives]\nother = second\n")
    with pytest.raises(
        InputError, match=r"(good and second|second and good) all add the objective"
    ):
        OBJECTIVES["other"]


def test_names_that_nobody_adds_are_refused_with_those_there_are(good):
    with pytest.raises(ValidationError, match="no such objective; choose one of ml, ls, other"):
        FitSettings(objective="nonsense")
    with pytest.raises(ValidationError, match="no such method; choose one of kernel, reproject"):
        VolumeSettings(method="nonsense")
    with pytest.raises(InputError, match="there is no objective 'nonsense'"):
        OBJECTIVES["nonsense"]


def test_built_in_names_are_used_without_asking_any_distribution(monkeypatch, tiny_stack):
    def refuse(group):
        raise AssertionError(group)

    monkeypatch.setattr(plugins, "plugins", refuse)
    FitSettings(backend="torch", objective="ls", solver="adam", pose_solver="adam")
    assert read_particles(tiny_stack / "particles.star").source_format == "relion"
    make_projector(8, HalfDisc.of_radius(3))


def test_settings_of_a_run_can_be_read_where_its_plugins_are_not_installed():
    recorded = json.loads(FitSettings(solver="adam").model_dump_json())
    recorded["objective"] = "elsewhere"
    found = settings_of({"settings": recorded}, Path("run.json"))
    assert found.objective == "elsewhere"
    recorded["objective"] = "../elsewhere"
    with pytest.raises(InputError, match=r"column settings.objective: nothing is called so"):
        settings_of({"settings": recorded}, Path("run.json"))


def test_settings_name_what_there_is():
    assert set(OBJECTIVES) == set(fit_settings._CHOICES["objective"][1])
    assert set(SOLVERS) == set(fit_settings._CHOICES["pose_solver"][1])
    assert {*METHODS, "reproject"} == set(volume_settings._METHODS)
    assert {group.name for group in plugins.GROUPS} == {
        f"solvar.{kind}"
        for kind in ("formats", "projectors", "objectives", "pose_solvers", "volume_methods")
    }
    assert all(hasattr(each, need) for each in FORMATS for need in plugins.FORMATS.needs)
