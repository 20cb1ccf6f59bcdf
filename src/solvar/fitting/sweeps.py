"""Sweeps of several solvers side by side, until held-out particles gain no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.log_likelihood import log_likelihood
from solvar.estimation.solvers import ColumnSolver
from solvar.estimation.statistics import SweepStatistics
from solvar.fitting.context import Context
from solvar.fitting.state import FitState, Sweeping
from solvar.progress import Step

Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class StoppingRule:
    """When sweeps are not worth it any more, by particles that took no part in them.

    Attributes
    ----------
    samples : list of (m,) int64
        Held-out particles of each solver, whose log-likelihood is taken after every sweep.
    settled : callable
        Told how far sweeps have come after one and before it: whether it was the last one, and its record.
    """

    samples: list[Int64]
    settled: Callable[[Sweeping, Sweeping], tuple[bool, dict[str, float]]]


def sweep(
    context: Context,
    state: FitState,
    name: str,
    solvers: list[ColumnSolver],
    most: int,
    step: Step,
    rule: StoppingRule | None = None,
) -> tuple[FitState, list[SweepStatistics]]:
    """Sweeps of several solvers, from where an earlier process left them.

    Parameters
    ----------
    context : Context
    state : FitState
    name : str
        Of this series of sweeps, unlike any other in the fit.
    solvers : list of ColumnSolver
        They are changed.
    most : int
        Sweeps of each.
    step : Step
        Told of every particle.
    rule : StoppingRule, optional
        Makes all `most` sweeps and no record by default.

    Returns
    -------
    FitState
        Random choices and history went on.
    list of SweepStatistics
        Of the last sweep of each solver.
    """
    count = sum(len(solver.band.index) for solver in solvers)
    at = Sweeping()
    samples = rule.samples if rule else []
    saved = context.saved(name, replace(state, sweeping=_form(solvers, samples)))
    if saved is not None and saved.sweeping is not None:
        state, at = saved, saved.sweeping
        for solver, before in zip(solvers, at.solvers, strict=True):
            solver.restore(before)
        step.advance(count * at.sweeps)
    while at.sweeps < most and not at.ended:
        rng = state.generator()
        orders = [rng.permutation(len(solver.batches)) for solver in solvers]
        statistics = [s.sweep(order, step) for s, order in zip(solvers, orders, strict=True)]
        # without a rule there are no samples
        judged = zip(solvers, samples, strict=False)
        held_out = [log_likelihood(s.band, s.model, sample) for s, sample in judged]
        now, history = Sweeping(at.sweeps + 1, False, statistics, held_out), state.history
        if rule is not None:
            ended, record = rule.settled(now, at)
            now, history = replace(now, ended=ended), [*history, record]
        state, at = replace(state, history=history).after(rng), now

        def reached(state: FitState = state, at: Sweeping = at) -> FitState:
            return replace(state, sweeping=replace(at, solvers=[s.state() for s in solvers]))

        context.workspace.keep(name, reached, always=at.ended or at.sweeps == most)
    step.advance(count * (most - at.sweeps))
    return replace(state, sweeping=None), at.statistics


def _form(solvers: list[ColumnSolver], samples: list[Int64]) -> Sweeping:
    """What has the form of the state in the middle of sweeps."""
    statistics = [_no_statistics(solver.model.rank) for solver in solvers]
    held_out = [np.zeros(len(sample)) for sample in samples]
    return Sweeping(0, False, statistics, held_out, [solver.state() for solver in solvers])


def _no_statistics(rank: int) -> SweepStatistics:
    """What has the form of the statistics of a sweep."""
    return SweepStatistics(0.0, np.zeros((rank, rank)), np.zeros((rank, rank)), 0.0)
