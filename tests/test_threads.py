"""A team of threads does everything once, whoever does it."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from solvar.threads import ThreadTeam


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 1000])
def test_every_item_is_met_once(threads: int, count: int) -> None:
    team, met = ThreadTeam(threads), np.zeros(count, int)

    def meet(first: int, last: int) -> None:
        met[first:last] += 1

    team.over_ranges(count, 7, meet)
    team.over_items(count, 1 << 12, meet)
    team.over_items(count, 0, meet)
    assert np.all(met == 3)


def test_threads_work_side_by_side() -> None:
    both = threading.Barrier(2, timeout=20)
    ThreadTeam(2).over_ranges(2, 1, lambda first, last: both.wait())


def test_little_work_stays_with_the_caller() -> None:
    workers = set()

    def work(first: int, last: int) -> None:
        workers.add(threading.get_ident())
        time.sleep(1e-3)

    ThreadTeam(3).over_items(100, 10, work)
    assert workers == {threading.get_ident()}


@pytest.mark.parametrize("bad", [0, 5, 39])
def test_an_error_ends_the_work_and_reaches_the_caller(bad: int) -> None:
    team, begun = ThreadTeam(3), []

    def work(first: int, last: int) -> None:
        begun.append(first)
        if first == bad:
            raise ValueError(f"item {first}")
        time.sleep(1e-3)

    with pytest.raises(ValueError, match=f"item {bad}"):
        team.over_ranges(40, 1, work)
    count = len(begun)
    time.sleep(0.02)
    assert len(begun) == count


def test_a_piece_may_share_out_work_of_its_own() -> None:
    team, met = ThreadTeam(2), []
    team.over_ranges(
        4, 1, lambda first, last: team.over_ranges(3, 1, lambda a, b: met.append((first, a)))
    )
    assert sorted(met) == [(i, j) for i in range(4) for j in range(3)]
