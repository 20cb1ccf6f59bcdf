"""Where in latent space volumes are wanted."""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.clusters import find_clusters
from solvar.analysis.curves import Curves
from solvar.analysis.space import latent_space
from solvar.errors import InputError
from solvar.files import explained, read_text
from solvar.results.run import Run, check_component
from solvar.volumes.settings import VolumeSettings
from solvar.volumes.volume import PARTS

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# the method that volumes of sets of particles are made by
SETS = "set"

_LONGEST_NAME = 80
# bytes; the longest of the parts and what a temporary file adds must fit beside it
_LONGEST_FILE_NAME = 200
_NUMBER = re.compile("[0-9]{1,6}")


@dataclass(frozen=True, eq=False)
class Targets:
    """Points in latent space with names for their files.

    Attributes
    ----------
    z : (K, r) float64
        In the units of `Posterior.z`.
    name : tuple of K str
        Of their files, without the suffix.
    kind : str
        What the points are, in a word for the name of their folder.
    members : tuple of K index arrays, or None
        Particles whose volume is wanted, exactly these; `z` is then their mean.

    Raises
    ------
    InputError
        If a name occurs twice, or is none for a file.
    """

    z: Float64
    name: tuple[str, ...]
    kind: str = "points"
    members: tuple[Int64, ...] | None = None

    def __post_init__(self) -> None:
        for name in (*self.name, self.kind):
            plain = name.isprintable() and not set(name) & set("/\\") and name[:1] not in ("", ".")
            if not plain or len(os.fsencode(name)) > _LONGEST_FILE_NAME:
                raise InputError(f"{name!r} is no name for the file of a volume")
        if len(set(self.name)) < len(self.name):
            raise InputError("points of one call need different names")

    def __len__(self) -> int:
        return len(self.z)

    def suited(self, settings: VolumeSettings) -> VolumeSettings:
        """The settings, with the only method that there is for sets of particles."""
        return settings if self.members is None else settings.model_copy(update={"method": SETS})


def along_component(run: Run, component: int, count: int) -> Targets:
    """Points on the way that particles take from the 5th to the 95th percentile of a component.

    Of a component that is not told from noise: along it, the other latents 0.

    Parameters
    ----------
    component : int
        From 1.
    count : int
    """
    check_component(run, component)
    points = Curves(run).along(component, count)
    kind = f"component{component}"
    return Targets(points, tuple(f"{kind}_{k + 1:03d}" for k in range(count)), kind)


def cluster_centres(run: Run, count: int) -> Targets:
    """Centres of `count` clusters of the whitened latents of all components, by the first latent."""
    if not 1 <= count <= run.particle_count:
        raise InputError(
            f"{run.particle_count} particles do not make {count} clusters",
            remedy="ask for fewer clusters",
        )
    space = latent_space(run, range(1, run.rank + 1))
    centres = space.to_latents(find_clusters(space.whitened, count).centre)
    order = np.argsort(centres[:, 0])
    names = tuple(f"cluster_{k + 1:03d}" for k in range(len(centres)))
    return Targets(centres[order], names, "clusters")


def from_file(run: Run, path: Path) -> Targets:
    """Points from a CSV file: one row a point, columns z1, z2, …; missing ones are 0.

    A column `name` names the files; what else the file holds is left alone.
    """
    import pandas as pd

    try:
        with explained(path):
            table = pd.read_csv(io.StringIO(read_text(path)), comment="#")
    except InputError:
        raise
    except ValueError as error:
        raise InputError(
            f"cannot be read as CSV ({error})", file=path, remedy="write columns z1, z2, …"
        ) from error
    known = [name for name in table.columns if name.startswith("z") and _NUMBER.fullmatch(name[1:])]
    if not known or not len(table):
        raise InputError(
            "holds no points", file=path, remedy="write columns z1, z2, … with a header"
        )
    z = np.zeros((len(table), run.rank))
    for name in known:
        component = int(name[1:])
        if not 1 <= component <= run.rank:
            raise InputError(
                f"the run has {run.rank} components", file=path, column=name, remedy="leave it out"
            )
        values = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64)
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise InputError("is not a number", file=path, row=row, column=name)
        z[:, component - 1] = values
    names = [str(name) for name in table["name"]] if "name" in table else None
    kind = _plain(path.stem)
    kind = kind if kind.strip("._") else "points"
    return Targets(z, _file_names(kind, len(z), names), kind)


def from_text(run: Run, text: str) -> Targets:
    """One point written as "z1,z2,…"; missing components are 0."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(
            f"“{text}” is neither a file nor a point",
            remedy="write it as z1,z2,… or give a CSV file",
        ) from error
    if len(values) > run.rank or not np.isfinite(values).all():
        raise InputError(f"“{text}” is not a point of {run.rank} finite components")
    z = np.zeros((1, run.rank))
    z[0, : len(values)] = values
    return Targets(z, ("point_001",))


def _file_names(stem: str, count: int, given: list[str] | None) -> tuple[str, ...]:
    """File names that nothing in the names of the points can turn into paths."""
    if given is None or len(set(given)) < count:
        return tuple(f"{stem}_{k + 1:03d}" for k in range(count))
    kept = [_plain(name) for name in given]
    clash = len(set(kept)) < count or any(not name.strip("._") for name in kept)
    # NAME_half1.mrc is also what belongs to NAME
    clash = clash or any(name.endswith(PARTS) for name in kept)
    return _file_names(stem, count, None) if clash else tuple(kept)


def _is_there(name: str) -> bool:
    """Whether there is a file of that name; a point of many components is too long to be one."""
    return os.path.lexists(name) and not os.path.isdir(name)


def _plain(name: str) -> str:
    """Letters, digits and a few marks of a name, the others replaced, short enough for any file system."""
    kept = "".join(c if c.isalnum() or c in "-_." else "_" for c in name).lstrip(".")
    # letters take up to four bytes
    return kept[:_LONGEST_NAME].encode()[:_LONGEST_FILE_NAME].decode(errors="ignore")


def choose_targets(
    run: Run, at: list[str], clusters: int | None, component: int, points: int
) -> Targets:
    """What the command line asks for: points, else cluster centres, else a walk along a component."""
    if not at:
        if clusters is not None:
            return cluster_centres(run, clusters)
        return along_component(run, component, points)
    parts = [from_file(run, Path(a)) if _is_there(a) else from_text(run, a) for a in at]
    if len(parts) == 1:
        return parts[0]
    z = np.concatenate([part.z for part in parts])
    names = [name for part in parts for name in part.name]
    if len(set(names)) < len(names):
        names = [f"point_{k + 1:03d}" for k in range(len(names))]
    return Targets(z, tuple(names))
