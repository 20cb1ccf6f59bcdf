"""`ViewerData`: what the page asks of a run, read when it is asked for and kept."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.reading import analysed_columns
from solvar.errors import InputError
from solvar.estimation.low_rank import prior_spread
from solvar.estimation.posterior import squared_differences
from solvar.particles.relion_tilts import GROUP, first_rows
from solvar.report.interactive.latents import MOST_POINTS
from solvar.report.style import component_title
from solvar.results.run import Run
from solvar.viewer.columns import Column, open_star, shown_columns
from solvar.viewer.meshes import DisplayModel, DisplayVolume, open_model, open_volume
from solvar.volumes.table import volume_below

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# Clicks in a UMAP have no latents of their own: they get the mean of this many particles nearby.
_NEIGHBOURS = 50
_KEPT_COLUMNS = 6

_ANALYSED = {
    "log_density": "Local density (log)",
    "mahalanobis": "Mahalanobis distance",
    "outlier": "Outlier",
}


class ViewerData:
    """A run as the page sees it. Points in latent space are told in standard deviations.

    Parameters
    ----------
    run : Run or path
    """

    def __init__(self, run: Run | str | Path) -> None:
        self.run = run if isinstance(run, Run) else Run(run)
        # the model must not wait for a column of a large star file
        self._column_lock, self._model_lock = threading.Lock(), threading.Lock()
        self.eigenvalues = self.run.eigenvalues
        self.spread = prior_spread(self.eigenvalues)
        self.latents = np.ascontiguousarray((self._stored("z") / self.spread).T)
        self._kept = lru_cache(_KEPT_COLUMNS)(self._read_column)

    def __len__(self) -> int:
        return self.latents.shape[1]

    @property
    def rank(self) -> int:
        """Number of components r."""
        return len(self.spread)

    @property
    def rastered(self) -> bool:
        """Whether there are too many particles to draw each of them."""
        return len(self) > MOST_POINTS

    # -- axes ---------------------------------------------------------------------------------

    @cached_property
    def axes(self) -> dict[str, str]:
        """Titles of what can be an axis, by key."""
        reliable = self.run.record["result"].get("reliable") or [True] * self.rank
        titles = {f"z{j + 1}": component_title(self.run, j, reliable[j]) for j in range(self.rank)}
        if self.rank == 1:  # a plane needs a second axis
            titles["contrast"] = "Contrast"
        if self._umap is not None:
            titles |= {"umap1": "UMAP 1", "umap2": "UMAP 2"}
        return titles

    def axis(self, key: str) -> Float64:
        """Coordinate (N,) of each particle along an axis.

        Raises
        ------
        InputError
            If there is no such axis.
        """
        if key not in self.axes:
            raise InputError(f"there is no axis {key!r}")
        if key.startswith("umap"):
            assert self._umap is not None
            return self._umap[int(key[-1]) - 1]
        if key == "contrast":
            return self.column(key).values.astype(np.float64)
        return self.latents[int(key[1:]) - 1]

    @cached_property
    def _umap(self) -> Float64 | None:
        umap = self._analysed("umap")
        return None if umap is None else np.ascontiguousarray(umap.T, np.float64)

    @cached_property
    def reach(self) -> float:
        """How far sliders go, in standard deviations: past nearly every particle."""
        step = max(1, len(self) // 100_000)
        far = float(np.quantile(np.abs(self.latents[:, ::step]), 0.9995))
        return float(np.clip(np.ceil(far), 3, 8))

    def point_at(self, axes: tuple[str, str], place: tuple[float, float], now: Float64) -> Float64:
        """The point (r,) that a click means.

        In a plane of components the other components stay as they are `now` (r,); in a UMAP, which
        has no way back, it is the mean of the particles nearby.
        """
        if any(key.startswith("umap") for key in axes):
            distance = sum(
                (self.axis(key) - value) ** 2 for key, value in zip(axes, place, strict=True)
            )
            nearby = nearest(np.asarray(distance), _NEIGHBOURS)
            return self.latents[:, nearby].mean(axis=1)
        point = np.array(now, np.float64)
        for key, value in zip(axes, place, strict=True):
            if key != "contrast":  # which is no part of the structure
                point[int(key[1:]) - 1] = value
        return np.clip(point, -self.reach, self.reach)

    def place_of(self, point: Float64, axes: tuple[str, str]) -> tuple[float, float]:
        """Where a point (r,) is drawn; in a UMAP at the nearest particle."""
        if any(key.startswith("umap") for key in axes):
            distance = np.zeros(len(self))
            for row, value in zip(self.latents, point, strict=True):
                distance += (row - value) ** 2
            closest = int(np.argmin(distance))
            return float(self.axis(axes[0])[closest]), float(self.axis(axes[1])[closest])
        first, second = (
            float(np.median(self.axis(key)))
            if key == "contrast"
            else float(point[int(key[1:]) - 1])
            for key in axes
        )
        return first, second

    def near(self, point: Float64, many: int) -> Int64:
        """The `many` particles nearest to a point (r,), as for a volume there; ascending."""
        distance = squared_differences(self.latents.T, point, self.spread)
        return np.sort(nearest(distance, many))

    # -- colours ------------------------------------------------------------------------------

    @cached_property
    def colourings(self) -> dict[str, str]:
        """Titles of what particles can be coloured by, by key; analysed properties first."""
        titles = {}
        if self._analysed("cluster") is not None:
            titles["cluster"] = "Cluster"
        state = self._analysed("state")
        if state is not None and state.any():
            titles["state"] = "State"
        titles |= {"contrast": "Contrast", "log_likelihood": "Log-likelihood"}
        titles |= {"particle_probability": "Probability of a particle"}
        if self._star is not None and "rlnDefocusU" in self._star.columns:
            titles["defocus"] = "Defocus (µm)"
        titles |= {k: title for k, title in _ANALYSED.items() if self._analysed(k) is not None}
        titles |= {"halfset": "Half-set"}
        titles |= {key: title for key, title in self.axes.items() if key.startswith("z")}
        if self._star is not None:
            titles |= {f"star:{name}": name for name in shown_columns(self._star)}
        return titles

    def column(self, key: str) -> Column:
        """The property `key` of `colourings`, one value a particle.

        Raises
        ------
        InputError
            If there is no such property, or its file is damaged.
        """
        if key not in self.colourings:
            raise InputError(f"there is no property {key!r}")
        with self._column_lock:
            return self._kept(key)

    def _read_column(self, key: str) -> Column:
        title = self.colourings[key]
        if key in self.axes and key != "contrast":
            return Column(f"{title}, σ", self.axis(key).astype(np.float32))
        if key.startswith("star:"):
            return self._from_star(key.removeprefix("star:"))
        if key == "defocus":
            mean = (self._from_star("rlnDefocusU").values + self._defocus_v()) / 2
            return Column(title, (mean / 1e4).astype(np.float32))
        if key == "particle_probability":
            return Column(title, self.run.particle_probability.astype(np.float32))
        if key in ("contrast", "log_likelihood"):
            return Column(title, self._stored(key).astype(np.float32))
        if key == "halfset":
            return Column.of_labels(title, self._stored(key))
        values = self._analysed(key)
        assert values is not None
        if key in ("cluster", "state"):
            return Column.of_labels(title, values)
        if key == "outlier":
            return Column(title, values.astype(np.float32), ("fits", "outlier"))
        return Column(title, values.astype(np.float32))

    def _defocus_v(self) -> NDArray[np.float32]:
        assert self._star is not None
        both = "rlnDefocusV" in self._star.columns
        return self._from_star("rlnDefocusV" if both else "rlnDefocusU").values

    def _from_star(self, name: str) -> Column:
        assert self._star is not None
        column = self._star.read(name)
        if len(column.values) > len(self) and GROUP in self._star.columns:
            # a tilt series: what the first row of a particle says
            first = first_rows(self._star.read(GROUP).values, len(self))
            if first is not None:
                return replace(column, values=column.values[first])
        if len(column.values) != len(self):
            raise InputError(
                f"has {len(column.values)} rows for {len(self)} particles",
                file=self._star.path,
                remedy="repeat the run",
            )
        return column

    @cached_property
    def _star(self) -> Any:
        return open_star(self.run.folder / "particles.star")

    def _analysed(self, name: str) -> NDArray | None:
        """A column of the analysis; None if the run was not analysed, or not with this."""
        try:
            return analysed_columns(self.run, name)[name]
        except InputError:
            return None  # the page shows the run without an analysis that is cut short or another's

    def _stored(self, name: str) -> NDArray:
        """One column of the run, without the precision and the poses, which are most of the file."""
        return self.run.columns(name)[name]

    # -- volumes ------------------------------------------------------------------------------

    @property
    def model(self) -> DisplayModel:
        """The model on a grid that can be drawn at once."""
        with self._model_lock:
            return self._model

    @cached_property
    def _model(self) -> DisplayModel:
        return open_model(self.run)

    def reconstruction(self, file: str) -> DisplayVolume:
        """A volume that was reconstructed, by its name below the run folder, on such a grid."""
        return DisplayVolume(*open_volume(volume_below(self.run, file), self.run.folder))

    @cached_property
    def rows(self) -> Int64:
        """(N,) row of each particle in the file that the run was made from."""
        return self._stored("row").astype(np.int64)


def nearest(distance: Float64, many: int) -> Int64:
    """Positions of the `many` smallest distances, in no order."""
    if many >= len(distance):
        return np.arange(len(distance), dtype=np.int64)
    return np.argpartition(distance, many)[:many].astype(np.int64)
