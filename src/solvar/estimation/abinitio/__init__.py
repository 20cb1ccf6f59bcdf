"""Poses from images alone: a consensus of images by stochastic EM, from random rotations."""

from __future__ import annotations

from solvar.estimation.abinitio.consensus import Consensus, Moments, Stage
from solvar.estimation.abinitio.placing import Placed, placed
from solvar.estimation.abinitio.start import Start, bands_to, blank_start, judged, run_stages

__all__ = [
    "Consensus",
    "Moments",
    "Placed",
    "Stage",
    "Start",
    "bands_to",
    "blank_start",
    "judged",
    "placed",
    "run_stages",
]
