"""Volumes as small pictures: slices in colour, and projections that the page moves along a component."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.files import open_inside, read_bytes
from solvar.report import style
from solvar.report.change import change_planes
from solvar.report.consensus import formation
from solvar.report.html.encoding import png, quantised, webp
from solvar.report.movie import movie_name
from solvar.report.volumes import VIEWS, strongest_slices, window
from solvar.results.run import Run
from solvar.results.supported import supported_model

Float64 = NDArray[np.float64]

# Pictures are a few centimetres wide: finer pixels would only make the page heavy.
_FINEST = 96
_LONGEST_MOVIE = 4 << 20  # bytes
_REACH = 2.0  # standard deviations to either side


def component_pictures(run: Run, shown: int) -> dict[str, Any]:
    """Slices of the mean and of `shown` eigenvolumes, and their motions.

    Returns
    -------
    pictures : dict
        ``edge_angstrom`` of every picture; ``mean``: three data addresses; ``slices``: three a
        component; ``motion``: what the page needs to draw mean + t·σ·eigenvolume in projection.
    """
    crop, edge_angstrom = window(run.model)
    model = supported_model(run)
    mean = model.mean[crop]
    sigma = np.sqrt(np.maximum(model.eigenvalues[:shown], 0))
    volumes = [volume[crop] for volume in model.eigenvolumes[:shown]]
    return {
        "edge_angstrom": edge_angstrom,
        "mean": _grey(strongest_slices(mean)),
        "slices": [_signed(strongest_slices(volume)) for volume in volumes],
        "motion": _motion(mean, [s * v for s, v in zip(sigma, volumes, strict=True)]),
    }


def movies(run: Run) -> dict[int, str]:
    """Data addresses of the movies in the run folder, by component from 1."""
    found = {}
    for component in range(1, run.rank + 1):
        try:
            with open_inside(run.folder, movie_name(component)) as file:
                found[component] = webp(read_bytes(file, _LONGEST_MOVIE))
        except OSError:
            continue  # of a component that is not resolved there is none
    return found


def change_pictures(run: Run) -> list[tuple[str, str]]:
    """Where the molecule changes, in slices: along what, and its data address."""
    planes = change_planes(run) or []
    coloured = [
        np.stack([_upright(_small(c)) for c in np.moveaxis(p, 2, 0)], axis=2) for p in planes
    ]
    addresses = [png(np.round(255 * np.clip(each, 0, 1)).astype(np.uint8)) for each in coloured]
    return list(zip(VIEWS, addresses, strict=False))


def consensus_pictures(run: Run) -> list[tuple[str, str]]:
    """How a volume formed from images alone, in projection: what each is, and its data address."""
    if run.ab_initio is None:
        return []
    return [(name, _grey([volume.sum(axis=0)])[0]) for name, volume in formation(run)]


def _motion(mean: NDArray, shifts: list[NDArray]) -> dict[str, Any]:
    """Projections of the mean and of each shift by one standard deviation, three views each.

    A projection is linear, so that two pictures a view hold the whole motion.
    """
    still = [_small(mean.sum(axis=axis)) for axis in range(3)]
    moving = [[_small(shift.sum(axis=axis)) for axis in range(3)] for shift in shifts]
    return {
        "reach": _REACH,
        "edge": len(still[0]),
        "mean": [quantised(picture) for picture in still],
        "components": [
            {
                "shift": [quantised(picture) for picture in pictures],
                # one brightness for the three views and all states: what fades really fades
                "top": max(
                    style.robust_limit(np.maximum(base + sign * _REACH * picture, 0))
                    for base, picture in zip(still, pictures, strict=True)
                    for sign in (-1, 0, 1)
                ),
            }
            for pictures in moving
        ],
    }


def _grey(slices: list[NDArray]) -> list[str]:
    top = max(style.robust_limit(np.maximum(plane, 0)) for plane in slices)
    return [
        png(np.round(255 * np.clip(_upright(_small(plane)) / top, 0, 1)).astype(np.uint8))
        for plane in slices
    ]


def _signed(slices: list[NDArray]) -> list[str]:
    """More density in red, less in blue, nothing transparent: for light and dark pages alike."""
    limit = max(style.robust_limit(plane) for plane in slices)
    return [_red_blue(_upright(_small(plane)) / limit) for plane in slices]


def _red_blue(values: Float64) -> str:
    more, less = (
        np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)])
        for colour in (style.VERMILION, style.BLUE)
    )
    rgba = np.empty((*values.shape, 4), np.uint8)
    rgba[..., :3] = np.where(values[..., None] > 0, more, less)
    rgba[..., 3] = np.round(255 * np.clip(np.abs(values), 0, 1))
    return png(rgba)


def _small(picture: NDArray) -> Float64:
    """The picture with at most `_FINEST` pixels an edge."""
    edge = len(picture)
    if edge <= _FINEST:
        return picture.astype(np.float64)
    from scipy.ndimage import gaussian_filter, zoom

    # blurred first, so that nothing finer than the new pixels is folded into them
    smooth = gaussian_filter(picture.astype(np.float64), 0.4 * edge / _FINEST)
    return zoom(smooth, _FINEST / edge, order=1, grid_mode=True, mode="nearest")


def _upright(picture: Float64) -> Float64:
    """Rows from top to bottom: in files of images the first row is the top, in maps the lowest."""
    return picture[::-1]
