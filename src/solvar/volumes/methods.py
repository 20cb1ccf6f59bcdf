"""How volumes are made: one interface, several methods."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from solvar.particles import ParticleSet
from solvar.progress import Progress
from solvar.results.run import Run
from solvar.threads import ThreadTeam
from solvar.volumes.kernel import KernelRegression
from solvar.volumes.reproject import Reprojection
from solvar.volumes.settings import VolumeSettings
from solvar.volumes.source import open_source
from solvar.volumes.subset import Subset
from solvar.volumes.volume import Reconstruction

Float64 = NDArray[np.float64]


class Method(Protocol):
    """A way to make volumes; what many targets share is done once, when it is made."""

    def volume(self, target: Float64) -> Reconstruction:
        """The volume at a point z* (r,) of latent space."""


def make_method(
    run: Run,
    settings: VolumeSettings,
    original: ParticleSet | None,
    scratch: Path,
    progress: Progress,
    team: ThreadTeam,
) -> tuple[Method, float]:
    """The method that `settings` names, and the pixel size (Å) of its volumes.

    Images that do not fit into memory are kept in `scratch`, unless the settings name another folder.
    """
    if settings.method == "reproject":
        return Reprojection(run.model), run.pixel_size_angstrom
    source = open_source(run, original, settings, settings.scratch or scratch, progress, team)
    known = run.posterior
    pixel_size = source.images.store.pixel_size_angstrom
    if settings.method == "subset":
        share = settings.subset_fraction, settings.subset_probability
        return Subset(source, known.z, known.precision, known.contrast, *share), pixel_size
    return KernelRegression(source, known.z, known.precision, known.contrast), pixel_size
