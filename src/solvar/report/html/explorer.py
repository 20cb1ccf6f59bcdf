"""The particles of a run as the page's scatter plot needs them: any pair of axes, any colour."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.reading import StoredAnalysis
from solvar.errors import InputError
from solvar.estimation.low_rank import prior_spread
from solvar.particles.relion_tilts import GROUP, first_rows
from solvar.particles.star_blocks import particle_block, read_blocks
from solvar.report import style
from solvar.report.html.encoding import base64_of, quantised
from solvar.report.interactive import theme
from solvar.report.interactive.latents import (
    MOST_CELLS,
    MOST_POINTS,
    cells,
    limits,
    marker_size,
    number_limits,
    shades,
)
from solvar.results.run import Run

Float64 = NDArray[np.float64]

# Axes beyond these are rarely more than noise; pairs of axes, and with them the page, grow as the square.
MOST_AXES = 8
# Of a run too large to draw, this many particles stand for all when they are coloured.
_SAMPLE = 50_000


def explorer(run: Run, analysis: StoredAnalysis | None, seed: int = 0) -> dict[str, Any]:
    """Everything that the page draws of the particles.

    Returns
    -------
    content : dict
        ``count`` and ``shown`` particles; ``axes``: title, numbers and limits; ``colours``: title and
        numbers, or labels with their colours; ``density``: cells of every pair of axes, of all
        particles, shades of 0 to 255, rows from bottom to top.
    """
    axes = _axes(run, analysis)
    colours = _colours(run, analysis)
    count = run.particle_count
    rows = np.arange(count)
    if count > MOST_POINTS:
        rows = np.sort(np.random.default_rng(seed).choice(count, _SAMPLE, replace=False))
    # few particles on a fine grid would be seen one by one
    edge = int(np.clip(np.sqrt(count), 40, MOST_CELLS))
    density = {}
    for i, j in combinations(range(len(axes)), 2):
        points = np.stack([axes[i][1], axes[j][1]], axis=1)
        shade = shades(cells(points, (limits(points[:, 0]), limits(points[:, 1])), edge))
        density[f"{i}-{j}"] = base64_of(shade)
    return {
        "count": count,
        "shown": len(rows),
        "axes": [
            {"title": title, "range": limits(values), **quantised(values[rows])}
            for title, values in axes
        ],
        "colours": [_coloured(title, values[rows]) for title, values in colours],
        "density": density,
        "scale": theme.number_scale(),
        "size": marker_size(len(rows)),
    }


def axis_title(run: Run, j: int) -> str:
    """The name of a component's axis, with its share of the variance and a doubt where there is one."""
    return f"{style.component_title(run, j, run.is_real(j))}, σ"


def _axes(run: Run, analysis: StoredAnalysis | None) -> list[tuple[str, Float64]]:
    spread = prior_spread(run.model.eigenvalues)
    z = run.posterior.z / spread
    axes = [(axis_title(run, j), z[:, j]) for j in range(min(run.rank, MOST_AXES))]
    if analysis is not None and analysis.umap is not None:
        axes += [(f"UMAP {k + 1}", analysis.umap[:, k]) for k in range(2)]
    if len(axes) == 1:  # a plane needs a second axis
        axes.append(("Contrast", run.posterior.contrast))
    return axes


def _colours(run: Run, analysis: StoredAnalysis | None) -> list[tuple[str, NDArray[Any]]]:
    """What particles can be coloured by; few integers are labels."""
    found: list[tuple[str, NDArray[Any]]] = []
    if analysis is not None:
        found.append(("Cluster", analysis.cluster))
        if analysis.state is not None:
            found.append(("State", analysis.state))
        found.append(("Outlier", analysis.outlier.astype(np.int64)))
    found.append(("Contrast", run.posterior.contrast))
    found.append(("Log-likelihood", run.posterior.log_likelihood))
    if (run.particle_probability < 1).any():
        found.append(("Probability of a particle", run.particle_probability))
    defocus = read_defocus(run)
    if defocus is not None:
        found.append(("Defocus (µm)", defocus))
    return found


def read_defocus(run: Run) -> Float64 | None:
    """Mean defocus (N,) of each particle in µm; None if the run's particle table does not tell it."""
    path = run.folder / "particles.star"
    try:
        blocks = read_blocks(path, inside=run.folder)
        table = blocks[particle_block(blocks, path)]
        if len(table) > run.particle_count and GROUP in table.columns:
            # a tilt series: what the first row of a particle says
            first = first_rows(table[GROUP], run.particle_count)
            table = table if first is None else table.iloc[first]
        pair = table[["rlnDefocusU", "rlnDefocusV"]].to_numpy(np.float64)
    except (InputError, OSError, KeyError, ValueError):
        return None
    is_known = len(pair) == run.particle_count and np.isfinite(pair).all()
    return pair.mean(axis=1) / 1e4 if is_known else None


def _coloured(title: str, values: NDArray[Any]) -> dict[str, Any]:
    labels = np.unique(values) if np.issubdtype(values.dtype, np.integer) else None
    if labels is None or len(labels) > theme.MOST_LABELS:
        return {"title": title, "range": number_limits(values), **quantised(values)}
    names = {0: "no", 1: "yes"} if title == "Outlier" else {}
    return {
        "title": title,
        "labels": [names.get(int(label), str(label)) for label in labels],
        "light": theme.label_colours(len(labels)),
        "dark": theme.label_colours(len(labels), dark=True),
        "uint8": base64_of(np.searchsorted(labels, values).astype(np.uint8)),
    }
