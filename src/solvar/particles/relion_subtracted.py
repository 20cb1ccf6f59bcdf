"""Star files after subtraction: several rows may have images that were made of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd


def made_of_one(original: pd.Series | None) -> NDArray[np.uint64] | None:
    """Number of the image that each row's is made of, where some are made of the same one.

    That is done to symmetry copies, each of which keeps another part.

    Parameters
    ----------
    original : (N,) Series or None
        The column `rlnImageOriginalName`.

    Returns
    -------
    (N,) uint64 or None
        None if there is no such column, or every image has an original of its own.
    """
    import pandas as pd

    if original is None or original.isna().any():
        return None
    number, names = pd.factorize(original)
    return None if len(names) == len(number) else number.astype(np.uint64)
