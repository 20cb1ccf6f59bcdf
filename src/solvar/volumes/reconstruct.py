"""Volumes at points in latent space, as the abstract would tell it.

Images are read and whitened once for all points. At each point the method makes a volume and, from disjoint
halves of the particles, two half-maps; their FSC tells the resolution. Volumes, half-maps and a table are
written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from solvar.errors import InputError
from solvar.files import write_json
from solvar.particles import ParticleSet
from solvar.paths import require_utf8
from solvar.progress import Progress, harmless
from solvar.results.run import Run
from solvar.threads import ThreadTeam
from solvar.volumes.methods import make_method
from solvar.volumes.settings import VolumeSettings
from solvar.volumes.targets import Targets
from solvar.volumes.volume import PARTS
from solvar.volumes.writing import Placement, write_reconstruction


def reconstruct(
    run: Run | str | Path,
    targets: Targets,
    output: str | Path,
    settings: VolumeSettings | None = None,
    *,
    particles: ParticleSet | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Make and write the volumes of a run at some points.

    Parameters
    ----------
    run : Run or run folder
    targets : Targets
    output : path
        Folder of the files of docs/file-formats.md; it is created.
    settings : VolumeSettings, optional
    particles : ParticleSet, optional
        The same particles at another box size; the run's poses and latents are used.
    progress : Progress, optional

    Returns
    -------
    list of dict
        A record a volume: name, z, and those of `write_reconstruction`.

    Raises
    ------
    InputError
        If images, particles or mask cannot be used, or a foreign file is in the way.
    """
    run = run if isinstance(run, Run) else Run(run)
    settings, progress = settings or VolumeSettings(), harmless(progress)
    folder = Path(output)
    require_utf8(folder, run.folder)
    _check_destination(folder, targets)
    with ThreadTeam(settings.threads) as team:
        method, pixel_size = make_method(run, settings, particles, progress, team)
        folder.mkdir(parents=True, exist_ok=True)
        records = []
        with progress.step("Volumes", len(targets), "volumes") as step:
            for name, z in zip(targets.name, targets.z, strict=True):
                made = method.volume(z)
                place = Placement.over(run, len(made.volume), pixel_size, settings.pixel_size)
                record = write_reconstruction(folder, name, made, place, settings)
                records.append({"name": name, "z": z.tolist(), **record})
                step.advance()
    table = {
        "run": str(run.folder.absolute()),
        "settings": settings.model_dump(mode="json"),
        "pixel_size_angstrom": settings.pixel_size or pixel_size,
        "volumes": records,
    }
    write_json(folder / "volumes.json", table)
    return records


def _check_destination(folder: Path, targets: Targets) -> None:
    """Refuse to replace a file that no earlier call wrote: names come from files of points."""
    try:
        earlier = json.loads((folder / "volumes.json").read_text(encoding="utf-8"))
        ours = {file for record in earlier["volumes"] for file in record["files"]}
    # there is none, or it is not ours
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        ours = set[str]()
    for file in (f"{name}{part}.mrc" for name in targets.name for part in ("", *PARTS)):
        if file not in ours and (folder / file).exists():
            raise InputError(
                "is there already and no earlier volume of this folder",
                file=folder / file,
                remedy="choose another --output",
            )
