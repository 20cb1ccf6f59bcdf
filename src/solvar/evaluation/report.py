"""All metrics of one run against the known truth."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.space import LatentSpace
from solvar.errors import InputError
from solvar.evaluation import clustering, covariance, embedding, latents, populations
from solvar.evaluation.frame import Placement
from solvar.evaluation.pose_bound import pose_bound
from solvar.evaluation.poses import calibration, pose_errors, within_groups
from solvar.evaluation.state_frames import as_posed
from solvar.evaluation.truth import Truth
from solvar.evaluation.volumes import coordinate_of, fsc_auc, volume_metrics
from solvar.imaging.fsc import TRUTH_THRESHOLD, resolution
from solvar.particles import Exposures, ParticleSet, Poses

if TYPE_CHECKING:
    from solvar.estimation.low_rank import LowRankModel
    from solvar.estimation.posterior import PoseRefinement, Posterior
    from solvar.fitting.result import Fit
    from solvar.results.run import Run

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Estimate:
    """What is evaluated: a model, its posterior and the poses it used.

    Attributes
    ----------
    model : LowRankModel
    posterior : Posterior
    row : (N,) int64
        Row of each particle in the input, which is its row in the truth.
    rotation : (N, 3, 3) float64
    shift_angstrom : (N, 2 or 3) float64
        Of particles that were tilted with what their images have in common of shifts of their own.
    refinement : PoseRefinement or None
        The input poses and what is unknown of the refined ones, if they were refined.
    particles : ParticleSet or None
        The input with its CTFs, if it can still be read; needed for the bound of the pose errors.
    noise_power : (G, S) float64 or None
        Noise power per optics group and shell, in units of the images as they are.
    own_frame : bool
        Whether poses were found from the images alone: how the volume lies, and its hand, are then arbitrary.
    reliable : (r,) bool or None
        Components that passed the half-set test, if there was one.
    """

    model: LowRankModel
    posterior: Posterior
    row: NDArray[np.int64]
    rotation: Float64
    shift_angstrom: Float64
    refinement: PoseRefinement | None = None
    particles: ParticleSet | None = None
    noise_power: Float64 | None = None
    own_frame: bool = False
    reliable: NDArray[np.bool_] | None = None

    @classmethod
    def from_run(cls, run: Run) -> Estimate:
        """Of a finished run folder."""
        particles, refinement = run.particles, run.pose_refinement
        given = _input_of(run)
        shift = particles["shift_angstrom"]
        everybody = np.arange(run.particle_count)
        own = None if given is None else run.with_own_tilts(given, everybody)
        # early runs of tilt series say nothing of shifts along the beam
        if own is not None and own.exposures.tilt is not None and shift.shape[1] == 3:
            assert given is not None
            shift = shift + own.exposures.common_moves()
            refinement = _beginning_with(refinement, given.exposures)
        return cls(
            run.model,
            run.posterior,
            particles["row"].astype(np.int64),
            particles["rotation"],
            shift,
            refinement,
            own,
            run.noise_power / run.intensity_factor**2,
            run.ab_initio is not None,
            None if run.validation is None else run.validation.reliable,
        )

    @classmethod
    def from_fit(cls, fit: Fit) -> Estimate:
        """Of a fit that is still in memory."""
        particles, poses, refinement = fit.particles, fit.particles.poses, fit.pose_refinement
        images, shift = particles.exposures, poses.shift_angstrom
        if images.tilt is not None:
            shift = shift + images.common_moves()
            if fit.tilt_refinement is not None and images.shift_angstrom is not None:
                before = images.shift_angstrom - fit.tilt_refinement.moved_angstrom
                images = replace(images, shift_angstrom=before)
            refinement = _beginning_with(refinement, images)
        return cls(
            fit.model,
            fit.posterior,
            particles.row,
            poses.rotation,
            shift,
            refinement,
            particles,
            fit.noise_power / fit.intensity_factor**2,
            fit.ab_initio is not None,
            None if fit.validation is None else fit.validation.reliable,
        )

    @property
    def latent_space(self) -> LatentSpace:
        """Latents in the components that `solvar analyze` takes: the reliable ones, or all if none is."""
        posterior, active = self.posterior, np.arange(self.model.rank)
        if self.reliable is not None and self.reliable.any():
            active = active[self.reliable]
        return LatentSpace(posterior.z, posterior.precision, self.model.eigenvalues, active)

    def in_frame_of(self, truth: Truth) -> Estimate:
        """The same as it lies in the truth, with its hand, where the particles are those of the truth."""
        if not self.own_frame or truth.rotation is None or truth.shift_angstrom is None:
            return self
        own = Poses(self.rotation, self.shift_angstrom)
        placement = Placement(own, Poses(truth.rotation, truth.shift_angstrom))
        found, refinement = placement.poses(own), self.refinement
        return replace(
            self,
            model=placement.model(self.model),
            rotation=found.rotation,
            shift_angstrom=found.shift_angstrom,
            refinement=None if refinement is None else placement.refinement(refinement),
        )


def _beginning_with(refinement: PoseRefinement | None, images: Exposures) -> PoseRefinement | None:
    """From shifts of particles that hold what their images have in common of shifts of their own."""
    if refinement is None:
        return None
    shift = refinement.start.shift_angstrom + images.common_moves()
    return replace(refinement, start=Poses(refinement.start.rotation, shift))


def _input_of(run: Run) -> ParticleSet | None:
    """The particles of a run as they were read, or None if their file has gone."""
    try:
        return run.read_input()
    except InputError:
        return None


def evaluate(
    run: str | Path | Run | Fit | Estimate, truth: str | Path | Truth, k_c: float | None = None
) -> dict[str, Any]:
    """Compare a run with the truth.

    Particles are matched by their row in the input. Where the run worked on downsampled images, the
    true volumes are Fourier-cropped to its box.

    Parameters
    ----------
    run : run folder, Run, Fit or Estimate
    truth : folder or Truth
        As `solvar simulate` writes it.
    k_c : float, optional
        Largest |k| of the run's box at which volumes are compared; default half Nyquist.

    Returns
    -------
    dict
        Nested, of JSON's types: `volumes`, `populations`, `covariance`, `mean`, `latents`, `embedding`,
        `clustering`, `contrast`, `poses`; a part whose truth is not known is left out. `volumes` begins with
        the AUC-FSC per image, then has the one per conformation; it needs volumes named by the numbers of
        states. `populations` holds earth mover's distances between recovered and true state coordinates, and
        the total variation of the shares of discrete states, for which there is `clustering`, too. `poses`
        holds the errors of the poses that the run ended with; below `start` are those of its input, if they
        were refined; below `within_state` what is left when every state is aligned by itself; below
        `calibration` the shares of errors within one and two posterior standard deviations; below `bound`
        and `bound_unknown_shape` the Cramér-Rao bounds of the true mean, and of particles whose shape is
        unknown.
    """
    estimate = _as_estimate(run)
    known = truth if isinstance(truth, Truth) else Truth.load(truth)
    _check_extent(estimate.model, known)
    known = known.resampled(estimate.model.box_size).select(estimate.row)
    known = known.along(estimate.shift_angstrom.shape[1])
    estimate = estimate.in_frame_of(known)
    model = estimate.model
    k_c = model.box_size / 4 if k_c is None else k_c
    extent = model.box_size * model.pixel_size_angstrom
    parts = {
        "volumes": volume_metrics(model, estimate.posterior.z, known),
        "populations": _population_metrics(estimate, known),
        "covariance": _covariance_metrics(estimate, known, k_c),
        "mean": _mean_metrics(model, known, k_c),
        "latents": _latent_metrics(estimate, known),
        "embedding": _embedding_metrics(estimate, known),
        "clustering": _clustering_metrics(estimate, known),
        "contrast": _contrast_metrics(estimate, known),
        "poses": _pose_metrics(estimate, known),
    }
    head = {
        "particles": len(estimate.row),
        "rank": model.rank,
        "compared_to_angstrom": extent / k_c,
        "box_angstrom": extent,
    }
    return {**head, **{name: part for name, part in parts.items() if part}}


def _as_estimate(run: str | Path | Run | Fit | Estimate) -> Estimate:
    from solvar.fitting.result import Fit
    from solvar.results.run import Run

    if isinstance(run, Estimate):
        return run
    if isinstance(run, Fit):
        return Estimate.from_fit(run)
    return Estimate.from_run(run if isinstance(run, Run) else Run(run))


def _check_extent(model: LowRankModel, truth: Truth) -> None:
    ours = model.box_size * model.pixel_size_angstrom
    theirs = truth.box_size * truth.pixel_size_angstrom
    if abs(ours / theirs - 1) > 1e-3:
        raise InputError(
            f"describes a box of {theirs:.1f} Å, the run's volumes one of {ours:.1f} Å",
            file=truth.folder,
            remedy="give the truth of the particles that were run",
        )


def _covariance_metrics(estimate: Estimate, truth: Truth, k_c: float) -> dict[str, Any]:
    true, model = truth.eigenvolumes, estimate.model
    if true is None or not len(true):
        return {}
    curve = covariance.captured_variance_by_rank(model.eigenvolumes, true, truth.mask, k_c)
    angles = covariance.principal_angles(model.eigenvolumes, true[: model.rank], truth.mask, k_c)
    true_eigenvalues = (true.astype(np.float64) ** 2).sum(axis=(1, 2, 3))
    scaled = model.eigenvolumes * np.sqrt(model.eigenvalues)[:, None, None, None]
    fsc = covariance.covariance_fsc_curve(scaled.astype(np.float32), true, truth.mask)
    reached = resolution(fsc, model.box_size * model.pixel_size_angstrom, TRUTH_THRESHOLD)
    posed = as_posed(truth, Poses(estimate.rotation, estimate.shift_angstrom), model)
    within = {}
    if posed is not None and posed.eigenvolumes is not None:
        whole = model.eigenvolumes, posed.eigenvolumes, None, posed.mask, k_c
        within["captured_variance_within_state"] = covariance.captured_variance(*whole)
    return {
        "captured_variance": float(curve[-1]) if len(curve) else 0.0,
        **within,
        "captured_variance_by_rank": curve.tolist(),
        "principal_angles_degree": angles.tolist(),
        "eigenvalues": model.eigenvalues.tolist(),
        "true_variance_along": covariance.variance_along(model.eigenvolumes, true).tolist(),
        "true_eigenvalues": true_eigenvalues.tolist(),
        "fsc": fsc.tolist(),
        "fsc_auc": float(fsc_auc(fsc)),
        "fsc_resolution_angstrom": reached if np.isfinite(reached) else None,
    }


def _mean_metrics(model: LowRankModel, truth: Truth, k_c: float) -> dict[str, Any]:
    if truth.mean is None:
        return {}
    return {
        "correlation": covariance.band_correlation(model.mean, truth.mean, truth.mask, k_c),
    }


def _population_metrics(estimate: Estimate, truth: Truth) -> dict[str, Any]:
    coordinate, state = coordinate_of(truth), truth.discrete_state()
    metrics: dict[str, Any] = {}
    if not estimate.model.rank:
        return metrics
    if coordinate is not None:
        metrics |= populations.coordinate_metrics(estimate.latent_space, coordinate)
    if state is not None:
        metrics |= populations.share_metrics(estimate.posterior.z, state)
    return metrics


def _latent_metrics(estimate: Estimate, truth: Truth) -> dict[str, Any]:
    z = estimate.posterior.z
    coordinate = _true_coordinate(truth)
    metrics: dict[str, Any] = {}
    if coordinate is None or not z.shape[1]:
        return metrics
    metrics["knn_spearman"] = latents.knn_spearman(z, coordinate).tolist()
    metrics["knn_r2"] = latents.embedding_r2(z, coordinate, "knn").tolist()
    metrics["linear_r2"] = latents.embedding_r2(z, coordinate, "ridge").tolist()
    if truth.latent is not None and truth.eigenvolumes is not None and truth.mean is not None:
        true_z = latents.latents_in_basis(
            truth.latent[:, : len(truth.eigenvolumes)],
            truth.eigenvolumes,
            estimate.model.eigenvolumes,
            truth.mean - estimate.model.mean,
        )
        metrics["calibration_chi2"] = latents.calibration_chi2(
            z, true_z, estimate.posterior.precision
        )
    return metrics


def _true_coordinate(truth: Truth) -> Float64 | None:
    """Where each particle is in the true state space, (N, d)."""
    return truth.state_coordinate if truth.latent is None else truth.latent


def _embedding_metrics(estimate: Estimate, truth: Truth) -> dict[str, Any]:
    z, coordinate = estimate.posterior.z, _true_coordinate(truth)
    if coordinate is None or not z.shape[1] or not coordinate.shape[1] or len(z) < 2:
        return {}
    shared = embedding.neighbourhood_similarity(z, coordinate)
    return {
        "neighbours": shared.neighbours.tolist(),
        "neighbour_fraction": shared.fraction.tolist(),
        "neighbourhood_similarity": shared.similarity.tolist(),
        "neighbourhood_chance": shared.chance.tolist(),
        "imbalance_latents_to_states": embedding.information_imbalance(z, coordinate),
        "imbalance_states_to_latents": embedding.information_imbalance(coordinate, z),
    }


def _clustering_metrics(estimate: Estimate, truth: Truth) -> dict[str, Any]:
    z, state = estimate.posterior.z, truth.discrete_state()
    if state is None or not z.shape[1]:
        return {}
    clusters = len(np.unique(state))
    if clusters < 2 or len(z) <= clusters:
        return {}
    labels = clustering.kmeans_labels(z, clusters)
    return {
        "states": np.unique(state).tolist(),
        **clustering.cluster_agreement(labels, state),
        "confusion": clustering.confusion(labels, state).tolist(),
    }


def _contrast_metrics(estimate: Estimate, truth: Truth) -> dict[str, float]:
    if truth.contrast is None:
        return {}
    return latents.contrast_agreement(estimate.posterior.contrast, truth.contrast)


def _pose_metrics(estimate: Estimate, truth: Truth) -> dict[str, Any]:
    if truth.rotation is None or truth.shift_angstrom is None:
        return {}
    group = truth.state_group()
    metrics = _errors_of(Poses(estimate.rotation, estimate.shift_angstrom), truth, group)
    if (refinement := estimate.refinement) is not None:
        metrics["start"] = _errors_of(refinement.start, truth, group)
        poses = estimate.rotation, estimate.shift_angstrom, truth.rotation, truth.shift_angstrom
        metrics["calibration"] = calibration(*poses, refinement.covariance)
    if (
        estimate.particles is not None
        and estimate.noise_power is not None
        and truth.mean is not None
        # early runs of tilt series have one noise for all exposures
        and len(estimate.noise_power) == len(estimate.particles.noise_groups)
    ):
        given = estimate.particles, estimate.noise_power, truth
        # images of other units than the truth leave no information, or no noise
        with suppress(np.linalg.LinAlgError):
            metrics["bound"] = pose_bound(*given, latents=False)
            metrics["bound_unknown_shape"] = pose_bound(*given, latents=True)
    return metrics


def _errors_of(poses: Poses, truth: Truth, group: NDArray[np.int64] | None) -> dict[str, Any]:
    assert truth.rotation is not None and truth.shift_angstrom is not None
    arrays = poses.rotation, poses.shift_angstrom, truth.rotation, truth.shift_angstrom
    pixel_size = truth.image_pixel_size_angstrom
    metrics = pose_errors(*arrays).summary(pixel_size)
    if group is not None:
        metrics["within_state"] = within_groups(*arrays, group).summary(pixel_size)
        del metrics["within_state"]["drift"]  # each state has its own
    return metrics
