"""The metrics of `evaluate` as a table that says how to read each number."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from solvar.cli.tables import plain_table
from solvar.text import with_capital

if TYPE_CHECKING:
    from rich.table import Table

# (group, metric): its name for people, and how to read it.
_MEANING = {
    ("", "particles"): ("Particles", ""),
    ("", "rank"): ("Rank", ""),
    ("", "box_angstrom"): ("Box (Å)", ""),
    ("", "compared_to_angstrom"): ("Compared up to (Å)", "volumes low-passed to this resolution"),
    ("volumes", "per_image_auc"): (
        "AUC-FSC per image",
        "volume of each particle, mean over particles; 0.5 is perfect",
    ),
    ("volumes", "per_image_mean_volume_auc"): (
        "… if nothing moved",
        "the mean volume in place of all: what the components must beat",
    ),
    ("volumes", "per_image_auc_quantiles"): (
        "… its spread",
        "5, 25, 50, 75 and 95 % of particles are below",
    ),
    ("volumes", "per_image_count"): ("… particles compared", "at most 200 of each state"),
    ("volumes", "per_conformation_auc"): (
        "AUC-FSC per conformation",
        "volume of each state, mean over states; 0.5 is perfect; not comparable with per image",
    ),
    ("volumes", "mean_volume_auc"): (
        "… if nothing moved",
        "the mean volume in place of every state",
    ),
    ("volumes", "per_conformation_auc_by_state"): ("… by state", "the same for each state"),
    ("populations", "distance"): (
        "Population, earth mover's distance",
        "density of the latents against the true coordinates, in their units; 0 is perfect",
    ),
    ("populations", "distance_over_sd"): (
        "… in true standard deviations",
        "comparable between sets",
    ),
    ("populations", "posterior_means_distance"): (
        "… of the posterior means",
        "noise pulls them to the middle: usually larger",
    ),
    ("populations", "posterior_means_distance_over_sd"): ("… in true standard deviations", ""),
    ("populations", "single_point_distance"): (
        "… of a single point",
        "all particles at the mean: what latents that tell nothing give",
    ),
    ("populations", "single_point_distance_over_sd"): ("… in true standard deviations", ""),
    ("populations", "true_share"): ("Shares of the states", "the true ones"),
    ("populations", "recovered_share"): ("… recovered", "by a vote of the nearest latents"),
    ("populations", "total_variation"): ("… total variation", "0 is perfect, 1 disjoint"),
    ("populations", "single_state_total_variation"): (
        "… if all were one state",
        "all particles in the largest state",
    ),
    ("covariance", "captured_variance"): (
        "Captured variance",
        "of what the best subspace of this rank captures; 1 is perfect",
    ),
    ("covariance", "captured_variance_within_state"): (
        "… as particles are posed",
        "the same, of true volumes turned as the poses of their particles are",
    ),
    ("covariance", "captured_variance_by_rank"): ("… by rank", "the same with 1, 2, … components"),
    ("covariance", "principal_angles_degree"): (
        "Angles to true subspace (°)",
        "0 is perfect, 90 unrelated",
    ),
    ("covariance", "eigenvalues"): ("Eigenvalues", "estimated variance along each component"),
    ("covariance", "true_variance_along"): ("True variance there", "what the eigenvalues estimate"),
    ("covariance", "true_eigenvalues"): ("True eigenvalues", "along the true components"),
    ("covariance", "fsc_auc"): (
        "Covariance FSC, area",
        "against the true covariance; 0.5 is perfect",
    ),
    ("covariance", "fsc_resolution_angstrom"): (
        "Covariance FSC above 0.5 up to (Å)",
        "smaller is better",
    ),
    ("mean", "correlation"): ("Mean volume, correlation", "1 is perfect"),
    ("embedding", "neighbours"): ("Neighbourhoods of", "so many nearest particles"),
    ("embedding", "neighbourhood_similarity"): (
        "… shared with the truth",
        "share that is nearest in truth, too; 1 is perfect",
    ),
    ("embedding", "neighbourhood_chance"): ("… by chance", "what random latents would share"),
    ("embedding", "imbalance_latents_to_states"): (
        "Information imbalance, latents → states",
        "0: latents tell the state; 1: nothing",
    ),
    ("embedding", "imbalance_states_to_latents"): (
        "Information imbalance, states → latents",
        "0: latents hold nothing but the state; 1: nothing of it",
    ),
    ("clustering", "ari"): (
        "Clusters, adjusted Rand index",
        "k-means with the true number; 1 is perfect, 0 chance",
    ),
    ("clustering", "ami"): ("Clusters, mutual information", "adjusted; 1 is perfect, 0 chance"),
    ("latents", "knn_spearman"): (
        "True motions, rank correlation",
        "predicted from the nearest latents; 1 is perfect",
    ),
    ("latents", "knn_r2"): ("True motions, R² (neighbours)", "1 is perfect, 0 nothing"),
    ("latents", "linear_r2"): ("True motions, R² (linear)", "1 is perfect, 0 nothing"),
    ("latents", "calibration_chi2"): (
        "Calibration of error bars",
        "1 is right; larger: error bars too small",
    ),
    ("contrast", "correlation"): ("Contrast, correlation", "1 is perfect"),
    ("contrast", "rmse"): ("Contrast, rms error", "smaller than the true spread"),
    ("contrast", "true_spread"): ("Contrast, true spread", ""),
    ("poses", "beyond_10_degree"): (
        "Viewing directions off by over 10°",
        "share of particles that are lost",
    ),
    ("poses", "calibration"): (
        "Calibration of pose error bars",
        "errors within 1 and 2 sd: 0.683 and 0.954 are right",
    ),
    ("poses", "drift"): ("Common drift, removed", "no image can tell it"),
}

# Curves and tables: in the JSON and the figures, too long to read here.
_DRAWN = {
    ("covariance", "fsc"),
    ("volumes", "states"),
    ("volumes", "per_conformation_fsc"),
    ("volumes", "mean_volume_auc_by_state"),
    ("volumes", "mean_volume_fsc"),
    ("volumes", "per_image_auc_quantiles_by_state"),
    ("populations", "quantiles"),
    ("populations", "states"),
    ("embedding", "neighbour_fraction"),
    ("clustering", "states"),
    ("clustering", "confusion"),
}

# What tells in two lines whether a run found what was there.
HEADLINES = {("covariance", "captured_variance"), ("latents", "knn_spearman")}
# … and beside them where poses were found together with the motions
POSED = {("covariance", "captured_variance_within_state")}

_MOST_SHOWN = 20

_POSE_ERRORS = {
    "out_of_plane_degree": "viewing direction (°)",
    "in_plane_degree": "in-plane angle (°)",
    "shift_angstrom": "shift (Å)",
    "shift_px": "shift (px)",
}


_POSE_PARTS = ("start", "within_state", "bound", "bound_unknown_shape")


def poses_table(poses: Mapping[str, Any]) -> Table:
    """Pose errors before and after refinement, with one alignment and with one for each state."""
    stages = {"before": poses["start"], "after": poses} if "start" in poses else {"": poses}
    columns = {f"error {name}".strip(): stage for name, stage in stages.items()}
    if "within_state" in poses:
        for name, stage in stages.items():
            columns[f"each state aligned {name}".strip()] = stage["within_state"]
    bounds = {
        "bound of the noise": poses.get("bound"),
        "bound, shape unknown": poses.get("bound_unknown_shape"),
    }
    known = {name: bound for name, bound in bounds.items() if bound}
    table = plain_table("Pose errors, the common drift removed")
    for name in ("", ""):
        table.add_column(name)
    for name in (*columns, *known):
        table.add_column(name, justify="right")
    for error, label in _POSE_ERRORS.items():
        for statistic in ("mean", "median", "rms"):
            shown = [_shown(column[error][statistic]) for column in columns.values()]
            if statistic == "mean":
                shown += [_shown(bound.get(error, "")) for bound in known.values()]
            else:
                shown += [""] * len(known)
            table.add_row(label if statistic == "mean" else "", statistic, *shown)
    return table


def metrics_table(
    title: str, metrics: Mapping[str, Any], only: Collection[tuple[str, str]] | None = None
) -> Table:
    """One row a metric, grouped as `evaluate` groups them; unknown ones keep their own names.

    `only` names the metrics to show as (group, metric); all by default.
    """
    from rich.markup import escape

    table = plain_table(title)
    table.add_column("")
    table.add_column("value", overflow="fold")
    table.add_column("how to read it", style="dim")
    for group, name, value in _rows(metrics):
        if group == "poses" and name in {*_POSE_ERRORS, *_POSE_PARTS}:
            continue  # they have a table of their own
        if (group, name) in _DRAWN or (only is not None and (group, name) not in only):
            continue
        plain = name.replace("_", " ")
        unknown = f"{group}: {plain}" if group else plain
        label, reading = _MEANING.get((group, name), (with_capital(unknown), ""))
        table.add_row(escape(label), escape(_shown(value)), reading)
    return table


def _rows(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            for inner, part in value.items():
                yield name, inner, part
        else:
            yield "", name, value


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        parts = (f"{name.replace('_', ' ')} {_shown(part)}" for name, part in value.items())
        return ", ".join(parts)
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        if len(value) > _MOST_SHOWN and all(isinstance(item, int | float) for item in value):
            return f"{len(value)} numbers, {_shown(min(value))} to {_shown(max(value))}"
        return "  ".join(_shown(item) for item in value)
    if isinstance(value, float):
        return f"{value:.4g}" if value == 0 or abs(value) >= 1e-4 else "≈ 0"
    return "–" if value is None else str(value)
