"""Metrics against ground truth."""

from solvar.evaluation.clustering import cluster_agreement, kmeans_labels
from solvar.evaluation.covariance import (
    captured_variance,
    captured_variance_by_rank,
    covariance_fsc_curve,
    principal_angles,
)
from solvar.evaluation.embedding import (
    Neighbourhoods,
    information_imbalance,
    neighbourhood_similarity,
)
from solvar.evaluation.latents import (
    calibration_chi2,
    contrast_agreement,
    embedding_r2,
    knn_spearman,
    latents_in_basis,
)
from solvar.evaluation.populations import earth_movers_distance, recovered_coordinates
from solvar.evaluation.poses import PoseErrors, pose_errors, within_groups
from solvar.evaluation.report import Estimate, evaluate
from solvar.evaluation.truth import Truth
from solvar.evaluation.volumes import (
    ImageAreas,
    StateProducts,
    fsc_auc,
    per_conformation_fsc,
    per_image_auc,
    state_volumes,
)
from solvar.imaging.fsc import masked_fsc

__all__ = [
    "Estimate",
    "ImageAreas",
    "Neighbourhoods",
    "PoseErrors",
    "StateProducts",
    "Truth",
    "calibration_chi2",
    "captured_variance",
    "captured_variance_by_rank",
    "cluster_agreement",
    "contrast_agreement",
    "covariance_fsc_curve",
    "earth_movers_distance",
    "embedding_r2",
    "evaluate",
    "fsc_auc",
    "information_imbalance",
    "kmeans_labels",
    "knn_spearman",
    "latents_in_basis",
    "masked_fsc",
    "neighbourhood_similarity",
    "per_conformation_fsc",
    "per_image_auc",
    "pose_errors",
    "principal_angles",
    "recovered_coordinates",
    "state_volumes",
    "within_groups",
]
