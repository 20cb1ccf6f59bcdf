"""What the user should know before believing the result of a fit."""

from __future__ import annotations

import numpy as np

from solvar.fitting.result import Fit
from solvar.particles import ParticleSet


def warnings_of(particles: ParticleSet, found: Fit) -> list[str]:
    """Plain sentences about a fit of particles as they were given."""
    warnings = particles.remarks()
    if found.intensity_factor != 1:
        warnings.append(
            f"Pixel values are far from 1, so images were multiplied by {found.intensity_factor:g}: "
            "volumes, eigenvalues and latents are in these units."
        )
    if found.normalisation is not None and (told := found.normalisation.sentence()):
        warnings.append(told)
    if found.inverted and found.settings.density == "auto":
        warnings.append(
            "The molecule is dark in the images; they were inverted. If volumes look like "
            "a hole in the solvent, run again with --density bright."
        )
    if found.settings.halfsets and not np.array_equal(particles.halfset, found.particles.halfset):
        warnings.append(
            "The input names no half-sets, so the particles were split at random. Poses that were "
            "refined together make the halves agree better than they should."
        )
    confirmed = found.validation is not None and found.validation.reliable.all()
    if found.settings.refine_pose and confirmed and found.settings.rank != "auto":
        warnings.append(
            "Every component is reliable, so there may be motion that this rank does not hold. Poses "
            "would follow it: run again with a higher --rank before believing small pose corrections."
        )
    if not found.settings.halfsets:
        warnings.append(
            "Without half-sets nothing tells signal from noise: eigenvalues are too large and no "
            "component is validated."
        )
    return warnings
