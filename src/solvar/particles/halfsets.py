"""Two independent halves of the particles."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from solvar.particles.identity import seeded
from solvar.particles.particle_set import ParticleSet

log = logging.getLogger(__name__)


def assign_halfsets(particles: ParticleSet, seed: int) -> ParticleSet:
    """Give every particle a half-set, 1 or 2.

    The file's half-sets are kept if it gives one to every particle and neither is empty. Otherwise
    the split is balanced, random, and a function of seed and uid alone: the order of the rows
    (often sorted by micrograph or by state) has no influence. Symmetry copies go with their particle.

    Parameters
    ----------
    particles : ParticleSet
    seed : int

    Returns
    -------
    ParticleSet
        `halfset` is 1 or 2 everywhere.
    """
    given = particles.halfset
    copy_of, originals = particles.copy_of, particles.originals
    torn = copy_of is not None and np.any(given != given[copy_of])
    whole = np.all((given == 1) | (given == 2)) and 0 < np.count_nonzero(given == 1) < len(given)
    if whole and not torn:
        return particles
    if np.any(given):
        log.info("%s does not give both half-sets to all particles: new split", particles.source)
    uid = particles.uid[originals]
    key = seeded(uid, seed)
    halfset = np.full(len(particles), 2, dtype=np.int8)
    halfset[originals[np.argsort(key, kind="stable")[: (len(uid) + 1) // 2]]] = 1
    if copy_of is not None:
        halfset = halfset[copy_of]
    return replace(particles, halfset=halfset)
