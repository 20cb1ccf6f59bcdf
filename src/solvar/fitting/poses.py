"""Pose refinement: in rounds, each particle against a model that has not seen it.

Poses and models that were made together are wrong together: an image that helped to make a model finds in it
its own noise, at the pose where it put that. So in every round the particles are split at random into two
halves, not those of the round before; models of both are made anew from coarse to fine, and each particle
looks for its pose in the model of the other half.

A round tells whether the poses that it started from were better than those of the round before: by the
evidence of particles that took no part. Rounds end where it rises no more, and poses that made it fall are
not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.images import believed
from solvar.fitting.context import Context
from solvar.fitting.own_mask import in_widest_sphere, with_own_mask
from solvar.fitting.pose_round import RoundPlan, Search, after_round
from solvar.fitting.schedule import has_settled, pose_rounds
from solvar.fitting.start import with_means
from solvar.fitting.state import FitState
from solvar.parallel import Processes, agreed
from solvar.progress import Progress

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_MOST_ROUNDS = 10
# rounds in a row without a gain that end them. Fitted poses have turned each shape by itself, of which
# evidence tells little: they go on getting better for a while. Others soon follow what V lacks
_PATIENCE, _PATIENCE_FITTED = 1, 2
# another search is worth it while one of the last two (either leaves out whom the other sought in vain) found
# more particles elsewhere than this share of all, and of the most that one has found
_WORTH_A_SEARCH, _WORTH_MORE = 1e-3, 0.1
# … and another one of everybody, where poses were found from images alone, if the last found more than this,
# up to a round: first by the mean alone, a fraction of the time, then by columns too
_WORTH_ALL = {Search.ALL_BY_MEAN: 0.02, Search.ALL: 0.1}
_LAST_OF_ALL = {Search.ALL_BY_MEAN: 6, Search.ALL: 8}


@dataclass(frozen=True, eq=False)
class _Rounds:
    """The state before and after the last of some rounds.

    Attributes
    ----------
    before, now : FitState
    count : int
    search : Search
        Whom the next round is to search, where it goes to the finest band.
    measures_noise : bool
        Whether the next round is to measure the noise.
    found, most_found : float
        The share of the particles that the last search has found elsewhere, and the largest of any search.
    """

    before: FitState
    now: FitState
    count: int = 0
    search: Search = Search.MISPLACED
    measures_noise: bool = False
    found: float = 0.0
    most_found: float = 0.0

    def tell(self, what: Callable[[Float64, Float64], bool], processes: Processes) -> bool:
        """What the evidence of particles in the last two rounds tells: by models at the poses before each.

        Images that show none do not count.
        """
        assert self.before.poses is not None and self.now.poses is not None
        some = _believed(self.now)
        return agreed(
            what(self.before.poses.evidence[some], self.now.poses.evidence[some]), processes
        )


_Take = Callable[..., _Rounds]


def with_refined_poses(context: Context, state: FitState, progress: Progress) -> FitState:
    """The state with better poses, or as it was where no round made them better, and with their means."""
    assert state.poses is not None
    fitted, processes = state.poses.depends_on_conformation, context.images.processes
    take = partial(_taken, context, progress, k_c=context.k_max)
    # what models of the input poses tell of particles is what refinement has to surpass
    everybody = context.settings.ab_initio
    search = Search.MISPLACED if fitted else Search.NOBODY
    search = Search.ALL_BY_MEAN if everybody else search
    rounds = take(_Rounds(state, state, search=search, measures_noise=True))
    if everybody:
        # a search of everybody lifts evidence as none after it does: there is nothing to compare it with
        while rounds.search.is_of_all:
            rounds = take(rounds)
        rounds = take(rounds)
    elif not fitted:
        rounds = _from_coarse_to_fine(context, take, rounds)
    idle, patience = 0, _PATIENCE_FITTED if fitted else _PATIENCE
    for _ in range(_MOST_ROUNDS):
        chosen, rounds = rounds.before, take(rounds)
        if rounds.tell(_is_loss, processes):
            return _with_poses_of(context, state, chosen, rounds.now)
        idle = idle + 1 if rounds.tell(has_settled, processes) else 0
        if idle == patience:
            break
    return _with_poses_of(context, state, rounds.before, _trusting(rounds))


def _from_coarse_to_fine(context: Context, take: _Take, direct: _Rounds) -> _Rounds:
    """Rounds from the input poses at finer and finer bands, or the direct one where that was as good."""
    state = replace(direct.before, noise=direct.now.noise)
    rounds = _Rounds(state, state, direct.count)
    for k_c in [*pose_rounds(context.k_max), context.k_max]:
        rounds = take(rounds, k_c=k_c)
    if replace(rounds, before=direct.now).tell(has_settled, context.images.processes):
        return replace(direct, count=rounds.count)
    if context.images.store.tilt is not None:
        rounds = _until_settled(context, take, rounds)
    # from now on log-likelihoods count for less: the next round has nothing to be compared with
    return take(replace(rounds, now=_trusting(rounds)))


def _until_settled(context: Context, take: _Take, rounds: _Rounds) -> _Rounds:
    """More rounds, while evidence rises, before models of two rounds tell how wrong they are.

    The images of a tilted particle leave so little unknown of its pose that what is left after few rounds is
    the fault that the models share with the poses. It goes away by and by, and would be taken for theirs.
    """
    idle, processes = 0, context.images.processes
    for _ in range(_MOST_ROUNDS):
        last, rounds = rounds, take(rounds)
        if rounds.tell(_is_loss, processes):
            return replace(last, count=rounds.count)
        idle = idle + 1 if rounds.tell(has_settled, processes) else 0
        if idle == _PATIENCE_FITTED:
            break
    return rounds


def _taken(context: Context, progress: Progress, rounds: _Rounds, k_c: int) -> _Rounds:
    """With one round more."""
    before, finest = rounds.now, k_c == context.k_max
    search = rounds.search if finest else Search.NOBODY
    plan = RoundPlan(rounds.count + 1, k_c, search, rounds.measures_noise)
    now = context.once(plan.name, partial(after_round, context, plan, progress), before, before)
    if search is Search.NOBODY:
        following = Search.NOBODY if finest else Search.MISPLACED
        return _Rounds(before, now, plan.number, following)
    assert before.poses is not None and now.poses is not None
    earlier = before.poses
    if context.operations is not None:
        # a pose that the symmetry makes alike is none elsewhere
        earlier = earlier.near(now.poses, context.operations)
    found = float(np.mean(now.poses.found_elsewhere(earlier, _believed(now))))
    most = max(found, rounds.most_found)
    taken = _Rounds(before, now, plan.number, found=found, most_found=most)
    # noise is measured in the first round of a kind, which has nothing to be compared with
    rose = search.is_of_all and (
        plan.measures_noise or not taken.tell(has_settled, context.images.processes)
    )
    following = _search_after(plan, rose, taken, rounds.found)
    # the noise is what models leave: those with columns leave less
    first_by_columns = search is Search.ALL_BY_MEAN and following is not search
    return replace(taken, search=following, measures_noise=first_by_columns)


def _search_after(plan: RoundPlan, rose: bool, rounds: _Rounds, found_before: float) -> Search:
    """Whom to search after a round that lifted evidence, or did not, by how many searches found elsewhere."""
    last, found = plan.search, rounds.found
    if last.is_of_all and rose and found > _WORTH_ALL[last] and plan.number < _LAST_OF_ALL[last]:
        return last
    if last is Search.ALL_BY_MEAN:
        return Search.ALL
    enough = max(_WORTH_A_SEARCH, _WORTH_MORE * rounds.most_found)
    return Search.MISPLACED if max(found, found_before) > enough else Search.NOBODY


def _trusting(rounds: _Rounds) -> FitState:
    """Log-likelihoods counting for as much as the models of the last two rounds agree about poses."""
    assert rounds.before.poses is not None and rounds.now.poses is not None
    trust = rounds.now.poses.trusted_after(rounds.before.poses)
    return replace(rounds.now, poses=rounds.now.poses.trusting(trust))


def _believed(state: FitState) -> Int64:
    """The particles whose images show one more likely than not."""
    return believed(state.weight, np.arange(len(state.weight)))


def _is_loss(earlier: Float64, later: Float64) -> bool:
    """Whether evidence fell by more than chance."""
    return not has_settled(later, earlier)


def _with_poses_of(context: Context, start: FitState, chosen: FitState, last: FitState) -> FitState:
    """The state from before the rounds at the poses of one of them, its means made anew."""
    assert chosen.poses is not None and last.poses is not None
    poses = replace(last.poses, rotation=chosen.poses.rotation, shift=chosen.poses.shift)
    poses = poses.without_drift()
    if context.settings.ab_initio:
        poses = poses.centred()
    state = replace(
        last, models=[], prior=start.prior, noise=start.noise, poses=poses, tilts=chosen.tilts
    )
    if state.mask is None:
        return with_means(context, state)
    # better poses show better where the molecule is
    return with_own_mask(context, with_means(context, in_widest_sphere(context, state)))
