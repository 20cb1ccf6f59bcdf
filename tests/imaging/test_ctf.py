"""The CTF against numbers worked out by hand and against torch-ctf."""

from dataclasses import replace

import numpy as np
import pytest

from solvar.imaging.ctf import electron_wavelength, evaluate_ctf
from solvar.imaging.fourier import HalfDisc
from solvar.imaging.optics import CtfParameters, Optics

BOX, PIXEL = 64, 1.5


def optics(voltage=300.0, cs=2.7, w=0.1):
    return Optics(
        ("one",), np.array([voltage]), np.array([cs]), np.array([w]),
        np.array([PIXEL]), np.array([BOX]),
    )  # fmt: skip


def ctf(u, v, angle=0.0, phase=0.0, bfactor=0.0):
    radians = np.deg2rad([angle]), np.deg2rad([phase])
    return CtfParameters(np.array([u]), np.array([v]), *radians, np.array([bfactor]))


def evaluate(kx, ky, parameters, lenses=None):
    kx, ky = np.atleast_1d(kx), np.atleast_1d(ky)
    group = np.array([0])
    return evaluate_ctf(kx, ky, BOX * PIXEL, parameters, lenses or optics(), group)[0]


@pytest.mark.parametrize(
    ("voltage", "wavelength"), [(100, 0.037014), (200, 0.025079), (300, 0.019687)]
)
def test_electron_wavelength(voltage, wavelength):
    assert electron_wavelength(voltage) == pytest.approx(wavelength, abs=1e-6)


def test_value_worked_out_by_hand():
    # s = 16/96 Å⁻¹ = 1/6 Å⁻¹; λ = 0.0196875 Å; defocus 15,000 Å; Cs = 2.7e7 Å; w = 0.1
    # πλ df s² = 25.7709;  ½π Cs λ³ s⁴ = 0.2497;  χ = 25.5212
    # C = √0.99 · sin χ + 0.1 · cos χ = 0.99499 · 0.37872 + 0.1 · 0.92551 = 0.46938
    assert evaluate(16, 0, ctf(15e3, 15e3)) == pytest.approx(0.46938, abs=2e-4)


def test_positive_at_low_frequency():
    values = evaluate([0, 1, 2], [0, 0, 0], ctf(15e3, 15e3))
    assert values[0] == pytest.approx(0.1, abs=1e-12)  # the amplitude contrast
    assert np.all(np.diff(values) > 0)


def test_phase_plate_of_a_quarter_wave_turns_sine_into_cosine():
    plain, lenses = evaluate(0, 0, ctf(1e4, 1e4, phase=90), optics(w=0.0)), optics(w=0.0)
    assert plain == pytest.approx(1.0)
    assert evaluate(0, 0, ctf(1e4, 1e4), lenses) == pytest.approx(0.0)


def test_bfactor_is_exp_minus_b_s2_over_4():
    sharp, blurred = (evaluate(16, 0, ctf(15e3, 15e3, bfactor=b))[0] for b in (0.0, 80.0))
    assert blurred / sharp == pytest.approx(np.exp(-80 / 4 / 36))


def test_defocus_u_acts_along_its_angle_from_x_towards_y():
    """Fails when kx and ky are exchanged or the angle runs the other way."""
    round_u, round_v = ctf(15e3, 15e3), ctf(12e3, 12e3)
    along_x, along_y, diagonal = ctf(15e3, 12e3, 0), ctf(15e3, 12e3, 90), ctf(15e3, 12e3, 45)
    assert evaluate(9, 0, along_x) == pytest.approx(evaluate(9, 0, round_u))
    assert evaluate(0, 9, along_x) == pytest.approx(evaluate(0, 9, round_v))
    assert evaluate(0, 9, along_y) == pytest.approx(evaluate(0, 9, round_u))
    assert evaluate(7, 7, diagonal) == pytest.approx(evaluate(7, 7, round_u))
    assert evaluate(7, -7, diagonal) == pytest.approx(evaluate(7, -7, round_v))


@pytest.mark.parametrize("angle", [0.0, 25.0, -60.0, 130.0])
def test_agrees_with_torch_ctf(angle):
    torch_ctf = pytest.importorskip("torch_ctf")
    disc = HalfDisc.of_radius(31)
    ours = evaluate(disc.kx, disc.ky, ctf(16e3, 14.5e3, angle, phase=10), optics(200.0, 2.0, 0.07))
    theirs = torch_ctf.calculate_ctf_2d(
        defocus=1.525, astigmatism=0.075, astigmatism_angle=angle, voltage=200.0,
        spherical_aberration=2.0, amplitude_contrast=0.07, phase_shift=10.0, pixel_size=PIXEL,
        image_shape=(BOX, BOX), rfft=False, fftshift=False,
    ).numpy()  # fmt: skip
    # single precision of a phase of some forty radians
    np.testing.assert_allclose(ours, theirs[disc.ky % BOX, disc.kx % BOX], atol=1e-4)


def test_each_particle_uses_its_own_optics_group():
    two = Optics(
        ("a", "b"), np.array([300.0, 200.0]), np.array([2.7, 2.7]), np.array([0.1, 0.07]),
        np.array([PIXEL] * 2), np.array([BOX] * 2),
    )  # fmt: skip
    same = CtfParameters(*np.tile([[1e4], [9e3], [0.3], [0.0], [0.0]], 2))
    disc = HalfDisc.of_radius(5)
    both = evaluate_ctf(disc.kx, disc.ky, BOX * PIXEL, same, two, np.array([1, 0]))
    first = ctf(1e4, 9e3, np.rad2deg(0.3))
    np.testing.assert_allclose(both[1], evaluate(disc.kx, disc.ky, first))
    np.testing.assert_allclose(both[0], evaluate(disc.kx, disc.ky, first, optics(200.0, 2.7, 0.07)))


def _tilted(scale=None, dose=None):
    plain = ctf(15e3, 15e3)
    given = {"scale": scale, "dose_per_angstrom2": dose}
    return replace(plain, **{k: None if v is None else np.array([v]) for k, v in given.items()})


def test_scale_is_a_factor_of_the_amplitude():
    kx = np.arange(20)
    whole, half = evaluate(kx, 0 * kx, _tilted()), evaluate(kx, 0 * kx, _tilted(scale=0.5))
    np.testing.assert_allclose(half, 0.5 * whole)


def test_dose_damps_by_the_critical_exposure():
    # s = 16/96 Å⁻¹: 0.245 · 6^1.665 + 2.81 = 7.649 electrons per Å²; of 10, exp(-10 / 15.299) = 0.5201
    whole, left = (evaluate(16, 0, _tilted(dose=d))[0] for d in (None, 10.0))
    assert left / whole == pytest.approx(0.5201, abs=2e-4)
    # 200 kV do as much harm with four fifths of the electrons
    lenses = optics(voltage=200.0)
    whole, left = (evaluate(16, 0, _tilted(dose=d), lenses)[0] for d in (None, 8.0))
    assert left / whole == pytest.approx(0.5201, abs=2e-4)
    assert evaluate(0, 0, _tilted(dose=10.0)) == evaluate(0, 0, _tilted())


def test_every_exposure_is_damped_by_its_own_dose():
    kx, dose = np.arange(20), [5.0, 0.0, 12.0, 5.0]
    group = np.zeros(4, int)
    several = replace(_tilted(dose=1.0).take(group), dose_per_angstrom2=np.array(dose))
    found = evaluate_ctf(kx, 0 * kx, BOX * PIXEL, several, optics(), group)
    alone = [evaluate(kx, 0 * kx, _tilted(dose=each)) for each in dose]
    np.testing.assert_array_equal(found, alone)


def test_neither_scale_nor_dose_of_nothing_changes_a_bit():
    kx = np.arange(20)
    plain = evaluate(kx, 0 * kx, ctf(15e3, 14e3, 20.0))
    nothing = replace(ctf(15e3, 14e3, 20.0), scale=np.ones(1), dose_per_angstrom2=np.zeros(1))
    np.testing.assert_array_equal(evaluate(kx, 0 * kx, nothing), plain)
