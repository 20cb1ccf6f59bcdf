"""Aberrations and magnification, held against numbers that RELION 3.1.3 made."""

from __future__ import annotations

import numpy as np
import pytest

from solvar.imaging.aberrations import odd_correction, zernike, zernike_orders
from solvar.imaging.ctf import evaluate_ctf
from solvar.imaging.optics import CtfParameters, Optics

BOX, PIXEL = 64, 1.5
KX, KY = np.array([(5, 3), (-7, 11), (0, 20), (18, -4), (12, 12), (-25, 1)]).T
MAGNIFICATION = np.array([[[1.03, 0.02], [-0.015, 0.96]]])
EVEN = np.array([[0.2, 3, -10, 5, 40, -30, 8, 20, -60]])
CTF = CtfParameters(*(np.array([v]) for v in (12000.0, 8000.0, np.deg2rad(30), 0.0, 0.0)))


def optics(**aberrations) -> Optics:
    one = (np.array([v]) for v in (300.0, 2.7, 0.1, PIXEL))
    return Optics(("one",), *one, np.array([BOX]), **aberrations)


# relion_project --ctf of a volume with one voxel of 1 at its centre
RELION_CTF = {
    "plain": ({}, [0.3031, 0.2946, -0.9961, -0.7706, -0.4520, 0.2410]),
    "rlnMagMat": (
        {"magnification": MAGNIFICATION},
        [0.2253, 0.6298, -0.0473, -0.8942, -0.5677, 0.4971],
    ),
    "rlnEvenZernike": (
        {"even_zernike": EVEN},
        [-0.3752, -0.4597, -0.0947, -0.7877, -0.3420, 0.0153],
    ),
    "both": (
        {"magnification": MAGNIFICATION, "even_zernike": EVEN},
        [-0.4794, -0.7940, -0.9405, -0.7112, -0.6177, -0.1425],
    ),
}


@pytest.mark.parametrize(("aberrations", "expected"), RELION_CTF.values(), ids=RELION_CTF)
def test_ctf_is_that_of_relion(aberrations, expected):
    group = np.zeros(1, np.int64)
    found = evaluate_ctf(KX, KY, BOX * PIXEL, CTF, optics(**aberrations), group)[0]
    np.testing.assert_allclose(found, expected, atol=5e-4)


def test_odd_aberrations_and_beam_tilt_are_undone_as_relion_does():
    # phases that relion_reconstruct --ctf gives to an image of one bright pixel; it interpolates
    expected = [0.001, -0.089, 0.088, 0.585, -0.105, -1.202]
    lens = optics(
        beam_tilt_mrad=np.array([[0.6, -0.2]]),
        odd_zernike=np.array([[0.3, -0.2, 30, 0, 0, -20]]),
    )
    found = odd_correction(KX, KY, BOX * PIXEL, lens)[0]
    np.testing.assert_allclose(np.angle(found), expected, atol=0.03)
    np.testing.assert_allclose(np.abs(found), 1, atol=1e-6)


def test_beam_tilt_is_the_odd_part_of_a_tilted_spherical_aberration():
    # ½π Cs λ³ |s + τ/λ|⁴ without what is even in s and what is linear in it, a shift
    lens = optics(beam_tilt_mrad=np.array([[1.0, 0.5]]))
    cs, wavelength = 2.7e7, 0.0196876
    s = np.stack([KX, KY]) / (BOX * PIXEL)
    tilt = np.array([[1e-3], [0.5e-3]]) / wavelength

    def wave(sign):
        return 0.5 * np.pi * cs * wavelength**3 * ((s + sign * tilt) ** 2).sum(axis=0) ** 2

    linear = 2 * np.pi * cs * wavelength**3 * (tilt**2).sum() * (s * tilt).sum(axis=0)
    expected = 0.5 * (wave(1) - wave(-1)) - linear
    found = odd_correction(KX, KY, BOX * PIXEL, lens)[0]
    np.testing.assert_allclose(found, np.exp(1j * expected), atol=1e-4)


def test_magnification_tells_where_an_odd_phase_is_evaluated():
    tilt = {"beam_tilt_mrad": np.array([[2.0, 0.0]])}
    doubled = optics(magnification=2 * np.eye(2)[None], **tilt)
    np.testing.assert_allclose(
        odd_correction(KX, KY, BOX * PIXEL, doubled),
        odd_correction(2 * KX, 2 * KY, BOX * PIXEL, optics(**tilt)),
    )


def test_zernike_polynomials_are_orthogonal_on_the_unit_disc():
    axis = (np.arange(400) + 0.5) / 200 - 1
    x, y = np.meshgrid(axis, axis)
    inside = x**2 + y**2 <= 1
    orders = zernike_orders(0, 9) + zernike_orders(1, 6)
    values = np.stack([zernike(m, n, x[inside], y[inside]) for m, n in orders])
    products = values @ values.T / inside.sum()
    norm = [1 / ((n + 1) * (1 if m == 0 else 2)) for m, n in orders]
    np.testing.assert_allclose(products, np.diag(norm), atol=2e-3)
    assert orders[:4] == [(0, 0), (-2, 2), (0, 2), (2, 2)] and orders[9] == (-1, 1)


def test_a_perfect_microscope_has_nothing_to_undo():
    assert odd_correction(KX, KY, BOX * PIXEL, optics()) is None
