"""The thread team covers every index once, and failures reach the caller."""

from time import sleep

import numpy as np
import pytest

from solvar.threads import ThreadTeam


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize(("count", "step"), [(0, 4), (1, 4), (16, 4), (17, 4), (5, 100)])
def test_ranges_cover_every_index_once(size, count, step):
    seen = np.zeros(count, dtype=int)

    def mark(first, last):
        assert last - first <= step
        seen[first:last] += 1

    ThreadTeam(size).over_ranges(count, step, mark)
    assert np.all(seen == 1)


@pytest.mark.parametrize("size", [1, 3])
def test_a_failure_in_a_thread_is_raised(size):
    def fail(first, last):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        ThreadTeam(size).over_ranges(10, 2, fail)


@pytest.mark.parametrize("size", [1, 3])
def test_mapped_keeps_the_order_and_tells_of_a_failure(size: int) -> None:
    team = ThreadTeam(size)

    def late(item: int) -> int:
        sleep(0.01 * (7 - item) if item < 7 else 0)
        if item == 9:
            raise ValueError("nine")
        return item**2

    assert list(team.mapped(late, range(9))) == [item**2 for item in range(9)]
    with pytest.raises(ValueError, match="nine"):
        list(team.mapped(late, iter(range(12))))


def test_mapped_takes_no_more_than_threads_can_do_soon() -> None:
    taken = list[int]()
    items = (taken.append(item) or item for item in range(100))
    found = ThreadTeam(2).mapped(lambda item: item, items)
    assert next(found) == 0 and len(taken) <= 5
