"""Symmetry held against the truth: subunits of a ring, each open or closed for itself, and a rigid ring.

Particles are expanded, and each subunit is placed within a mask around one of them. Printed are the share of
open subunits as states tell it, how well latents tell the states, and what is called real; of the rigid ring
nothing should be.

    python benchmarks/symmetry.py [--symmetry C4] [--occupancy 0.35] [--particles 2000] [--snr 0.1]
                                  [--seeds 2] [--threads 1]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import mrcfile
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from solvar.analysis.space import LatentSpace
from solvar.analysis.states import deconvolved, find_states
from solvar.fitting.fit import fit
from solvar.fitting.result import Fit
from solvar.fitting.settings import FitSettings
from solvar.imaging.point_groups import PointGroup
from solvar.particles import read_particles, write_star
from solvar.particles.expansion import expanded
from solvar.simulation import SimulationSettings, simulate
from solvar.simulation.assembly import Assembly
from solvar.simulation.molecule import flexible_molecule
from solvar.simulation.volumes import blob_volume

Float64 = NDArray[np.float64]


def subunit_mask(settings: SimulationSettings) -> NDArray[np.float32]:
    """A soft mask around the first subunit, wherever its arm is, (L, L, L)."""
    from scipy.ndimage import distance_transform_edt

    group = PointGroup.named(settings.symmetry)
    whole = Assembly.of(flexible_molecule(settings.seed), group, settings.wanted_diameter)
    one = whole.subunit
    places = np.concatenate([one.conformation(u, 0.5) + whole.centre for u in (0.0, 0.5, 1.0)])
    size, pixel = settings.box_size, settings.pixel_size
    volume = blob_volume(places, np.tile(one.weights, 3), one.sigma_angstrom, size, pixel)
    away = distance_transform_edt(volume < 0.05 * volume.max())
    soft = 0.5 + 0.5 * np.cos(np.pi * np.clip((away - 1.5) / 3, 0, 1))
    return soft.astype(np.float32)


def state_of_copy(coordinate: Float64, group: PointGroup) -> Float64:
    """State (N·n,) of the subunit that lies in the mask of each copy, from those (N, n) of particles."""
    inverse = group.operations.transpose(0, 2, 1)
    away = np.abs(inverse[:, None] - group.operations).max(axis=(2, 3))
    return coordinate[:, away.argmin(axis=1)].reshape(-1)


def real(found: Fit) -> int:
    assert found.validation is not None
    return int(found.validation.reliable.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--symmetry", default="C4")
    parser.add_argument("--occupancy", type=float, default=0.35)
    parser.add_argument("--particles", type=int, default=2000)
    parser.add_argument("--box-size", type=int, default=48)
    parser.add_argument("--snr", type=float, default=0.1)
    parser.add_argument("--rank", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    group = PointGroup.named(given.symmetry)
    for seed in range(given.seeds):
        for kind in ("subunits", "rigid"):
            settings = SimulationSettings(
                symmetry=given.symmetry,
                heterogeneity=kind,
                occupancy=given.occupancy,
                particles=given.particles,
                box_size=given.box_size,
                pixel_size=4.0,
                snr=given.snr,
                seed=seed,
            )
            with tempfile.TemporaryDirectory() as scratch:
                folder, begun = Path(scratch), time.perf_counter()
                simulated = simulate(settings)
                simulated.write(folder)
                particles = read_particles(folder / "particles.star")
                write_star(folder / "expanded.star", expanded(particles, group))
                mask = folder / "subunit.mrc"
                with mrcfile.new(mask, subunit_mask(settings)) as file:
                    file.voxel_size = settings.pixel_size
                asked = {"rank": given.rank, "seed": seed, "threads": given.threads}
                found = fit(
                    read_particles(folder / "expanded.star"),
                    FitSettings(focus_mask=[mask], **asked),
                )
                told = f"{kind:9} seed {seed}: {real(found)} of {given.rank} components real"
                if kind == "subunits":
                    told += f", {_states(found, simulated.ensemble.coordinate, group)}"
                print(f"{told}, {time.perf_counter() - begun:.0f} s", flush=True)


def _states(found: Fit, coordinate: Float64, group: PointGroup) -> str:
    """How well subunits are told apart, and what share is open."""
    is_open = state_of_copy(coordinate, group)
    z = found.posterior.z
    one = z[:, 0] * np.sign(np.corrcoef(z[:, 0], is_open)[0, 1])
    count = max(real(found), 1)
    space = LatentSpace(
        z,
        found.posterior.precision,
        found.model.eigenvalues,
        np.arange(count),
        found.particles.copy_of,
    )
    seen = space.likelihoods(found.particle_probability)
    states = find_states(deconvolved(seen), seen)
    shares = ", ".join(f"{share:.3f}" for share in sorted(states.population))
    return (
        f"AUC {roc_auc_score(is_open, one):.3f}, {len(states)} states of {shares} "
        f"(true {is_open.mean():.3f})"
    )


if __name__ == "__main__":
    main()
