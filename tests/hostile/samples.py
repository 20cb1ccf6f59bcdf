"""What is damaged: small files of every kind that the program reads, and how it reads each."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.runs import make_run, write_clusters
from particles import particle_files as files
from solvar.analysis.selection import Selection, select
from solvar.errors import InputError
from solvar.evaluation import Truth
from solvar.imaging.masks import read_mask
from solvar.particles import ImageStack, ParticleSet, read_particles, write_star
from solvar.particles.reading import Reading
from solvar.particles.registry import FORMATS
from solvar.particles.selection import read_selection
from solvar.results.run import Run
from solvar.simulation.molecule import atoms_from_file
from solvar.volume_file import write_volume
from solvar.volumes.targets import from_file

Read = Callable[[Path], object]
_PDB = """\
ATOM      1  N   ALA A   1      11.104   6.134  -6.504  1.00  0.00           N
ATOM      2  CA  ALA A   1      11.639   6.071  -5.147  1.00  0.00           C
ATOM      3  C   ALA A   1      13.148   6.340  -5.180  1.00  0.00           C
END
"""


@dataclass(frozen=True)
class Sample:
    """A good file and what reads it; `read` finds a damaged one in its place.

    Attributes
    ----------
    path : Path
    read : callable (path)
    """

    path: Path
    read: Read


def own_samples(folder: Path) -> list[Sample]:
    """Hand-written files of every dialect, made in `folder`, with a finished run."""
    return [
        *_star_files(folder / "star31", folder / "star30"),
        *_cryosparc(folder / "cryosparc"),
        *_cryodrgn(folder / "cryodrgn"),
        *_selections(folder / "selections"),
        *_volumes(folder / "volumes"),
        *_run_folder(folder / "job"),
    ]


def foreign_samples(source: Path, folder: Path) -> list[Sample]:
    """Copies in `folder` of the files of `source`, each with what reads it."""
    shutil.copytree(source, folder)
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)
    found = list(_foreign(folder))
    _stand_in_stacks(folder)
    return found


def _stand_in_stacks(folder: Path) -> None:
    """Small stacks for images that are not there, so that reading gets beyond looking for them."""
    for path in (*folder.glob("*.star"), *folder.glob("*.cs")):
        for format_ in FORMATS:
            if format_.recognises(path):
                with contextlib.suppress(InputError):
                    options = Reading()
                    for name in {*format_.read(path, options).stack_names}:
                        if not (folder / Path(name).name).exists():
                            files.write_stack(folder / Path(name).name)


def _foreign(folder: Path) -> Iterator[Sample]:
    companions = {
        "cryosparc_P12_J24_001_particles.cs": {"poses": "pose.cs.pkl", "ctf": "ctf2.pkl"},
        "toy_projections.star": {"ctf": "test_ctf.pkl", "poses": "toy_rot_trans.pkl"},
        "toy_projections.mrcs": {"ctf": "test_ctf.pkl", "poses": "toy_rot_trans.pkl"},
    }
    for path in sorted(folder.iterdir()):
        if path.suffix in (".star", ".cs", ".mrcs", ".txt"):
            yield Sample(path, _particles())
        if path.suffix in (".mrc", ".mrcs"):
            yield Sample(path, lambda path: read_mask(path, 8, 2.0))
        if path.name.startswith("ind"):
            yield Sample(path, lambda path: read_selection(path, 1000, path))
        for keyword, companion in companions.get(path.name, {}).items():
            others = {k: folder / c for k, c in companions[path.name].items() if k != keyword}
            yield Sample(folder / companion, _particles(path, keyword, **others))
        if path.name in companions:
            yield Sample(
                path, _particles(**{k: folder / c for k, c in companions[path.name].items()})
            )


def _particles(main: Path | None = None, keyword: str | None = None, **others: Path) -> Read:
    """Read the damaged file as the particle file, or as the file `keyword` beside `main`."""

    def read(path: Path) -> object:
        damaged = {} if keyword is None else {keyword: [path] if keyword == "passthrough" else path}
        particles = read_particles(main or path, datadir=path.parent, **others, **damaged)
        return _use(particles, path.parent)

    return read


def _use(particles: ParticleSet, folder: Path) -> ParticleSet:
    """What a run does with particles last and first: a star file, and images."""
    write_star(folder / "written.star", particles, {"solvarZ1": np.zeros(len(particles))})
    ImageStack(particles).read(np.arange(min(len(particles), 2)))
    return particles


def _star_files(new: Path, old: Path) -> Iterator[Sample]:
    for folder, write in ((new, files.write_star31), (old, files.write_star30)):
        folder.mkdir(parents=True)
        star = write(folder)
        yield Sample(star, _particles())
        yield Sample(folder / "stack.mrcs", _particles(star, None))


def _cryosparc(folder: Path) -> Iterator[Sample]:
    folder.mkdir(parents=True)
    whole = files.write_cs(folder)
    shutil.copy(folder / "J1" / "extract" / "stack.mrcs", folder / "J9" / "stack.mrcs")
    yield Sample(whole, _particles())
    table = files.cs_table()
    poses = [n for n in table.dtype.names if n == "uid" or n.startswith("alignments3D")]
    main = files.write_cs(folder, files.cs_table(drop=tuple(poses[1:])), "main.cs")
    other = files.write_cs(folder, table[poses].copy(), "other.cs")
    yield Sample(other, _particles(main, "passthrough"))


def _cryodrgn(folder: Path) -> Iterator[Sample]:
    folder.mkdir(parents=True)
    given = files.write_cryodrgn(folder)
    both = {name: given[name] for name in ("poses", "ctf")}
    yield Sample(given["path"], _particles(**both))
    yield Sample(given["poses"], _particles(given["path"], "poses", ctf=given["ctf"]))
    yield Sample(given["ctf"], _particles(given["path"], "ctf", poses=given["poses"]))
    (folder / "list.txt").write_text("stack.mrcs\n")
    yield Sample(folder / "list.txt", _particles(**both))


def _selections(folder: Path) -> Iterator[Sample]:
    folder.mkdir(parents=True)
    rows = np.arange(0, 40, 3)
    np.save(folder / "rows.npy", rows)
    np.savetxt(folder / "rows.txt", rows, fmt="%d")
    rows.dump(folder / "rows.pkl")
    for path in sorted(folder.iterdir()):
        yield Sample(path, lambda path: read_selection(path, 40, path))
    (folder / "model.pdb").write_text(_PDB)
    yield Sample(folder / "model.pdb", atoms_from_file)


def _volumes(folder: Path) -> Iterator[Sample]:
    folder.mkdir(parents=True)
    ball = np.zeros((8, 8, 8))
    ball[2:6, 2:6, 2:6] = 1
    write_volume(folder / "mask.mrc", ball, 2.0)
    yield Sample(folder / "mask.mrc", lambda path: read_mask(path, 8, 2.0))
    truth = {"L": 8, "apix": 2.0, "rotations": files.rotations(), "z": np.zeros((files.COUNT, 2))}
    np.savez_compressed(folder / "gt.npz", **truth)
    yield Sample(folder / "gt.npz", lambda path: Truth.load(path.parent))


def _run_folder(folder: Path) -> Iterator[Sample]:
    particles = read_particles(files.write_star31(_made(folder)))
    run = make_run(folder, particles, refined=True)
    write_clusters(run, [1, 1, 2, 2, 3, 3])
    for name in ("run.json", "model.h5", "particles.h5"):
        yield Sample(run.folder / name, lambda path: _everything(Run(path.parent)))
    in_clusters = Selection(clusters=(1,))
    path = run.folder / "analysis" / "particles.h5"
    yield Sample(path, lambda path: select(Run(run.folder), in_clusters))
    (folder / "points.csv").write_text("name,z1,z2,z3\na,0.5,1,2\nb,-1,0,3\n")
    yield Sample(folder / "points.csv", lambda path: from_file(run, path))
    (folder / "polygon.csv").write_text("x,y\n-9,-9\n9,-9\n9,9\n-9,9\n")
    yield Sample(folder / "polygon.csv", lambda path: select(run, Selection(polygon=path)))
    (folder / "rows.csv").write_text("row\n0\n3\n5\n")
    yield Sample(folder / "rows.csv", lambda path: select(run, Selection(ind=path)))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _everything(run: Run) -> None:
    """Each piece of a run that some command reads."""
    for name in (
        *("rank", "particle_count", "source", "pixel_size_angstrom", "warnings", "costs"),
        *("figures", "settings", "model", "posterior", "particles", "pose_refinement"),
        *(
            "pose_change",
            "validation",
            "noise_power",
            "corner_noise_power",
            "prior_precision",
            "history",
        ),
    ):
        getattr(run, name)
    run.summary()
