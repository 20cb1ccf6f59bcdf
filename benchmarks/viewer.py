"""What the viewer costs at a million particles: first paint, selection, molecule, memory, crowds.

A synthetic run folder, made here; the server in a process of its own that may open 1,024 files; the page
in headless Chromium where it is installed. Crowds are 1,000 connections of another process that say
nothing, half a request, or are replaced by new ones as fast as it can. Limits: first paint 3 s, selection
1 s, molecule 0.3 s, server 2 GiB, the owner beside a crowd 1 s.

    python benchmarks/viewer.py [--particles 1000000] [--rank 10] [--box 64] [--picture page.png]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from solvar.volume_file import write_volume

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

PAINT_SECONDS, SELECT_SECONDS, MOLECULE_SECONDS, MEMORY_GIB = 3.0, 1.0, 0.3, 2.0
CROWD, CROWD_SECONDS, SERVER_FILES = 1000, 1.0, 1024
PIXEL_SIZE = 2.0
CLUSTERS = 6


def make_run(folder: Path, count: int, rank: int, box: int, seed: int = 0) -> Path:
    """A run folder with `count` particles on a horseshoe with denser places."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    eigenvalues = 100.0 / (1 + np.arange(rank)) ** 1.5
    place = rng.choice(np.linspace(-2.4, 2.4, CLUSTERS), count) + rng.normal(0, 0.3, count)
    z = rng.normal(0, 0.6, (count, rank))
    z[:, 0] = 1.4 * np.sin(place) + 0.25 * z[:, 0]
    z[:, 1] = 1.4 * np.cos(place) - 0.2 + 0.35 * z[:, 1]
    with h5py.File(folder / "particles.h5", "w") as file:
        file["uid"] = np.arange(count, dtype=np.uint64)
        file["row"] = np.arange(count)
        file["z"] = z * np.sqrt(eigenvalues)
        # as large as the real thing, and never read by the viewer
        file.create_dataset("precision", (count, rank, rank), np.float32)
        file["contrast"] = rng.normal(1, 0.15, count)
        file["log_likelihood"] = rng.normal(-1e4, 50, count)
        file["halfset"] = (1 + np.arange(count) % 2).astype(np.int8)
    (folder / "analysis").mkdir()
    with h5py.File(folder / "analysis" / "particles.h5", "w") as file:
        file["cluster"] = np.digitize(place, np.linspace(-2.4, 2.4, CLUSTERS + 1)[1:-1]) + 1
    _write_volumes(folder, eigenvalues, box, rng)
    _write_star(folder / "particles.star", count, rng)
    record = {
        "format": "solvar-run", "format_version": 1, "version": "0", "settings": {}, "stages": [],
        "warnings": [],
        "particles": {"count": count, "source": "particles.star", "source_format": "relion"},
        "result": {
            "rank": rank, "box_size": box, "pixel_size_angstrom": PIXEL_SIZE,
            "eigenvalues": eigenvalues.tolist(), "inverted": False,
        },
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def _write_volumes(
    folder: Path, eigenvalues: np.ndarray, box: int, rng: np.random.Generator
) -> None:
    """A chain of blobs, the ways it bends, and a mask."""
    grid = (np.indices((box,) * 3) - box // 2) / box
    mean, moved = np.zeros((box,) * 3), np.zeros((len(eigenvalues), *(box,) * 3))
    beads = np.cumsum(rng.normal(0, 0.07, (40, 3)), axis=0)
    beads -= beads.mean(axis=0)
    beads *= 0.3 / np.linalg.norm(beads, axis=1).max()
    for bead in beads:
        away = grid - bead[:, None, None, None]
        blob = np.exp(-0.5 * (away**2).sum(axis=0) / 0.035**2)
        mean += blob
        for j in range(len(eigenvalues)):
            push = np.sin((j + 1) * bead[j % 3] * 6)
            moved[j] += push * blob * away[(j + 1) % 3]
    radius = np.sqrt((grid**2).sum(axis=0))
    write_volume(folder / "mean.mrc", mean, PIXEL_SIZE)
    write_volume(folder / "mask.mrc", np.clip(20 * (0.45 - radius), 0, 1), PIXEL_SIZE)
    for j, column in enumerate(moved):
        column *= 0.4 * np.linalg.norm(mean) / (np.linalg.norm(column) * np.sqrt(eigenvalues[j]))
        write_volume(folder / f"eigenvolume_{j + 1:03d}.mrc", column, PIXEL_SIZE)


def _write_star(path: Path, count: int, rng: np.random.Generator) -> None:
    names = ("rlnImageName", "rlnMicrographName", "rlnDefocusU", "rlnDefocusV", "rlnAngleRot")
    with path.open("w") as file:
        file.write("data_particles\n\nloop_\n")
        file.writelines(f"_{name} #{k}\n" for k, name in enumerate(names, 1))
        defocus = rng.uniform(8e3, 2.5e4, count)
        angle = rng.uniform(-180, 180, count)
        for k in range(count):
            file.write(
                f"{k + 1:07d}@stack.mrcs mic{k // 300:05d}.mrc {defocus[k]:.2f} {defocus[k]:.2f} "
                f"{angle[k]:.3f}\n"
            )


def serve(folder: Path, pipe) -> None:
    """The server's process: tells its address, and its peak memory when asked."""
    import resource
    import threading

    from solvar.viewer import ViewerServer

    limit_files(SERVER_FILES)
    server = ViewerServer(folder)
    pipe.send(server.address)
    threading.Thread(target=server.serve, daemon=True).start()
    pipe.recv()
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
    server.stop()
    server.close()


def time_functions(folder: Path) -> None:
    """Seconds of what a callback computes, with nothing but the answer's JSON around it."""
    from solvar.report.interactive import raster
    from solvar.viewer import figures, selections, viewing
    from solvar.viewer.data import ViewerData
    from solvar.viewer.figures import Look

    started = time.perf_counter()
    data = ViewerData(folder)
    tell("open the run", time.perf_counter() - started)
    angle = np.linspace(0, 2 * np.pi, 300, endpoint=False)
    asked = {
        "kind": "lasso", "axes": ["z1", "z2"],
        "x": (1.5 * np.cos(angle) * (1 + 0.2 * np.sin(7 * angle))).tolist(),
        "y": (1.2 * np.sin(angle)).tolist(),
    }  # fmt: skip
    chosen = selections.select(data, asked)
    look, axes = Look(("z1", "z2")), ("z1", "z2")
    cut = viewing.Contour(data.model.level, 0.5, True)
    zoomed = raster.Window((-0.5, 0.5), (-0.5, 0.5))
    data.column("cluster")
    point = [1.0, *[0.0] * (data.rank - 1)]

    def molecule() -> str:
        return json.dumps(figures.molecule(viewing.model_at(data, point, cut), 60.0, False))

    for name, what, limit in (
        ("lasso of 300 corners", lambda: selections.select(data, asked), SELECT_SECONDS),
        ("picture, density", lambda: figures.picture(data, look), None),
        ("picture, clusters", lambda: figures.picture(data, Look(axes, "cluster")), None),
        ("picture, selection", lambda: figures.picture(data, Look(axes, None, chosen)), None),
        ("picture, zoomed", lambda: figures.picture(data, Look(axes, window=zoomed)), None),
        ("nearest 1,000", lambda: data.near(np.zeros(data.rank), 1000), SELECT_SECONDS),
        ("molecule, two contours, JSON", molecule, MOLECULE_SECONDS),
        ("24 frames of a path", lambda: viewing.frames(data, [point, (-np.array(point)).tolist()],
                                                       24, cut), None),
    ):  # fmt: skip
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            what()
            seconds.append(time.perf_counter() - started)
        tell(name, float(np.median(seconds)), limit)
    started = time.perf_counter()
    data.column("star:rlnDefocusU")
    tell("first look at a star column", time.perf_counter() - started)


def limit_files(count: int) -> None:
    """How many files this process may open."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, most), most))


def crowd(address: str, kind: str, pipe) -> None:
    """The process of a crowd: tells when it is there, goes when it is told to."""
    limit_files(CROWD + 100)
    place = "127.0.0.1", int(address.split(":")[2].split("/")[0])
    waiting = []

    def come() -> None:
        waiting.append(socket.create_connection(place, timeout=30))
        if kind == "half a request":
            waiting[-1].sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")

    for _ in range(CROWD):
        come()
    pipe.send("here")
    while not pipe.poll(0 if kind == "replaced" else None):
        waiting.pop(0).close()
        come()


def time_crowds(address: str) -> None:
    """Seconds until the owner has the page and what is on it: address, page, layout; the longest of 10."""
    from visitor import visit

    context = multiprocessing.get_context("spawn")
    base = address.split("?")[0]
    for kind in ("nobody", "nothing", "half a request", "replaced"):
        here, there = context.Pipe()
        others = context.Process(target=crowd, args=(address, kind, there), daemon=True)
        if kind != "nobody":
            others.start()
            here.recv()
        seconds = []
        for _ in range(10):
            started = time.perf_counter()
            browser = visit(address)
            for path in ("", "_dash-layout"):
                browser.open(base + path, timeout=60).read()
            seconds.append(time.perf_counter() - started)
        tell(f"owner beside {CROWD:,}: {kind}", max(seconds), CROWD_SECONDS)
        if kind != "nobody":
            here.send("go")
            others.join(timeout=30)


def time_page(address: str, picture: Path | None) -> None:
    """Seconds of what a user waits for in a browser."""
    from headless import Page, chromium

    folder = Path(tempfile.mkdtemp())
    driver = chromium()
    try:
        page = Page(driver, folder)
        driver.get("about:blank")
        started = time.perf_counter()
        driver.get(address)
        page.until(lambda: page.js("return !!document.querySelector('#latents .imagelayer image')"))
        tell("browser: first paint of the plane", time.perf_counter() - started, PAINT_SECONDS)
        page.until(lambda: page.corners() > 0)
        tell("browser: first molecule", time.perf_counter() - started)
        page.settle()
        page.choose("mode", "Lasso")
        page.settle()
        before = page.text("selected")
        outline = [(-0.2, 0.9), (1.4, 1.2), (1.6, -0.8), (0.4, -1.0), (0.2, 0.3)]
        page.drag(outline)
        started = time.perf_counter()
        page.until(lambda: page.text("selected") != before)
        tell("browser: lasso to count", time.perf_counter() - started, SELECT_SECONDS)
        page.settle()
        page.choose("mode", "Look")
        page.settle()
        for number in range(3):
            shape = page.shape()
            page.tap(0.5 * number, -1.0 + 0.5 * number)
            started = time.perf_counter()
            page.until(lambda shape=shape: page.shape() != shape)
            tell(f"browser: click to molecule, {number + 1}", time.perf_counter() - started)
        page.settle()
        if picture is not None:
            shutil.copy(page.picture("page"), picture)
        complaints = page.complaints()
        print(f"browser: errors in the console: {len(complaints)} {complaints}")
    finally:
        driver.quit()
        shutil.rmtree(folder)


def tell(name: str, value: float, limit: float | None = None, unit: str = "s") -> None:
    """One line; the limit where there is one."""
    verdict = (
        ""
        if limit is None
        else f"   limit {limit:g} {unit}: " + ("kept" if value <= limit else "NOT KEPT")
    )
    print(f"{name:<36} {value:8.3f} {unit}{verdict}", flush=True)


def main() -> None:
    """Make, serve, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--particles", type=int, default=1_000_000)
    parser.add_argument("--rank", type=int, default=10)
    parser.add_argument("--box", type=int, default=64)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder) / "million", options.particles, options.rank, options.box)
        print(f"{options.particles:,} particles, rank {options.rank}, box {options.box}")
        time_functions(run)
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        server = context.Process(target=serve, args=(run, there), daemon=True)
        server.start()
        address = here.recv()
        time_crowds(address)
        if shutil.which("chromium") and shutil.which("chromedriver"):
            time_page(address, options.picture)
        else:
            print("no chromium: nothing was measured in a browser")
        here.send("stop")
        tell("server, peak memory", here.recv(), MEMORY_GIB, "GiB")
        server.join(timeout=10)


if __name__ == "__main__":
    main()
