"""What `solvar export --subtract` leaves of the part that it takes out, against the noise.

Particles whose every volume is known: what is left of one is the true image of the removed part less what was
subtracted. It is looked at where the removed part is seen, as a share of the noise there,

    power   |noise + left|² / |noise|² - 1: what a subtracted image has too much (+) or too little (-)
    error   |left|² / |noise|²

whole and in shells, and in reconstructions of the removed part from all particles. Compared are

    nothing    images as they are
    rigid      the mean of the run alone, contrast 1: what relion_particle_subtract does
    contrasts  the same with the contrasts of the run
    plain      all of μ + V z, whether half-sets are sure of it or not
    subtract   what solvar export writes
    truth      true mean and eigenvolumes, latents and contrasts from the images: what such a model can attain

    python benchmarks/subtract.py                                  # simulated sets, a few minutes
    solvar run ../shared/data/pol2_64/particles.star --mask ../shared/data/pol2_64/mask.mrc --rank 6 -o pol2
    python benchmarks/subtract.py pol2 ../shared/data/pol2_64
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import mrcfile
import numpy as np
from scipy.spatial.transform import Rotation

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.latents import place_particles
from solvar.estimation.mean import MeanProblem
from solvar.estimation.model_images import ModelImages
from solvar.export import ExportOptions, export
from solvar.export.subtraction import Subtraction
from solvar.fitting.fit import fit
from solvar.fitting.images import read_images
from solvar.fitting.settings import FitSettings
from solvar.imaging.projector import Projection
from solvar.particles import ImageStack, ParticleSet, Poses, read_particles
from solvar.particles.stack_write import write_stack
from solvar.progress import SilentProgress
from solvar.results.provenance import record
from solvar.results.run import Run
from solvar.results.writer import run_folder, write_run
from solvar.simulation import SimulationSettings, simulate
from solvar.simulation.truth import soft_mask
from solvar.simulation.volumes import blob_volume
from solvar.threads import ThreadTeam
from solvar.volume_file import read_volume, write_volume
from solvar.volumes import VolumeSettings
from solvar.volumes.source import open_source

LOOKED_AT = 1000
EXACT = Projection("nufft")
# all but no prior
WEAK = 1e-3


@dataclass(frozen=True)
class Known:
    """A set whose volumes are known, in the order of its rows."""

    state: np.ndarray  # (N,) of each particle
    contrast: np.ndarray  # (N,)
    poses: Poses
    volume: Callable[[int], np.ndarray]  # of a state
    mean: np.ndarray
    columns: np.ndarray  # eigenvolume · √eigenvalue
    mask: np.ndarray
    images: Callable[[np.ndarray], np.ndarray] | None = (
        None  # noiseless ones, where these are known
    )


def simulated(folder: Path, **settings: object) -> tuple[Run, Known, np.ndarray]:
    """A run on a simulated set, what is true of it, and a mask of half the molecule."""
    made = simulate(SimulationSettings(box_size=48, pixel_size=4.0, snr=0.1, seed=1, **settings))
    star = made.write(folder / "set")
    wanted = FitSettings(rank=4, mask=folder / "set" / "mask.mrc", threads=1)
    found = fit(read_particles(star), wanted)
    with run_folder(folder / "run") as own:
        write_run(own, found, record(found.particles, wanted, ()))
    truth, ensemble = made.truth_volumes(), made.ensemble
    box, pixel_size = made.settings.box_size, made.settings.pixel_size

    def volume(state: int) -> np.ndarray:
        place, weight = ensemble.place(ensemble.coordinate[state : state + 1])
        sigma = ensemble.sigma_angstrom
        return made.scale * blob_volume(place[0], weight[0], sigma, box, pixel_size)

    state, columns = np.arange(len(made)), truth.eigenvolumes
    images = made.clean_images
    known = Known(state, made.contrast, made.poses, volume, truth.mean, columns, truth.mask, images)
    axis = np.arange(box) - box // 2
    half = np.broadcast_to(np.clip((axis + 3) / 6, 0, 1), (box,) * 3).astype(np.float32)
    return Run(folder / "run"), known, half


def polymerase(folder: Path) -> tuple[Known, np.ndarray]:
    """What is true of the set pol2_64, and a mask of its clamp and stalk."""
    atoms, truth = np.load(folder / "atoms.npz"), np.load(folder / "gt.npz")
    axis = atoms["axis"] / np.linalg.norm(atoms["axis"])
    moves = atoms["clamp"] | atoms["stalk"]
    box, pixel_size, sigma = int(truth["L"]), float(truth["apix"]), float(truth["sigma"])

    def of(state: int, which: np.ndarray) -> np.ndarray:
        turn = Rotation.from_rotvec(np.deg2rad(-6 + 30 * (state % 40) / 39) * axis).as_matrix()
        place = 0.01 * atoms["xyz"]
        place[moves] = (place[moves] - atoms["pivot"]) @ turn.T + atoms["pivot"]
        shown = which & (True if state >= 40 else ~atoms["stalk"])
        blobs = blob_volume(place[shown], atoms["w"][shown], sigma, box, pixel_size)
        return float(truth["alpha"]) * blobs

    moving = np.max([of(state, moves) for state in range(40, 80, 5)], axis=0)
    volume = cache(lambda state: of(state, np.ones_like(moves)))
    mean, mask = (read_volume(folder / f"{name}.mrc")[0] for name in ("gt_mean", "mask"))
    columns = mrcfile.read(folder / "gt_eigenvolumes.mrc").reshape(-1, box, box, box)
    poses = read_particles(folder / "particles.star").poses
    known = Known(truth["state"], truth["contrast"], poses, volume, mean, columns, mask)
    return known, soft_mask(moving)


def true_coefficients(run: Run, known: Known, rank: int) -> np.ndarray:
    """Of the true mean and columns, (N, 1 + rank): latents and contrasts from the images."""
    with tempfile.TemporaryDirectory() as scratch, ThreadTeam(1) as team:
        wanted = VolumeSettings(threads=1)
        source = open_source(run, None, wanted, Path(scratch), SilentProgress(), team)
        band = source.band(np.arange(run.particle_count))
        model = ColumnModel(np.concatenate([known.mean[None], known.columns[:rank]]), 0.15)
        with SilentProgress().step("", 0) as step:
            found = place_particles(band, model, np.ones(rank), step)
    return found.contrast[:, None] * np.column_stack([np.ones(len(found.z)), found.z])


def true_images(
    particles: ParticleSet, known: Known, index: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Noiseless images of the true volumes of particles times a weight (L, L, L)."""
    box = particles.box_size
    images, state = np.empty((len(index), box, box), np.float32), known.state[index]
    with ThreadTeam(1) as team:
        for each in np.unique(state):
            places = np.flatnonzero(state == each)
            volumes = (weight * known.volume(int(each)))[None].astype(np.float32)
            model = ModelImages(volumes, (box - 1) // 2, particles, 0, EXACT, team)
            images[places] = model.images(index[places], known.contrast[index[places], None])
    return images


def windows(particles: ParticleSet, region: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Where a region is seen in images, 0 to 1: its projection in a microscope without a lens."""
    optics, images = particles.optics, particles.exposures
    nothing = np.zeros(len(particles))
    quarter = np.full(len(particles), np.pi / 2)
    ctf = type(images.ctf)(nothing, nothing, nothing, quarter, nothing)
    none = np.zeros(len(optics.name))
    optics = replace(optics, spherical_aberration_mm=none, amplitude_contrast=none)
    bare = replace(particles, optics=optics, exposures=replace(images, ctf=ctf))
    with ThreadTeam(1) as team:
        volumes, k_c = region[None].astype(np.float32), (particles.box_size - 1) // 2
        model = ModelImages(volumes, k_c, bare, 0, EXACT, team)
        seen = model.images(index, np.ones((len(index), 1)))
    return np.clip(seen / (0.25 * seen.max(axis=(1, 2), keepdims=True)), 0, 1)


def shell_power(arrays: np.ndarray) -> np.ndarray:
    """Power of images (N, L, L), or of volumes, summed over each shell."""
    box = arrays.shape[-1]
    k = np.fft.fftfreq(box, 1 / box)
    axes = np.meshgrid(*[k] * (arrays.ndim - 1), indexing="ij")
    shell = np.rint(np.sqrt(sum(axis**2 for axis in axes))).astype(int).ravel()
    power = sum(np.abs(np.fft.fftn(array)) ** 2 for array in arrays)
    return np.bincount(shell, np.ravel(power))[: box // 2]


def reconstructed(particles: ParticleSet, images: np.ndarray) -> np.ndarray:
    """The volume (L, L, L) that images in place of those of all particles make."""
    count, box = len(images), images.shape[-1]
    with tempfile.TemporaryDirectory() as folder, ThreadTeam(1) as team:
        path = Path(folder) / "images.mrcs"
        write_stack(path, images.shape, particles.pixel_size_angstrom, [images])
        place = {"stack_index": np.zeros(count, np.int64), "frame": np.arange(count)}
        exposures = replace(particles.exposures, **place)
        made = replace(particles, stacks=(path,), exposures=exposures)
        whitened = read_images(made, FitSettings(threads=1))
        everywhere, k_c = np.ones((box,) * 3, np.float32), whitened.disc.k_c
        band = Band(whitened, np.arange(count), k_c, everywhere, Projection(), team)
        precision = np.full(k_c + 1, WEAK * band.shell_information.mean())
        return MeanProblem(band).solve(precision, 6)


class Compared:
    """Ways to subtract, on one set and with one mask."""

    def __init__(self, run: Run, known: Known, mask: np.ndarray, subtraction: Subtraction) -> None:
        self.run, self.known, self.subtraction = run, known, subtraction
        particles = replace(subtraction.particles, poses=known.poses)
        self.particles, self.outside = particles, 1 - mask
        everyone = np.arange(run.particle_count)
        self.before = subtraction.stack.read(everyone)
        if known.images is not None:
            clean = known.images(everyone)
        else:
            clean = true_images(particles, known, everyone, np.ones_like(mask))
        self.noise = self.before - clean
        self.removed = true_images(particles, known, everyone, self.outside)
        self.index = np.sort(np.random.default_rng(0).permutation(everyone)[:LOOKED_AT])
        self.window = windows(particles, self.outside * known.mask, self.index)
        self.base = shell_power(self.window * self.noise[self.index])
        self.region = self.outside * known.mask
        self.base_volume = shell_power(self.region * self._volume(self.noise))

    def _volume(self, images: np.ndarray) -> np.ndarray:
        return reconstructed(self.particles, images.astype(np.float32))[None]

    def taken(self, coefficients: np.ndarray, volumes: np.ndarray) -> np.ndarray:
        """What is taken out of all images with other coefficients and volumes."""
        other = replace(self.subtraction, coefficients=coefficients, volumes=volumes)
        with SilentProgress().step("", 0) as step:
            left = list(other.images(np.arange(self.run.particle_count), step))
        return self.before - np.concatenate(left)

    def tell(self, name: str, taken: np.ndarray | float) -> None:
        """Print what is left after so much (N, L, L) was taken out."""
        left = self.removed - taken
        noise, some = self.noise[self.index], left[self.index]
        both = shell_power(self.window * (noise + some)) / self.base - 1
        error = shell_power(self.window * some) / self.base
        volume = shell_power(self.region * self._volume(self.noise + left))
        bands, whole = self.bands, slice(0, None)
        cells = [f"{self._mean(both, whole):+7.2f} /{self._mean(error, whole):6.2f}"]
        cells += [f"{self._mean(both, b):+6.1f} /{self._mean(error, b):6.1f}" for b in bands]
        cells += [f"{volume[b].sum() / self.base_volume[b].sum():8.2f}" for b in bands]
        print(f"  {name:10}" + " ".join(cells), flush=True)

    @property
    def bands(self) -> list[slice]:
        """Shells to Nyquist, in four parts."""
        edges = [1, 5, 9, 17, len(self.base)]
        return [slice(*both) for both in pairwise(edges)]

    def _mean(self, values: np.ndarray, band: slice) -> float:
        return 100 * float(np.average(values[band], weights=self.base[band]))


def compare(run: Run, known: Known, mask: np.ndarray, what: str) -> None:
    """Print the table of one set and mask."""
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "mask.mrc", Path(folder) / "out"
        write_volume(path, mask, run.pixel_size_angstrom)
        start = time.perf_counter()
        export(run, "relion", out, ExportOptions(subtract=path))
        seconds = time.perf_counter() - start
        after = ImageStack(read_particles(out / "particles.star"))
        after = after.read(np.arange(run.particle_count))
        subtraction = Subtraction.of(run, path)
    each = Compared(run, known, mask, subtraction)
    head = [f"{name:>16}" for name in ("whole", "shells 1-4", "5-8", "9-16", "17-")]
    head += [f"{name:>8}" for name in ("vol. 1-4", "5-8", "9-16", "17-")]
    print(f"{what} ({run.particle_count:,} particles written in {seconds:.1f} s)")
    print(
        "  power / error in images, % of the noise there; power in reconstructions over that of noise"
    )
    print(f"  {'':8}" + " ".join(head))
    ours, model = subtraction.coefficients, run.model
    mean_alone = np.zeros_like(ours)
    mean_alone[:, 0] = 1
    everything = np.concatenate([model.mean[None], model.eigenvolumes]) * each.outside
    rank = min(run.rank, len(known.columns))
    true = np.concatenate([known.mean[None], known.columns[:rank]]) * each.outside
    each.tell("nothing", 0.0)
    each.tell("rigid", each.taken(mean_alone, everything))
    each.tell("contrasts", each.taken(ours[:, :1] * mean_alone, everything))
    each.tell("plain", each.taken(ours, everything))
    each.tell("subtract", each.before - after)
    exact = true.astype(np.float32)
    each.tell("truth", each.taken(true_coefficients(run, known, rank), exact))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", help="on pol2_64; default: simulated sets")
    parser.add_argument("truth", type=Path, nargs="?", help="the folder of pol2_64")
    given = parser.parse_args()
    if given.run is not None:
        run, (known, moving) = Run(given.run), polymerase(given.truth)
        compare(run, known, moving, "Body out, clamp and stalk stay")
        compare(run, known, 1 - moving, "Clamp and stalk out, the body stays")
        return
    for kind in ("gaussian", "hinge-loop"):
        with tempfile.TemporaryDirectory() as folder:
            run, known, half = simulated(Path(folder), heterogeneity=kind, particles=2000)
            compare(run, known, half, f"{kind}: half of the molecule out")


if __name__ == "__main__":
    main()
