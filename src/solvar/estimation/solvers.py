"""How columns are fitted; a new solver is one new file and one branch here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.adam import MinibatchAdam
from solvar.estimation.em import IncrementalEm
from solvar.estimation.level import Level, Prior
from solvar.estimation.objectives import OBJECTIVES
from solvar.estimation.settings import FitSettings
from solvar.estimation.slack import PoseSlack
from solvar.estimation.sweep import ColumnSolver

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


def make_column_solver(
    settings: FitSettings,
    level: Level,
    columns: Float32,
    prior: Prior,
    contrast_sd: float,
    batches: list[Int64],
    slack: PoseSlack | None,
) -> ColumnSolver:
    """The solver that `settings` name, started from columns of unit latent variance."""
    second = np.eye(len(columns))
    if settings.solver == "adam":
        objective = OBJECTIVES[settings.objective]
        return MinibatchAdam(level, columns, second, prior, contrast_sd, batches, objective, slack)
    return IncrementalEm(level, columns, second, prior, contrast_sd, batches, slack)
