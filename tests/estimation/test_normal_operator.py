"""A convolution does what slices and back-projections of every image do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from solvar.estimation import normal_operator
from solvar.estimation.band import Band
from solvar.estimation.grouping import Hypotheses
from solvar.estimation.normal_operator import Convolution, Slices, back_projected
from solvar.imaging import rotations
from solvar.imaging.projector import Projection
from toy_band import COUNT, make_band


def _with_exact_slices(band: Band) -> Band:
    pytest.importorskip("finufft")
    exact = Projection(interpolation="nufft")
    return Band(band.images, None, band.k_c, band.support, exact, band.team)


def _volume(band: Band) -> np.ndarray:
    noise = np.random.default_rng(5).standard_normal((band.box,) * 3)
    return (noise * band.support.mean).astype(np.float32)


def _difference(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.fixture(params=["ordinary", "odd box", "stretched", "weighted", "several poses", "threads"])
def band(request) -> Band:
    rng = np.random.default_rng(2)
    made = make_band(
        threads=3 if request.param == "threads" else 1, box=17 if request.param == "odd box" else 18
    )
    images = made.images
    if request.param == "weighted":
        made.images = images.weighted(rng.uniform(0, 1, COUNT))
    if request.param == "several poses":
        made.images = images.supposed(
            Hypotheses(
                rotations.random(2 * COUNT, rng).reshape(COUNT, 2, 3, 3),
                np.zeros((COUNT, 2, 2)),
                np.log([[0.3, 0.7]] * COUNT),
            )
        )
    if request.param == "stretched":
        store = replace(images.store, stretch=np.array([[[1.06, 0.01], [0.01, 0.95]]]))
        stretched = replace(images, store=store)
        made = Band(stretched, None, made.k_c, made.support, team=made.team)
    return made


def test_it_is_the_same_operator(band: Band) -> None:
    exact = _with_exact_slices(band)
    volume = _volume(exact)
    data, normal = back_projected(exact)
    assert isinstance(normal, Convolution)
    wanted = Slices(exact)(volume)
    assert _difference(normal(volume), wanted) < 1e-5
    found, interpolated = back_projected(band)
    # as near to it as interpolated slices are
    nearest = _difference(Slices(band)(volume), wanted)
    assert _difference(interpolated(volume), wanted) < max(1.2 * nearest, 0.02)
    assert _difference(band.support.mean * found, band.support.mean * data) < 0.02


def test_few_images_are_sliced(monkeypatch) -> None:
    band = make_band()
    few = band.restricted(np.arange(2 * band.box**3 // len(band.disc)))
    assert isinstance(back_projected(few)[1], Slices)
    monkeypatch.setattr(normal_operator, "_pays", lambda band: True)
    volume, mask = _volume(few), band.support.mean
    assert _difference(mask * back_projected(few)[1](volume), mask * Slices(few)(volume)) < 0.02
