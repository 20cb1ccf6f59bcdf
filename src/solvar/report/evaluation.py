"""Figures of a comparison with the truth, drawn from what `evaluate` returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from solvar.files import OwnedFolder, Writer
from solvar.imaging.fsc import TRUTH_THRESHOLD
from solvar.report import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Metrics = Mapping[str, Any]

EVALUATION = Writer("evaluation", ("metrics.json", "[1-5]_*.png"))

_MOST_NAMED = 20  # names of more states would overlap
_MOST_COORDINATES = 4


def draw_evaluation(metrics: Metrics, own: OwnedFolder) -> list[Path]:
    """Draw what the truth allowed to measure as PNG files.

    Parameters
    ----------
    metrics : mapping
        As `solvar.evaluation.evaluate` returns it, or read back from JSON.
    own : OwnedFolder
        Where they go.

    Returns
    -------
    paths : list of Path
        In reading order; a figure whose metrics are missing is left out.
    """
    figures: dict[str, tuple[str, Callable[[Metrics, Path], None]]] = {
        "1_volumes.png": ("volumes", draw_volume_fsc),
        "2_covariance.png": ("covariance", draw_covariance_fsc),
        "3_embedding.png": ("embedding", draw_neighbourhoods),
        "4_clustering.png": ("clustering", draw_confusion),
        "5_populations.png": ("populations", draw_populations),
    }
    drawn = {name: draw for name, (part, draw) in figures.items() if part in metrics}
    if "quantiles" not in metrics.get("populations", {}):
        drawn.pop("5_populations.png", None)
    paths = own.claim(EVALUATION, drawn)
    for path, draw in zip(paths, drawn.values(), strict=True):
        draw(metrics, path)
    return paths


def draw_volume_fsc(metrics: Metrics, path: Path) -> None:
    """AUC-FSC per image and per conformation, and the FSC of the volume of each state."""
    volumes = metrics["volumes"]
    with style.figure(path, 11.0, 4.3) as figure:
        areas = figure.add_axes((0.06, 0.14, 0.51, 0.7))
        _state_areas(areas, volumes)
        curves = figure.add_axes((0.64, 0.14, 0.34, 0.7))
        _state_curves(curves, volumes, metrics["box_angstrom"])


def _state_areas(axes: Axes, volumes: Metrics) -> None:
    states, place = volumes["states"], np.arange(len(volumes["states"]))
    low, lower, middle, upper, high = np.array(volumes["per_image_auc_quantiles_by_state"]).T
    axes.vlines(place, low, high, color=style.SKY, lw=1.2)
    axes.vlines(place, lower, upper, color=style.SKY, lw=5)
    axes.plot(place, middle, "_", color=style.INK, ms=7)
    axes.plot([], [], color=style.SKY, lw=4, label="single particles (5, 25, 50, 75, 95 %)")
    axes.plot(
        place, volumes["per_conformation_auc_by_state"], "o", ms=5, color=style.BLUE,
        label="one volume a state",
    )  # fmt: skip
    unmoved = volumes["mean_volume_auc_by_state"]
    axes.plot(place, unmoved, "_", color=style.VERMILION, ms=9, mew=2, label="if nothing moved")
    step = 1 + len(states) // _MOST_NAMED
    axes.set_xticks(place[::step], [str(state) for state in states[::step]])
    axes.set_xlabel("True state")
    axes.set_ylabel("AUC-FSC (at most 0.5)")
    bottom = min(low.min(), *unmoved, *volumes["per_conformation_auc_by_state"])
    axes.set_ylim(max(0.0, bottom - 0.03), 0.505)
    axes.set_title(
        f"AUC-FSC per image {volumes['per_image_auc']:.3f}, "
        f"per conformation {volumes['per_conformation_auc']:.3f}",
        pad=20,
    )
    _legend_above(axes)


def _state_curves(axes: Axes, volumes: Metrics, box_angstrom: float) -> None:
    from matplotlib import colormaps

    curves = np.array(volumes["per_conformation_fsc"])
    style.fsc_axes(axes, curves.shape[1], box_angstrom, (TRUTH_THRESHOLD,))
    # an even order of lightness: neighbouring states of a motion get neighbouring colours
    colours = colormaps["viridis"](np.linspace(0, 0.9, len(curves)))
    for state, curve, colour in zip(volumes["states"], curves, colours, strict=True):
        named = state in (volumes["states"][0], volumes["states"][-1])
        axes.plot(curve, color=colour, lw=1.1, label=f"state {state}" if named else None)
    axes.plot(
        volumes["mean_volume_fsc"], color=style.VERMILION, ls=(0, (4, 2)), label="if nothing moved"
    )
    axes.set_ylabel("Masked Fourier shell correlation")
    axes.set_title("Volume of each state against the truth", pad=20)
    _legend_above(axes)


def draw_covariance_fsc(metrics: Metrics, path: Path) -> None:
    """Agreement of the estimated with the true covariance by resolution."""
    fsc = np.array(metrics["covariance"]["fsc"])
    with style.figure(path, 5.2, 3.8) as figure:
        axes = figure.add_axes((0.13, 0.15, 0.83, 0.71))
        style.fsc_axes(axes, len(fsc), metrics["box_angstrom"], (TRUTH_THRESHOLD,))
        axes.plot(fsc, color=style.BLUE)
        axes.set_ylabel("Correlation of the covariances")
        reached = metrics["covariance"]["fsc_resolution_angstrom"]
        where = "never above 0.5" if reached is None else f"above 0.5 up to {reached:.3g} Å"
        axes.set_title(f"Variability against the truth: {where}")


def draw_neighbourhoods(metrics: Metrics, path: Path) -> None:
    """Shared neighbours by size of the neighbourhood, and the information imbalance."""
    embedding = metrics["embedding"]
    percent = 100 * np.array(embedding["neighbour_fraction"])
    with style.figure(path, 8.6, 3.9) as figure:
        axes = figure.add_axes((0.08, 0.15, 0.46, 0.67))
        axes.plot(percent, embedding["neighbourhood_similarity"], "o-", ms=4, color=style.BLUE,
                  label="latents")  # fmt: skip
        axes.plot(percent, embedding["neighbourhood_chance"], color=style.GREY, ls=(0, (4, 2)),
                  label="chance")  # fmt: skip
        axes.set_xscale("log")
        axes.set_xticks(percent, [f"{value:.2g}" for value in percent])
        axes.minorticks_off()
        axes.set_ylim(0, 1.03)
        axes.set_xlabel("Size of the neighbourhood (% of the particles)")
        axes.set_ylabel("Shared with the truth")
        axes.set_title("Neighbours in latents that are true ones", pad=20)
        _legend_above(axes)
        _imbalance(figure.add_axes((0.66, 0.15, 0.31, 0.67)), embedding)


def _imbalance(axes: Axes, embedding: Metrics) -> None:
    to_states = embedding["imbalance_latents_to_states"]
    to_latents = embedding["imbalance_states_to_latents"]
    axes.plot([0, 1], [0, 1], color=style.PALE, lw=0.8, zorder=0)
    axes.plot(to_states, to_latents, "o", ms=8, color=style.BLUE, clip_on=False)
    axes.set_xlim(0, 1.05)
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("latents → states")
    axes.set_ylabel("states → latents")
    axes.set_title("Information imbalance", pad=20)
    for x, y, words, align in (
        (0.02, 0.02, "each tells the other", "left"),
        (0.98, 0.94, "unrelated", "right"),
    ):
        axes.text(x, y, words, transform=axes.transAxes, ha=align, fontsize=8, color=style.GREY)


def draw_confusion(metrics: Metrics, path: Path) -> None:
    """In which cluster the particles of each true state are."""
    clustering = metrics["clustering"]
    table, states = np.array(clustering["confusion"]), clustering["states"]
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    size = 3.0 + 0.28 * min(len(states), _MOST_NAMED)
    with style.figure(path, size + 1.2, size) as figure:
        axes = figure.add_axes((0.16, 0.14, 0.68, 0.76))
        image = axes.imshow(share, vmin=0, vmax=1, cmap=style.DENSITY, aspect="auto")
        if len(states) <= 12:
            for (row, column), value in np.ndenumerate(share):
                colour = "white" if value > 0.6 else style.INK
                text = f"{100 * value:.0f}"
                axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
        step = 1 + len(states) // _MOST_NAMED
        place = np.arange(len(states))[::step]
        axes.set_yticks(place, [str(state) for state in states[::step]])
        axes.set_xticks(np.arange(table.shape[1])[::step], np.arange(1, table.shape[1] + 1)[::step])
        axes.set_xlabel("Cluster of latents, matched to the states")
        axes.set_ylabel("True state")
        axes.set_title(f"Clusters: ARI {clustering['ari']:.3f}, AMI {clustering['ami']:.3f}")
        bar = figure.colorbar(image, cax=figure.add_axes((0.86, 0.14, 0.025, 0.76)))
        bar.outline.set_visible(False)
        bar.set_label("Share of the state's particles")


def draw_populations(metrics: Metrics, path: Path) -> None:
    """Cumulative distributions of the true coordinates; the area between two is their distance."""
    populations = metrics["populations"]
    shown = min(len(populations["distance"]), _MOST_COORDINATES)
    with style.figure(path, 4.4 * shown, 3.9) as figure:
        for j in range(shown):
            axes = figure.add_axes(((j + 0.14) / shown, 0.15, 0.8 / shown, 0.67))
            _cumulative(axes, populations, j)


def _cumulative(axes: Axes, populations: Metrics, coordinate: int) -> None:
    level, quantiles = populations["quantiles"]["level"], populations["quantiles"]
    for name, label, colour, line in (
        ("true", "true", style.INK, "-"),
        ("density", "density of latents", style.BLUE, "-"),
        ("posterior_means", "posterior means", style.SKY, (0, (4, 2))),
    ):
        axes.plot(quantiles[name][coordinate], level, color=colour, ls=line, label=label)
    axes.set_ylim(0, 1.01)
    axes.set_xlabel(f"True coordinate {coordinate + 1}")
    axes.set_ylabel("Share of the particles below")
    distance, point = populations["distance"], populations["single_point_distance"]
    axes.set_title(
        f"Distance {distance[coordinate]:.3g} (single point {point[coordinate]:.3g})", pad=20
    )
    _legend_above(axes)


def _legend_above(axes: Axes) -> None:
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, fontsize=8, borderaxespad=0,
        columnspacing=1.2,
    )  # fmt: skip
