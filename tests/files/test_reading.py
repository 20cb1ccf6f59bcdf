"""What is opened is a plain file of a size that can be believed, at every door of the program."""

from __future__ import annotations

import ast
import gzip
import io
import os
import resource
import shutil
import signal
import socket
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import solvar
from export.runs import run_on
from hostile.samples import _PDB
from particles import particle_files as files
from solvar.analysis.selection import Selection, select
from solvar.errors import InputError
from solvar.evaluation import Truth
from solvar.files import believable, open_inside, read_json
from solvar.imaging.masks import read_mask
from solvar.particles import ImageStack, read_particles
from solvar.particles.npy import read_npz
from solvar.particles.selection import read_selection
from solvar.simulation.molecule import atoms_from_file
from solvar.volume_file import read_volume, write_volume
from solvar.volumes.targets import choose_targets

_SOURCE = Path(solvar.__file__).parent
_MIB = 1 << 20


# -- every door of the program ------------------------------------------------------------------


def _bind(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the names of sockets are short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def _sparse(start: bytes) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        path.write_bytes(start)
        os.truncate(path, 1 << 40)

    return make


NO_FILES: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "folder": os.mkdir,
    "socket": _bind,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
    "kernel": lambda path: path.symlink_to("/proc/self/mem"),
    "log of the kernel": lambda path: path.symlink_to("/proc/kmsg"),
    "hollow": _sparse(b""),
    "hollow .npy": _sparse(b"\x93NUMPY"),
    "hollow pickle": _sparse(b"\x80\x03"),
    "hollow text": _sparse(b"data_particles\n\nloop_\n"),
    "hollow archive": _sparse(b"PK\x03\x04"),
    "hollow gzip": _sparse(b"\x1f\x8b\x08"),
}


_KERNEL = ("kernel", "log of the kernel")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("doors")
    run_on("cryodrgn", folder)
    files.write_star31(folder)
    return folder


def _read(project: Path, **given: Path) -> object:
    kept = {"poses": project / "poses.pkl", "ctf": project / "ctf.pkl"}
    return read_particles(project / "stack.mrcs", **{**kept, **given})


def _pick(project: Path, **given: Path) -> object:
    return select(solvar.Run(project / "job" / "run"), Selection(**given))


DOORS: dict[str, Callable[[Path, Path], object]] = {
    "particles": lambda path, project: read_particles(path),
    "poses": lambda path, project: _read(project, poses=path),
    "ctf": lambda path, project: _read(project, ctf=path),
    "passthrough": lambda path, project: read_particles(
        files.write_cs(project), datadir=project, passthrough=[path]
    ),
    "rows": lambda path, project: read_selection(path, 9, path),
    "mask": lambda path, project: read_mask(path, 8, 2.0),
    "volume": lambda path, project: read_volume(path),
    "points": lambda path, project: choose_targets(
        solvar.Run(project / "job" / "run"), [str(path)], None, 1, 1
    ),
    "polygon": lambda path, project: _pick(project, polygon=path),
    "selected": lambda path, project: _pick(project, ind=path),
    "atoms": lambda path, project: atoms_from_file(path),
    "truth": lambda path, project: Truth.load(_truth_of(path)),
}


def _truth_of(path: Path) -> Path:
    """A folder in which `path` is the table of the truth."""
    folder = path.with_name("truth")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "gt.npz").symlink_to(path)
    return folder


@contextmanager
def _little() -> Iterator[None]:
    """A second of time, and 300 MiB beyond what the process has."""

    def give_up(*_: object) -> None:
        raise AssertionError("it hangs")

    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, 5)
    resource.setrlimit(resource.RLIMIT_AS, (held + 300 * _MIB, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("door", DOORS)
def test_what_is_no_file_is_refused_at_once_and_with_little_memory(
    tmp_path: Path, project: Path, door: str
) -> None:
    for kind, make in NO_FILES.items():
        path = tmp_path / "given"
        make(path)
        error = None
        with _little():
            try:
                DOORS[door](path, project)
            except InputError as refused:
                error = refused
        # files of the kernel are empty ones, and an empty list of rows is one
        is_empty = kind in _KERNEL and door in ("rows", "selected")
        assert is_empty or (error is not None and str(tmp_path) in str(error)), (kind, error)
        assert not isinstance(error and error.__cause__, MemoryError), (kind, error)
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_a_stack_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    star = files.write_star31(tmp_path)
    path = tmp_path / "stack.mrcs"
    for make in NO_FILES.values():
        path.rmdir() if path.is_dir() else path.unlink()
        make(path)
        with _little(), pytest.raises(InputError, match=r"stack\.mrcs"):
            ImageStack(read_particles(star)).read([0])


def test_a_stack_that_becomes_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    stack = ImageStack(read_particles(files.write_star31(tmp_path)))
    (tmp_path / "stack.mrcs").unlink()
    os.mkfifo(tmp_path / "stack.mrcs")
    with _little(), pytest.raises(OSError, match="it is a named pipe"):
        stack.read([0])


# -- archives, and numbers beyond what there is ---------------------------------------------------


def _entry(claimed: int, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive whose one entry claims so many bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("z.npy", _npy_claiming(claimed))
    content = bytearray(stream.getvalue())
    place = content.rindex(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<I", claimed)
    return bytes(content)


def _npy_claiming(size: int) -> bytes:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size - 128},), }}".ljust(117)
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header.encode() + b"\n"


def _bomb(size: int) -> bytes:
    """Zeros that really unpack to so many bytes."""
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("z.npy", "w", force_zip64=True) as entry,
    ):
        entry.write(_npy_claiming(size))
        for _ in range(size // _MIB):
            entry.write(bytes(_MIB))
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [_entry(2**32 - 2), _entry(2**32 - 2, zipfile.ZIP_STORED), _bomb(400 * _MIB)],
    ids=["claim", "stored claim", "bomb"],
)
def test_an_archive_that_claims_more_than_it_can_hold_is_refused(tmp_path, content) -> None:
    (tmp_path / "gt.npz").write_bytes(content)
    with _little(), pytest.raises(InputError, match=r"gt\.npz: cannot be read as a table"):
        Truth.load(tmp_path)


def test_packed_zeros_of_an_honest_size_are_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", noise=np.zeros((512, 512)), one=np.float64(1))
    with open_inside(tmp_path, "x.npz") as file:
        assert read_npz(file)["noise"].shape == (512, 512)


def test_atoms_that_unpack_without_end_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "atoms.pdb.gz"
    path.write_bytes(gzip.compress(_PDB.encode()))
    assert atoms_from_file(path).positions.shape == (1, 3, 3)
    with gzip.open(path, "wb", compresslevel=1) as stream:
        for _ in range(300):
            stream.write(b"REMARK".ljust(80) * (_MIB // 80))
    assert believable(path.stat().st_size) < 300 * _MIB
    with pytest.raises(InputError, match="it claims"):
        atoms_from_file(path)


def test_a_volume_is_read_from_the_file_that_was_judged(tmp_path: Path, monkeypatch) -> None:
    """Between a look at the header and the voxels, somebody puts another file in its place."""
    import solvar.mrc_header as module

    volume = np.random.default_rng(0).normal(size=(6, 6, 6)).astype(np.float32)
    for name, factor in (("a.mrc", 1), ("b.mrc", 2)):
        write_volume(tmp_path / name, factor * volume, 1.5)
    judged = module._judged

    def replaced(path: Path, file: object) -> object:
        header = judged(path, file)
        os.replace(tmp_path / "b.mrc", path)
        return header

    monkeypatch.setattr(module, "_judged", replaced)
    found, pixel_size = read_volume(tmp_path / "a.mrc")
    np.testing.assert_array_equal(found, volume)
    assert pixel_size == 1.5


def test_a_star_file_is_read_in_utf8_whatever_a_comment_says(tmp_path: Path) -> None:
    """Python's cache of lines believes such comments; '+ACM-' would be '#' and cut the row."""
    path = files.write_star31(tmp_path)
    text = path.read_text().replace("mic0.mrc", "mic+ACM-0.mrc", 1)
    path.write_text("# -*- coding: utf-7 -*-\n" + text)
    assert read_particles(path).picks is None
    from solvar.particles.star_blocks import read_blocks

    names = read_blocks(path, as_text=True)["particles"]["rlnMicrographName"]
    assert names.iloc[0] == "mic+ACM-0.mrc"


@pytest.mark.parametrize(
    "text", ["1e999", "[-1e999]", "NaN", '"\\ud800"', '{"\\udc80": 1}', "9" * 5000]
)
def test_json_holds_what_every_reader_can_hold(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match="is not readable as JSON"):
        read_json(tmp_path, "x.json")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x"])
def test_nothing_is_opened_outside_the_folder_it_belongs_to(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_text("x")
    (tmp_path / "in" / "a").mkdir(parents=True)
    with pytest.raises(OSError, match="outside its folder"):
        open_inside(tmp_path / "in", name)


def test_a_point_of_many_components_is_no_name_of_a_file(project: Path) -> None:
    """A name of more than 255 characters is an error to the file system."""
    run = solvar.Run(project / "job" / "run")
    text = ",".join(["0." + "1" * 100] * 3)
    assert len(choose_targets(run, [text], None, 1, 1)) == 1


# -- and no other doors ---------------------------------------------------------------------------

# What opens files by name. `open_regular` and its kin do it in solvar/files.
_OPENERS = {
    *("open", "read_text", "read_bytes", "fdopen"),
    *("np.load", "np.fromfile", "np.memmap", "np.loadtxt", "np.genfromtxt", "json.load"),
    *("h5py.File", "mrcfile.open", "mrcfile.read", "mrcfile.mmap", "zipfile.ZipFile"),
    *("pd.read_csv", "starfile.read", "gemmi.read_structure", "gzip.GzipFile", "gzip.open"),
    *("linecache.getline", "pickle.load", "csv.reader", "tarfile.open", "sqlite3.connect"),
}
# module, call: why it may
_ALLOWED = {
    ("analysis/reading.py", "csv.reader"): "of text that was read",
    ("analysis/writing.py", "open"): "writes a new file",
    ("analysis/writing.py", "h5py.File"): "writes a new file",
    ("export/chimerax.py", "read_text"): "of the script that was just written",
    ("export/cryosparc.py", "open"): "writes a new file",
    ("analysis/selection.py", "csv.reader"): "of text that was read",
    ("cli/environment.py", "open"): "of the working folder",
    ("cli/streams.py", "open"): "of the null device",
    ("compilation.py", "read_bytes"): "of the program's own source",
    ("extras.py", "read_text"): "of the program's own metadata",
    ("machine.py", "read_text"): "of the kernel's own files",
    ("particles/npy.py", "zipfile.ZipFile"): "of an open file, whose claims are judged",
    ("particles/npy.py", "open"): "of an entry of an open archive",
    ("particles/star_blocks.py", "starfile.read"): "takes the lines that were judged",
    ("report/html/page.py", "read_text"): "of the program's own templates",
    ("results/hdf5.py", "h5py.File"): "of an open file",
    ("results/provenance.py", "read_text"): "of the kernel's own files",
    ("results/writer.py", "h5py.File"): "writes a new file",
    ("structure_file.py", "gzip.GzipFile"): "of bytes that were read",
    ("simulation/writing.py", "open"): "writes a new file",
    ("viewer/columns.py", "pd.read_csv"): "of an open file",
    ("viewer/redirect.py", "open"): "writes a new file",
    ("viewer/saving.py", "read_bytes"): "of the file that was just written",
    ("volumes/targets.py", "pd.read_csv"): "of text that was read",
}


def _calls(path: Path) -> Iterator[str]:
    """Calls of a module that open files, as `_OPENERS` spells them; those of solvar.files are none."""
    tree = ast.parse(path.read_text())
    ours = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "solvar.files"
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            last = name.rpartition(".")[2]
            if name in _OPENERS:
                yield from [name] if name not in ours else []
            elif last in ("open", "read_text", "read_bytes", "fdopen") and last != name:
                yield last


def test_files_are_opened_by_solvar_files_alone() -> None:
    found = {
        (path.relative_to(_SOURCE).as_posix(), call)
        for path in _SOURCE.rglob("*.py")
        if "files" not in path.relative_to(_SOURCE).parts
        for call in _calls(path)
    }
    assert found - set(_ALLOWED) == set(), "open it with solvar.files, or say here why not"
    assert set(_ALLOWED) - found == set(), "these are no longer needed"
