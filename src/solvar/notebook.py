"""`Run` as it is met in Python and Jupyter: a run folder that shows itself and draws its latents.

`solvar.results` reads run folders and knows nothing of figures; what draws stands here, above it. To open
a run is quick: what draws is loaded when something is drawn.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from solvar.commands import command_line
from solvar.errors import InputError
from solvar.estimation.low_rank import prior_spread
from solvar.report import style
from solvar.results import run as results
from solvar.results.words import component_name, headline, resolution_text, short_verdict
from solvar.text import visible

if TYPE_CHECKING:
    import plotly.graph_objects as go

_ROWS = 10
_NAMES = {
    "cluster": "Cluster",
    "contrast": "Contrast",
    "log_likelihood": "Log-likelihood",
    "particle_probability": "Probability of a particle",
    "defocus": "Defocus (µm)",
}


class Run(results.Run):
    """What the main job left in its folder.

    Opening reads `run.json` alone; volumes and latents are read on first use and kept.

    Parameters
    ----------
    folder : path
        A run folder, as written by ``solvar run``.

    Raises
    ------
    InputError
        If the folder does not hold a finished run that this version can read.
    """

    def plot_latents(
        self,
        x: int = 1,
        y: int = 2,
        *,
        color: str | ArrayLike | None = None,
        selected: ArrayLike | None = None,
        dark: bool = False,
    ) -> go.Figure:
        """Draw the particles along two components, in standard deviations.

        Parameters
        ----------
        x, y : int
            Components, from 1.
        color : str or (N,) array-like, optional
            ``"cluster"`` (after ``solvar analyze``), ``"contrast"``, ``"log_likelihood"``,
            ``"particle_probability"`` or ``"defocus"``; or one value a particle in row order: integers,
            booleans and texts are labels, other numbers a scale.
        selected : (N,) array-like of bool, optional
            Particles to tell apart from the rest, which is drawn in grey.
        dark : bool
            For a dark page.

        Returns
        -------
        figure : plotly.graph_objects.Figure
            Points up to 100,000 particles, a picture of the density or the mean colour for more.

        Raises
        ------
        InputError
            If a component does not exist, or the run does not know `color`.
        ValueError
            If an array does not have one entry a particle.
        """
        from solvar.report.html.explorer import axis_title
        from solvar.report.interactive.latents import latent_scatter

        for component in (x, y):
            if not 1 <= component <= self.rank:
                raise InputError(
                    f"there is no component {component}", remedy=f"choose from 1 to {self.rank}"
                )
        pair = [x - 1, y - 1]
        spread = prior_spread(self.model.eigenvalues[pair])
        name = _NAMES[color] if isinstance(color, str) and color in _NAMES else None
        values = self._property(color) if isinstance(color, str) else color
        column = None if values is None else np.asarray(values)
        return latent_scatter(
            self.posterior.z[:, pair] / spread,
            axes=(axis_title(self, pair[0]), axis_title(self, pair[1])),
            color=column,
            color_name=name,
            categorical=column is not None and column.dtype.kind in "iubUO",
            selected=None if selected is None else np.asarray(selected, bool),
            dark=dark,
        )

    def _property(self, name: str) -> NDArray[Any]:
        """A property (N,) of the particles, by its key in `_NAMES`."""
        from solvar.analysis.reading import read_analysis
        from solvar.report.html.explorer import read_defocus

        if name in ("contrast", "log_likelihood"):
            return getattr(self.posterior, name)
        if name == "particle_probability":
            return self.particle_probability
        if name == "cluster":
            analysis = read_analysis(self)
            if analysis is None:
                remedy = f"run `{command_line('solvar', 'analyze', self.folder)}`"
                raise InputError("has no clusters", file=self.folder, remedy=remedy)
            return analysis.cluster
        if name == "defocus":
            defocus = read_defocus(self)
            if defocus is None:
                raise InputError("cannot be read", file=self.folder / "particles.star")
            return defocus
        raise InputError(f"particles have no property {name!r}", remedy=f"choose {_listed()}")

    def _repr_html_(self) -> str:
        """What a notebook shows: the run in a few lines."""
        model = self.model
        box = f"box {model.box_size}, {self.pixel_size_angstrom:.3g} Å a pixel"
        head = ["component", "share of variance found"]
        if self.validation is not None:
            head += ["resolution (Å)", "verdict"]
        rows = "".join(_row(self._told(j), "td") for j in range(min(self.rank, _ROWS)))
        more = f"<p>… and {self.rank - _ROWS} more</p>" if self.rank > _ROWS else ""
        return (
            f"<div><p><b>{escape(visible(self.folder.name))}</b>: {self.particle_count:,} particles, "
            f"{escape(box)}</p><table>{_row(head, 'th')}{rows}</table>{more}"
            f"<p>{escape(headline(self))}</p></div>"
        )

    def _told(self, j: int) -> list[str]:
        eigenvalues, validation = self.model.eigenvalues, self.validation
        told = [component_name(self, j), style.percent(eigenvalues[j], eigenvalues.sum())]
        if validation is not None:
            told.append(resolution_text(self, validation.component_resolution[j]))
            told.append(short_verdict(self, j))
        return told


def _row(cells: list[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _listed() -> str:
    names = list(_NAMES)
    return f"{', '.join(names[:-1])} or {names[-1]}"
