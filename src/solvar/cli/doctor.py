"""`solvar doctor`: what this installation and this machine can do."""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import typer

from solvar.cli.arguments import AsJson
from solvar.cli.options import command
from solvar.extras import install_command, missing

app = typer.Typer(add_completion=False)

Row = tuple[str, str, str]  # level, topic, text
_DISK_BYTES = 64 << 20


@app.command()
@command
def doctor(as_json: AsJson = False) -> None:
    """Tell what this installation and this machine can do.

    Ends with exit code 1 when a part that every run needs does not work.
    """
    from solvar.cli.console import output, print_commands, print_json
    from solvar.cli.tables import findings_table

    rows: list[Row] = []
    for examine in (
        _versions,
        _machine,
        _numba,
        _torch,
        _devices,
        _finufft,
        _figures,
        _viewer,
        _plugins,
        _disk,
    ):
        rows += _safely(examine)
    absent = _absent()
    if as_json:
        keys = ("level", "topic", "text")
        findings = [dict(zip(keys, row, strict=True)) for row in rows]
        installs = [{"command": line, "purpose": purpose} for line, purpose in absent]
        print_json({"findings": findings, "installs": installs})
    else:
        console = output()
        console.print(findings_table("solvar doctor", rows))
        if absent:
            console.print("[bold]What is not installed, and what installs it[/bold]")
            print_commands(console, absent)
    if any(level == "error" for level, _, _ in rows):
        raise typer.Exit(1)


def _safely(examine: Callable[[], list[Row]]) -> list[Row]:
    try:
        return examine()
    except Exception as error:
        topic = examine.__name__.strip("_")
        return [("error", topic, f"does not work: {type(error).__name__}: {error}")]


def _versions() -> list[Row]:
    from solvar._version import __version__
    from solvar.results.provenance import packages

    found = ", ".join(f"{name} {version}" for name, version in packages().items())
    return [("ok", "versions", f"solvar {__version__}; {found}")]


def _machine() -> list[Row]:
    from solvar.results.provenance import machine

    about = machine()
    text = f"{about['processor']}, {about['cores']} cores, {about['memory_gib']} GiB of memory"
    return [("ok", "machine", f"{text}, {about['system']}")]


def _numba() -> list[Row]:
    import numba
    import numpy as np

    from solvar.compilation import kept_in
    from solvar.imaging.projector import simd

    @numba.njit(parallel=True)
    def total(values: np.ndarray) -> float:
        result = 0.0
        for i in numba.prange(values.size):
            result += values[i]
        return result

    started = time.perf_counter()
    right = total(np.ones(1000)) == 1000.0
    seconds = time.perf_counter() - started
    level = "ok" if right else "error"
    text = f"compiled a kernel in {seconds:.1f} s, {numba.get_num_threads()} threads"
    rows: list[Row] = [(level, "numba", f"{text} ({numba.threading_layer()})")]
    rows.append(("ok", "projector", f"compiled for {simd.instructions()}"))
    place = kept_in(Path(simd.__file__))
    if place is None:
        advice = "no folder for compiled code can be written; set NUMBA_CACHE_DIR to keep it"
        return [*rows, ("warning", "projector", advice)]
    return [*rows, ("ok", "projector", f"compiled code is kept in {place}")]


def _torch() -> list[Row]:
    import torch

    return [("ok", "torch", f"CPU, {torch.get_num_threads()} threads")]


def _devices() -> list[Row]:
    """GPUs, and what of the program can use them."""
    import torch

    if not torch.cuda.is_available():
        why = "this torch knows CUDA" if torch.version.cuda else "this torch is built for the CPU"
        rows: list[Row] = [("ok", "devices", f"cpu; no CUDA device ({why})")]
    else:
        rows = []
        for i in range(torch.cuda.device_count()):
            torch.ones(8, device=f"cuda:{i}").sum().item()
            free, total = (size / 2**30 for size in torch.cuda.mem_get_info(i))
            name = torch.cuda.get_device_name(i)
            text = f"cuda:{i}: {name}, {free:.1f} of {total:.1f} GiB free; use it with --device"
            rows.append(("ok", "devices", text))
    return [*rows, _numba_cuda()]


def _numba_cuda() -> Row:
    try:
        from numba import cuda
    except ImportError:
        return ("ok", "devices", "--backend numba-cuda: numba's CUDA target is not installed")
    target = "numba-cuda" if getattr(cuda, "implementation", "") == "NVIDIA" else "built into numba"
    if not cuda.is_available():
        return ("ok", "devices", f"--backend numba-cuda: no driver or no GPU (target {target})")
    try:
        _project("numba-cuda")
    except Exception as error:
        # versions that do not go together show when something is compiled, not before
        reason = f"does not work with this numpy, driver or GPU: {type(error).__name__}: {error}"
        return ("warning", "devices", f"--backend numba-cuda {reason} (target {target})")
    return ("ok", "devices", f"--backend numba-cuda works (target {target})")


def _project(backend: str) -> None:
    """One slice of next to nothing, by a backend where it usually computes."""
    import numpy as np

    from solvar.imaging.fourier import HalfDisc
    from solvar.imaging.projector import make_projector

    disc = HalfDisc.of_radius(2)
    projector = make_projector(8, disc, backend=backend)
    prepared = projector.prepare(np.zeros((1, 8, 8, 8), np.float32))
    projector.project(
        prepared, np.eye(3, dtype=np.float32)[None], np.ones((1, len(disc)), np.float32)
    )


def _finufft() -> list[Row]:
    import numpy as np

    try:
        import finufft
    except ImportError:
        return [("ok", "finufft", "not installed; --interpolation nufft needs it")]
    value = finufft.nufft1d1(np.zeros(1), np.ones(1, complex), 4, eps=1e-6)
    works = np.allclose(value, 1, atol=1e-5)
    return [("ok" if works else "warning", "finufft", "works" if works else "gives wrong sums")]


def _figures() -> list[Row]:
    import matplotlib

    from solvar.report import style

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "test.png"
        with style.figure(path, 1, 1) as figure:
            figure.add_axes((0.2, 0.2, 0.7, 0.7))
        drawn = path.stat().st_size > 0
    return [("ok" if drawn else "error", "figures", f"matplotlib {matplotlib.__version__}")]


def _viewer() -> list[Row]:
    from importlib.metadata import version

    try:
        import dash
        import skimage.measure  # noqa: F401 - the viewer draws surfaces with it
    except ImportError as error:
        return [("ok", "viewer", f"{error.name} is not installed; solvar view needs it")]
    return [("ok", "viewer", f"dash {dash.__version__}, scikit-image {version('scikit-image')}")]


def _plugins() -> list[Row]:
    """What other distributions add, imported to see whether it works."""
    from solvar.errors import InputError
    from solvar.plugins import GROUPS, plugins

    rows: list[Row] = []
    for plugin in (each for group in GROUPS for each in plugins(group)):
        try:
            plugin.load()
            text = f"{plugin.group.what} '{plugin.name}' of {plugin.distribution}"
            rows.append(("ok", "plug-ins", text))
        except InputError as error:
            rows.append(("warning", "plug-ins", str(error)))
    return rows


def _absent() -> list[tuple[str, str]]:
    """Commands that install what some options need and is not there, each with the option."""
    needed = {
        "nufft": "--interpolation nufft",
        "umap": "solvar analyze --umap",
        "view": "solvar view",
    }
    found = [(install_command(extra), what) for extra, what in needed.items() if missing(extra)]
    if importlib.util.find_spec("numba.cuda") is None:
        found.append((install_command("cuda"), "--backend numba-cuda"))
    return found


def _disk() -> list[Row]:
    """Speed of the disk of the working folder; what is read back comes from the cache."""
    block = os.urandom(1 << 20)
    with tempfile.NamedTemporaryFile(dir=".", prefix=".solvar-doctor-") as file:
        started = time.perf_counter()
        for _ in range(_DISK_BYTES >> 20):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        seconds = time.perf_counter() - started
    rate = (_DISK_BYTES >> 20) / seconds
    level = "ok" if rate > 20 else "warning"
    return [(level, "disk", f"writes {rate:,.0f} MiB/s in {Path.cwd()}")]
