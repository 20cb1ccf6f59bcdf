"""Where particles are in a consensus: the best of all rotations and shifts, and what they say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.abinitio.drawing import drawn_poses, rotation_spacing
from solvar.estimation.abinitio.trial import Trial, log_prior_of
from solvar.estimation.band import Band
from solvar.estimation.poses.grids import all_rotations, ball
from solvar.progress import Step

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# neighbouring shifts move images by this share of the shortest wave; standard deviations that are tried
_SHIFT_STEP, _REACH = 0.375, 2.5
# poses that are drawn on the way to the likeliest
DRAWS = 512


@dataclass(frozen=True, eq=False)
class Placed:
    """Poses of M particles.

    Attributes
    ----------
    rotation : (M, 3, 3) float64
    shift : (M, 2) float64
        Box lengths.
    evidence : (M,) float64
        How much likelier images are with the molecule, at any pose, than without: log of the ratio.
    """

    rotation: Float64
    shift: Float64
    evidence: Float64


def placed(
    bands: Sequence[Band],
    columns: Float32,
    index: Int64,
    shift_sd: float,
    progress: Step | None = None,
) -> Placed:
    """Compare particles with a volume at every rotation and every shift that is likely.

    Parameters
    ----------
    bands : sequence of Band
        From the one of the grid to the one of the volume.
    columns : (1 + r, l, l, l)
        See `drawn_poses`.
    index : (M,)
        Which particles, in ascending order.
    shift_sd : float
        Of shifts, box lengths an axis.
    progress : Step, optional
        Told of every particle.
    """
    moves = ball(_REACH * shift_sd, _SHIFT_STEP / bands[0].k_c, 2)
    log_prior = log_prior_of(moves, shift_sd)
    # shifts and rotations together weigh 1
    nodes = np.exp(log_prior).sum() * len(all_rotations(rotation_spacing(bands[0])))
    shape = len(index), len(moves)
    prior = np.broadcast_to(log_prior.astype(np.float32), shape)
    trial = Trial(index, np.broadcast_to(moves, (*shape, 2)), prior, shift_sd, DRAWS)
    count = len(index)
    rotation, shift, evidence = np.zeros((count, 3, 3)), np.zeros((count, 2)), np.zeros(count)
    for part in drawn_poses(bands, columns, trial, np.random.default_rng(0)):
        who = np.arange(len(part.place)), part.best
        rotation[part.place], shift[part.place] = part.rotation[who], part.shift[who]
        evidence[part.place] = part.evidence - np.log(nodes)
        if progress is not None:
            progress.advance(len(part.place))
    return Placed(bands[0].sum(rotation), bands[0].sum(shift), bands[0].sum(evidence))
