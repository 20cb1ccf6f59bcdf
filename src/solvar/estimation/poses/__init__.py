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
from solvar.estimation.poses.objective import PoseObjective
from solvar.estimation.poses.search import search_poses
from solvar.estimation.poses.state import FIRST_SPREAD, PoseState
from solvar.imaging.rotations import to_rotation_vector
from solvar.plugins import POSE_SOLVERS, Choices
from solvar.progress import Step

__all__ = [
    "FIRST_SPREAD",
    "SOLVERS",
    "PoseSolver",
    "PoseState",
    "pose_errors_depend_on_conformation",
    "refine_poses",
    "search_poses",
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

    def improve(
        self, objective: PoseObjective, memory: dict[str, Float64]
    ) -> tuple[Float64, Float64, Float64]:
        """Take `steps` steps with a batch of B particles; what is remembered of them is changed.

        Returns
        -------
        (B, 3, 3) rotations, (B, 2) further shifts in box lengths
        (B, 5, 5) posterior covariance of (ω, t)
        """


SOLVERS: Choices[PoseSolver] = Choices(
    POSE_SOLVERS, {"newton": GaussNewton(), "adam": SparseAdam()}
)


def refine_poses(
    band: Band, model: ColumnModel, state: PoseState, solver: PoseSolver, progress: Step
) -> tuple[PoseState, float]:
    """Steps of a solver for every particle of a band.

    Parameters
    ----------
    band : Band
        Of images at the poses of `state`.
    model : ColumnModel
        On the band's grid, without pose errors.
    state : PoseState
    solver : PoseSolver
    progress : Step

    Returns
    -------
    PoseState
    float
        Mean square rotation in units of the posterior variance: 1 is a move of one error bar.
    """
    prepared, found, moved = BandModel(band, model), state.copied(), 0.0
    for batch in band.batches():
        here, objective = batch.index, PoseObjective(prepared, batch, state)
        rotation, shift, found.covariance[here] = solver.improve(objective, found.memory)
        turn = to_rotation_vector(rotation @ state.rotation[here].transpose(0, 2, 1))
        moved += float(np.sum(turn**2))
        found.move(here, rotation, shift)
        progress.advance(len(batch) * solver.steps)
    moved = float(band.sum(np.array([moved]))[0])
    found = found.shared(band.images).with_new_spread(band.index)
    variance = np.einsum("bii->bi", found.covariance[band.index])[:, :3].sum(axis=1)
    return found, moved / float(variance.sum())
