"""Work on a device whose memory may not hold a whole batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

Made = TypeVar("Made")

# Values of the temporary arrays of one piece: on a CPU they should stay in a cache, elsewhere be many enough
# to keep the device busy; an H100 gains nothing beyond the most (docs/gpu.md)
_ON_CPU, _LEAST, _MOST = 1 << 22, 1 << 26, 1 << 30
_SHARE = 8


def values_of_a_piece(device: torch.device) -> int:
    """How many values of 4 bytes a piece may have: on a GPU an eighth of its free memory, within bounds.

    Torch's kernels count 54 C values a pixel. What is alive at once is a third of that at rank 10, and half
    as much again at rank 1.
    """
    if device.type != "cuda":
        return _ON_CPU if device.type == "cpu" else _LEAST
    free, _ = torch.cuda.mem_get_info(device)
    # what torch keeps for later use is free, too
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min(max(_LEAST, free // (4 * _SHARE)), _MOST)


class Pieces:
    """Cuts batches into pieces, and into smaller ones from then on when the memory runs out.

    Parameters
    ----------
    values : int
        Values of the temporary arrays of one piece, at most.
    """

    def __init__(self, values: int) -> None:
        self._values = values

    def work(
        self,
        count: int,
        values_an_image: int,
        compute: Callable[[slice], Made],
        use: Callable[[slice, Made], object],
    ) -> None:
        """Cover 0 … count by ranges, and use what `compute` makes of each; one of these exists at a time.

        `compute` must leave nothing half done when it fails: a piece that did not fit is computed anew in
        halves. What changes an accumulator belongs into `use`.

        Raises
        ------
        MemoryError
            When not even one image fits.
        """
        first = 0
        while first < count:
            step = max(1, self._values // values_an_image)
            some = slice(first, min(first + step, count))
            try:
                made = compute(some)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                size = some.stop - first
                if size == 1:
                    raise MemoryError(f"one image does not fit: {error}") from None
                self._values = size // 2 * values_an_image
            else:
                use(some, made)
                first = some.stop
                # else the next piece would have to fit beside this one
                del made
                continue
            # out here the error no longer holds on to the arrays of the frames it came through
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch says that a device's memory is full; not all of its parts raise the same type."""
    text = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "out of memory" in text
        or "alloc_failed" in text
    )


@contextmanager
def uncut() -> Iterator[None]:
    """Work that cannot be cut: torch's error about a full memory becomes MemoryError."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(f"the lattice does not fit: {error}") from None
