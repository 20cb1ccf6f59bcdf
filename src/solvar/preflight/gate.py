"""`gate`: a run stops where `solvar check` would, and keeps what it would warn of."""

from __future__ import annotations

import json

import numpy as np

from solvar.errors import InputError
from solvar.fitting.settings import FitSettings
from solvar.fitting.start import load_mask
from solvar.fitting.warm import compile_kernels
from solvar.parallel import Processes, broadcast
from solvar.particles import ImageStack, ParticleSet
from solvar.preflight.findings import Finding
from solvar.preflight.table import ALREADY_TOLD, table_findings
from solvar.preflight.trials import QUICK, trial_findings
from solvar.preflight.views import view_findings
from solvar.progress import Progress
from solvar.text import with_capital
from solvar.threads import ThreadTeam

_LENGTH = 8


def gate(
    particles: ParticleSet, settings: FitSettings, progress: Progress, processes: Processes
) -> list[str]:
    """What a run that goes on must keep as warnings, in plain sentences.

    The first process looks, at a sample and no longer than it must, and all of them do what follows.

    Parameters
    ----------
    particles : ParticleSet
    settings : FitSettings
    progress : Progress
    processes : Processes
        Who share the run.

    Raises
    ------
    InputError
        Where `check_particles` would find an error, unless settings say that the run is to go on.
    """
    found = _looked(particles, settings, progress) if processes.rank == 0 else []
    findings = _shared(found, processes)
    errors = [finding for finding in findings if finding.level == "error"]
    if errors and not settings.force:
        raise InputError(
            errors[0].text,
            file=particles.source,
            remedy="look at all of it with solvar check; --force goes on all the same",
        )
    kept = [each for each in findings if each.level != "ok" and each.topic != ALREADY_TOLD]
    return [_sentence(each) for each in kept]


def _looked(particles: ParticleSet, settings: FitSettings, progress: Progress) -> list[Finding]:
    particles = particles.select(particles.originals)
    findings = [*table_findings(particles)]
    if settings.ab_initio:
        # what else is looked at is how images and poses go together
        return findings
    findings += view_findings(particles)
    try:
        # of all stacks only those that the sample lies in are opened
        first = particles.select(np.arange(1))
        mask = load_mask(settings, ImageStack(first, settings.downsample))
        with ThreadTeam(settings.threads) as team:
            compile_kernels(settings, team, progress)
        findings += trial_findings(particles, mask, settings, QUICK, progress)
    except InputError:
        # images that cannot be used, or settings: the fit says so at every process
        pass
    return findings


def _shared(findings: list[Finding], processes: Processes) -> list[Finding]:
    """What the first process found, at every process."""
    if processes.size == 1:
        return findings
    told = json.dumps([vars(finding) for finding in findings]).encode()
    length = int.from_bytes(broadcast(len(told).to_bytes(_LENGTH, "little"), processes), "little")
    told = broadcast(told if processes.rank == 0 else bytes(length), processes)
    return [Finding(**each) for each in json.loads(told)]


def _sentence(finding: Finding) -> str:
    end = "" if finding.text.endswith("?") else "."
    return f"{with_capital(finding.topic)}: {finding.text}{end}"
