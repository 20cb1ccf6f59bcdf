"""Particles in a plane: points or pictures, every one in its place and colour."""

import numpy as np
import pytest

from solvar.report.interactive import theme
from solvar.report.interactive.latents import MOST_POINTS, latent_scatter

AXES = ("Component 1 (σ)", "Component 2 (σ)")


def cloud(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 2))


def test_every_particle_is_drawn_once_in_its_place():
    points, label = cloud(500), np.arange(500) % 3
    figure = latent_scatter(points, axes=AXES, color=label, categorical=True)
    assert [trace.name for trace in figure.data] == ["0", "1", "2"]
    for k, trace in enumerate(figure.data):
        np.testing.assert_allclose(np.c_[trace.x, trace.y], points[label == k], rtol=1e-6)


def test_numbers_colour_points_on_a_scale_that_outliers_cannot_set():
    color = np.append(np.linspace(0, 1, 499), 1e6)
    (trace,) = latent_scatter(cloud(500), axes=AXES, color=color, color_name="contrast").data
    np.testing.assert_array_equal(trace.marker.color, color)
    assert 0 <= trace.marker.cmin < trace.marker.cmax <= 1
    assert trace.marker.colorbar.title.text == "contrast"


def test_what_was_not_selected_is_grey():
    points = cloud(500)
    left_out, kept = latent_scatter(points, axes=AXES, selected=points[:, 0] > 0).data
    assert (np.asarray(kept.x) > 0).all() and (np.asarray(left_out.x) <= 0).all()
    assert left_out.marker.color == theme.MIDDLE


def test_selection_changes_no_colour():
    points = cloud(500)
    label, number = np.arange(500) % 3, np.linspace(0, 1, 500)
    whole = latent_scatter(points, axes=AXES, color=label, categorical=True).data
    _, *part = latent_scatter(
        points, axes=AXES, color=label, categorical=True, selected=label == 2
    ).data
    assert [t.marker.color for t in part] == [t.marker.color for t in whole]
    assert [len(t.x) for t in part] == [0, 0, len(whole[2].x)]
    (everybody,) = latent_scatter(points, axes=AXES, color=number).data
    _, chosen = latent_scatter(points, axes=AXES, color=number, selected=number > 0.9).data
    assert (chosen.marker.cmin, chosen.marker.cmax) == (
        everybody.marker.cmin,
        everybody.marker.cmax,
    )


def test_very_many_particles_become_a_picture_where_they_are():
    points = np.concatenate([cloud(MOST_POINTS) * 0.1 + 3, cloud(10) * 0.1 - 3])
    (picture,) = latent_scatter(points, axes=AXES).data
    assert picture.type == "heatmap"
    row, column = np.unravel_index(np.argmax(picture.z), picture.z.shape)
    assert picture.x0 + column * picture.dx == pytest.approx(3, abs=0.3)
    assert picture.y0 + row * picture.dy == pytest.approx(3, abs=0.3)


def test_picture_of_numbers_shows_their_mean_and_of_labels_the_most_frequent():
    points = cloud(MOST_POINTS + 1)
    right = points[:, 0] > 0
    (mean,) = latent_scatter(points, axes=AXES, color=np.where(right, 5.0, -5.0)).data
    column = int((1 - mean.x0) / mean.dx)
    assert np.nanmin(mean.z[:, column:]) == 5
    first, *legend = latent_scatter(points, axes=AXES, color=right, categorical=True).data
    assert np.nanmin(first.z[:, column:]) == 1
    assert [entry.name for entry in legend] == ["False", "True"]


def test_light_and_dark_differ_in_the_template_alone():
    light, dark = (latent_scatter(cloud(50), axes=AXES, dark=dark) for dark in (False, True))
    assert light.layout.template != dark.layout.template
    dark.layout.template = light.layout.template
    assert light == dark


@pytest.mark.parametrize(
    ("points", "extra"),
    [
        (np.zeros((4, 3)), {}),
        (np.zeros((4, 2)), {"color": np.zeros(3)}),
        (np.zeros((4, 2)), {"selected": np.zeros((4, 1), bool)}),
    ],
)
def test_arrays_that_do_not_fit_are_refused(points, extra):
    with pytest.raises(ValueError, match="shape"):
        latent_scatter(points, axes=AXES, **extra)
