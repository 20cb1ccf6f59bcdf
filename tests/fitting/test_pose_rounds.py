"""Rounds of pose refinement: who is searched, and when searches end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from solvar.estimation.poses import PoseState
from solvar.fitting import poses as rounds_of_poses
from solvar.fitting.pose_round import RoundPlan, Search
from solvar.fitting.poses import _Rounds, _taken
from solvar.fitting.settings import FitSettings
from solvar.imaging.rotations import from_rotation_vector
from solvar.parallel import OneProcess
from solvar.progress import SilentProgress

COUNT, FINEST = 2000, 31


@dataclass
class _State:
    """What a round looks at in the state of a fit."""

    poses: PoseState
    weight: np.ndarray


class _Context:
    """Takes every step at once."""

    k_max = FINEST
    settings, operations = FitSettings(), None
    images = SimpleNamespace(processes=OneProcess())

    def once(self, name: str, step: Any, state: _State, like: _State) -> _State:
        """The state after the step."""
        return step(state)


def _searches(
    monkeypatch: pytest.MonkeyPatch,
    found: list[int],
    first: Search = Search.MISPLACED,
    best: int = COUNT,
) -> list[RoundPlan]:
    """What some rounds do, if so many particles are found elsewhere by those that search.

    Evidence rises up to a round.
    """
    plans, left = list[RoundPlan](), iter(found)

    def after(context: Any, plan: RoundPlan, progress: Any, state: _State) -> _State:
        plans.append(plan)
        moved = state.poses.copied()
        moved.evidence[:] = -abs(plan.number - best)
        if plan.search is not Search.NOBODY:
            index = np.arange(next(left))
            turn = from_rotation_vector(np.tile([0.0, 0.0, 1.0], (len(index), 1)))
            moved.move(index, turn @ moved.rotation[index], np.zeros((len(index), 2)))
        return replace(state, poses=moved)

    monkeypatch.setattr(rounds_of_poses, "after_round", after)
    state = _State(PoseState.of(np.tile(np.eye(3), (COUNT, 1, 1))), np.ones(COUNT))
    rounds = _Rounds(state, state, search=first, measures_noise=first.is_of_all)
    coarse = [] if first.is_of_all else [FINEST // 2]
    for k_c in (*coarse, *[FINEST] * (len(found) + 2)):
        rounds = _taken(_Context(), SilentProgress(), rounds, k_c)
    return plans


def _whether(plans: list[RoundPlan]) -> list[bool]:
    """Whether rounds search those who look misplaced."""
    return [plan.search is Search.MISPLACED for plan in plans]


def test_searches_begin_at_the_finest_band_and_end_where_two_find_next_to_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    searches = _whether(_searches(monkeypatch, [80, 50, 5, 7]))
    assert searches == [False, True, True, True, True, False, False]
    # one that left out whom the other sought in vain does not end them
    again = _whether(_searches(monkeypatch, [80, 5, 50, 5, 5]))
    assert again == [False, True, True, True, True, True, False, False]


def test_one_search_that_finds_next_to_nobody_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _whether(_searches(monkeypatch, [1])) == [False, True, False, False]


@pytest.mark.parametrize(
    ("found", "best", "wanted"),
    [
        # by the mean until it moves few, then by columns, then those who look misplaced
        (
            [500, 100, 30, 60, 1, 1],
            COUNT,
            "by mean, by mean, by mean, all, misplaced, misplaced, nobody",
        ),
        # … until columns move few
        ([30, 300, 300, 100, 1, 1], COUNT, "by mean, all, all, all, misplaced, misplaced, nobody"),
        # however many move, there is an end
        ([500] * 8 + [1, 1], COUNT, "by mean, " * 6 + "all, " * 2 + "misplaced, misplaced, nobody"),
        # … as soon as it is to no end
        (
            [500, 100, 100, 60, 1, 1],
            2,
            "by mean, by mean, by mean, all, misplaced, misplaced, nobody",
        ),
    ],
)
def test_where_poses_come_from_images_alone_everybody_is_searched_while_many_move(
    monkeypatch: pytest.MonkeyPatch, found: list[int], best: int, wanted: str
) -> None:
    plans = _searches(monkeypatch, found, Search.ALL_BY_MEAN, best)
    words = {
        Search.ALL_BY_MEAN: "by mean",
        Search.ALL: "all",
        Search.MISPLACED: "misplaced",
        Search.NOBODY: "nobody",
    }
    assert ", ".join(words[plan.search] for plan in plans).startswith(wanted)
    # models with columns leave less of the images than the mean does
    measured = [plan.number for plan in plans if plan.measures_noise]
    assert measured == [1, 1 + wanted.count("by mean")]
