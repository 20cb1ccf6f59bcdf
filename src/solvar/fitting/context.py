"""What every step of a fit shares, and how a step is taken once and remembered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.images import WhitenedImages
from solvar.estimation.information import SamplingInformation, sampling_information
from solvar.estimation.noise import NoiseModel
from solvar.estimation.poses import PoseSolver, PoseState
from solvar.estimation.prior import Prior
from solvar.estimation.solvers import ColumnSolver, make_column_solver
from solvar.estimation.support import Support
from solvar.estimation.tilt_contrast import TiltContrasts
from solvar.files import Shelf
from solvar.fitting.likeness import is_history, is_like
from solvar.fitting.settings import FitSettings
from solvar.fitting.state import FitState
from solvar.fitting.workspace import NoWorkspace, Workspace
from solvar.particles import ParticleSet
from solvar.particles.identity import mix
from solvar.threads import ThreadTeam

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Context:
    """The resources of a fit; nothing here changes its result from one step to the next.

    Attributes
    ----------
    particles : ParticleSet
        As they were given, with half-sets.
    images : WhitenedImages
        As they were read.
    parts : list of (n,) int64
        The half-sets.
    given_support : Support
        Where volumes may differ from 0 as long as nothing is known of the molecule.
    settings : FitSettings
    team : ThreadTeam
    solver : PoseSolver or None
        Where poses are refined.
    workspace : Workspace
    """

    particles: ParticleSet
    images: WhitenedImages
    parts: list[Int64]
    given_support: Support
    settings: FitSettings
    team: ThreadTeam
    solver: PoseSolver | None = None
    workspace: Workspace = field(default_factory=NoWorkspace)
    _information: dict[int, _Known] = field(default_factory=dict)
    _memory: dict[str, Any] = field(default_factory=dict)

    @property
    def k_max(self) -> int:
        """Finest frequency."""
        return self.images.disc.k_c

    @property
    def shelf(self) -> Shelf:
        """Where large arrays are kept that are seldom looked at."""
        return self.images.store.pixels.shelf

    def divided(self, parts: list[Int64]) -> Context:
        """The same with other parts."""
        return replace(self, parts=parts, _information={})

    def members(self, part: int | None) -> Int64:
        """The particles of a part, or all of them."""
        return np.arange(len(self.images)) if part is None else self.parts[part]

    def held_out(self, part: int | None) -> Int64:
        """The particles that a model of this part never sees; none for one of all particles."""
        return np.arange(0) if part is None else self.parts[1 - part]

    def seen(self, state: FitState) -> WhitenedImages:
        """The images under the noise, the sign, the weights and the poses of a state."""
        images = replace(self.images, noise=state.noise, inverted=state.inverted)
        images = images.weighted(state.weight)
        if state.contrasts is not None:
            number = self.images.store.tilt_image
            assert number is not None
            images = images.of_contrast(state.contrasts.value[number])
        if state.poses is None:
            return images
        if state.tilts is not None:
            images = images.tilt_images_moved(state.tilts.shift)
        return images.posed(state.poses.rotation, state.poses.moved)

    def support(self, state: FitState) -> Support:
        """Where volumes may differ from 0."""
        found = self.given_support if state.mask is None else self.given_support.around(state.mask)
        weight = state.spatial_weight
        return found if weight is None else found.weighted(weight)

    @property
    def labels(self) -> Int64:
        """The block of each column (r,), where focus masks have columns of their own; else 0."""
        return self.given_support.labels(self.settings.columns)

    def band(self, state: FitState, part: int | None, k_c: int) -> Band:
        """Particles of a part, or all of them, up to `k_c` or as far as images go."""
        band = Band(
            self.seen(state),
            self.members(part),
            min(k_c, self.k_max),
            self.support(state),
            self.settings.projection,
            self.team,
            partial(self._sampling, state, part),
        )
        return band.with_operations(self.operations)

    def sweeping_band(self, state: FitState, part: int | None, k_c: int) -> Band:
        """As `band`, for a solver: sweeps of several take turns, and have one memory to work in."""
        return self.band(state, part, k_c).working_in(self._memory)

    @property
    def operations(self) -> Float64 | None:
        """Rotations (n, 3, 3) of the point group of the mean; None without symmetry."""
        settings = self.settings
        return settings.point_group.operations if settings.has_symmetry else None

    def one_of_each(self, index: Int64) -> Int64:
        """Of the symmetry copies of a particle among `index` one by chance, ascending; else all of them.

        Copies share their noise: what counts particles, to tell signal from chance, counts these.
        """
        copy_of = self.particles.copy_of
        if copy_of is None:
            return index
        mixed = index[np.argsort(mix(self.particles.uid[index]), kind="stable")]
        return np.sort(mixed[np.unique(copy_of[mixed], return_index=True)[1]])

    def column_solver(
        self, band: Band, model: ColumnModel, prior: Prior, batches: list[Int64]
    ) -> ColumnSolver:
        """The solver that the settings name."""
        chosen = self.settings.solver, self.settings.objective
        return make_column_solver(*chosen, band, model, prior, batches)

    def once(
        self, name: str, step: Callable[[FitState], FitState], state: FitState, like: FitState
    ) -> FitState:
        """The state after a step: the one that an earlier process saved, or a new one, saved.

        Parameters
        ----------
        name : str
            Of the step, unlike any other in the fit.
        step : callable
        state : FitState
            Before it.
        like : FitState
            What has the form of the result.

        Raises
        ------
        InputError
            If what was saved is not of that form.
        """
        saved = self.saved(name, like)
        if saved is not None:
            return saved
        state = step(state)
        self.workspace.save(name, state)
        return state

    def saved(self, name: str, like: FitState) -> FitState | None:
        """What an earlier process saved under a name; None if nothing.

        Raises
        ------
        InputError
            If it has not the form of `like`.
        """
        found = self.workspace.load(name, self.shelf)
        if found is None:
            return None
        whole = isinstance(found, FitState) and is_history(found.history)
        if not whole or not is_like(
            replace(found, history=[]), replace(like, history=[]), len(self.images)
        ):
            raise InputError(
                f"the checkpoint of the step '{name}' does not fit this run",
                file=self.workspace.scratch,
                remedy="start again with --overwrite",
            )
        assert isinstance(found, FitState)
        return found

    def _sampling(self, state: FitState, part: int | None) -> SamplingInformation:
        """D of a part, once for its noise and poses; that of all particles is the sum of the parts'."""
        if part is None:
            first, *rest = (self._sampling(state, each) for each in range(len(self.parts)))
            return sum(rest, start=first)
        known = self._information.get(part)
        # under the noise that images were read with, so that no noise in between leaves a trace
        first_noise = self.images.noise
        if known is None or not known.serves(state):
            # it has every band to serve, and is the same whichever asked first
            images = self.seen(replace(state, noise=first_noise))
            found = sampling_information(images, self.parts[part], self.k_max, self.team)
            found = SamplingInformation(found.k_c, self.shelf.keep(found.grid))
            known = self._information[part] = _Known(
                state.poses, state.contrasts, state.weight, found
            )
        if state.noise.is_same(first_noise):
            return known.found
        # the same sum with other weights; a metric may be a little off where groups differ
        return known.found.under(self._mean_power(state.noise) / self._mean_power(first_noise))

    def _mean_power(self, noise: NoiseModel) -> Float64:
        """Noise power per shell, the harmonic mean over images."""
        images = np.bincount(self.images.store.noise_group, minlength=len(noise.power))
        return images.sum() / (images @ (1 / noise.power))


@dataclass(frozen=True, eq=False)
class _Known:
    """The sampling information of a part, and the poses, contrasts and weights that it belongs to."""

    poses: PoseState | None
    contrasts: TiltContrasts | None
    weight: Float64
    found: SamplingInformation

    def serves(self, state: FitState) -> bool:
        """Whether it is that of another state, but for the noise."""
        same = self.poses is state.poses and self.contrasts is state.contrasts
        return same and np.array_equal(self.weight, state.weight)
