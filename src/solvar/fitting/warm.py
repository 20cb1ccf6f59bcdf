"""First use: compile the kernels where the user can see it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Timer

import numpy as np

from solvar.compilation import kept_in
from solvar.estimation.abinitio.draws import Draws
from solvar.estimation.abinitio.moving import moved_images
from solvar.estimation.kernels import gram, on_host, pose_products, residual
from solvar.estimation.likelihood import image_posterior
from solvar.fitting.settings import FitSettings
from solvar.imaging.fourier import HalfDisc
from solvar.imaging.projector import resolve_backend
from solvar.progress import Progress
from solvar.threads import ThreadTeam

# loading cached kernels takes a few tenths of a second; whatever takes longer is a compilation
_PATIENCE_SECONDS = 1.0


def compile_kernels(settings: FitSettings, team: ThreadTeam, progress: Progress) -> None:
    """Run every kernel once on next to nothing; say so if that means compiling."""
    announcement = Timer(_PATIENCE_SECONDS, progress.message, [_compiling()])
    announcement.start()
    try:
        _touch(settings, team)
    finally:
        announcement.cancel()


def tell_device(settings: FitSettings, progress: Progress) -> None:
    """Say where slices are computed, if that is not the CPU."""
    if settings.interpolation != "nufft":
        backend, device = resolve_backend(settings.backend, settings.device)
        if device != "cpu":
            progress.message(f"Slices are computed on {device} (backend {backend})")


def _compiling() -> str:
    if kept_in(Path(__file__)) is not None:
        return "Compiling the projector: first use on this machine, once, under half a minute"
    return (
        "Compiling the projector: under half a minute, at every start, because no folder for compiled code "
        "can be written that is the user's own; set NUMBA_CACHE_DIR to one"
    )


def _touch(settings: FitSettings, team: ThreadTeam) -> None:
    disc, box = HalfDisc.of_radius(2), 8
    rotation = np.eye(3, dtype=np.float32)[None]
    scale = np.ones((1, len(disc)), dtype=np.float32)
    for interpolation in {settings.interpolation, "trilinear"}:
        projection = replace(settings.projection, interpolation=interpolation)
        projector = projection.projector(box, disc, team)
        prepared = projector.prepare(np.zeros((2, box, box, box), dtype=np.float32))
        slices = projector.project(prepared, rotation, scale)
        projector.scatter(slices, rotation, scale, projector.zeros(2))
    image = slices[:, 0].copy()
    image_posterior(gram(slices, image, team), 0.1, team)
    moment, wave = np.zeros((1, 2)), np.zeros((2, len(disc)), dtype=np.float32)
    residual(slices, image, np.zeros((1, 2, 2)), moment, team, out=slices.copy())
    if settings.ab_initio:
        on_cpu = settings.projection.on_cpu().projector(box, disc, team)
        drawn = on_cpu.project(
            on_cpu.prepare(np.zeros((2, box, box, box), np.float32)), rotation, scale
        )
        gram(drawn, drawn[:, 0].copy(), team)
        Draws.of(np.zeros((1, 2), np.float32), np.zeros(1), 1)
        first = np.zeros(1, np.int64)
        moved_images(on_host(image), first, np.zeros((1, 2)), disc, team)
    if settings.refine_pose:
        tangent, _ = projector.differentiate(prepared, rotation, scale, moment, slices)
        pose_products(slices, tangent, image, moment, wave, team)
