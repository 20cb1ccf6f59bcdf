"""Pose refinement inside the heterogeneous model: each particle against the shape it has.

A new way to move poses is one new file that implements `PoseSolver` and one line in `SOLVERS`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.level import Level, Uncertainty
from solvar.estimation.poses.adam import SparseAdam
from solvar.estimation.poses.gauge import poses_follow_shape
from solvar.estimation.poses.newton import GaussNewton
from solvar.estimation.poses.objective import PoseObjective
from solvar.estimation.poses.search import search_poses
from solvar.estimation.poses.state import FIRST_SPREAD, PoseState
from solvar.estimation.settings import FitSettings
from solvar.imaging.rotations import to_rotation_vector
from solvar.particles import ParticleSet
from solvar.progress import Step

__all__ = [
    "PoseSolver",
    "PoseState",
    "make_solver",
    "poses_follow_shape",
    "refine_poses",
    "search_poses",
    "start_poses",
]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


class PoseSolver(Protocol):
    """A way to move the poses of N particles uphill.

    Attributes
    ----------
    steps : int
        Steps of one call.
    memory : dict of (N, …) float64
        What it remembers of each particle.
    """

    steps: int
    memory: dict[str, Float64]

    def improve(self, objective: PoseObjective) -> tuple[Float64, Float64, Float64]:
        """Take `steps` steps with a batch of B particles.

        Returns
        -------
        (B, 3, 3) rotations, (B, 2) further shifts in box lengths
        (B, 5, 5) posterior covariance of (ω, t)
        """


SOLVERS: dict[str, type[GaussNewton] | type[SparseAdam]] = {
    "newton": GaussNewton,
    "adam": SparseAdam,
}


def make_solver(name: str, count: int) -> PoseSolver:
    """The solver `name` for `count` particles."""
    return SOLVERS[name](count)


def start_poses(particles: ParticleSet, settings: FitSettings) -> PoseState:
    """The input poses, with a prior as wide as the user says they are rough."""
    rotation = particles.poses.rotation
    if settings.pose_search is None:
        return PoseState.of(rotation)
    return PoseState.of(rotation, (np.deg2rad(settings.pose_search) / 2, 2 * FIRST_SPREAD[1]))


def refine_poses(
    level: Level,
    columns: Float32,
    contrast_sd: float,
    excess: Uncertainty | None,
    state: PoseState,
    solver: PoseSolver,
    progress: Step,
) -> float:
    """Steps of a solver for every particle of a level; images and state are updated.

    Returns
    -------
    float
        Mean square rotation in units of the posterior variance: 1 is a move of one error bar.
    """
    prepared = level.projector.prepare(columns)
    moved = 0.0
    for batch in level.batches():
        objective = PoseObjective(level, prepared, batch, contrast_sd, excess, state)
        here = batch.index
        rotation, shift, state.covariance[here] = solver.improve(objective)
        turn = to_rotation_vector(rotation @ state.rotation[here].transpose(0, 2, 1))
        moved += float(np.sum(turn**2))
        state.move(level.images, here, rotation, shift)
        progress.advance(len(batch) * solver.steps)
    moved = float(level.sum(np.array([moved]))[0])
    state.share(level.images)
    solver.memory = {name: level.images.shared(each) for name, each in solver.memory.items()}
    state.renew_spread(level.index)
    variance = np.einsum("bii->bi", state.covariance[level.index])[:, :3].sum(axis=1)
    return moved / float(variance.sum())
