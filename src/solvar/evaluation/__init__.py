"""Metrics against ground truth."""

from solvar.evaluation.covariance import (
    captured_variance,
    captured_variance_by_rank,
    principal_angles,
)
from solvar.evaluation.latents import (
    calibration_chi2,
    contrast_agreement,
    embedding_r2,
    knn_spearman,
    latents_in_basis,
)
from solvar.evaluation.poses import PoseErrors, pose_errors, within_groups
from solvar.evaluation.report import Estimate, evaluate
from solvar.evaluation.truth import Truth

__all__ = [
    "Estimate",
    "PoseErrors",
    "Truth",
    "calibration_chi2",
    "captured_variance",
    "captured_variance_by_rank",
    "contrast_agreement",
    "embedding_r2",
    "evaluate",
    "knn_spearman",
    "latents_in_basis",
    "pose_errors",
    "principal_angles",
    "within_groups",
]
