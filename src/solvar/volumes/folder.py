"""The folder of one call of `solvar volume`: it ends up whole, or is known to be unfinished and removed."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path

from solvar.errors import InputError
from solvar.files import OwnedFolder, Writer, inside, owned, remove_orphans
from solvar.particles import ParticleSet
from solvar.paths import require_utf8
from solvar.results.record import refuse_replaced
from solvar.results.run import Run
from solvar.results.writer import VOLUMES
from solvar.volumes.settings import VolumeSettings
from solvar.volumes.table import FILE, FOLDER, finished_tables
from solvar.volumes.targets import Targets
from solvar.volumes.volume import PARTS


@dataclass(eq=False)
class VolumeFolder:
    """Where the volumes of one call go.

    Attributes
    ----------
    own : OwnedFolder
        The run folder, if it is in there; else the folder itself.
    below : str
        The folder's name in `own`; empty if it is the same.
    files : tuple of str
        What may be written.
    """

    own: OwnedFolder
    below: str
    files: tuple[str, ...]
    _begun: bool = field(default=False, init=False)

    @property
    def path(self) -> Path:
        """The folder."""
        return self.own.root / self.below

    def begin(self) -> Path:
        """Remove what an earlier call left, and make the folder."""
        self._begun = True
        self.own.remove(writer_in(self.below))
        self.own.claim(writer_in(self.below), self._names(self.files))
        return self.path

    def abandon(self) -> None:
        """Remove what was written since `begin`."""
        if self._begun:
            # the failure that led here says more; what stays is known to be unfinished
            with suppress(InputError, OSError):
                remove_orphans(self.path)
                self.own.remove(writer_in(self.below))

    def refuse_taken(self, overwrite: bool) -> None:
        """Raise InputError if volumes are there that may not be replaced, or files of others."""
        self.own.refuse_taken(writer_in(self.below), self._names(self.files))
        if not overwrite and os.path.lexists(self.path / FILE):
            raise InputError(
                "already holds volumes",
                file=self.path,
                remedy="choose another --output or pass --overwrite",
            )

    def _names(self, files: tuple[str, ...]) -> list[str]:
        return [f"{self.below}/{name}" if self.below else name for name in files]


@contextmanager
def volume_folder(
    run: Run,
    targets: Targets,
    settings: VolumeSettings,
    output: Path | None = None,
    *,
    particles: ParticleSet | None = None,
    overwrite: bool = False,
    own: OwnedFolder | None = None,
) -> Iterator[VolumeFolder]:
    """The right to write the volumes of one call; a failure leaves nothing of them.

    Parameters
    ----------
    run : Run
    targets, settings, particles
        What is asked for.
    output : path, optional
        The folder; a new one in ``RUN/volumes`` by default.
    overwrite : bool
        Replace what an earlier call left there. By default that is a call that asked for the same.
    own : OwnedFolder, optional
        The right to write in the run folder, of who holds it already.

    Raises
    ------
    InputError
        If the folder may not be written to, or holds an earlier call's volumes or somebody's files.
    """
    require_utf8(run.folder, *([] if output is None else [output]))
    given = None if output is None else _below(run, output)
    root = run.folder if output is None or given is not None else output
    with nullcontext(own) if own is not None else owned(root, "solvar volume") as held:
        if root == output:
            remove_unfinished(held, writer_in(""))
            below = ""
        else:
            refuse_replaced(run.folder, run.run_id)
            remove_unfinished(held)
            below = given or _name_for(run, targets, settings, particles, overwrite)
        files = tuple(f"{name}{part}.mrc" for name in targets.name for part in ("", *PARTS))
        place = VolumeFolder(held, below, (*files, FILE))
        place.refuse_taken(overwrite)
        try:
            yield place
        except BaseException:
            place.abandon()
            raise


def writer_in(below: str) -> Writer:
    """Who writes the volumes of one folder."""
    names = (f"{escape(below)}/{name}".lstrip("/") for name in (FILE, "*.mrc"))
    return Writer(VOLUMES.name, tuple(names))


def remove_unfinished(own: OwnedFolder, every: Writer = VOLUMES) -> None:
    """Remove the volumes of calls that were killed; those of a call that had written its table are whole.

    Folders that the user has removed are forgotten.
    """
    folders = {name.rpartition("/")[0] for name in own.written_by(every)}
    gone = {folder for folder in folders if not os.path.lexists(own.root / folder)}
    unfinished = {name.rpartition("/")[0] for name in own.unfinished(every)}
    for folder in gone | unfinished:
        writer = writer_in(folder)
        if os.path.lexists(own.root / folder / FILE):
            own.adopt(own.written_by(writer))
        else:
            own.remove(writer)


def free_name(run: Path, kind: str, taken: Collection[str] = ()) -> str:
    """A name for a new folder of volumes in a run folder: KIND-001, KIND-002, …"""
    number = 1
    while (name := f"{kind}-{number:03d}") in taken or os.path.lexists(run / FOLDER / name):
        number += 1
    return name


def _below(run: Run, output: Path) -> str | None:
    """The name of an output in the run folder; None if it lies elsewhere."""
    below = inside(run.folder, output)
    if below is not None and (below.split("/")[:-1] != [FOLDER] or "\\" in below):
        raise InputError(
            "lies in the run folder, where volumes have places of their own",
            file=output,
            remedy=f"choose {run.folder / FOLDER / 'NAME'}, or a folder elsewhere",
        )
    return below


def _name_for(
    run: Run,
    targets: Targets,
    settings: VolumeSettings,
    particles: ParticleSet | None,
    overwrite: bool,
) -> str:
    """The folder of an earlier call that asked for the same, if it may be replaced; else a new one."""
    source = None if particles is None else str(particles.source.absolute())
    for name, table in finished_tables(run).items():
        if table.answers(targets, settings, source):
            if overwrite:
                return f"{FOLDER}/{name}"
            raise InputError(
                "already holds these volumes, made by the same call",
                file=run.folder / FOLDER / name,
                remedy="use them, or pass --overwrite to make them again",
            )
    return f"{FOLDER}/{free_name(run.folder, f'{settings.method}-{targets.kind}')}"
