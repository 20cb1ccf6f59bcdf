"""What the analysis of a million particles costs: seconds and peak memory of each part.

Latents of a curved, clustered population in ten dimensions, each with its own error. Budget: five minutes
and 8 GiB on two cores. The latents themselves (z and precision) are part of the peak.

    python benchmarks/analysis.py [--particles 1000000] [--rank 10]
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from solvar.analysis import diagnostics
from solvar.analysis.clusters import find_clusters
from solvar.analysis.density import log_density
from solvar.analysis.outliers import find_outliers
from solvar.analysis.space import LatentSpace
from solvar.analysis.states import deconvolved, find_states
from solvar.analysis.trajectories import Field, extreme_ends, find_path
from solvar.imaging import rotations

BUDGET_SECONDS, BUDGET_GIB = 300.0, 8.0
NEIGHBOURS, POINTS = 15, 10


def latents(count: int, rank: int, seed: int = 0) -> LatentSpace:
    """A horseshoe with five denser places in the first two of `rank` components, and noise."""
    rng = np.random.default_rng(seed)
    places = rng.choice(np.linspace(-2.4, 2.4, 5), count) + rng.normal(0, 0.35, count)
    truth = rng.normal(0, 1, (count, rank))
    truth[:, 0] = 1.3 * np.sin(places) + 0.1 * truth[:, 0]
    truth[:, 1] = 1.3 * np.cos(places) + 0.1 * truth[:, 1]
    eigenvalues = 100.0 / (1 + np.arange(rank))
    information = rng.uniform(5, 30, count)
    precision = np.empty((count, rank, rank))
    precision[:] = np.diag(1 / eigenvalues)
    precision *= (1 + information)[:, None, None]
    told = (information / (1 + information))[:, None]
    noise = rng.standard_normal((count, rank)) / np.sqrt(information)[:, None]
    z = told * (truth + noise) * np.sqrt(eigenvalues)
    return LatentSpace(z, precision, eigenvalues, np.arange(rank))


def diagnose(space: LatentSpace, label: np.ndarray) -> None:
    """The diagnostics, with poses, micrographs and half-sets by chance."""
    rng = np.random.default_rng(1)
    rotation = rotations.random(len(space), rng)
    factors = {
        "viewing direction": diagnostics.view_harmonics(rotation),
        "micrograph": rng.integers(0, 10_000, len(space)),
    }
    diagnostics.associations(space.z, space.active, factors)
    diagnostics.angular_coverage(rotation, label)
    diagnostics.compare_halves(space.z, space.active, rng.integers(1, 3, len(space)))


def timed(name: str, part: Callable[[], Any]) -> Any:
    started = time.perf_counter()
    found = part()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{name:<34}{time.perf_counter() - started:8.1f} s{peak:8.2f} GiB peak", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--particles", type=int, default=1_000_000)
    parser.add_argument("--rank", type=int, default=10)
    arguments = parser.parse_args()
    space = timed("synthetic latents", lambda: latents(arguments.particles, arguments.rank))
    started = time.perf_counter()
    points, everybody = space.whitened, np.ones(len(space))
    clusters = timed("clusters, number by BIC", lambda: find_clusters(points))
    local = timed("density of each particle", lambda: log_density(points, NEIGHBOURS))
    seen = timed("likelihoods", lambda: space.likelihoods(everybody))
    mixture = timed("density, errors taken out", lambda: deconvolved(seen))
    timed("states", lambda: find_states(mixture, seen))
    field = Field.of(mixture, seen)
    first, last = extreme_ends(field, local, 0)
    timed("path", lambda: find_path(field, points[first], points[last], POINTS))

    def outliers() -> Any:
        covariance = space.whitened_covariance(space.active)
        return find_outliers(points, covariance, np.zeros(len(points)))

    timed("outliers", outliers)
    timed("associations, views, half-sets", lambda: diagnose(space, clusters.label))
    total = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    kept = total < BUDGET_SECONDS and peak < BUDGET_GIB
    print(f"all: {total:.0f} s, {peak:.1f} GiB; the budget is {'kept' if kept else 'exceeded'}")


if __name__ == "__main__":
    main()
