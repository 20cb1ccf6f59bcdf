"""The interactive figures show the numbers they are given, in colours that do not depend on the page."""

import html
import json

import numpy as np
import pytest

from solvar.analysis.density import DensityMap
from solvar.report.interactive import curves, theme
from solvar.report.interactive.analysis import associations, coverage, landscape
from solvar.report.interactive.latents import latent_scatter
from solvar.report.interactive.poses import pose_corrections
from solvar.results.poses import PoseChange
from synthetic import make_fit

BOX = 48.0
NODES = np.linspace(-3, 3, 16)


@pytest.fixture
def fit(tmp_path):
    return make_fit(tmp_path, rank=3, count=200, refined=True)


def every_figure(fit, dark=False):
    change = PoseChange.of(fit.particles.poses, fit.pose_refinement)
    hill = np.exp(-(NODES[:, None] ** 2) - NODES[None] ** 2)
    density = DensityMap((0, 1), 10 * NODES, 5 * NODES, hill, hill / hill.sum(), 3)
    found = [{"factor": "shift", "component": 1, "r_squared": 0.2}]
    path = {"own": np.array([[-10.0, 0, 0], [10, 5, 0]])}
    return {
        "spectrum": curves.spectrum(fit.model.eigenvalues, fit.validation, dark=dark),
        "mean": curves.mean_fsc(fit.validation, BOX, dark=dark),
        "component": curves.component_fsc(fit.validation, BOX, dark=dark),
        "poses": pose_corrections(change, dark=dark),
        "associations": associations(found, dark=dark),
        "coverage": coverage([0.9, 0.3], dark=dark),
        "landscape": landscape(density, path, np.array([10.0, 5, 1]), dark=dark),
    }


def test_light_and_dark_differ_in_the_template_alone(fit):
    light, dark = every_figure(fit), every_figure(fit, dark=True)
    for name, figure in light.items():
        pair = [json.loads(one.to_json()) for one in (figure, dark[name])]
        templates = [one["layout"].pop("template") for one in pair]
        assert pair[0] == pair[1], name
        assert templates[0] != templates[1]


def test_spectrum_greys_what_is_noise(fit):
    real, noise, agreement = every_figure(fit)["spectrum"].data
    assert list(real.x) == [1, 2] and list(noise.x) == [3]
    assert noise.marker.color == theme.MIDDLE
    np.testing.assert_allclose(sum(real.y) + sum(noise.y), 100)
    np.testing.assert_array_equal(agreement.y, fit.validation.reliability)


def test_spectrum_without_half_sets_says_nothing_of_reliability(fit):
    (bars,) = curves.spectrum(fit.model.eigenvalues).data
    assert len(bars.x) == 3 and not bars.showlegend


def test_fsc_curves_are_told_in_angstroms_from_shell_one(fit):
    mean, covariance = every_figure(fit)["mean"].data
    np.testing.assert_array_equal(mean.y, fit.validation.mean_fsc[1:])
    np.testing.assert_allclose(mean.customdata, BOX / np.arange(1, 8))
    np.testing.assert_array_equal(covariance.y, np.diag(fit.validation.covariance_fsc)[1:])
    names = [trace.name for trace in every_figure(fit)["component"].data]
    assert names == ["component 1: 9.0 Å", "component 2: 14.0 Å", "noise, or could be errors"]


def test_pose_corrections_count_nearly_every_particle(fit):
    for histogram in every_figure(fit)["poses"].data:
        assert 0.98 * 200 <= sum(histogram.y) <= 200


def test_landscape_is_in_standard_deviations(fit):
    density, path = every_figure(fit)["landscape"].data
    assert density.x0 == density.y0 == -3
    np.testing.assert_allclose(path.x, [-1, 1])
    np.testing.assert_allclose(path.y, [0, 1])


def test_names_from_files_are_no_markup(fit):
    name = "<a href='http://x'>&lt;"
    found = [{"factor": name, "component": 1, "r_squared": 0.2}]
    density = DensityMap((0, 1), NODES, NODES, np.eye(16), np.eye(16), 3)
    points, labels = np.random.default_rng(0).normal(size=(40, 2)), np.array([name] * 40)
    figures = [
        associations(found),
        landscape(density, {name: np.eye(3)}, np.ones(3)),
        latent_scatter(points, axes=(name, name), color=labels, categorical=True, color_name=name),
        latent_scatter(points, axes=(name, name), color=points[:, 0], color_name=name),
    ]
    for figure in figures:
        told = str([[trace.to_plotly_json() for trace in figure.data], figure.layout.xaxis])
        assert "<a" not in told and "&lt;a href" in told
        assert figure.layout.legend.title.text in (None, "", html.escape(name, quote=False))


def test_association_beyond_the_scale_is_still_within_the_axis(fit):
    assert every_figure(fit)["associations"].layout.xaxis.range[1] >= 20
