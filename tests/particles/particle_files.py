"""Minimal hand-written particle files of every dialect, made in a temporary folder."""

from __future__ import annotations

import pickle
from pathlib import Path

import mrcfile
import numpy as np

COUNT, BOX, APIX = 6, 8, 2.0

ROT = np.array([10.0, -20.0, 30.0, 40.0, 150.0, -60.0])
TILT = np.array([20.0, 30.0, 90.0, 120.0, 5.0, 60.0])
PSI = np.array([-100.0, 0.0, 15.0, 45.0, 170.0, -30.0])
SHIFT = np.array([[1.0, -2.0], [0.5, 0.25], [0.0, 0.0], [-3.0, 4.0], [2.5, 2.0], [-1.0, -1.5]])
DEFOCUS_U = np.array([10000.0, 12000.0, 14000.0, 16000.0, 18000.0, 20000.0])
DEFOCUS_V = DEFOCUS_U - 300.0
ANGLE = np.array([0.0, 30.0, 60.0, 90.0, -45.0, 120.0])

OPTICS_31 = """
data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnVoltage #3
_rlnSphericalAberration #4
_rlnAmplitudeContrast #5
_rlnImagePixelSize #6
_rlnImageSize #7
_rlnImageDimensionality #8
1 krios 300.0 2.7 0.1 2.0 8 2
"""

COLUMNS_31 = {
    "rlnImageName": [f"{i + 1:06d}@stack.mrcs" for i in range(COUNT)],
    "rlnMicrographName": [f"mic{i // 2}.mrc" for i in range(COUNT)],
    "rlnOpticsGroup": ["1"] * COUNT,
    "rlnDefocusU": DEFOCUS_U,
    "rlnDefocusV": DEFOCUS_V,
    "rlnDefocusAngle": ANGLE,
    "rlnAngleRot": ROT,
    "rlnAngleTilt": TILT,
    "rlnAnglePsi": PSI,
    "rlnOriginXAngst": SHIFT[:, 0],
    "rlnOriginYAngst": SHIFT[:, 1],
    "rlnRandomSubset": ["1", "2"] * (COUNT // 2),
    "userColumn": [f"0{i}.50" for i in range(COUNT)],
}

COLUMNS_30 = {
    **{k: v for k, v in COLUMNS_31.items() if "Angst" not in k and k != "rlnOpticsGroup"},
    "rlnVoltage": ["300.0"] * COUNT,
    "rlnSphericalAberration": ["2.7"] * COUNT,
    "rlnAmplitudeContrast": ["0.1"] * COUNT,
    "rlnDetectorPixelSize": ["5.0"] * COUNT,
    "rlnMagnification": ["25000.0"] * COUNT,
    "rlnOriginX": SHIFT[:, 0] / APIX,
    "rlnOriginY": SHIFT[:, 1] / APIX,
}


def changed(columns: dict, drop: tuple[str, ...] = (), **new) -> dict:
    """A copy of `columns` without some and with others."""
    return {k: v for k, v in {**columns, **new}.items() if k not in drop}


def with_value(columns: dict, name: str, row: int, value: object) -> dict:
    """A copy of `columns` with one value replaced."""
    values = [*columns[name]]
    values[row] = value
    return changed(columns, **{name: values})


def star_text(columns: dict, block: str = "particles", optics: str = OPTICS_31) -> str:
    header = "\n".join(f"_{name} #{i}" for i, name in enumerate(columns, 1))
    rows = zip(*columns.values(), strict=True)
    body = "\n".join("  ".join(str(value) for value in row) for row in rows)
    return f"{optics}\ndata_{block}\n\nloop_\n{header}\n{body}\n\n"


def write_stack(path: Path, images: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """A stack of random images; returns what was written, (N, BOX, BOX) float32 by default."""
    if images is None:
        images = np.random.default_rng(seed).standard_normal((COUNT, BOX, BOX)).astype(np.float32)
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(images)
        file.set_image_stack()
        file.voxel_size = APIX
    return images


def hollow_stack(path: Path, count: int, box: int) -> None:
    """A stack of zeros that takes no room on the disk: enough for who reads its header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mrcfile.new_mmap(path, (count, box, box), mrc_mode=0, overwrite=True).close()


def write_star31(folder: Path, columns: dict = COLUMNS_31, **options) -> Path:
    write_stack(folder / "stack.mrcs")
    path = folder / "particles.star"
    path.write_text(star_text(columns, **options))
    return path


def write_star30(folder: Path, columns: dict = COLUMNS_30, block: str = "") -> Path:
    return write_star31(folder, columns, block=block, optics="")


def rotations() -> np.ndarray:
    """R of the test particles, written out without the library that the program uses."""

    def about_z(degrees):
        a, zero, one = np.deg2rad(degrees), np.zeros(COUNT), np.ones(COUNT)
        rows = [[np.cos(a), -np.sin(a), zero], [np.sin(a), np.cos(a), zero], [zero, zero, one]]
        return np.moveaxis(np.array(rows), -1, 0)

    def about_y(degrees):
        a, zero, one = np.deg2rad(degrees), np.zeros(COUNT), np.ones(COUNT)
        rows = [[np.cos(a), zero, np.sin(a)], [zero, one, zero], [-np.sin(a), zero, np.cos(a)]]
        return np.moveaxis(np.array(rows), -1, 0)

    return about_z(ROT) @ about_y(TILT) @ about_z(PSI)


def rotation_vectors() -> np.ndarray:
    from scipy.linalg import logm

    skew = np.array([np.real(logm(r)) for r in rotations()])
    return np.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], axis=-1)


def cs_table(drop: tuple[str, ...] = (), alignment_apix: float = 4.0) -> np.ndarray:
    """A refinement's particles .cs, aligned at another pixel size than the images'."""
    values = {
        "uid": np.arange(COUNT, dtype=np.uint64) + 2**63 + 11,
        "blob/path": np.array([b">J1/extract/stack.mrcs"] * COUNT),
        "blob/idx": np.arange(COUNT, dtype=np.uint32),
        "blob/shape": np.full((COUNT, 2), BOX, dtype=np.uint32),
        "blob/psize_A": np.full(COUNT, APIX, dtype=np.float32),
        "blob/sign": np.ones(COUNT, dtype=np.float32),
        "ctf/exp_group_id": np.full(COUNT, 7, dtype=np.uint32),
        "ctf/accel_kv": np.full(COUNT, 300, dtype=np.float32),
        "ctf/cs_mm": np.full(COUNT, 2.7, dtype=np.float32),
        "ctf/amp_contrast": np.full(COUNT, 0.1, dtype=np.float32),
        "ctf/df1_A": DEFOCUS_U.astype(np.float32),
        "ctf/df2_A": DEFOCUS_V.astype(np.float32),
        "ctf/df_angle_rad": np.deg2rad(ANGLE).astype(np.float32),
        "ctf/phase_shift_rad": np.zeros(COUNT, dtype=np.float32),
        "alignments3D/pose": rotation_vectors().astype(np.float32),
        "alignments3D/shift": (SHIFT / alignment_apix).astype(np.float32),
        "alignments3D/psize_A": np.full(COUNT, alignment_apix, dtype=np.float32),
        "alignments3D/split": np.array([0, 1] * (COUNT // 2), dtype=np.uint32),
    }
    return structured({k: v for k, v in values.items() if k not in drop})


def structured(values: dict[str, np.ndarray]) -> np.ndarray:
    table = np.empty(
        len(values["uid"] if "uid" in values else next(iter(values.values()))),
        dtype=[(name, v.dtype, v.shape[1:]) for name, v in values.items()],
    )
    for name, v in values.items():
        table[name] = v
    return table


def write_cs(folder: Path, table: np.ndarray | None = None, name: str = "particles.cs") -> Path:
    job = folder / "J1" / "extract"
    job.mkdir(parents=True, exist_ok=True)
    write_stack(job / "stack.mrcs")
    path = folder / "J9" / name
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        np.save(file, cs_table() if table is None else table)
    return path


def ctf_rows() -> np.ndarray:
    """cryoDRGN's nine CTF columns."""
    constants = [np.full(COUNT, v) for v in (float(BOX), APIX)]
    optics = [np.full(COUNT, v) for v in (300.0, 2.7, 0.1, 0.0)]
    return np.stack([*constants, DEFOCUS_U, DEFOCUS_V, ANGLE, *optics], axis=1).astype(np.float32)


def cryodrgn_poses() -> tuple[np.ndarray, np.ndarray]:
    return rotations().transpose(0, 2, 1).astype(np.float32), SHIFT / (BOX * APIX)


def write_cryodrgn(folder: Path, poses: object = None, ctf: object = None) -> dict:
    """Keyword arguments of `read_particles` for an image stack with its pickles."""
    write_stack(folder / "stack.mrcs")
    for name, content in (("poses", poses), ("ctf", ctf)):
        default = cryodrgn_poses() if name == "poses" else ctf_rows()
        with (folder / f"{name}.pkl").open("wb") as file:
            pickle.dump(default if content is None else content, file)
    names = {"path": "stack.mrcs", "poses": "poses.pkl", "ctf": "ctf.pkl"}
    return {key: folder / name for key, name in names.items()}
