"""`FitState`: all that the steps of a fit change. A step takes one and returns one; a checkpoint is one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.abinitio import Start
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.noise import NoiseModel
from solvar.estimation.poses import PoseState, TiltShifts
from solvar.estimation.prior import Prior
from solvar.estimation.statistics import SweepStatistics
from solvar.estimation.tilt_contrast import TiltContrasts

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PartModel:
    """A model of one part of the particles, under way.

    Attributes
    ----------
    part : int or None
        Which of the disjoint parts (half-sets) it is fitted to; None for all particles.
    columns : (1 + r, l, l, l) float32 or None
        W = [μ | V] on the grid of the last band, V scaled to unit latent variance.
    contrast_sd : float
    factor : (r, r) float64 or None
        What the columns of the last fit were multiplied by.
    """

    part: int | None
    columns: Float32 | None
    contrast_sd: float
    factor: Float64 | None = None


@dataclass(frozen=True, eq=False)
class Sweeping:
    """How far a series of sweeps has come.

    Attributes
    ----------
    sweeps : int
        Sweeps that are done.
    ended : bool
        Whether the last one was not worth it.
    statistics : list of SweepStatistics
        Of the last sweep of each solver.
    held_out : list of (m,) float64
        Log-likelihood of each solver's sample of held-out particles after it.
    solvers : list of dict
        `ColumnSolver.state` of each.
    """

    sweeps: int = 0
    ended: bool = False
    statistics: list[SweepStatistics] = field(default_factory=list)
    held_out: list[Float64] = field(default_factory=list)
    solvers: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class FitState:
    """Everything that the steps of a fit change.

    Attributes
    ----------
    noise : NoiseModel
    random : dict
        State of the generator of every random choice after the images were read.
    weight : (N,) float64
        Of each particle in every sum: the probability that its images show one.
    inverted : bool
        Whether the sign of the images is turned around.
    mask : (L, L, L) float32 or None
        Around what the means have shown, where none was given.
    spatial_weight : (L, L, L) float32 or None
        How much columns may vary at each place, as of `estimation.spatial_prior`; None before the first band,
        and where halves cannot tell.
    means : list of (L, L, L) float32
        Mean of each part of the particles, then of each model.
    prior : Prior or None
    models : list of PartModel
        One a half-set, or one of all particles.
    poses : PoseState or None
        None where poses stay as they are.
    tilts : TiltShifts or None
        None where images of tilt series keep the shifts that they have.
    contrasts : TiltContrasts or None
        None where they are taken to be as strong as their file says.
    starts : list of Start
        Attempts at a consensus, where poses are found from the images alone.
    consensus : (l, l, l) float32 or None
        What the best of them became.
    sweeping : Sweeping or None
        In the middle of a step.
    history : list of dict
        One record a sweep.
    """

    noise: NoiseModel
    random: dict[str, Any]
    weight: Float64
    inverted: bool = False
    mask: Float32 | None = None
    spatial_weight: Float32 | None = None
    means: list[Float32] = field(default_factory=list)
    prior: Prior | None = None
    models: list[PartModel] = field(default_factory=list)
    poses: PoseState | None = None
    tilts: TiltShifts | None = None
    contrasts: TiltContrasts | None = None
    starts: list[Start] = field(default_factory=list)
    consensus: Float32 | None = None
    sweeping: Sweeping | None = None
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def fitted_models(self) -> list[ColumnModel]:
        """Columns and contrast spread of those models that have columns by now."""
        return [ColumnModel(m.columns, m.contrast_sd) for m in self.models if m.columns is not None]

    def generator(self) -> np.random.Generator:
        """The generator of the next random choices; `after` makes the state that has taken them."""
        rng = np.random.default_rng()
        rng.bit_generator.state = self.random
        return rng

    def after(self, rng: np.random.Generator) -> FitState:
        """The state once this generator has been used."""
        return replace(self, random=dict(rng.bit_generator.state))
