"""`check_particles`: what would go wrong or mislead, before anything long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from solvar.errors import InputError
from solvar.fitting.settings import FitSettings
from solvar.fitting.start import finest_frequency, load_mask
from solvar.fitting.warm import compile_kernels, tell_device
from solvar.machine import available_memory, free_disk
from solvar.particles import ImageStack, ParticleSet, refuse_copied_stacks
from solvar.preflight.cost import expected
from solvar.preflight.findings import Finding, are_sound
from solvar.preflight.pixels import image_findings
from solvar.preflight.table import table_findings
from solvar.preflight.trials import THOROUGH, trial_findings
from solvar.preflight.views import view_findings
from solvar.progress import Progress, harmless
from solvar.threads import ThreadTeam

T = TypeVar("T")

_MEMORY_SHARE = 0.8


@dataclass(frozen=True)
class CheckReport:
    """All findings; `ok` when none is an error."""

    findings: list[Finding]

    @property
    def ok(self) -> bool:
        """Whether nothing was found that makes the main job fail or mislead."""
        return are_sound(self.findings)


def check_particles(
    particles: ParticleSet,
    settings: FitSettings,
    *,
    every_image: bool = False,
    progress: Progress | None = None,
) -> CheckReport:
    """Look for trouble in particles and settings.

    Parameters
    ----------
    particles : ParticleSet
    settings : FitSettings
        As for the main job.
    every_image : bool
        Read every image instead of a sample of 1,000.
    progress : Progress, optional
        Silent by default.
    """
    progress = harmless(progress)
    whole, particles = particles, particles.select(particles.originals)
    findings = [*table_findings(particles)]
    if not settings.ab_initio:
        findings += view_findings(particles)
    stack = _attempt(findings, "files", lambda: ImageStack(particles, settings.downsample))
    if stack is None:
        return CheckReport(findings)
    stacks = len(particles.stacks)
    text = f"{len(particles.exposures):,} images in {stacks:,} stack{'s' * (stacks > 1)}, all found and whole"
    findings.insert(0, Finding("ok", "files", text))
    _attempt(findings, "files", lambda: refuse_copied_stacks(particles))
    images = list(image_findings(particles, stack, settings.seed, every_image, progress))
    findings += images
    mask = _attempt(findings, "mask", lambda: load_mask(settings, stack))
    k_c = _attempt(findings, "resolution", lambda: finest_frequency(stack, settings.resolution))
    if mask is not None and k_c is not None and are_sound(images):
        if not settings.ab_initio:
            findings += trial_findings(particles, mask, settings, THOROUGH, progress)
        findings.append(_cost(whole, settings, progress))
    return CheckReport(findings)


def _attempt(findings: list[Finding], topic: str, action: Callable[[], T]) -> T | None:
    """The result of `action`, or None and a finding that says why there is none."""
    try:
        return action()
    except InputError as error:
        findings.append(Finding("error", topic, str(error)))
        return None


def _cost(particles: ParticleSet, settings: FitSettings, progress: Progress) -> Finding:
    """What `solvar run` with these settings will need."""
    with ThreadTeam(settings.threads) as team:
        compile_kernels(settings, team, progress)
        tell_device(settings, progress)
        cost = expected(particles, settings, team)
    text = f"a run with --rank {settings.rank} takes {cost}"
    free, disk = available_memory(), free_disk(settings.scratch or Path.cwd())
    if cost.memory > _MEMORY_SHARE * free:
        text += f", but {free / 2**30:.1f} GiB are free: use --downsample or a lower --rank"
        return Finding("warning", "cost", text)
    if cost.disk > disk:
        text += f", but {disk / 2**30:.1f} GiB are free: name another folder with --scratch"
        return Finding("warning", "cost", text)
    return Finding("ok", "cost", text)
