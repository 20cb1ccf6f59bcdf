"""Images without a particle, in whole fits."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from solvar.fitting.fit import fit
from solvar.fitting.settings import FitSettings
from solvar.particles import read_particles


def fitted(folder: Path, **settings: object):
    chosen = FitSettings(rank=2, mask=folder / "mask.mrc", threads=1, **settings)
    return fit(read_particles(folder / "particles.star"), chosen)


@pytest.mark.parametrize("halfsets", [True, False])
def test_junk_is_counted_and_named(soiled_stack, halfsets: bool) -> None:
    folder, junk = soiled_stack
    found = fitted(folder, halfsets=halfsets)
    assert (1 - found.particle_probability).mean() == pytest.approx(0.3, abs=0.05)
    assert ((found.particle_probability < 0.5) == junk).mean() > 0.97
    assert found.monstrous == 0
    told = [warning for warning in found.warnings if "no particle" in warning]
    assert len(told) == 1 and "--keep 0.5" in told[0] and "400" in told[0]
    # what nothing is known of stands where the prior has it
    deviation = np.sqrt(found.model.eigenvalues)
    sigma, precision = found.posterior.z / deviation, found.posterior.precision
    assert np.abs(sigma[junk]).mean() < 0.1 * np.abs(sigma[~junk]).mean()
    scaled = precision * np.outer(deviation, deviation)
    assert np.median(np.abs(scaled[junk] - np.eye(2))) < 0.05


def test_a_set_without_junk_keeps_every_weight_at_one(tiny_stack) -> None:
    found = fitted(tiny_stack)
    assert (found.particle_probability == 1).all() and found.monstrous == 0
    assert not any("particle_probability" in w or "no particle" in w for w in found.warnings)


def test_a_monstrous_image_leaves_the_result_as_if_it_were_not_there(tiny_stack, tmp_path) -> None:
    shutil.copytree(tiny_stack, tmp_path / "set")
    with mrcfile.open(tmp_path / "set" / "particles.mrcs", "r+") as stack:
        stack.data[17, 11, 12] = 1e4
    clean, found = fitted(tiny_stack), fitted(tmp_path / "set")
    assert found.monstrous == 1 and found.particle_probability[17] == 0
    assert (np.delete(found.particle_probability, 17) == 1).all()
    pair = [each.model.eigenvolumes.reshape(2, -1) for each in (clean, found)]
    assert np.linalg.svd(pair[0] @ pair[1].T, compute_uv=False).min() > 0.98
    assert np.abs(found.posterior.z[17]).max() < 1e-6
    assert any("stands out" in warning for warning in found.warnings)


def test_junk_is_the_same_whatever_the_order_of_the_rows(soiled_stack) -> None:
    folder, _ = soiled_stack
    particles = read_particles(folder / "particles.star")
    order = np.random.default_rng(1).permutation(len(particles))
    chosen = FitSettings(rank=2, mask=folder / "mask.mrc", threads=1)
    plain, turned = (fit(each, chosen) for each in (particles, particles.select(order)))
    pair = plain.particle_probability[order], turned.particle_probability
    assert np.abs(pair[0] - pair[1]).mean() < 0.02


def test_probabilities_do_not_depend_on_the_weights_before(soiled_stack) -> None:
    """Judged again from other weights, particles get nearly the same probability: nobody is lost for good."""
    from solvar.fitting import junk as stage

    folder, junk = soiled_stack
    original, seen = stage._weighed, []

    def turned_around(context, state):
        if not seen:
            state = replace(state, weight=np.where(junk, 1.0, 0.0))
        seen.append(True)
        return original(context, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "_weighed", turned_around)
        found = fitted(folder)
    assert ((found.particle_probability < 0.5) == junk).mean() > 0.97
