"""What the analysis says of states and paths, for terminal and report alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from solvar.analysis.bodies.motion import COMES_AND_GOES, MOVES, NOT_RIGID, STILL

PATHS = {
    "extremes": "5th to 95th percentile",
    "distant": "the longest way",
    "densest": "densest clusters",
    "own": "your own ends",
}
_FEW = 6  # states whose share is told
_FEW_BODIES = 4  # those that move most
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
            "No state is certain: the latents have hills, but the particles are nearly as likely without the "
            "valleys between them, no one direction shows these, or random halves of the particles have "
            "other ones. It may be continuous motion, or take more particles to tell."
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


def motion_sentence(motion: Mapping[str, Any]) -> str:
    """What moves how far along a component, largest first.

    Parameters
    ----------
    motion : mapping
        An entry of ``rigid_bodies`` in ``analysis.json``.
    """
    bodies = sorted(motion["bodies"], key=lambda body: -body["displacement_angstrom"])

    def found(verdict: str) -> list[Mapping[str, Any]]:
        return [body for body in bodies if body["verdict"] == verdict]

    told = []
    if moving := found(MOVES):
        listed = _listed([_moved(body) for body in moving])
        told.append(f"{listed} move{'s' if len(moving) == 1 else ''}")
    if loose := found(NOT_RIGID):
        listed = _listed([body["body"] for body in loose])
        told.append(f"{listed} change{'s' if len(loose) == 1 else ''}, but not as one body")
    if fading := found(COMES_AND_GOES):
        listed = _listed([_there(body) for body in fading])
        told.append(
            f"{listed} come{'s' if len(fading) == 1 else ''} and go{'es' if len(fading) == 1 else ''}"
        )
    if still := found(STILL):
        least = max(body["displacement_angstrom"] for body in still)
        told.append(f"{'the rest' if told else 'everything'} stays within {least:.1f} Å")
    return f"Component {motion['component']} at {motion['resolution_angstrom']:.0f} Å: {'; '.join(told)}."


def _moved(body: Mapping[str, Any]) -> str:
    return (
        f"{body['body']} ({body['displacement_angstrom']:.1f} ± {body['error_angstrom']:.1f} Å, "
        f"{body['rotation_degree']:.0f}°)"
    )


def _there(body: Mapping[str, Any]) -> str:
    first, last = (100 * min(share, 1) for share in body["occupancy"])
    return f"{body['body']} ({first:.0f} % there at one end, {last:.0f} % at the other)"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _FEW_BODIES} more" if len(names) > _FEW_BODIES else ""
    return ", ".join(names[:_FEW_BODIES]) + more
