"""What the analysis says of states and paths, for terminal and report alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PATHS = {
    "extremes": "5th to 95th percentile",
    "distant": "the longest way",
    "densest": "densest clusters",
    "own": "your own ends",
}
_FEW = 6  # states whose share is told
_MOST = 0.5


def states_sentence(states: Mapping[str, Any] | None) -> str | None:
    """How many separate states there are and how sure that is; None where it was not asked.

    Parameters
    ----------
    states : mapping or None
        As in ``analysis.json``.
    """
    if states is None:
        return None
    count, shares = states["count"], {int(n): share for n, share in states["resamples"].items()}
    if count == 1 and shares.get(1, 0.0) < _MOST:
        return (
            f"No state is certain: random halves of the particles show {min(shares)} to {max(shares)}, but "
            "not the same ones. It may be one continuous motion, or take more particles to tell."
        )
    if count == 1:
        return (
            "No separate states: the latents are one hill, whatever its shape "
            f"({100 * shares[1]:.0f} % of random halves of the particles show none either)."
        )
    populations = zip(states["population"], states["population_error"], strict=True)
    told = [f"{100 * share:.0f} ± {_points(error)} %" for share, error in populations]
    listed = ", ".join(told[:_FEW]) + (", …" if count > _FEW else "")
    again = ", ".join(f"{n} in {100 * share:.0f} %" for n, share in sorted(shares.items()))
    return (
        f"{count} separate states, of {listed} of the particles. Number found in random halves of the "
        f"particles: {again}."
    )


def _points(error: float) -> str:
    """A standard error in per cent, no smaller than it can be told."""
    return f"{100 * error:.0f}" if error >= 0.01 else "1"


def gap_sentence(path: Mapping[str, Any]) -> str | None:
    """A path that leads where hardly a particle is; None for one that does not."""
    if not path["crosses_gap"]:
        return None
    return (
        f"The path “{path['name']}” crosses a gap: {min(path['behind'])} particles stand behind one of its "
        "points, so that volumes there are the model's and no state that was seen."
    )
