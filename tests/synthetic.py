"""Fits with made-up numbers: for tests of what happens after the estimation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from solvar.estimation.causes import ComponentEvidence, PoseDoubt
from solvar.estimation.local_variance import LocalVariance
from solvar.estimation.low_rank import LowRankModel
from solvar.estimation.posterior import PoseRefinement, Posterior
from solvar.fitting.result import Doubt, Fit, HalfsetValidation, StageCost
from solvar.fitting.settings import FitSettings
from solvar.imaging.rotations import from_rotation_vector
from solvar.particles import CtfParameters, Exposures, Optics, ParticleSet, Poses

PIXEL_SIZE = 3.0


def make_particles(folder: Path, count: int, box: int, seed: int = 0) -> ParticleSet:
    """Particles that no file holds, as if read from a cryoSPARC table in another order."""
    rng = np.random.default_rng(seed)
    source, stack = folder / "input.cs", folder / "stack.mrcs"
    source.write_bytes(b"table")
    stack.write_bytes(bytes(range(256)) * 100)
    rotation, _ = np.linalg.qr(rng.normal(size=(count, 3, 3)))
    rotation[np.linalg.det(rotation) < 0, :, 0] *= -1
    defocus = rng.uniform(8e3, 2e4, (2, count))
    return ParticleSet(
        source=source,
        source_format="cryosparc",
        row=rng.permutation(count).astype(np.int64),
        uid=rng.integers(0, 2**63, count).astype(np.uint64),
        optics=Optics(
            ("one",), np.array([300.0]), np.array([2.7]), np.array([0.1]),
            np.array([PIXEL_SIZE]), np.array([box]),
        ),
        poses=Poses(rotation, rng.normal(0, 2, (count, 2))),
        stacks=(stack,),
        exposures=Exposures.one_each(
            np.zeros(count, np.int64),
            CtfParameters(*defocus, np.zeros(count), np.zeros(count), np.zeros(count)),
            np.zeros(count, np.int64),
            np.arange(count),
        ),
        halfset=(1 + np.arange(count) % 2).astype(np.int8),
    )  # fmt: skip


def make_change(variance: np.ndarray) -> LocalVariance:
    """Certain where the variance is above a fifth of its most."""
    error = np.full_like(variance, variance.max() / 15)
    return LocalVariance(variance.astype(np.float32), error.astype(np.float32))


def make_fit(
    folder: Path,
    *,
    rank: int = 3,
    count: int = 40,
    box: int = 16,
    halfsets: bool = True,
    refined: bool = False,
    seed: int = 0,
) -> Fit:
    """A fit in which everything has the right shape and nothing was estimated."""
    rng = np.random.default_rng(seed)
    grid = np.indices((box, box, box)) - box // 2
    radius = np.sqrt((grid**2).sum(axis=0))
    mask = np.clip(0.42 * box - radius, 0, 1).astype(np.float32)
    smooth = np.exp(-(((radius - box / 5) / (box / 8)) ** 2)) * mask
    waves = [np.sin((j + 1) * grid[j % 3] * 2 / box + 0.3) * smooth for j in range(rank)]
    basis, _ = np.linalg.qr(np.stack([wave.ravel() for wave in waves], axis=1))
    eigenvolumes = basis.T.reshape(rank, box, box, box).astype(np.float32)
    eigenvalues = 100.0 / (1 + np.arange(rank)) ** 2
    z = rng.normal(size=(count, rank)) * np.sqrt(eigenvalues)
    shells = box // 2
    falling = 1 / (1 + np.exp(np.arange(shells) - shells / 2))
    validation = HalfsetValidation(
        means=np.stack([smooth, 1.01 * smooth]).astype(np.float32),
        mean_fsc=falling,
        covariance_fsc=np.outer(falling, falling),
        component_fsc=np.outer(1 / (1 + np.arange(rank)), falling),
        component_resolution=np.array([9.0, 14.0, *[np.inf] * rank])[:rank],
        component_resolution_half=np.array([12.0, *[np.inf] * rank])[:rank],
        reliability=np.linspace(0.95, 0.0, rank),
        reliable=np.arange(rank) < max(1, rank - 1),
        component_resolution_range=np.array([[8.5, 9.6], [12.0, 17.0], *[[np.inf] * 2] * rank])[
            :rank
        ],
        doubt=make_doubt(rank),
        change=make_change(eigenvalues[0] * eigenvolumes[0] ** 2),
    )
    particles = make_particles(folder, count, box, seed)
    return Fit(
        particles=particles,
        settings=FitSettings(rank=rank, halfsets=halfsets, refine_pose=refined, seed=seed),
        model=LowRankModel(smooth.astype(np.float32), eigenvolumes, eigenvalues, mask, PIXEL_SIZE),
        posterior=Posterior(
            z=z,
            precision=np.tile(np.diag(2 / eigenvalues), (count, 1, 1)),
            contrast=rng.normal(1, 0.1, count),
            log_likelihood=rng.normal(-100, 1, count),
        ),
        validation=validation if halfsets else None,
        noise_power=np.ones((1, shells)),
        corner_noise_power=np.linspace(0.6, 1.1, shells)[None],
        prior_precision=np.linspace(1, 5, shells),
        inverted=False,
        particle_probability=np.ones(count),
        pose_refinement=make_refinement(particles.poses, seed=seed) if refined else None,
        history=[
            {"k_c": 8.0, "sweep": 0.0, "training": 3.0, "held_out": 2.5},
            {"k_c": 8.0, "sweep": 1.0},
        ],
        costs=[StageCost("mean", 1.2, 2.0, 300.0), StageCost("eigenvolumes", 61.0, 100.0, 512.0)],
        warnings=["Two optics groups were merged."],
    )


def make_doubt(rank: int) -> Doubt:
    """Evidence that only the last component lacks, and poses that are off by a little."""
    real = np.arange(rank) < max(1, rank - 1)
    explained = np.where(real[:, None], [[0.1, 0.0, 0.02, 0.05]], 0.0)
    left = np.where(real, 0.85, 0.0)
    evidence = ComponentEvidence(3.0 / (1 + np.arange(rank)), explained, left, real, real)
    return Doubt(evidence, PoseDoubt(0.3, 0.05, 0.4, 0.07, 0.2, True), 6.0, False)


def make_refinement(
    refined: Poses,
    *,
    rotation_degree: float = 2.0,
    shift_angstrom: float = 3.0,
    spread: float = 0.5,
    seed: int = 0,
) -> PoseRefinement:
    """As if poses had been off by so much per axis, and were now known to `spread` times that."""
    rng = np.random.default_rng(seed)
    count, radian = len(refined.rotation), np.deg2rad(rotation_degree)
    start = Poses(
        refined.rotation @ from_rotation_vector(rng.normal(0, radian, (count, 3))),
        refined.shift_angstrom + rng.normal(0, shift_angstrom, (count, 2)),
    )
    sigma = spread * np.array([radian] * 3 + [shift_angstrom] * 2)
    particle = rng.uniform(0.8, 1.25, count)
    covariance = particle[:, None, None] * np.diag(sigma**2)
    return PoseRefinement(start, covariance, rotation_degree, shift_angstrom)
