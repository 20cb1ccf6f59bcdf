"""Bad input through the whole command: exit 2, one sentence that names the place, nothing written."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile
from typer.testing import CliRunner

from solvar.cli.main import app
from solvar.volume_file import write_volume

COUNT, BOX, APIX = 400, 24, 8.0


def edit_star(folder: Path, change: Callable[[dict], None]) -> None:
    tables = starfile.read(folder / "particles.star")
    change(tables)
    starfile.write(tables, folder / "particles.star", overwrite=True)


def drop(column: str) -> Callable[[Path], None]:
    def change(tables):
        tables["particles"] = tables["particles"].drop(columns=column)

    return lambda folder: edit_star(folder, change)


def twice_the_rows(folder: Path) -> None:
    """The star file asks for images that its stack does not hold."""

    def change(tables):
        names = [f"{row + 1:06d}@particles.mrcs" for row in range(10, COUNT + 10)]
        tables["particles"]["rlnImageName"] = names

    edit_star(folder, change)


def remove_stack(folder: Path) -> None:
    (folder / "particles.mrcs").unlink()


def spoil_image(folder: Path) -> None:
    with mrcfile.mmap(folder / "particles.mrcs", "r+") as stack:
        stack.data[7, 3, 4] = np.nan


def truncate_stack(folder: Path) -> None:
    with open(folder / "particles.mrcs", "r+b") as stack:
        stack.truncate(1024 + 10 * 4 * BOX**2)


def write_pickles(folder: Path, poses: int = COUNT, ctf: int = COUNT) -> None:
    rotation = np.tile(np.eye(3, dtype=np.float32), (poses, 1, 1))
    (folder / "poses.pkl").write_bytes(pickle.dumps((rotation, np.zeros((poses, 2)))))
    row = [BOX, APIX, 1e4, 1e4, 0, 300, 2.7, 0.1, 0]
    (folder / "ctf.pkl").write_bytes(pickle.dumps(np.tile(np.float32(row), (ctf, 1))))


class Malicious:
    """A pickle that would run a command where an ordinary unpickler reads it."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self):
        return Path.touch, (self.touched,)


def malicious(folder: Path) -> None:
    write_pickles(folder)
    (folder / "poses.pkl").write_bytes(pickle.dumps(Malicious(folder / "harm")))


def no_pickle(folder: Path) -> None:
    write_pickles(folder)
    (folder / "ctf.pkl").write_text("defocus 1.5\n")


def mask_of(box: int, value: float = 1.0, pixel_size: float = APIX) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        volume = np.full((box, box, box), value, np.float32)
        write_volume(folder / "other_mask.mrc", volume, pixel_size)

    return change


def select_nothing(folder: Path) -> None:
    np.save(folder / "ind.npy", np.empty(0, np.int64))


def select_too_far(folder: Path) -> None:
    np.savetxt(folder / "ind.txt", [1, 5, COUNT], fmt="%d")


def output_is_taken(folder: Path) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "run.json").write_text("{}")


def output_below_a_file(folder: Path) -> None:
    (folder / "run").touch()


DRGN = ("particles.mrcs", "--poses", "poses.pkl", "--ctf", "ctf.pkl")
MASK = ("particles.star", "--mask", "other_mask.mrc")


@dataclass(frozen=True)
class Case:
    name: str
    words: tuple[str, ...]
    spoil: Callable[[Path], None] = lambda folder: None
    arguments: tuple[object, ...] = ("particles.star",)
    output: str = "run"
    kept: tuple[str, ...] = field(default=())


CASES = [
    Case("missing stack", ("particles.star", "row 1", "particles.mrcs", "--datadir"), remove_stack),
    Case("too few images", ("particles.star", "row 391", "image 401"), twice_the_rows),
    Case("fewer poses", ("poses.pkl", "390", "400"), lambda f: write_pickles(f, poses=390), DRGN),
    Case("fewer CTFs", ("ctf.pkl", "399", "400"), lambda f: write_pickles(f, ctf=399), DRGN),
    Case("no poses given", ("--poses",), write_pickles, ("particles.mrcs", "--ctf", "ctf.pkl")),
    Case("no CTF given", ("--ctf",), write_pickles, ("particles.mrcs", "--poses", "poses.pkl")),
    Case("no defocus", ("particles.star", "rlnDefocusU"), drop("rlnDefocusU")),
    Case("no angles", ("particles.star", "rlnAngleTilt"), drop("rlnAngleTilt")),
    Case("NaN image", ("particles.mrcs", "image 8", "row 8", "--ind"), spoil_image),
    Case("truncated stack", ("particles.mrcs", "truncated"), truncate_stack),
    Case("other extent", ("other_mask.mrc", "256.0 Å", "192.0 Å"), mask_of(32), MASK),
    Case("mask of 5", ("other_mask.mrc", "between 0 and 1"), mask_of(BOX, 5.0), MASK),
    Case("empty mask", ("other_mask.mrc", "empty"), mask_of(BOX, 0.0), MASK),
    Case("no such mask", ("other_mask.mrc",), arguments=MASK),
    Case("not a pickle", ("ctf.pkl", "pickle"), no_pickle, DRGN),
    Case("malicious pickle", ("poses.pkl",), malicious, DRGN),
    Case("nothing selected", ("no particles", "--ind"), select_nothing,
         ("particles.star", "--ind", "ind.npy")),
    Case("selection too long", ("ind.txt", "row 3", "400"), select_too_far,
         ("particles.star", "--ind", "ind.txt")),
    Case("rank too large", ("--rank", "60", "400"), arguments=("particles.star", "--rank", 60)),
    Case("too coarse", ("--resolution", "90"), arguments=("particles.star", "--resolution", 90)),
    Case("upsampled", ("24", "48"), arguments=("particles.star", "--downsample", 48)),
    Case("mask too wide", ("--mask-diameter", "900"), arguments=("particles.star", "--mask-diameter", 900)),
    Case("no such file", ("none.star", "no such file"), arguments=("none.star",)),
    Case("not particles", ("settings.json",), arguments=("settings.json",)),
    Case("output taken", ("run", "--overwrite"), output_is_taken, kept=("run.json",)),
    Case("output impossible", ("below", "cannot be written"), output_below_a_file,
         output="run/below"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning:mrcfile")
@pytest.mark.parametrize("case", CASES, ids=[case.name.replace(" ", "-") for case in CASES])
def test_bad_input_is_one_sentence_and_leaves_nothing_behind(
    tmp_path, tiny_stack, monkeypatch, case
):
    folder = tmp_path / "project"
    shutil.copytree(tiny_stack, folder, ignore=shutil.ignore_patterns("vols", "gt*"))
    case.spoil(folder)
    monkeypatch.chdir(folder)
    arguments = ["run", *case.arguments, "-o", case.output]
    arguments += [] if "--rank" in case.arguments else ["--rank", 2]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    sentences = [line for line in result.stderr.splitlines() if line.startswith("solvar: ")]
    assert len(sentences) == 1 and sentences[0].endswith("."), result.stderr
    assert "Traceback" not in result.output and not result.stdout
    for word in case.words:
        assert word in sentences[0], sentences[0]
    assert not (folder / "harm").exists()
    run = folder / case.output
    left = {path.name for path in run.iterdir()} if run.is_dir() else set()
    assert left - {"run.log", "manifest.json"} == set(case.kept), "nothing but the log may be left"
