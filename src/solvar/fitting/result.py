"""The result of the main job, in memory: the fit, how well its halves agree, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.causes import CAUSES, POSE, ComponentEvidence, PoseDoubt
from solvar.estimation.local_variance import LocalVariance
from solvar.estimation.low_rank import LowRankModel
from solvar.estimation.normalisation import Normalisation
from solvar.estimation.posterior import PoseRefinement, Posterior, TiltRefinement
from solvar.fitting.settings import FitSettings
from solvar.particles import ParticleSet

if TYPE_CHECKING:
    from solvar.estimation.tilt_contrast import TiltContrasts

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


# A component that the halves share to no finer than this is there, but has no shape to speak of.
_SHAPELESS_ANGSTROM = 40.0
_MOSTLY = 0.5


def has_shape(resolution: float) -> bool:
    """Whether halves that agree to `resolution` (Å) tell where a component changes density."""
    return bool(resolution <= _SHAPELESS_ANGSTROM)


RESOLVED, REAL, NOISE = "resolved", "real", "noise"


@dataclass(frozen=True, eq=False)
class Doubt:
    """What else than motion could have made the components, and how far poses are off.

    Attributes
    ----------
    evidence : ComponentEvidence
    poses : PoseDoubt
    resolution : float
        Å up to which images were looked at.
    poses_matter : bool
        Whether errors of poses show at the edge of the molecule.
    """

    evidence: ComponentEvidence
    poses: PoseDoubt
    resolution: float
    poses_matter: bool

    def mixed_with_poses(self, j: int) -> bool:
        """Whether component j, if real, has more of pose errors in it than of anything else."""
        share = self.evidence.explained[j, CAUSES.index(POSE)]
        return self.poses_matter and bool(share > _MOSTLY)

    def of_first(self, count: int) -> Doubt:
        """That of the first components."""
        kept = {name: values[:count] for name, values in vars(self.evidence).items()}
        return replace(self, evidence=ComponentEvidence(**kept))


@dataclass(frozen=True, eq=False)
class HalfsetValidation:
    """How well two models fitted to disjoint halves agree. Shell s is |k| rounded to s.

    Attributes
    ----------
    means : (2, L, L, L) float32
        Mean volume of each half.
    mean_fsc : (S,) float64
        Fourier shell correlation of the two means.
    covariance_fsc : (S, S) float64
        Correlation of the two covariances between shells s and t (basis-free).
    component_fsc : (r, S) float64
        FSC of each eigenvolume of the final model as the two halves see it.
    component_resolution : (r,) float64
        Resolution in Å where the halves cease to agree on a component (inf: they agree by chance at most).
    component_resolution_half : (r,) float64
        Where component_fsc first falls below the stricter 0.5 (inf: never above).
    reliability : (r,) float64
        Correlation in [-1, 1] of the two volumes that the halves see as a component.
    reliable : (r,) bool
        Components that raise the likelihood of held-out particles beyond chance, and beyond what pose
        errors, defocus, background and noise could do.
    component_resolution_range : (r, 2) float64 or None
        `component_resolution` less and plus its standard error; None in runs that did not know it.
    doubt : Doubt or None
        None in runs that did not look at it.
    change : LocalVariance or None
        Where density changes along the components that are real, each up to `component_resolution_half`;
        None where there is none, and in runs that did not look at it.
    """

    means: Float32
    mean_fsc: Float64
    covariance_fsc: Float64
    component_fsc: Float64
    component_resolution: Float64
    component_resolution_half: Float64
    reliability: Float64
    reliable: NDArray[np.bool_]
    component_resolution_range: Float64 | None = None
    doubt: Doubt | None = None
    change: LocalVariance | None = None

    def verdict(self, j: int) -> str:
        """`RESOLVED`, `REAL` or `NOISE`: what is known of component j."""
        if not self.reliable[j]:
            return NOISE
        if self.doubt is not None and self.doubt.mixed_with_poses(j):
            return REAL
        return RESOLVED if has_shape(self.component_resolution[j]) else REAL

    def could_be(self, j: int) -> str | None:
        """Which of `CAUSES` explains most of a component that need not be motion alone, or None."""
        if self.doubt is None or not self.doubt.evidence.seen[j]:
            return None
        if self.reliable[j]:
            return POSE if self.doubt.mixed_with_poses(j) else None
        return CAUSES[int(np.argmax(self.doubt.evidence.explained[j]))]


@dataclass(frozen=True)
class StageCost:
    """Wall seconds, CPU seconds and peak resident memory (MiB) of one stage of the job."""

    name: str
    wall_seconds: float
    cpu_seconds: float
    peak_memory_mib: float


# what is kept of `AbInitio` as arrays
AB_INITIO = ("first", "volumes", "consensus", "evidence", "shared", "agree")


@dataclass(frozen=True, eq=False)
class AbInitio:
    """How poses were found from the images alone.

    Attributes
    ----------
    first : (k, k, k) float32
        What the best start began with.
    volumes : (n, l, l, l) float32
        What each start has ended in.
    consensus : (m, m, m) float32
        What the best one became.
    evidence : (n,) float64
        How much likelier an image that took no part is with the molecule of a start than without, nats.
    shared : (n,) float64
        The share of such particles that a start puts where the best one does.
    best : int
        The start of most evidence.
    agree : (n,) bool
        Whether that share is too large for chance; the best one agrees with itself.
    is_molecule : bool
        Whether the evidence for the best one is beyond chance.
    """

    first: Float32
    volumes: Float32
    consensus: Float32
    evidence: Float64
    shared: Float64
    best: int
    agree: NDArray[np.bool_]
    is_molecule: bool

    @property
    def settled(self) -> bool:
        """Whether two starts have led to one molecule."""
        return self.is_molecule and int(self.agree.sum()) > 1


@dataclass(frozen=True, eq=False)
class Fit:
    """Everything the main job found out; `solvar.results` writes it to a run folder.

    Attributes
    ----------
    particles : ParticleSet
        The particles with the half-sets that were used and, if refined, the refined poses.
    posterior : Posterior
        Of all particles; of none at any but the first of several processes.
    validation : HalfsetValidation or None
        None when the fit ran without half-sets.
    noise_power : (G, S) float64
        Noise power per optics group and shell, measured on what the model leaves of the images.
    prior_precision : (S,) float64
        Precision Λ(shell) of the prior on the columns √eigenvalue·eigenvolume.
    inverted : bool
        Whether the images were dark on bright and were inverted.
    particle_probability : (N,) float64
        That the images of each particle show one: by it they were weighted in every sum. Models of the other
        half-set tell; 1 everywhere where nothing speaks for junk.
    monstrous : int
        How many particles have an image that stands out by its power, as of ice, carbon or a hot pixel; their
        probability is 0.
    intensity_factor : float
        What pixel values were multiplied by; the model, the latents and the noise are in these units.
    normalisation : Normalisation or None
        What images were freed from before anything else.
    pose_refinement : PoseRefinement or None
        None when the poses were kept.
    tilt_refinement : TiltRefinement or None
        None when the shifts of tilt images were kept.
    tilt_contrasts : TiltContrasts or None
        None when exposures of tilt series were taken to be as strong as their file says.
    ab_initio : AbInitio or None
        None when poses were given.
    history : list of dict
        One record a sweep of the half models: `k_c` of the band, `sweep` in it from 0, and mean
        log-likelihoods of `training` and `held_out` particles (without half-sets both are of training ones).
    corner_noise_power : (G, S) float64 or None
        What the corners of the images said of the noise.
    focus : (L, L, L) float32 or None
        Where components live; None where that is all of the mask.
    block : (r,) int64 or None
        Which focus mask each component lives in, where they have components of their own: their number in
        the settings, and the next one outside all of them.
    spatial_weight : (L, L, L) float32 or None
        How much components were let vary at each place, 1 the most; None where halves cannot tell.
    symmetry_loss : float
        What a mean with the symmetry of the settings explains less of held-out images, a share; 0 by chance.
    warnings : list of str
        Plain sentences that the user should read.
    """

    particles: ParticleSet
    settings: FitSettings
    model: LowRankModel
    posterior: Posterior
    validation: HalfsetValidation | None
    noise_power: Float64
    prior_precision: Float64
    inverted: bool
    particle_probability: Float64
    monstrous: int = 0
    intensity_factor: float = 1.0
    normalisation: Normalisation | None = None
    pose_refinement: PoseRefinement | None = None
    tilt_refinement: TiltRefinement | None = None
    tilt_contrasts: TiltContrasts | None = None
    ab_initio: AbInitio | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    corner_noise_power: Float64 | None = None
    focus: Float32 | None = None
    block: Int64 | None = None
    spatial_weight: Float32 | None = None
    symmetry_loss: float = 0.0
    costs: list[StageCost] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def of_images(self) -> dict[str, NDArray[Any]]:
        """What was found of each image of tilt series, and how many a particle has; {} if nothing."""
        found: dict[str, NDArray[Any]] = {}
        images = self.particles.exposures
        if self.tilt_refinement is not None:
            assert images.shift_angstrom is not None
            found["image_shift_angstrom"] = images.shift_angstrom
        if self.tilt_contrasts is not None:
            assert images.contrast is not None and images.tilt_image is not None
            found["image_contrast"] = images.contrast
            found["image_contrast_error"] = self.tilt_contrasts.error[images.tilt_image]
        return {"images": images.counts(), **found} if found else {}
