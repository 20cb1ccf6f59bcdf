"""Volumes at points in latent space, as the abstract would tell it.

Images are read and whitened once for all points. At each point the method makes a volume and, from disjoint
halves of the particles, two half-maps; their FSC tells the resolution. Volumes, half-maps and a table are
written; the table comes last.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from solvar._version import __version__
from solvar.files import write_json
from solvar.particles import ParticleSet
from solvar.progress import Progress, harmless
from solvar.results.run import Run
from solvar.threads import ThreadTeam
from solvar.volumes.folder import volume_folder
from solvar.volumes.methods import volume_maker
from solvar.volumes.settings import VolumeSettings
from solvar.volumes.table import FILE, FORMAT, FORMAT_VERSION, recorded_settings
from solvar.volumes.targets import Targets
from solvar.volumes.writing import Placement, write_reconstruction


def reconstruct(
    run: Run | str | Path,
    targets: Targets,
    output: str | Path,
    settings: VolumeSettings | None = None,
    *,
    particles: ParticleSet | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Make and write the volumes of a run at some points.

    Parameters
    ----------
    run : Run or run folder
    targets : Targets
    output : path
        Folder of the files of docs/file-formats.md; it is created. In the run folder it is one of
        ``volumes``.
    settings : VolumeSettings, optional
    particles : ParticleSet, optional
        The same particles at another box size; the run's poses and latents are used.
    overwrite : bool
        Replace what an earlier call wrote to `output`.
    progress : Progress, optional

    Returns
    -------
    list of dict
        A record a volume: name, z, and those of `write_reconstruction`.

    Raises
    ------
    InputError
        If images, particles or mask cannot be used, volumes or a foreign file are in the way, or
        another process writes there.
    """
    run = run if isinstance(run, Run) else Run(run)
    settings = targets.suited(settings or VolumeSettings())
    with volume_folder(
        run, targets, settings, Path(output), particles=particles, overwrite=overwrite
    ) as folder:
        return make_volumes(
            run, targets, settings, folder.begin, folder.own.root, particles, progress
        )


def make_volumes(
    run: Run,
    targets: Targets,
    settings: VolumeSettings,
    begin: Callable[[], Path],
    scratch: Path,
    particles: ParticleSet | None,
    progress: Progress | None,
) -> list[dict[str, Any]]:
    """`reconstruct`, for who owns the folder.

    Parameters
    ----------
    begin : callable
        Makes and returns the folder; called when all is read.
    scratch : Path
        A folder of one's own for images that do not fit into memory.
    """
    progress = harmless(progress)
    with ThreadTeam(settings.threads) as team:
        make, pixel_size = volume_maker(run, targets, settings, particles, scratch, progress, team)
        folder, records = begin(), []
        with progress.step("Volumes", len(targets), "volumes") as step:
            for k, (name, z) in enumerate(zip(targets.name, targets.z, strict=True)):
                made = make(k)
                place = Placement.over(run, len(made.volume), pixel_size, settings.voxel_size)
                record = write_reconstruction(folder, name, made, place, settings, run.run_id)
                records.append({"name": name, "z": z.tolist(), **record})
                step.advance()
    table = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "version": __version__,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": run.folder.absolute(),
        "run_id": run.run_id,
        "particles": None if particles is None else particles.source.absolute(),
        "settings": recorded_settings(settings),
        "pixel_size_angstrom": settings.voxel_size or pixel_size,
        "volumes": records,
    }
    write_json(folder / FILE, table)
    return records
