"""How volumes are made: one interface, several methods."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from solvar.particles import ParticleSet
from solvar.plugins import VOLUME_METHODS, Choices
from solvar.progress import Progress
from solvar.results.run import Run
from solvar.threads import ThreadTeam
from solvar.volumes.kernel import KernelRegression
from solvar.volumes.reproject import Reprojection
from solvar.volumes.set_mean import SetMean
from solvar.volumes.settings import VolumeSettings
from solvar.volumes.source import Source, open_source
from solvar.volumes.subset import Subset
from solvar.volumes.targets import Targets
from solvar.volumes.volume import Reconstruction

Float64 = NDArray[np.float64]


class Method(Protocol):
    """A way to make volumes; what many targets share is done once, when it is made."""

    def volume(self, target: Float64) -> Reconstruction:
        """The volume at a point z* (r,) of latent space."""


Maker = Callable[[int], Reconstruction]


def _kernel(source: Source, run: Run, settings: VolumeSettings) -> Method:
    return KernelRegression(source, run.posterior)


def _subset(source: Source, run: Run, settings: VolumeSettings) -> Method:
    return Subset(source, run.posterior, settings.subset_fraction, settings.subset_probability)


# Methods that read images, each a function of source, run and settings; "reproject" reads none
METHODS: Choices[Callable[[Source, Run, VolumeSettings], Method]] = Choices(
    VOLUME_METHODS, {"kernel": _kernel, "subset": _subset}
)


def volume_maker(
    run: Run,
    targets: Targets,
    settings: VolumeSettings,
    original: ParticleSet | None,
    scratch: Path,
    progress: Progress,
    team: ThreadTeam,
) -> tuple[Maker, float]:
    """What makes the volume of the k-th target, and the pixel size (Å) of these volumes.

    At points that is the method that `settings` names; of sets the mean of exactly their particles.

    Images that do not fit into memory are kept in `scratch`, unless the settings name another folder.
    """
    if settings.method == "reproject" and targets.members is None:
        method = Reprojection(run.model)
        return lambda k: method.volume(targets.z[k]), run.pixel_size_angstrom
    source = open_source(run, original, settings, settings.scratch or scratch, progress, team)
    pixel_size = source.images.store.pixel_size_angstrom
    if (members := targets.members) is not None:
        mean = SetMean(source, run.posterior.contrast)
        return lambda k: mean.of_members(members[k]), pixel_size
    made = METHODS[settings.method](source, run, settings)
    return lambda k: made.volume(targets.z[k]), pixel_size
