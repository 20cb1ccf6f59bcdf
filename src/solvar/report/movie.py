"""Movies of the components that are resolved, along the way that particles take.

Each shows the mean and the confirmed components, low-passed to what the half-sets support, from where the
change is seen best; what changes is coloured.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.curves import component_curves
from solvar.errors import InputError
from solvar.estimation.mean import fourier_filter
from solvar.files import OwnedFolder, replacing
from solvar.fitting.result import RESOLVED
from solvar.imaging.contour import contour_level
from solvar.imaging.fourier import crop_volume, volume_shells
from solvar.imaging.fsc import resolution
from solvar.progress import Progress, harmless
from solvar.report import style
from solvar.report.surface import Camera, picture, silhouette
from solvar.results.run import Run
from solvar.results.writer import MOVIES

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_FRAMES = 20
_SIZE, _SCOUT = 300, 40  # pixels of a picture, and of those that look for the best view
_VIEWS = 32
_SMALLEST, _FINEST = 32, 96  # voxels; larger boxes are cropped in Fourier space
_MILLISECONDS = 80
_MARGIN, _NEARLY_ALL = 1.08, 0.999
_STAYS = np.array([0.74, 0.76, 0.80])


def movie_name(component: int) -> str:
    """The file of a component, counted from 1."""
    return f"movie_component_{component:02d}.webp"


def resolved(run: Run) -> list[int]:
    """The components, from 1, whose halves agree where density changes; none in boxes too small to see it."""
    validation = run.validation
    if validation is None or run.model.box_size < _SMALLEST:
        return []
    return [j + 1 for j in range(run.rank) if validation.verdict(j) == RESOLVED]


def draw_movies(run: Run, own: OwnedFolder, progress: Progress | None = None) -> list[Path]:
    """Draw a movie of each resolved component to the folder of `run`.

    One that cannot be drawn is told through `progress`.
    """
    progress, drawn = harmless(progress), list[Path]()
    components = resolved(run)
    try:
        paths = own.claim(MOVIES, [movie_name(component) for component in components])
    except (InputError, OSError) as error:
        progress.message(f"No movie was drawn: {error}")
        return []
    with progress.step("Movies", len(components), "movies") as step:
        curves = component_curves(run, components, _FRAMES) if components else []
        for path, curve in zip(paths, curves, strict=True):
            try:
                write_movie(path, frames(run, curve))
                drawn.append(path)
            except Exception as error:
                progress.message(f"{path.name} was not drawn ({type(error).__name__}: {error})")
            step.advance()
    return drawn


def write_movie(path: Path, pictures: list[NDArray[np.uint8]]) -> None:
    """Pictures (size, size, 4), there and back, as animated WebP that repeats for ever."""
    from PIL import Image

    there = [Image.fromarray(each) for each in pictures]
    first, *rest = [*there, *there[-2:0:-1]]
    with replacing(path) as temporary:
        first.save(
            temporary, "WEBP", save_all=True, append_images=rest, duration=_MILLISECONDS, loop=0, quality=70
        )  # fmt: skip


def frames(run: Run, latents: Float64) -> list[NDArray[np.uint8]]:
    """The molecule at latents (n, r), from where its change is seen best."""
    from matplotlib.colors import to_rgb

    volumes = supported_volumes(run, latents)
    # smooth enough for rays that are sampled between voxels
    volumes = [crop_volume(volume, 2 * len(volume)) for volume in volumes]
    level = contour_level(np.mean(volumes, axis=0, dtype=np.float32))
    change = np.ptp(np.stack([volumes[0], volumes[len(volumes) // 2], volumes[-1]]), axis=0)
    change = (change / max(level, float(np.finfo(np.float32).tiny))).astype(np.float32)
    camera = best_camera(volumes[0], volumes[-1], level)
    colours = _STAYS, np.array(to_rgb(style.VERMILION))
    return [picture(volume, change, level, camera, colours) for volume in volumes]


def supported_volumes(run: Run, latents: Float64) -> list[Float32]:
    """Volumes at latents (n, r), mean and components no finer than the half-sets support.

    Components that are noise take no part.
    """
    model, validation = run.model, run.validation
    assert validation is not None
    box = min(model.box_size, _FINEST)
    edge = model.box_size * run.pixel_size_angstrom
    mean = crop_volume(model.mean, box)
    mean = _low_passed(mean, edge, resolution(validation.mean_fsc, edge))
    kept = [j for j in range(run.rank) if validation.reliable[j]]
    columns = np.stack(
        [
            _low_passed(
                crop_volume(model.eigenvolumes[j], box), edge, validation.component_resolution[j]
            )
            for j in kept
        ]
    )
    weight = latents[:, kept].astype(np.float32)
    return [mean + np.tensordot(each, columns, axes=1) for each in weight]


def _low_passed(volume: Float32, edge_angstrom: float, finest_angstrom: float) -> Float32:
    """Without shells finer than a resolution; as it is where halves agree nowhere."""
    if not np.isfinite(finest_angstrom):
        return volume
    finest = edge_angstrom / finest_angstrom
    shells = volume_shells(len(volume))
    # a soft edge of two shells rings less
    response = np.clip((finest + 1 - shells) / 2, 0, 1).astype(np.float32)
    return fourier_filter(volume, response)


def best_camera(first: Float32, last: Float32, level: float) -> Camera:
    """The view in which the surfaces of two volumes differ most."""
    reach = _reach(np.maximum(first, last), level)
    differences = []
    cameras = [Camera(rotation, reach, _SCOUT) for rotation in _views(_VIEWS)]
    for camera in cameras:
        away = silhouette(first, level, camera) - silhouette(last, level, camera)
        differences.append(float(np.abs(away).mean()))
    chosen = cameras[int(np.argmax(differences))]
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
