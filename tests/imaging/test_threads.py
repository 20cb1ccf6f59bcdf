"""The thread team covers every index once, and failures reach the caller."""

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
