"""What a program's results are worth against the truth, all by this project's own metrics.

captured  variance that the span of the eigenvolumes holds, relative to the best of that rank
Spearman  of the true state coordinate with its mean over each particle's neighbours in the latents
ARI       adjusted Rand index of k-means on the latents with the true discrete states
AUC-FSC   area under the masked FSC (0.5 the most) of a volume at the mean latent of each true state

A result counts only behind a mean volume that is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from peer_programs import Program

RIGHT_MEAN = 0.9  # least FSC with the truth, averaged over shells 1 to L/8, of a usable mean


@dataclass
class Scores:
    """Of one program; None where it has nothing to judge or no right to be judged."""

    mean_fsc: float | None = None
    captured: float | None = None
    spearman: float | None = None
    ari: float | None = None
    auc: float | None = None
    worst: float | None = None
    problem: str = ""


def states_asked(truth, most: int | None) -> list[int]:
    """The states that volumes are made of: all that have a true volume, or so many of them, spread."""
    from solvar.evaluation import state_volumes

    states = list(state_volumes(truth))
    if most is None or most >= len(states):
        return states
    return [states[k] for k in np.linspace(0, len(states) - 1, most).round().astype(int)]


def state_latents(z: np.ndarray, truth, states: list[int]) -> np.ndarray:
    """Mean latents (n, r) of the particles of each state, which is where its volume is asked for."""
    from solvar.evaluation.volumes import particles_of

    check_latents(z, truth)
    return np.stack([z[particles_of(truth, state)].mean(axis=0) for state in states])


def check_latents(z: np.ndarray, truth) -> None:
    """One finite latent for each particle, or ValueError."""
    if len(z) != truth.count:
        raise ValueError(f"{len(z)} latents of {truth.count} particles")
    if not np.isfinite(z).all():
        raise ValueError("latents that are not finite")


def score(program: Program, truth, states: list[int], fitted: bool, made: bool) -> Scores:
    """Everything that can be said of a program.

    Parameters
    ----------
    program : Program
    truth : solvar.evaluation.Truth
        Of the chosen particles.
    states : list of int
        Those that volumes were asked for.
    fitted, made : bool
        Whether its two steps ended well.
    """
    scores = Scores()
    try:
        check_mean(scores, program.mean(), truth)
        if scores.problem or not fitted:
            return scores
        score_eigenvolumes(scores, program.eigenvolumes(), program.given.rank, truth)
        score_latents(scores, program.z(), truth)
        if made:
            score_maps(scores, program.maps(), states, truth)
    except (OSError, ValueError) as error:
        scores.problem = f"result not usable: {error}"
    return scores


def read(path: Path) -> np.ndarray:
    """A volume."""
    from solvar.volume_file import read_volume

    return read_volume(path)[0].astype(np.float32)


def check_mean(scores: Scores, path: Path | None, truth) -> None:
    """Compare the mean with the true one in the first shells; if wrong, nothing built on it counts."""
    from solvar.evaluation import masked_fsc

    if path is None:
        scores.problem = "no mean volume to check"
        return
    mean = read(path)
    if mean.shape != truth.mean.shape:
        scores.problem = f"a mean of box {mean.shape[-1]}, not {truth.box_size}"
        return
    fsc = np.nan_to_num(masked_fsc(mean, truth.mean, truth.mask)[1 : truth.box_size // 8 + 1])
    scores.mean_fsc = float(fsc.mean())
    if scores.mean_fsc < RIGHT_MEAN:
        curve = " ".join(f"{value:.2f}" for value in fsc)
        scores.problem = f"wrong mean: FSC with the truth in shells 1 to {len(fsc)} is {curve}"


def score_eigenvolumes(scores: Scores, paths: list[Path], rank: int, truth) -> None:
    """Captured variance up to half Nyquist in the mask; programs without eigenvolumes have none."""
    from solvar.evaluation import captured_variance

    if not paths:
        return
    if len(paths) < rank:
        raise ValueError(f"{len(paths)} eigenvolumes of {rank}")
    volumes = np.stack([read(path) for path in paths])
    scores.captured = captured_variance(volumes, truth.eigenvolumes, mask=truth.mask)


def score_latents(scores: Scores, z: np.ndarray, truth) -> None:
    """Agreement with discrete states, or with the coordinate of a motion."""
    from solvar.evaluation import cluster_agreement, kmeans_labels, knn_spearman

    check_latents(z, truth)
    state = truth.discrete_state()
    if state is not None:
        labels = kmeans_labels(z, len(np.unique(state)))
        scores.ari = cluster_agreement(labels, state)["ari"]
    elif truth.state_coordinate is not None:
        scores.spearman = float(knn_spearman(z, truth.state_coordinate).mean())


def score_maps(scores: Scores, paths: list[Path], states: list[int], truth) -> None:
    """Mean and least AUC-FSC over states."""
    if len(paths) != len(states):
        raise ValueError(f"{len(paths)} volumes of {len(states)}")
    areas = [area(read(p), s, truth) for p, s in zip(paths, states, strict=True)]
    scores.auc, scores.worst = float(np.mean(areas)), float(min(areas))


def area(volume: np.ndarray, state: int, truth) -> float:
    """AUC-FSC of a volume with that of a true state."""
    from solvar.evaluation import fsc_auc, masked_fsc, state_volumes

    return float(fsc_auc(masked_fsc(volume, read(state_volumes(truth)[state]), truth.mask)))
