"""What every step of a fit shares, and how a step is taken once and remembered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.estimation.cache import WhitenedImages
from solvar.estimation.level import Level
from solvar.estimation.likeness import is_history, is_like
from solvar.estimation.poses import PoseSolver, PoseState
from solvar.estimation.settings import FitSettings
from solvar.estimation.sweep import ColumnSolver, SweepStatistics
from solvar.estimation.workspace import NoWorkspace, Workspace
from solvar.progress import Step
from solvar.threads import ThreadTeam

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Context:
    """What every step of a fit needs.

    Attributes
    ----------
    rng : Generator
        Of every random choice after the images were read.
    poses, solver : PoseState and PoseSolver, or None
        Where poses are refined.
    history : list of dict
        One record a sweep.
    """

    images: WhitenedImages
    mask: Float32
    settings: FitSettings
    team: ThreadTeam
    rng: np.random.Generator
    poses: PoseState | None = None
    solver: PoseSolver | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    workspace: Workspace = field(default_factory=NoWorkspace)

    def level(self, index: Int64, k_c: int) -> Level:
        """The level `k_c` of the particles `index`."""
        return Level(self.images, index, k_c, self.mask, self.settings, self.team)

    def once(self, name: str, step: Callable[[], Result], like: Result) -> Result:
        """The result of a step: the one that was saved by an earlier process, or a new one, saved.

        Parameters
        ----------
        name : str
            Of the step, unlike any other in the fit.
        step : callable
        like : content
            What has the form of the result.

        Raises
        ------
        InputError
            If what was saved is not of that form.
        """
        saved = self.workspace.load(name)
        if saved is not None:
            self._restore(name, saved, {"result": like})
            return saved["result"]
        result = step()
        self.workspace.save(name, {"result": result, **self._state()})
        return result

    def sweep(
        self,
        name: str,
        fits: list[ColumnSolver],
        most: int,
        step: Step,
        settled: Callable[[int, list[SweepStatistics]], bool] = lambda sweep, statistics: False,
    ) -> list[SweepStatistics]:
        """Sweeps of several fits side by side, from where an earlier process left them.

        Parameters
        ----------
        name : str
            Of this series of sweeps, unlike any other in the fit.
        fits : list of ColumnSolver
            They are changed.
        most : int
            Sweeps of each.
        settled : callable
            Told the number of each sweep and its statistics; whether it was the last one.

        Returns
        -------
        list of SweepStatistics
            Of the last sweep of each fit.
        """
        count = sum(len(fit.level.index) for fit in fits)
        sweep, ended, statistics = 0, False, list[SweepStatistics]()
        saved = self.workspace.load(name)
        if saved is not None:
            form = {"sweep": 0, "ended": False, "fits": [fit.state() for fit in fits]}
            form["statistics"] = [_no_statistics(len(fit.columns) - 1) for fit in fits]
            self._restore(name, saved, form)
            sweep, ended, statistics = saved["sweep"], saved["ended"], saved["statistics"]
            for fit, state in zip(fits, saved["fits"], strict=True):
                fit.restore(state)
            step.advance(count * sweep)
        while sweep < most and not ended:
            orders = [self.rng.permutation(len(fit.batches)) for fit in fits]
            statistics = [fit.sweep(order, step) for fit, order in zip(fits, orders, strict=True)]
            ended = settled(sweep, statistics)
            sweep += 1
            reached = {"sweep": sweep, "ended": ended, "statistics": statistics}
            self.workspace.keep(
                name,
                partial(self._with_fits, reached, fits),
                always=ended or sweep == most,
            )
        step.advance(count * (most - sweep))
        return statistics

    def _with_fits(self, reached: dict[str, Any], fits: list[ColumnSolver]) -> dict[str, Any]:
        return {**reached, "fits": [fit.state() for fit in fits], **self._state()}

    def _state(self) -> dict[str, Any]:
        """Everything that steps change besides what they return."""
        state: dict[str, Any] = {
            "rng": self.rng.bit_generator.state,
            "history": self.history,
            "inverted": self.images.inverted,
        }
        if self.poses is not None and self.solver is not None:
            state["poses"], state["solver"] = vars(self.poses), self.solver.memory
        return state

    def _restore(self, name: str, state: dict[str, Any], form: dict[str, Any]) -> None:
        """Take over what steps change, and make sure that the rest has the given form."""
        form, rest = {**form, **self._state()}, dict(state)
        del form["history"]
        fits = is_history(rest.pop("history", None)) and is_like(rest, form, len(self.images))
        if not fits:
            raise InputError(
                f"the checkpoint of the step '{name}' does not fit this run",
                file=self.workspace.scratch,
                remedy="start again with --overwrite",
            )
        self.rng.bit_generator.state = state["rng"]
        self.history[:] = state["history"]
        self.images.inverted = state["inverted"]
        if self.poses is not None and self.solver is not None:
            for name, value in state["poses"].items():
                setattr(self.poses, name, value)
            self.solver.memory = state["solver"]
            self.images.rotation[:] = self.poses.rotation
            self.images.shift[:] = self.poses.shift


def _no_statistics(rank: int) -> SweepStatistics:
    """What has the form of the statistics of a sweep."""
    return SweepStatistics(0.0, np.zeros((rank, rank)), np.zeros((rank, rank)), 0.0)
