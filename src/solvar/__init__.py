"""solvar: from a cryo-EM particle stack to the ways a molecule moves.

The public API is this page; everything is imported on first use, so that `import solvar` is quick.

>>> import solvar
>>> particles = solvar.read_particles("particles.star")
>>> run = solvar.fit(particles, solvar.FitSettings(rank=4), "run")
>>> run.model.eigenvalues, run.posterior.z
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from solvar._version import __version__

if TYPE_CHECKING:
    from solvar.analysis.analyze import analyze
    from solvar.estimation.low_rank import LowRankModel
    from solvar.estimation.posterior import Posterior
    from solvar.evaluation import evaluate
    from solvar.fitting.result import HalfsetValidation
    from solvar.fitting.settings import FitSettings
    from solvar.job import run_job as fit
    from solvar.notebook import Run
    from solvar.particles import ParticleSet, read_particles
    from solvar.simulation import SimulationSettings, simulate
    from solvar.volumes.reconstruct import reconstruct
    from solvar.volumes.settings import VolumeSettings
    from solvar.volumes.targets import Targets

__all__ = [
    "FitSettings",
    "HalfsetValidation",
    "LowRankModel",
    "ParticleSet",
    "Posterior",
    "Run",
    "SimulationSettings",
    "Targets",
    "VolumeSettings",
    "__version__",
    "analyze",
    "evaluate",
    "fit",
    "read_particles",
    "reconstruct",
    "simulate",
]

_HOME = {
    "FitSettings": "solvar.fitting.settings",
    "HalfsetValidation": "solvar.fitting.result",
    "LowRankModel": "solvar.estimation.low_rank",
    "ParticleSet": "solvar.particles",
    "Posterior": "solvar.estimation.posterior",
    "Run": "solvar.notebook",
    "SimulationSettings": "solvar.simulation",
    "Targets": "solvar.volumes",
    "VolumeSettings": "solvar.volumes",
    "analyze": "solvar.analysis",
    "evaluate": "solvar.evaluation",
    "fit": "solvar.job:run_job",
    "read_particles": "solvar.particles",
    "reconstruct": "solvar.volumes",
    "simulate": "solvar.simulation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'solvar' has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    value = getattr(import_module(module), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
