"""The report holds what the run holds, says no more than that, and loads and runs nothing foreign."""

from dataclasses import replace

import numpy as np
import pytest

from report.reports import Page, content, make_run, numbers
from solvar.progress import SilentProgress
from solvar.report.html import page as page_module
from solvar.report.html.page import page
from solvar.report.html.words import half_power, half_size, what_moves
from solvar.report.volumes import window
from solvar.results.run import Run
from solvar.results.supported import supported_model
from synthetic import make_fit
from written import written, written_report

ALWAYS = {"summary", "motion", "particles", "components", "record", "cite"}


@pytest.mark.parametrize(
    ("kind", "sections", "charts"),
    [
        ({"rank": 3}, {"resolution"}, {"spectrum", "noise", "mean_fsc", "component_fsc"}),
        ({"rank": 1}, {"resolution"}, {"spectrum", "noise", "mean_fsc", "component_fsc"}),
        ({"rank": 2, "halfsets": False}, set(), {"spectrum", "noise"}),
        (
            {"rank": 2, "halfsets": False, "refined": True},
            {"poses"},
            {"spectrum", "noise", "poses"},
        ),
        (
            {"rank": 2, "halfsets": False, "analysed": True},
            {"analysis"},
            {"spectrum", "noise", "landscape", "associations", "coverage"},
        ),
        (
            {"rank": 1, "halfsets": False, "analysed": True},
            {"analysis"},
            {"spectrum", "noise", "associations", "coverage"},
        ),
    ],
)
def test_report_has_a_section_for_everything_that_there_is(tmp_path, kind, sections, charts):
    html = page(make_run(tmp_path / "run", count=60, **kind))
    found = Page(html)
    assert found.anchors == ALWAYS | sections
    assert found.charts == charts == set(content(html)["figures"])
    links = {a["href"][1:] for tag, a in found.elements if tag == "a" and a["href"][0] == "#"}
    assert links == found.anchors


def test_text_of_files_is_shown_and_not_obeyed(tmp_path):
    evil = "<script>alert(1)<!--</script><img src=x onerror=alert(2)>"
    fit = make_fit(tmp_path, rank=2)
    source = tmp_path / "<script>alert(3)"
    fit = replace(
        fit, particles=replace(fit.particles, source=source), warnings=[evil, "{{ 7 * 7 }}"]
    )
    folder = tmp_path / "a<b onload=alert(4)>"
    html = page(written(folder, fit, ("solvar", evil)))
    found = Page(html)
    for text in (evil, str(source), folder.name, "{{ 7 * 7 }}"):
        assert text in found.text
    harmless = Page(page(make_run(tmp_path / "run", rank=2)))
    assert [tag for tag, _ in found.elements if tag in ("script", "img")] == [
        tag for tag, _ in harmless.elements if tag in ("script", "img")
    ]
    assert not any(name.startswith("on") for _, found in found.elements for name in found)


def test_report_asks_for_nothing_from_anywhere(tmp_path):
    html = page(make_run(tmp_path / "run", rank=2, refined=True))
    found = Page(html)
    for tag, attributes in found.elements:
        address = attributes.get("src") or attributes.get("href") or ""
        if tag == "a":  # followed by a person alone
            assert address.startswith(("#", "https://arxiv.org/"))
        else:
            assert address == "" or address.startswith("data:"), (tag, address)
    policy = next(a["content"] for _, a in found.elements if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy and "url(" not in html.split("</style>")[0]


def test_particles_in_the_page_are_those_of_the_run(tmp_path):
    run = make_run(tmp_path / "run", rank=3, count=200)
    explorer = content(page(run))["explorer"]
    assert explorer["count"] == explorer["shown"] == 200
    spread = np.sqrt(run.model.eigenvalues)
    for j, axis in enumerate(explorer["axes"]):
        np.testing.assert_allclose(numbers(axis), run.posterior.z[:, j] / spread[j], atol=2e-4)
    colours = {colour["title"]: colour for colour in explorer["colours"]}
    assert set(colours) == {"Contrast", "Log-likelihood", "Defocus (µm)"}
    np.testing.assert_allclose(numbers(colours["Contrast"]), run.posterior.contrast, atol=1e-4)
    assert set(explorer["density"]) == {"0-1", "0-2", "1-2"}


def test_clusters_and_umap_of_the_analysis_can_be_chosen(tmp_path):
    explorer = content(page(make_run(tmp_path / "run", rank=2, count=60, analysed=True)))[
        "explorer"
    ]
    cluster, outlier = explorer["colours"][:2]
    assert cluster["title"] == "Cluster" and cluster["labels"] == ["1", "2", "3"]
    assert outlier["title"] == "Outlier" and set(outlier["labels"]) <= {"no", "yes"}


def test_motion_is_the_projection_of_what_halves_support_of_the_models_volumes(tmp_path):
    run = make_run(tmp_path / "run", rank=2, box=32)
    motion = content(page(run))["motion"]
    step = -1.5
    z = [0, step * np.sqrt(run.model.eigenvalues[1])]
    crop, _ = window(run.model)
    volume = supported_model(run).volume_at(z)[crop]
    for axis in range(3):
        shown = numbers(motion["mean"][axis]) + step * numbers(
            motion["components"][1]["shift"][axis]
        )
        expected = volume.sum(axis=axis)
        np.testing.assert_allclose(shown, expected.ravel(), atol=1e-3 * np.abs(expected).max())


def test_nothing_is_claimed_when_nothing_is_reliable(tmp_path):
    found = Page(page(make_run(tmp_path / "run", rank=2, nothing_reliable=True)))
    assert "Nothing that can be told from noise" in found.text
    assert "No heterogeneity was detected" in found.text
    assert "solvar volume" not in found.text


def test_run_without_half_sets_says_that_nothing_was_tested(tmp_path):
    text = Page(page(make_run(tmp_path / "run", rank=2, halfsets=False))).text
    assert "more than noise was not tested" in text and "can be told from noise" not in text
    assert "--halfsets" in text


def ball(centre, box=32, width=4.0):
    """exp(-r²/width²) around `centre`: its power has a standard deviation of width/2 per axis."""
    grid = np.indices((box, box, box)) - np.array(centre)[:, None, None, None]
    return np.exp(-(grid**2).sum(axis=0) / width**2).astype(np.float32)


def test_half_of_a_balls_power_lies_within_its_median_radius():
    centre, reach = half_power(ball([8, 16, 20]))
    np.testing.assert_allclose(centre, [8, 16, 20], atol=0.05)
    median = 1.538 * 2.0  # of the length of three standard normal numbers, times their spread
    assert reach == pytest.approx(median, abs=0.6)
    assert half_size(ball([8, 16, 20])) == pytest.approx(4 / 3 * np.pi * median**3, rel=0.1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        # 10 voxels of 3 Å from the centre
        (ball([16, 16, 26], width=3.0), "a point 30 Å from the molecule's centre"),
        (ball([16, 16, 16], width=12.0), "all over the molecule"),
    ],
)
def test_a_change_is_told_where_it_is(tmp_path, change, words):
    fit = make_fit(tmp_path, rank=2, box=32)
    eigenvolumes = fit.model.eigenvolumes.copy()
    eigenvolumes[0] = change / np.linalg.norm(change)
    model = replace(fit.model, mean=ball([16, 16, 16], width=7.0), eigenvolumes=eigenvolumes)
    fit = replace(fit, model=model)
    headline, first = what_moves(written(tmp_path / "run", fit))  # the second component is noise
    assert "one way" in headline and words in first


def test_report_that_fails_leaves_the_run_and_says_so(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", rank=2)
    assert written_report(run) == run.folder / "report.html"

    def broken(run):
        raise RuntimeError("no ink")

    class Listener(SilentProgress):
        told = ""

        def message(self, text):
            self.told += text

    monkeypatch.setattr(page_module, "page", broken)
    listener = Listener()
    assert written_report(run, listener) is None
    assert "report.html was not written (RuntimeError: no ink)" in listener.told
    assert not (run.folder / "report.html").exists()
    assert Run(run.folder).particle_count == 40


def test_analysis_of_an_earlier_run_is_not_shown(tmp_path):
    run = make_run(tmp_path / "run", rank=2, count=60, analysed=True)
    assert "analysis" in Page(page(run)).anchors
    run.record["run_id"] = 32 * "0"
    assert "analysis" not in Page(page(run)).anchors


def test_settings_are_told_with_those_that_were_changed_first(tmp_path):
    text = Page(page(make_run(tmp_path / "run", rank=2))).text
    changed = text.index("differ from their defaults")
    assert changed < text.index("--rank") < text.index("Settings at their defaults")
    assert text.index("Settings at their defaults") < text.index("--objective")


@pytest.mark.slow
@pytest.mark.parametrize("count", [100_000, 250_000])
def test_report_of_many_particles_is_smaller_than_15_mb(tmp_path, count):
    run = make_run(tmp_path / "run", rank=10, count=count, box=32, refined=True)
    path = written_report(run)
    assert path.stat().st_size < 15e6
    text = Page(path.read_text(encoding="utf-8")).text
    assert ("drawn at random" in text) == (count > 100_000)


def test_a_component_without_a_shape_is_told_nowhere(tmp_path):
    fit = make_fit(tmp_path, rank=3)
    coarse = replace(fit.validation, component_resolution=np.array([9.0, 127.6, np.inf]))
    fit = replace(fit, validation=replace(coarse, reliable=np.array([True, True, True])))
    run = written(tmp_path / "run", fit)
    text = page(run)
    assert "127.6" not in text.split('id="plotly"')[0]
    assert text.count("the halves do not agree on its shape") == 2
    told = what_moves(run)
    assert [("do not agree" in sentence) for sentence in told[1:]] == [False, True, True]


def test_images_without_a_particle_are_told_where_there_are_any(tmp_path):
    fit = make_fit(tmp_path)
    assert "unlikely to show a particle" not in page(written(tmp_path / "clean", fit))
    probability = np.where(np.arange(len(fit.particles)) < 10, 0.1, 1.0)
    found = page(
        written(tmp_path / "soiled", replace(fit, particle_probability=probability, monstrous=2))
    )
    assert "10 of 40 images (25 %) are unlikely to show a particle, 2 of them" in found
    assert 'data-figure="junk"' in found and "--keep 0.5" in found
