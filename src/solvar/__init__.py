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
    from solvar.errors import InputError
    from solvar.estimation.band import Band
    from solvar.estimation.column_model import ColumnModel
    from solvar.estimation.e_step import BandModel, e_step
    from solvar.estimation.image_batch import ImageBatch
    from solvar.estimation.images import WhitenedImages
    from solvar.estimation.log_likelihood import log_likelihood
    from solvar.estimation.low_rank import LowRankModel
    from solvar.estimation.posterior import Posterior
    from solvar.estimation.statistics import Gradient, SufficientStatistics
    from solvar.evaluation import captured_variance, evaluate
    from solvar.fitting.images import read_images
    from solvar.fitting.result import Fit, HalfsetValidation
    from solvar.fitting.settings import FitSettings
    from solvar.imaging.fourier import HalfDisc
    from solvar.imaging.fsc import covariance_fsc, fourier_shell_correlation
    from solvar.imaging.projector import make_projector
    from solvar.imaging.projector.differentiable import backproject, project
    from solvar.job import run_job as fit
    from solvar.notebook import Run
    from solvar.particles import ParticleSet, read_particles
    from solvar.simulation import SimulationSettings, simulate
    from solvar.volumes.reconstruct import reconstruct
    from solvar.volumes.settings import VolumeSettings
    from solvar.volumes.targets import Targets

__all__ = [
    "Band",
    "BandModel",
    "ColumnModel",
    "Fit",
    "FitSettings",
    "Gradient",
    "HalfDisc",
    "HalfsetValidation",
    "ImageBatch",
    "InputError",
    "LowRankModel",
    "ParticleSet",
    "Posterior",
    "Run",
    "SimulationSettings",
    "SufficientStatistics",
    "Targets",
    "VolumeSettings",
    "WhitenedImages",
    "__version__",
    "analyze",
    "backproject",
    "captured_variance",
    "covariance_fsc",
    "e_step",
    "evaluate",
    "fit",
    "fourier_shell_correlation",
    "log_likelihood",
    "make_projector",
    "project",
    "read_images",
    "read_particles",
    "reconstruct",
    "simulate",
]

_HOME = {
    "Band": "solvar.estimation.band",
    "BandModel": "solvar.estimation.e_step",
    "ColumnModel": "solvar.estimation.column_model",
    "Fit": "solvar.fitting.result",
    "FitSettings": "solvar.fitting.settings",
    "Gradient": "solvar.estimation.statistics",
    "HalfDisc": "solvar.imaging.fourier",
    "HalfsetValidation": "solvar.fitting.result",
    "ImageBatch": "solvar.estimation.image_batch",
    "InputError": "solvar.errors",
    "LowRankModel": "solvar.estimation.low_rank",
    "ParticleSet": "solvar.particles",
    "Posterior": "solvar.estimation.posterior",
    "Run": "solvar.notebook",
    "SimulationSettings": "solvar.simulation",
    "SufficientStatistics": "solvar.estimation.statistics",
    "Targets": "solvar.volumes",
    "VolumeSettings": "solvar.volumes",
    "WhitenedImages": "solvar.estimation.images",
    "analyze": "solvar.analysis",
    "backproject": "solvar.imaging.projector.differentiable",
    "captured_variance": "solvar.evaluation",
    "covariance_fsc": "solvar.imaging.fsc",
    "e_step": "solvar.estimation.e_step",
    "evaluate": "solvar.evaluation",
    "fit": "solvar.job:run_job",
    "fourier_shell_correlation": "solvar.imaging.fsc",
    "log_likelihood": "solvar.estimation.log_likelihood",
    "make_projector": "solvar.imaging.projector",
    "project": "solvar.imaging.projector.differentiable",
    "read_images": "solvar.fitting.images",
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
