"""Star files of simulated tilt series: tomograms as RELION 5 has them, names for a row a tilt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.files import OwnedFolder
from solvar.particles import Optics, Poses
from solvar.simulation.tilt_series import TiltSeries
from solvar.simulation.writing import (
    SIMULATION,
    ctf_columns,
    optics_columns,
    pose_columns,
    write_tables,
)

Int64 = NDArray[np.int64]


def names_of_tilts(series: TiltSeries) -> dict[str, list[str]]:
    """The exposure and the particle of every image, (M,) each, for files with a row a tilt."""
    specimen = series.specimen[series.particle]
    return {
        "rlnMicrographName": [
            f"{_name(s)}_{tilt + 1:03d}.mrc" for s, tilt in zip(specimen, series.tilt, strict=True)
        ],
        "rlnGroupName": [
            f"{_name(s)}_{n + 1:06d}" for s, n in zip(specimen, series.particle, strict=True)
        ],
    }


def stacks_of_particles(series: TiltSeries) -> dict[str, range]:
    """Name of the stack of each particle, and its images."""
    end = np.cumsum(series.visible.sum(axis=1)).tolist()
    rows = map(range, [0, *end[:-1]], end)
    return dict(zip(_stack_names(series), rows, strict=True))


def write_particles(
    path: Path,
    series: TiltSeries,
    poses: Poses,
    optics: Optics,
    optics_group: Int64,
    halfset: NDArray[np.int8],
) -> None:
    """A row a particle, at some poses in the frame of its tomogram."""
    x, y, z = series.coordinate_angstrom.T
    flags = series.visible.astype(int).astype(str)
    write_tables(
        path,
        general={"rlnTomoSubTomosAre2DStacks": [1]},
        optics={
            **optics_columns(optics),
            "rlnTomoTiltSeriesPixelSize": optics.pixel_size_angstrom,
            "rlnTomoSubtomogramBinning": 1.0,
            "rlnCtfDataAreCtfPremultiplied": 0,
        },
        particles={
            "rlnTomoName": [_name(s) for s in series.specimen],
            "rlnTomoParticleName": [f"{_name(s)}/{n + 1}" for n, s in enumerate(series.specimen)],
            "rlnCenteredCoordinateXAngst": x,
            "rlnCenteredCoordinateYAngst": y,
            "rlnCenteredCoordinateZAngst": z,
            **pose_columns(poses),
            "rlnOriginZAngst": poses.shift_angstrom[:, 2],
            "rlnTomoVisibleFrames": [f"[{','.join(row)}]" for row in flags],
            "rlnImageName": _stack_names(series),
            "rlnOpticsGroup": optics_group + 1,
            "rlnRandomSubset": halfset,
        },
    )


def write_tomograms(
    own: OwnedFolder, series: TiltSeries, optics: Optics, optics_group: Int64
) -> None:
    """The tomograms, the tilts of each, and the set that names them with the particles."""
    name = [_name(number) for number in range(len(series.angle_degree))]
    tilts = [f"tilt_series/{each}.star" for each in name]
    group = optics_group[np.flatnonzero(np.diff(series.specimen, prepend=-1))]
    paths = own.claim(SIMULATION, tilts)
    for number, path in enumerate(paths):
        write_tables(path, **{name[number]: _columns_of_tilts(series, number)})
    columns = {
        "rlnTomoName": name,
        "rlnVoltage": optics.voltage_kv[group],
        "rlnSphericalAberration": optics.spherical_aberration_mm[group],
        "rlnAmplitudeContrast": optics.amplitude_contrast[group],
        "rlnTomoTiltSeriesPixelSize": optics.pixel_size_angstrom[group],
        "rlnTomoHand": float(series.hand),
        "rlnOpticsGroupName": [optics.name[each] for each in group],
        **{f"rlnTomoSize{a}": edge for a, edge in zip("XYZ", series.size_pixel, strict=True)},
        "rlnTomoTiltSeriesStarFile": tilts,
    }
    write_tables(own.file(SIMULATION, "tomograms.star"), **{"global": columns})
    both = {"rlnTomoParticlesFile": ["particles.star"], "rlnTomoTomogramsFile": ["tomograms.star"]}
    write_tables(own.file(SIMULATION, "optimisation_set.star"), **{"": both})


def _columns_of_tilts(series: TiltSeries, number: int) -> dict[str, Any]:
    tilts = series.visible.shape[1]
    exposures = series.ctf.take(number * tilts + np.arange(tilts))
    x, y, z = series.angle_degree[number].T
    shift = series.shift_angstrom[number].T
    return {
        "rlnTomoXTilt": x,
        "rlnTomoYTilt": y,
        "rlnTomoZRot": z,
        "rlnTomoXShiftAngst": shift[0],
        "rlnTomoYShiftAngst": shift[1],
        **ctf_columns(exposures),
    }


def _stack_names(series: TiltSeries) -> list[str]:
    return [f"subtomograms/{_name(s)}/{n + 1:06d}.mrcs" for n, s in enumerate(series.specimen)]


def _name(specimen: int) -> str:
    return f"tomo_{specimen + 1:03d}"
