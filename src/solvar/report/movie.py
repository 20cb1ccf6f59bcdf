"""Movies of the components that are resolved, along the way that particles take, and of paths.

Each shows the mean and the confirmed components, low-passed to what the half-sets support, from where the
change is seen best; what changes is coloured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.curves import Curves
from solvar.analysis.ridges import equidistant
from solvar.analysis.writing import FOLDER
from solvar.estimation.low_rank import LowRankModel
from solvar.files import OwnedFolder, Writer
from solvar.fitting.result import RESOLVED
from solvar.imaging.contour import contour_level
from solvar.imaging.fourier import crop_volume
from solvar.imaging.masks import resample_mask
from solvar.progress import Progress
from solvar.report import style
from solvar.report.figures import draw_each
from solvar.report.movie_files import movie_formats, write_movie
from solvar.report.surface import Camera, picture, silhouette
from solvar.results.run import Run
from solvar.results.supported import have_shape, supported_model
from solvar.results.writer import ANALYSIS, MOVIES
from solvar.threads import ThreadTeam

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

FRAMES = 20
_SIZE, _SCOUT = 300, 40  # pixels of a picture, and of those that look for the best view
_VIEWS = 32
_SMALLEST, _FINEST = 32, 96  # voxels; larger boxes are cropped in Fourier space
_MARGIN, _NEARLY_ALL = 1.08, 0.999
_STAYS = np.array([0.74, 0.76, 0.80])


def movie_name(component: int, suffix: str = ".webp") -> str:
    """The file of a component, counted from 1."""
    return f"movie_component_{component:02d}{suffix}"


def resolved(run: Run) -> list[int]:
    """The components, from 1, whose halves agree where density changes; none in boxes too small to see it."""
    validation = run.validation
    if validation is None or run.model.box_size < _SMALLEST:
        return []
    return [j + 1 for j in range(run.rank) if validation.verdict(j) == RESOLVED]


def draw_movies(run: Run, own: OwnedFolder, progress: Progress | None = None) -> list[Path]:
    """Draw a movie of each resolved component to the folder of `run`, in all formats that can be written.

    One that cannot be drawn is told through `progress`.
    """
    curves = Curves(run, ThreadTeam(run.settings.threads))
    ways = {
        movie_name(component, ""): partial(curves.along, component, FRAMES)
        for component in resolved(run)
    }
    return _draw_all(run, MOVIES, ways, own, progress)


def draw_path_movies(
    run: Run, paths: Mapping[str, Float64], own: OwnedFolder, progress: Progress | None = None
) -> list[Path]:
    """Draw a movie of each path of an analysis to its folder; none if no component is resolved.

    One that cannot be drawn is told through `progress`.

    Parameters
    ----------
    run : Run
    paths : mapping of str to (n, r) float64
        Latents along each, by its name.
    own : OwnedFolder
        The right to write in the folder of the run.
    progress : Progress, optional
    """
    ways = {
        f"{FOLDER}/movie_{name}": partial(equidistant, points, FRAMES)
        for name, points in paths.items()
        if resolved(run)
    }
    return _draw_all(run, ANALYSIS, ways, own, progress)


def _draw_all(
    run: Run,
    writer: Writer,
    ways: Mapping[str, Callable[[], Float64]],
    own: OwnedFolder,
    progress: Progress | None,
) -> list[Path]:
    """Movies by name without suffix, of the latents (n, r) that each way has."""
    model = cache(lambda: movie_model(run))
    # formats of a movie follow each other
    team = ThreadTeam(run.settings.threads)
    pictures = lru_cache(1)(lambda name: frames(model(), ways[name](), team))

    def draw(name: str, path: Path) -> None:
        write_movie(path, pictures(name))

    movies = {name + suffix: partial(draw, name) for name in ways for suffix in movie_formats()}
    return draw_each(writer, movies, own, progress, "movie") if movies else []


def frames(
    model: LowRankModel, latents: Float64, team: ThreadTeam | None = None
) -> list[NDArray[np.uint8]]:
    """The molecule at latents (n, r), from where its change is seen best; a team shares out pictures."""
    from matplotlib.colors import to_rgb

    level = contour_level(model.volume_at(latents.mean(axis=0)))
    first, middle, last = (model.volume_at(latents[k]) for k in (0, len(latents) // 2, -1))
    change = np.ptp(np.stack([first, middle, last]), axis=0)
    change = (change / max(level, float(np.finfo(np.float32).tiny))).astype(np.float32)
    camera = best_camera(first, last, level, team)
    colours = _STAYS, np.array(to_rgb(style.VERMILION))

    def drawn(z: Float64) -> NDArray[np.uint8]:
        return picture(model.volume_at(z), change, level, camera, colours)

    return list((team or ThreadTeam(1)).mapped(drawn, latents))


def movie_model(run: Run) -> LowRankModel:
    """What half-sets support of the model of a run; eigenvolumes on which they do not agree are 0.

    On a grid twice as fine as it would need: smooth enough for rays that are sampled between voxels.
    """
    model, shown = supported_model(run), have_shape(run)
    drawn = min(model.box_size, _FINEST)

    def fine(volume: Float32) -> Float32:
        return crop_volume(crop_volume(volume, drawn), 2 * drawn)

    eigenvolumes = np.zeros((run.rank, *(2 * drawn,) * 3), np.float32)
    for j in np.flatnonzero(shown):
        eigenvolumes[j] = fine(model.eigenvolumes[j])
    pixel_size = model.box_size * model.pixel_size_angstrom / (2 * drawn)
    mask = resample_mask(model.mask, 2 * drawn)
    return LowRankModel(fine(model.mean), eigenvolumes, model.eigenvalues, mask, pixel_size)


def best_camera(
    first: Float32, last: Float32, level: float, team: ThreadTeam | None = None
) -> Camera:
    """The view in which the surfaces of two volumes differ most."""
    reach = _reach(np.maximum(first, last), level)
    cameras = [Camera(rotation, reach, _SCOUT) for rotation in _views(_VIEWS)]

    def difference(camera: Camera) -> float:
        away = silhouette(first, level, camera) - silhouette(last, level, camera)
        return float(np.abs(away).mean())

    chosen = cameras[int(np.argmax(list((team or ThreadTeam(1)).mapped(difference, cameras))))]
    return Camera(chosen.rotation, reach, _SIZE)


def _reach(volume: Float32, level: float) -> float:
    """Voxels from the centre of the box to the farthest place of the surface, and a little more."""
    place = np.argwhere(volume >= level) - len(volume) // 2
    # specks of noise would make the molecule small
    distance = np.sqrt((place**2).sum(axis=1))
    farthest = np.quantile(distance, _NEARLY_ALL) if len(place) else len(volume) / 2
    return float(min(_MARGIN * farthest, len(volume) / 2))


def _views(count: int) -> list[Float64]:
    """Rotations towards directions spread evenly over half of the sphere: the other half is behind."""
    number = np.arange(count)
    z = 1 - (number + 0.5) / count
    angle = number * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - z**2)
    views = []
    for away in np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1):
        up = np.eye(3)[int(np.argmin(np.abs(away)))]
        right = np.cross(up, away)
        right /= np.linalg.norm(right)
        views.append(np.stack([right, np.cross(away, right), away]))
    return views
