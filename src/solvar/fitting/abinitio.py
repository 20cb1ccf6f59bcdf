"""Poses from images alone: starts until two agree, the best of them to finer shells, everybody's pose in it.

A start can end in a volume that is wrong and yet explains images. Two that began apart and put particles
that neither has seen at the same poses are right, or wrong in the same way; which start is the best is told
by the evidence of these particles.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.estimation.abinitio import (
    Placed,
    Stage,
    Start,
    bands_to,
    blank_start,
    judged,
    placed,
    run_stages,
)
from solvar.estimation.band import Band
from solvar.estimation.images import believed
from solvar.estimation.junk import Mixture, holds_junk, holds_particles
from solvar.estimation.poses import WIDE_SPREAD, PoseState
from solvar.fitting.context import Context
from solvar.fitting.junk import weight_anywhere
from solvar.fitting.result import AbInitio
from solvar.fitting.state import FitState
from solvar.imaging.frames import frame_between, without_common_move
from solvar.imaging.point_groups import PointGroup
from solvar.imaging.sampler import Sampler
from solvar.imaging.symmetry import find_axes
from solvar.parallel import agreed
from solvar.progress import Progress, Step

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# share of the particles that settle before a stage of a start ends; later stages tell hands apart, and go on
_ENOUGH = 0.95
# a hundred images a step: see `estimation/abinitio/consensus.py`
START = (
    Stage(8, 60, 100, 0.4, raised=2.0, enough=_ENOUGH),
    Stage(10, 250, 100, 0.4, raised=2.0, enough=_ENOUGH),
)
# once it is right, more images and smaller steps leave less noise
FINER = (
    Stage(12, 50, 200, 0.3),
    Stage(16, 40, 200, 0.2, draws=128),
    Stage(20, 40, 200, 0.15, draws=128),
    Stage(26, 40, 200, 0.1, draws=128),
)
# particles that take part, and others that judge
POOL, JUDGES = 5000, 300
# shifts of picked particles before anything is known of them, box lengths an axis
_SHIFT_SD = 0.04
# two starts agree if they put so many of the judges within so many radians of each other
_NEAR, _SHARE = np.pi / 6, 0.25


def with_consensus(context: Context, state: FitState, progress: Progress) -> FitState:
    """The state with poses found from the images alone, and the starts that led there."""
    if context.images.store.tilt is not None:
        raise InputError(
            "tilt series come with the poses of their tilts; ab initio takes single images",
            file=context.particles.source,
            remedy="use solvar run",
        )
    while len(state.starts) < context.settings.starts and not knows_poses(context, state):
        number = len(state.starts) + 1
        begin = partial(_with_start, context, progress)
        state = context.once(f"start {number}", begin, state, _with_blank_start(context, state))
    return context.once(
        "consensus",
        partial(_with_poses, context, progress),
        state,
        _with_blank_poses(context, state),
    )


def summary(state: FitState, group: PointGroup) -> AbInitio:
    """What the starts of a state, one at least, say of each other, of a molecule of a point group."""
    evidence = np.array([start.evidence for start in state.starts])
    number = int(np.argmax(evidence))
    best = state.starts[number]
    told = best.judged.evidence[:, None]
    mixture = Mixture.of(told)
    # those that show nothing agree by chance, and say nothing of the others
    who = np.arange(len(told))
    if holds_junk(told, mixture):
        who = believed(mixture.probability(told), who)
    operations = group.turned(best.axes).operations
    shared = np.array([_shared(best, each, who, operations) for each in state.starts])
    volumes = np.stack([start.consensus.volume for start in state.starts])
    # the molecule is bright in what is kept, as everywhere
    sign = np.float32(-1 if state.inverted else 1)
    return AbInitio(
        first=sign * best.first,
        volumes=sign * volumes,
        consensus=sign * (volumes[number] if state.consensus is None else state.consensus),
        evidence=evidence,
        shared=shared,
        best=number,
        agree=shared > _SHARE,
        is_molecule=holds_particles(told, mixture),
    )


def finer_stages(k_max: int) -> list[Stage]:
    """Those that take the best start to finer shells: of several that would end at k_max the last one."""
    reached = [min(stage.k_c, k_max) for stage in FINER]
    return [
        stage for number, stage in enumerate(FINER) if reached[number] not in reached[number + 1 :]
    ]


def best_start(state: FitState) -> Start:
    """The start that explains the judges best."""
    return max(state.starts, key=lambda start: start.evidence)


def knows_poses(context: Context, state: FitState) -> bool:
    """Whether poses are known at all: given ones are, others if two starts have agreed."""
    if not context.settings.ab_initio:
        return True
    settled = bool(state.starts) and summary(state, context.settings.point_group).settled
    return agreed(settled, context.images.processes)


def _shared(first: Start, second: Start, who: Int64, operations: Float64) -> float:
    """The share of some judges whose poses two starts agree on, but for how the volume lies and its hand."""
    poses = second.judged.rotation[who], first.judged.rotation[who]
    frame = frame_between(*poses, operations=operations)
    return float(np.mean(frame.angle < _NEAR))


def _with_start(context: Context, progress: Progress, state: FitState) -> FitState:
    """With one start more."""
    number = len(state.starts) + 1
    rng = np.random.default_rng([context.settings.seed, number])
    judges, pool = judges_and_pool(len(context.images), context.settings.seed)
    total = sum(stage.steps * min(stage.images, len(pool)) for stage in START)
    with progress.step(f"Start {number}", total, "images") as step:
        bands = partial(context.band, state, None)
        first, found = run_stages(bands, START, pool, _SHIFT_SD, rng, step)
        finest, group = bands_to(bands, START[-1].k_c), context.settings.point_group
        start = judged(finest, first, found, judges, group)
    return replace(state, starts=[*state.starts, start])


def _with_poses(context: Context, progress: Progress, state: FitState) -> FitState:
    """With the best start taken to finer shells, and everybody's pose in it."""
    assert context.solver is not None
    best = best_start(state)
    rng = np.random.default_rng([context.settings.seed, 0])
    _, pool = judges_and_pool(len(context.images), context.settings.seed)
    everybody = np.arange(len(context.images))
    stages = finer_stages(context.k_max)
    total = sum(stage.steps * min(stage.images, len(pool)) for stage in stages)
    with progress.step("Consensus", len(pool) + total + len(everybody), "images") as step:
        bands = partial(context.band, state, None)
        pool = _with_particle(context, best, bands_to(bands, START[-1].k_c), pool, step)
        _, found = run_stages(bands, stages, pool, best.consensus, rng, step)
        poses = placed(
            bands_to(bands, FINER[-1].k_c), found.volume[None], everybody, found.shift_sd, step
        )
    volume, poses = _on_axes(context, found.volume, poses)
    weight = weight_anywhere(context, poses.evidence)
    return replace(state, consensus=volume, poses=_poses(context, poses), weight=weight)


def _on_axes(context: Context, volume: Float32, poses: Placed) -> tuple[Float32, Placed]:
    """A consensus and its poses, turned so that the axes of the point group are where they belong."""
    group = context.settings.point_group
    if len(group) == 1:
        return volume, poses
    axes = find_axes(volume, group).rotation
    turned = Sampler(volume).at(axes, np.zeros(3))
    return turned, replace(poses, rotation=axes.T @ poses.rotation)


def _with_particle(
    context: Context, best: Start, bands: list[Band], pool: Int64, step: Step
) -> Int64:
    """Those of a pool whose images show the molecule of a start: finer shells are made of them alone.

    Images without one settle anywhere, and their noise would hold particles where they are.
    """
    found = placed(bands, best.consensus.volume[None], pool, best.consensus.shift_sd, step)
    evidence = np.zeros(len(context.images))
    evidence[pool] = found.evidence
    return believed(weight_anywhere(context, evidence, pool), pool)


def _poses(context: Context, poses: Placed) -> PoseState:
    """Where refinement begins: poses that were fitted to these images, and roughly."""
    assert context.solver is not None
    memory = context.solver.start(len(poses.rotation))
    shift = without_common_move(poses.rotation, poses.shift)
    found = PoseState.of(poses.rotation, WIDE_SPREAD, memory, shift)
    return replace(found, depends_on_conformation=True)


def judges_and_pool(count: int, seed: int) -> tuple[Int64, Int64]:
    """Which of N particles judge, and which others take part, the same for every start, ascending."""
    order = np.random.default_rng(seed).permutation(count)
    judges = min(JUDGES, len(order) // 4)
    return np.sort(order[:judges]), np.sort(order[judges : judges + POOL])


def _with_blank_start(context: Context, state: FitState) -> FitState:
    """What has the form of a state with one start more."""
    judges, _ = judges_and_pool(len(context.images), context.settings.seed)
    first, last = (context.band(state, None, stage.k_c) for stage in (START[0], START[-1]))
    blank = blank_start(first, last, len(judges))
    return replace(state, starts=[*state.starts, blank])


def _with_blank_poses(context: Context, state: FitState) -> FitState:
    """What has the form of a state with a consensus."""
    count, band = len(context.images), context.band(state, None, FINER[-1].k_c)
    rotation = np.tile(np.eye(3), (count, 1, 1))
    poses = _poses(context, Placed(rotation, np.zeros((count, 2)), np.zeros(count)))
    return replace(state, consensus=np.zeros((band.box,) * 3, np.float32), poses=poses)
