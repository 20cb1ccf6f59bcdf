"""UMAP of the latents, if the package is installed."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.neighbours import sample
from solvar.errors import InputError
from solvar.extras import install_command, missing

_FITTED = 100_000


def require_umap() -> None:
    """Raise InputError if umap-learn is not installed."""
    if missing("umap"):
        raise InputError(
            "UMAP needs a package that is not installed",
            remedy=f"install it with `{install_command('umap')}`",
        )


def embed(points: NDArray[np.float64], neighbours: int, seed: int = 0) -> NDArray[np.float64]:
    """UMAP coordinates (N, 2), without unit, of whitened latents (N, m).

    Fitted to at most 100,000 particles; the others are placed among them.

    Raises
    ------
    InputError
        If umap-learn is not installed.
    """
    require_umap()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # umap tells that a seed costs threads; it is wanted
        import umap

        rows = sample(len(points), _FITTED, seed)
        reducer = umap.UMAP(n_neighbors=min(neighbours, len(rows) - 1), random_state=seed)
        fitted = reducer.fit_transform(points[rows])
        if len(rows) == len(points):
            return np.asarray(fitted, np.float64)
        return np.asarray(reducer.transform(points), np.float64)
