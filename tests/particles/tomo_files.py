"""Hand-written RELION 5 files: three particles of two tomograms, three tilts each, one not visible."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np

from particles.particle_files import BOX, PSI, ROT, TILT

APIX, SERIES_APIX = 4.0, 2.0
TOMOGRAMS = ("TS_01", "TS_02")
SIZE = (400, 380, 101)
# acquired from the middle outwards: file order is another than that of exposure
X_TILT, Y_TILT, Z_ROT = [1.0, 1.5, 0.5], [-40.0, 0.0, 35.0], [85.0, 85.5, 84.0]
DOSE, SCALE = [6.0, 0.0, 3.0], [0.77, 1.0, 0.82]
DEFOCUS = [[30000.0, 30500.0, 31000.0], [25000.0, 25200.0, 25400.0]]
SPLIT, ANGLE = 300.0, [10.0, 20.0, 30.0]
HAND = (1.0, -1.0)
OF = [0, 1, 0]
VISIBLE = ["[1,1,1]", "[1,1,0]", "[1,1,1]"]
CENTRED = np.array([[100.0, -50.0, 60.0], [-80.0, 30.0, -90.0], [0.0, 10.0, 20.0]])
ORIGIN = np.array([[1.0, -2.0, 3.0], [0.5, 0.0, -1.5], [0.0, 0.0, 0.0]])
COLUMNS = {
    "rlnTomoName": [TOMOGRAMS[each] for each in OF],
    "rlnTomoParticleName": ["TS_01/1", "TS_02/1", "TS_01/2"],
    "rlnCenteredCoordinateXAngst": CENTRED[:, 0],
    "rlnCenteredCoordinateYAngst": CENTRED[:, 1],
    "rlnCenteredCoordinateZAngst": CENTRED[:, 2],
    "rlnAngleRot": ROT[:3],
    "rlnAngleTilt": TILT[:3],
    "rlnAnglePsi": PSI[:3],
    "rlnOriginXAngst": ORIGIN[:, 0],
    "rlnOriginYAngst": ORIGIN[:, 1],
    "rlnOriginZAngst": ORIGIN[:, 2],
    "rlnTomoVisibleFrames": VISIBLE,
    "rlnImageName": [f"stacks/{name}.mrcs" for name in ("a", "b", "c")],
    "rlnOpticsGroup": ["1"] * 3,
    "rlnRandomSubset": ["1", "2", "1"],
    "userColumn": ["00.50", "01.50", "02.50"],
}
TILTS = {
    "rlnTomoXTilt": X_TILT,
    "rlnTomoYTilt": Y_TILT,
    "rlnTomoZRot": Z_ROT,
    "rlnTomoXShiftAngst": [1.0, 2.0, 3.0],
    "rlnTomoYShiftAngst": [3.0, 2.0, 1.0],
    "rlnDefocusAngle": ANGLE,
    "rlnCtfScalefactor": SCALE,
    "rlnMicrographPreExposure": DOSE,
}
HEAD = """
data_general

_rlnTomoSubTomosAre2DStacks 1

data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnSphericalAberration #3
_rlnVoltage #4
_rlnTomoTiltSeriesPixelSize #5
_rlnCtfDataAreCtfPremultiplied #6
_rlnImageDimensionality #7
_rlnTomoSubtomogramBinning #8
_rlnImagePixelSize #9
_rlnImageSize #10
_rlnAmplitudeContrast #11
1 opticsGroup1 2.7 300.0 2.0 0 2 2.0 4.0 8 0.1
"""


def without(columns: dict, *names: str, **new) -> dict:
    """Columns without some, with others added or replaced."""
    return {**{name: v for name, v in columns.items() if name not in names}, **new}


def loop(name: str, columns: dict) -> str:
    """A block of a star file."""
    labels = "".join(f"_{label} #{i + 1}\n" for i, label in enumerate(columns))
    rows = "".join(
        " ".join(str(v) for v in row) + "\n" for row in zip(*columns.values(), strict=True)
    )
    return f"\ndata_{name}\n\nloop_\n{labels}{rows}\n"


def write_particles(
    folder: Path, columns: dict = COLUMNS, head: str = HEAD, depth: tuple[int, ...] = (3, 2, 3)
) -> Path:
    """Particles and their stacks."""
    (folder / "stacks").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name, images in zip("abc", depth, strict=True):
        with mrcfile.new(folder / "stacks" / f"{name}.mrcs", overwrite=True) as file:
            file.set_data(rng.normal(size=(images, BOX, BOX)).astype(np.float32))
            file.voxel_size = APIX
    path = folder / "particles.star"
    path.write_text(head + loop("particles", columns))
    return path


def write_tomograms(folder: Path, tilts: dict = TILTS, name: str = "tomograms.star", **new) -> Path:
    """Tomograms, each with a star file of its tilts."""
    (folder / "tilts").mkdir(parents=True, exist_ok=True)
    for number, each in enumerate(TOMOGRAMS):
        u = np.array(DEFOCUS[number])
        columns = {**tilts, "rlnDefocusU": u, "rlnDefocusV": u - SPLIT}
        (folder / "tilts" / f"{each}.star").write_text(loop(each, columns))
    columns = {
        "rlnTomoName": TOMOGRAMS,
        "rlnVoltage": [300.0, 300.0],
        "rlnTomoHand": HAND,
        "rlnTomoTiltSeriesPixelSize": [SERIES_APIX] * 2,
        "rlnTomoTiltSeriesStarFile": [f"tilts/{each}.star" for each in TOMOGRAMS],
        **{f"rlnTomoSize{axis}": [edge] * 2 for axis, edge in zip("XYZ", SIZE, strict=True)},
        **new,
    }
    path = folder / name
    path.write_text(loop("global", columns))
    return path


def write_set(folder: Path) -> Path:
    """Particles, tomograms and the optimisation set that names both."""
    write_particles(folder), write_tomograms(folder)
    path = folder / "optimisation_set.star"
    path.write_text(
        "\ndata_\n\n_rlnTomoParticlesFile particles.star\n_rlnTomoTomogramsFile tomograms.star\n"
    )
    return path
