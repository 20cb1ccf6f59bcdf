"""Both ways along an axis of the lattice: the same numbers, adjoint to themselves, the cheaper one taken."""

import numpy as np
import pytest

from solvar.imaging.projector import axis
from solvar.imaging.projector.axis import ByFft, ByProducts, axis_of
from solvar.imaging.projector.kernel import KERNELS
from solvar.imaging.projector.lattice import Lattice
from solvar.threads import ThreadTeam

# box, k_c, interpolation, upsampling, stretch: odd boxes, and lattices that reach around
LATTICES = [
    (16, 7, "kaiser", 1.25, 1.0),
    (16, 3, "kaiser", 1.25, 1.0),
    (15, 7, "kaiser", 2.0, 1.0),
    (15, 7, "trilinear", 1.0, 1.0),
    (21, 10, "nearest", 2.0, 1.0),
    (16, 7, "kaiser", 1.25, 1.15),
    (20, 9, "trilinear", 1.0, 1.1),
]


def both_ways(monkeypatch, box, k_c, interpolation, upsampling, stretch):
    """The lattice by FFTs alone and by products alone."""
    found = []
    for cost in (0, 1 << 30):
        monkeypatch.setattr(axis, "_FFT_COST", cost)
        lattice = Lattice(box, k_c, KERNELS[interpolation], upsampling, stretch)
        assert isinstance(lattice._axis, ByProducts if cost else ByFft)
        found.append(lattice)
    return found


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("geometry", LATTICES, ids=str)
def test_ffts_and_products_make_the_same_lattice_and_volumes(monkeypatch, geometry, channels):
    rng, team = np.random.default_rng(0), ThreadTeam(1)
    fft, products = both_ways(monkeypatch, *geometry)
    volumes = rng.normal(size=(channels, *(fft.box,) * 3)).astype(np.float32)
    values = rng.normal(size=fft.size(channels)).astype(np.float32)
    pairs = (
        [each.transform(volumes, team) for each in (fft, products)],
        [each.adjoint(values, channels, team) for each in (fft, products)],
    )
    for one, other in pairs:
        np.testing.assert_allclose(one, other, atol=2e-6 * np.abs(other).max())


@pytest.mark.parametrize("geometry", LATTICES, ids=str)
def test_ffts_have_their_adjoint(monkeypatch, geometry):
    rng, team = np.random.default_rng(1), ThreadTeam(1)
    lattice, _ = both_ways(monkeypatch, *geometry)
    volumes = rng.normal(size=(3, *(lattice.box,) * 3)).astype(np.float32)
    made = lattice.grid(lattice.transform(volumes, team), 3)
    flat = rng.normal(size=lattice.size(3)).astype(np.float32)
    values, back = lattice.grid(flat, 3), lattice.adjoint(flat, 3, team)
    for c in range(3):
        forward = np.vdot(values[..., c].astype(complex), made[..., c]).real
        adjoint = np.vdot(volumes[c].astype(float), back[c])
        size = np.linalg.norm(made[..., c]) * np.linalg.norm(values[..., c])
        assert abs(forward - adjoint) < 1e-6 * size


@pytest.mark.parametrize("box", [64, 96])
def test_a_lattice_is_the_same_for_any_number_of_threads(box):
    """At boxes whose axes go both ways; of more than one group of channels."""
    rng = np.random.default_rng(2)
    lattice = Lattice(box, box // 2 - 1, KERNELS["kaiser"])
    volumes = rng.normal(size=(3, box, box, box)).astype(np.float32)
    values = rng.normal(size=lattice.size(3)).astype(np.float32)
    results = []
    for threads in (1, 3):
        team = ThreadTeam(threads)
        results.append((lattice.transform(volumes, team), lattice.adjoint(values, 3, team)))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def chosen(box, k_c, upsampling=1.25):
    lattice = Lattice(box, k_c, KERNELS["kaiser"], upsampling)
    return type(axis_of(*lattice._geometry)).__name__


def test_the_way_of_less_work_is_taken():
    assert chosen(256, 127) == chosen(384, 191) == chosen(128, 63) == "ByFft"
    assert chosen(64, 31) == "_Mixed"
    assert chosen(24, 11) == chosen(256, 20) == "ByProducts"
    # 1.25 · 127 is no whole number
    assert chosen(127, 63) == "ByProducts"
