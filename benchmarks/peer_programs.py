"""How solvar, cryoDRGN and RECOVAR are called, and where each leaves what it found.

Every program has two steps: `fit`, from images to a latent of each particle, and `volumes`, from latents to
maps. The programs of others run in environments of their own and are known here by their command lines and
files only.
"""

from __future__ import annotations

import argparse
import pickle
import shlex
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np

TORCH = (
    "torch==2.13.0"  # a release whose CPU build is at hand: unpinned, pip takes gigabytes of CUDA
)
FACTOR_ONE = Path(__file__).with_name("peer_recovar.py")


class Program:
    """One program on the particles at hand.

    Parameters
    ----------
    given : argparse.Namespace
        Of `peers.py`: folders, rank and options.
    """

    name: str
    requirement = ""  # what pip installs; nothing for the program that this belongs to

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.out = given.work / self.name
        self.volumes_out = given.work / f"{self.name}_volumes"
        self.points = given.work / f"{self.name}_points.csv"

    @property
    def environment(self) -> Path:
        """Folder of its virtual environment."""
        return self.given.envs / self.name

    def script(self, name: str) -> str:
        """Path of something in its environment's bin."""
        return str(self.environment / "bin" / name)

    def install(self) -> None:
        """Make its environment, unless it is there and complete; print the commands."""
        if not self.requirement or self.version() != "missing":
            return
        constraints = ["-c", str(self.given.constraints)] if self.given.constraints else []
        python = self.script("python")
        line = [python, "-m", "pip", "install", *constraints, TORCH, self.requirement]
        print(f"$ python -m venv {self.environment}\n$ {shlex.join(line)}", flush=True)
        venv.create(self.environment, with_pip=True)
        with open(self.given.work / f"{self.name}_install.log", "wb") as log:
            subprocess.run(
                line,
                check=True,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=self.given.install_limit,
            )

    def version(self) -> str:
        """Its version, "missing" where it is not installed."""
        if not Path(self.script("python")).exists():
            return "missing"
        code = f"from importlib.metadata import version; print(version({self.name!r}))"
        asked = subprocess.run([self.script("python"), "-c", code], capture_output=True, text=True)
        return asked.stdout.strip() if asked.returncode == 0 else "missing"

    def cryodrgn_input(self) -> list[str]:
        """The stack with its pickles, as cryoDRGN and RECOVAR read them."""
        folder = self.given.pickles
        line = [
            str(self.given.folder / "particles.mrcs"),
            "--ind",
            str(self.given.work / "rows.pkl"),
        ]
        return [*line, "--poses", str(folder / "poses.pkl"), "--ctf", str(folder / "ctf.pkl")]


class Solvar(Program):
    """This program, from the environment that runs the comparison."""

    name = "solvar"

    def version(self) -> str:
        """Its version; perhaps of a checkout on the path, which is not installed."""
        import solvar

        return solvar.__version__

    def fit(self) -> list[str]:
        """The main job."""
        star, mask = self.given.folder / "particles.star", self.given.folder / "mask.mrc"
        line = [sys.executable, "-m", "solvar", "run", str(star), "--mask", str(mask)]
        line += ["--ind", str(self.given.work / "rows.txt"), "--rank", str(self.given.rank)]
        return [*line, "-o", str(self.out)]

    def volumes(self, points: np.ndarray) -> list[str]:
        """Kernel regression at points (n, r)."""
        names = ",".join(f"z{k + 1}" for k in range(points.shape[1]))
        np.savetxt(self.points, points, delimiter=",", header=names, comments="")
        line = [sys.executable, "-m", "solvar", "volume", str(self.out), "--at", str(self.points)]
        return [*line, "-o", str(self.volumes_out)]

    def z(self) -> np.ndarray:
        """Latents (n, r) in the order of the chosen rows."""
        from solvar.results.run import Run

        return np.asarray(Run(self.out).posterior.z, np.float64)

    def mean(self) -> Path | None:
        """The mean volume."""
        return existing(self.out / "mean.mrc")

    def eigenvolumes(self) -> list[Path]:
        """Orthonormal volumes that span the heterogeneity."""
        return sorted(self.out.glob("eigenvolume_[0-9][0-9][0-9].mrc"))

    def maps(self) -> list[Path]:
        """One volume a point, in order."""
        return whole_maps(self.volumes_out)


class CryoDrgn(Program):
    """cryoDRGN: a network; it has no eigenvolumes, and its mean is its volume at the mean latent."""

    name, requirement = "cryodrgn", "cryodrgn==4.3.1"

    def fit(self) -> list[str]:
        """Training, without its analysis."""
        line = [self.script("cryodrgn"), "train_vae", *self.cryodrgn_input()]
        line += ["--zdim", str(self.given.rank), "--seed", "0", "--no-analysis"]
        return [*line, *self.given.cryodrgn_options, "-o", str(self.out)]

    def volumes(self, points: np.ndarray) -> list[str]:
        """The decoder at the mean latent and at points (n, r)."""
        np.savetxt(self.points, np.vstack([self.z().mean(axis=0), points]))
        line = [self.script("cryodrgn"), "eval_vol", str(self.out / "weights.pkl")]
        line += ["-c", str(self.out / "config.yaml"), "--zfile", str(self.points)]
        with np.load(self.given.folder / "gt.npz") as truth:
            line += ["--Apix", str(float(truth["apix"]))]
        return [*line, "-o", str(self.volumes_out)]

    def z(self) -> np.ndarray:
        """Posterior means (n, r): the first of the arrays in the file, before the log variances."""
        with open(self.out / "z.pkl", "rb") as file:  # trusted as the program that wrote it is
            return np.asarray(pickle.load(file), np.float64)

    def mean(self) -> Path | None:
        """Its volume at the mean latent."""
        return next(iter(sorted(self.volumes_out.glob("vol_*.mrc"))), None)

    def eigenvolumes(self) -> list[Path]:
        """None."""
        return []

    def maps(self) -> list[Path]:
        """One volume a point, in order."""
        return sorted(self.volumes_out.glob("vol_*.mrc"))[1:]


class Recovar(Program):
    """RECOVAR on the CPU, with its own factor of 2 in reconstructions or with 1."""

    name, requirement = "recovar", "recovar==1.0.5"

    def start(self) -> list[str]:
        """Its command without arguments."""
        if self.given.recovar_upsampling == 1:
            return [self.script("python"), str(FACTOR_ONE)]
        return [self.script("recovar")]

    def fit(self) -> list[str]:
        """Mean, covariance and embedding."""
        mask = str(self.given.folder / "mask.mrc")
        line = [*self.start(), "pipeline", *self.cryodrgn_input(), "--mask", mask]
        line += ["--zdim", str(self.given.rank), "--correct-contrast", "--accept-cpu"]
        return [*line, *self.given.recovar_options, "-o", str(self.out)]

    def volumes(self, points: np.ndarray) -> list[str]:
        """Kernel regression at points (n, r)."""
        path = self.points.with_suffix(".txt")  # the only suffix that it reads as text
        np.savetxt(path, points)
        line = [*self.start(), "compute_state", str(self.out), "--latent-points", str(path)]
        return [*line, *self.given.recovar_state_options, "-o", str(self.volumes_out)]

    def z(self) -> np.ndarray:
        """Regularised latents (n, r) in the order of the chosen rows."""
        path = self.out / "model" / f"zdim_{self.given.rank}" / "latent_coords.npy"
        return np.asarray(np.load(path), np.float64)

    def mean(self) -> Path | None:
        """The mean volume, written long before the end."""
        return existing(self.out / "output" / "volumes" / "mean.mrc")

    def eigenvolumes(self) -> list[Path]:
        """The first eigenvolumes of the 50 that it writes."""
        found = (self.out / "output" / "volumes").glob("eigen_pos*.mrc")
        return sorted(found)[: self.given.rank]

    def maps(self) -> list[Path]:
        """One volume a point, in order, filtered by local resolution as it delivers them."""
        return whole_maps(self.volumes_out)


PROGRAMS = {program.name: program for program in (Solvar, CryoDrgn, Recovar)}


def existing(path: Path) -> Path | None:
    """The path, or None where there is no such file."""
    return path if path.is_file() else None


def whole_maps(folder: Path) -> list[Path]:
    """Volumes of a folder by name, without their half-maps and unfiltered forms."""
    return sorted(
        p for p in folder.glob("*.mrc") if not p.stem.endswith(("half1", "half2", "unfil"))
    )
