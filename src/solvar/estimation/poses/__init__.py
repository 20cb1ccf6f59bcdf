"""Pose refinement inside the heterogeneous model: each particle against the shape it has.

A new way to move poses is one new file that implements `PoseSolver` and one line in `SOLVERS`, or a plug-in.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel
from solvar.estimation.poses.adam import SparseAdam
from solvar.estimation.poses.degeneracy import pose_errors_depend_on_conformation
from solvar.estimation.poses.newton import GaussNewton
from solvar.estimation.poses.objective import Improved, PoseObjective
from solvar.estimation.poses.prior import PosePrior
from solvar.estimation.poses.search import Candidates, likely_poses, look_misplaced
from solvar.estimation.poses.shape import ShapeTurns
from solvar.estimation.poses.state import WIDE_SPREAD, PoseState
from solvar.estimation.poses.tilts import TiltShifts, ToldOfTilts, told_of_tilts
from solvar.plugins import POSE_SOLVERS, Choices
from solvar.progress import Step

__all__ = [
    "SOLVERS",
    "WIDE_SPREAD",
    "Candidates",
    "PosePrior",
    "PoseSolver",
    "PoseState",
    "ShapeTurns",
    "TiltShifts",
    "ToldOfTilts",
    "likely_poses",
    "look_misplaced",
    "pose_errors_depend_on_conformation",
    "refine_poses",
    "told_of_tilts",
]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


class PoseSolver(Protocol):
    """A way to raise the posterior of the particles' poses.

    Attributes
    ----------
    steps : int
        Steps of one call.
    """

    steps: int

    def start(self, count: int) -> dict[str, Float64]:
        """What it remembers of each of N particles before the first step: (N, …) by name."""

    def improve(self, objective: PoseObjective, memory: dict[str, Float64]) -> Improved:
        """Take `steps` steps with a batch of particles; what is remembered of them is changed."""


SOLVERS: Choices[PoseSolver] = Choices(
    POSE_SOLVERS, {"newton": GaussNewton(), "adam": SparseAdam()}
)


def refine_poses(
    band: Band, model: ColumnModel, state: PoseState, solver: PoseSolver, progress: Step
) -> PoseState:
    """Steps of a solver for every particle of a band, under the prior that the state has.

    Parameters
    ----------
    band : Band
        Of images at the poses of `state`.
    model : ColumnModel
        On the band's grid, without pose errors.
    state : PoseState
    solver : PoseSolver
    progress : Step
    """
    prepared, found = BandModel(band, model), state.copied()
    for batch in prepared.batches():
        here = batch.index
        improved = solver.improve(PoseObjective(prepared, batch, state), found.memory)
        found.covariance[here], found.evidence[here] = improved.covariance, improved.evidence
        found.move(here, improved.rotation, improved.shift)
        progress.advance(len(batch) * solver.steps)
    return found.shared(band.images)
