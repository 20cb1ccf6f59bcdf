"""ChimeraX: a script that shows a series of maps as one motion and records a movie, and one of where it is.

Without `--volumes` the series is the mean and the mean ± 2 √λ along one eigenvolume V: as the model
is linear, three maps hold the whole motion. ChimeraX runs a script in the folder of the script, so
maps are named relative to it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.export.target import Job, Target, Writer
from solvar.files import inside, replacing
from solvar.imaging.contour import contour_level
from solvar.mrc_header import read_mrc_header
from solvar.results.run import Run, check_component
from solvar.results.supported import supported_model
from solvar.volume_file import read_volume, write_volume

SPREAD = 2.0
_SCRIPT, _CHANGE = "morph.cxc", "change.cxc"
_FRAMES = 120
_ODD = re.compile(r"""["'\\;:*?\[\]]""")
_MIDDLE, _CHANGES = "#c8c8c8", "#d55e00"
_FIRST_COLOUR, _MIDDLE_COLOUR, _LAST_COLOUR = (0x2F, 0x6D, 0xB3), (0xC8,) * 3, (0xC4, 0x4E, 0x3B)


def files(job: Job) -> Mapping[str, Writer]:
    """The maps, unless they are there already, and then the script.

    Raises
    ------
    InputError
        If the component does not exist, or the folder holds no series of maps.
    """
    if job.options.volumes is not None:
        maps = _series(job.run, job.options.volumes)
        level = contour_level(read_volume(maps[len(maps) // 2])[0])
        return {_SCRIPT: lambda path: _write_script(path, _relative(maps, path), level)}
    series = along_component(job.run, job.options.component)
    pixel_size = job.run.pixel_size_angstrom
    writers: dict[str, Writer] = {
        name: lambda path, volume=volume: write_volume(path, volume, pixel_size)  # type: ignore[misc]
        for name, volume in series.items()
    }
    level = contour_level(series["mean.mrc"])
    writers |= _change(job.run, level)
    return {**writers, _SCRIPT: lambda path: _write_script(path, list(series), level)}


def _change(run: Run, level: float) -> Mapping[str, Writer]:
    """A map of where density changes, and a script that colours the mean by it; none if it is not known."""
    if run.change is None:
        return {}
    spread, pixel_size = run.change.spread, run.pixel_size_angstrom
    return {
        "change.mrc": lambda path: write_volume(path, spread, pixel_size),
        _CHANGE: lambda path: _write_change(path, level),
    }


def read_back(job: Job, written: Mapping[str, Path]) -> None:
    """Make sure that every map that the script opens is there and is a map.

    Raises
    ------
    InputError
        If one is not.
    """
    for script in (path for name, path in written.items() if name.endswith(".cxc")):
        text = script.read_text(encoding="utf-8")
        for name in re.findall(r'^open "(.*)" id \d+$', text, re.MULTILINE):
            read_mrc_header(written.get(name, script.parent / name))


def along_component(run: Run, component: int) -> dict[str, NDArray[np.float32]]:
    """The motion along one eigenvolume: mean - 2 √λ V, mean, mean + 2 √λ V, no finer than half-sets support.

    Parameters
    ----------
    run : Run
    component : int
        From 1.

    Returns
    -------
    dict of file name to (L, L, L) float32
        [z, y, x], in the order in which to show them.

    Raises
    ------
    InputError
        If there is no such component.
    """
    check_component(run, component)
    model = supported_model(run)
    step = np.sqrt(model.eigenvalues[component - 1]) * model.eigenvolumes[component - 1]
    name = f"component_{component:03d}"
    shown = {f"{name}_minus.mrc": -SPREAD, "mean.mrc": 0.0, f"{name}_plus.mrc": SPREAD}
    return {n: (model.mean + k * step).astype(np.float32) for n, k in shown.items()}


def _series(run: Run, folder: Path) -> list[Path]:
    """The maps of a folder, 2 before 10; in that of a call of `solvar volume` those that it tells of."""
    if not folder.is_dir():
        raise InputError("is not a folder", file=folder, remedy="check --volumes")

    def by_number(path: Path) -> list[tuple[int, str]]:
        return [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", path.name)]

    maps = _listed(folder)
    if not maps and (inside(run.folder, folder) or "").startswith("volumes/"):
        raise InputError(
            "holds no finished volumes", file=folder, remedy="make them again with `solvar volume`"
        )
    maps = maps or sorted(folder.glob("*.mrc"), key=by_number)
    if len(maps) < 2:
        raise InputError(
            f"holds {len(maps)} maps (*.mrc), a series has at least 2",
            file=folder,
            remedy="pass a folder of volumes, or leave out --volumes",
        )
    return maps


def _listed(folder: Path) -> list[Path]:
    """The volumes that `solvar volume` made, without the half-maps and filtered maps beside them."""
    # late: with it comes all that makes volumes
    from solvar.volumes.table import read_table

    try:
        return [folder / record.files[0] for record in read_table(folder).volumes]
    except FileNotFoundError:
        return []


def _relative(maps: list[Path], script: Path) -> list[str]:
    return [os.path.relpath(path.absolute(), script.absolute().parent) for path in maps]


def _colour(share: float) -> str:
    """From the first colour over grey to the last."""
    halves = [_FIRST_COLOUR, _MIDDLE_COLOUR, _LAST_COLOUR]
    rgb = [np.interp(2 * share, [0, 1, 2], channel) for channel in zip(*halves, strict=True)]
    return "#" + "".join(f"{round(float(value)):02x}" for value in rgb)


def _write_script(path: Path, names: list[str], level: float) -> None:
    count = len(names)
    everything = f"#1-{count}"
    lines = ["# written by solvar export; open it in a new ChimeraX session"]
    lines += [f'open "{name}" id {number}' for number, name in enumerate(names, 1)]
    lines += [f"volume {everything} style surface step 1 level {level:.6g}"]
    lines += [f"volume #{n + 1} color {_colour(n / (count - 1))}" for n in range(count)]
    lines += [
        "set bgColor white",
        "lighting soft",
        f"view {everything}",
        "movie record",
        # there and back
        f"volume morph {everything} frames {_FRAMES} playStep {2 / _FRAMES:.6f}",
        f"wait {_FRAMES}",
        f'movie encode "{Path(_SCRIPT).stem}.mp4" framerate 30',
    ]
    # quotation marks, backslashes and newlines end a name; the others choose several files
    odd = [name for name in names if _ODD.search(name) or not name.isprintable()]
    if odd:
        raise InputError(
            f"{odd[0]!r} has a name that ChimeraX could take for commands or several files",
            file=path,
            remedy="rename the map or its folder without quotation marks, backslashes, ; : * ? [",
        )
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_change(path: Path, level: float) -> None:
    lines = [
        "# written by solvar export; open it in a new ChimeraX session",
        'open "mean.mrc" id 1',
        'open "change.mrc" id 2',
        f"volume #1 style surface step 1 level {level:.6g}",
        "volume #2 hide",
        "# the standard deviation of the density at the surface, in full where it is as large as the level",
        f"color sample #1 map #2 palette 0,{_MIDDLE}:{level:.6g},{_CHANGES}",
        "set bgColor white",
        "lighting soft",
        "view #1",
    ]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


TARGET = Target("chimerax", files, read_back, takes_particles=False)
