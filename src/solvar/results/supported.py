"""What half-sets support of a model: what pictures show of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.low_rank import LowRankModel
from solvar.imaging.fourier import low_passed
from solvar.imaging.fsc import resolution
from solvar.results.run import Run


def supported_model(run: Run) -> LowRankModel:
    """The model of a run, mean and eigenvolumes no finer than its half-sets support.

    Eigenvolumes on which they do not agree are as they were found: nothing is known of their shape. So is all
    where there are no half-sets.
    """
    model, validation = run.model, run.validation
    if validation is None:
        return model
    edge = model.box_size * model.pixel_size_angstrom
    eigenvolumes = model.eigenvolumes.copy()
    for j in np.flatnonzero(have_shape(run)):
        finest = edge / validation.component_resolution[j]
        eigenvolumes[j] = low_passed(model.eigenvolumes[j], finest)
    mean, finest = model.mean, resolution(validation.mean_fsc, edge)
    if np.isfinite(finest):
        mean = low_passed(mean, edge / finest)
    return replace(model, mean=mean, eigenvolumes=eigenvolumes)


def have_shape(run: Run) -> NDArray[np.bool_]:
    """Which components (r,) are real and have a shape that half-sets share to some resolution."""
    validation = run.validation
    if validation is None:
        return np.zeros(run.rank, bool)
    return np.asarray(validation.reliable & np.isfinite(validation.component_resolution))
