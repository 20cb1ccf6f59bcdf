"""The prior of mean and columns, from how well the two half-sets agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

_SMALLEST_FSC, _LARGEST_FSC = 1e-3, 0.9999


@dataclass(frozen=True, eq=False)
class Prior:
    """Prior precision Λ per shell of the Fourier coefficients of the mean and of every column.

    Attributes
    ----------
    mean, columns : (S,) float64
        In the units of the sampling information D; inf where nothing is allowed.
    """

    mean: Float64
    columns: Float64


def signal_fraction(fsc: Float64) -> Float64:
    """FSC/(1 - FSC), the signal-to-noise ratio of one half, with both ends kept finite."""
    bounded = np.clip(fsc, _SMALLEST_FSC, _LARGEST_FSC)
    return bounded / (1 - bounded)


def mean_precision(fsc: Float64, information: Float64) -> Float64:
    """Prior precision of the mean: (1 - FSC)/FSC · D, D a half's mean information per shell."""
    return information / signal_fraction(fsc)


def column_precision(fsc: Float64, information: Float64, explained: float) -> Float64:
    """Prior precision of the columns: (1 - f)/f · D ρ with f = √FSC_Σ(s, s).

    FSC_Σ compares products of two columns, so its root is the signal fraction of one. D ρ is what the images
    say about a column whose latents they know only in part: ρ is the share of the latent variance that they
    explain (the information of a column in the marginal likelihood is D·E[z]²; docs/method.md, "The prior of
    the columns").

    Parameters
    ----------
    fsc : (S,) float64
        Diagonal of `covariance_fsc` of the half-sets.
    information : (S,) float64
        Mean information D of a half per shell.
    explained : float
    """
    fraction = np.sqrt(np.maximum(fsc, 0))
    return information * explained / signal_fraction(fraction)


def extend(precision: Float64, k_c: int, reference: Float64) -> Float64:
    """Continue a precision known up to shell `k_c` in constant ratio to `reference`."""
    known = slice(max(1, k_c - 3), k_c + 1)
    ratio = np.median(precision[known] / reference[known])
    return np.concatenate([precision[: k_c + 1], ratio * reference[k_c + 1 :]])
