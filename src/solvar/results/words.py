"""What a run found, in words: for the terminal, the report and notebooks alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from solvar.results.run import Run


def headline(run: Run) -> str:
    """One sentence on whether the molecule varies."""
    if run.validation is None:
        return "The components were not validated: the run had no half-sets."
    passed, rank = int(run.validation.reliable.sum()), run.rank
    if passed == 0:
        return (
            "No heterogeneity was detected: no component explains particles it was not fitted to; "
            "their eigenvalues are consistent with noise."
        )
    if passed == rank:
        return f"All {rank} components explain particles that they were not fitted to."
    return (
        f"{passed} of {rank} components explain particles that they were not fitted to; "
        "the rest is consistent with noise."
    )


def resolution_text(run: Run, resolution: float) -> str:
    """A resolution in Å; marked where the halves still agree at the finest shell that was used."""
    if not np.isfinite(resolution):
        return "–"
    assert run.validation is not None  # who else would know a resolution
    shells = len(run.validation.mean_fsc)
    finest = run.model.box_size * run.pixel_size_angstrom / (shells - 1)
    return f"≤ {resolution:.1f}" if resolution < 1.001 * finest else f"{resolution:.1f}"
