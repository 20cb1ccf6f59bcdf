"""Simulated sets whose microscope is not perfect: magnification, beam tilt, and groups of several sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np

from solvar.particles.relion_aberrations import aberration_columns
from solvar.particles.relion_write import as_text
from solvar.particles.star_blocks import read_blocks, write_blocks
from solvar.simulation.dataset import SimulatedSet
from solvar.simulation.images import (
    blob_envelope,
    disc_pixels,
    noise_images,
    project_blobs,
    to_images,
)


def write_distorted(simulated: SimulatedSet, folder: Path, **aberrations: np.ndarray) -> Path:
    """Write a set as if an optics group (the only one) had aberrations; returns the star file.

    Beside it, `ignored.star` says nothing of them.
    """
    simulated.write(folder)
    lens = replace(simulated.optics, **aberrations)
    index = np.arange(len(simulated))
    noise = noise_images(
        simulated.noise_power[simulated.optics_group], index, simulated.settings.seed
    )
    with mrcfile.open(folder / "particles.mrcs", "r+") as stack:
        stack.data[:] = _seen_through(replace(simulated, optics=lens)) + noise
    path = folder / "particles.star"
    path.rename(folder / "ignored.star")
    blocks = read_blocks(folder / "ignored.star", as_text=True)
    columns = {name: as_text(v) for name, v in aberration_columns(lens).items()}
    blocks["optics"] = blocks["optics"].assign(**columns)
    write_blocks(path, blocks)
    return path


def write_two_sizes(
    simulated: SimulatedSet, folder: Path, box_size: int, pixel_size: float, gain: float
) -> Path:
    """Write a set whose second half was extracted with another box and pixel size, `gain` times as bright."""
    simulated.write(folder)
    settings = simulated.settings
    fine = settings.model_copy(update={"box_size": box_size, "pixel_size": pixel_size})
    second = np.arange(len(simulated) // 2, len(simulated))
    white = np.ones((len(second), box_size, box_size))
    # as much noise in a Fourier coefficient as the coarse images have
    noise = settings.box_size / box_size * noise_images(white, second, settings.seed)
    images = gain * (replace(simulated, settings=fine).clean_images(second) + noise)
    with mrcfile.new(folder / "fine.mrcs") as stack:
        stack.set_data(images.astype(np.float32))
        stack.set_image_stack()
    path = folder / "particles.star"
    blocks = read_blocks(path, as_text=True)
    optics, table = blocks["optics"].iloc[[0, 0]].reset_index(drop=True), blocks["particles"]
    optics["rlnOpticsGroup"], optics["rlnOpticsGroupName"] = ["1", "2"], ["coarse", "fine"]
    optics.loc[1, ["rlnImageSize", "rlnImagePixelSize"]] = [str(box_size), str(pixel_size)]
    table.loc[second, "rlnOpticsGroup"] = "2"
    table.loc[second, "rlnImageName"] = [f"{i + 1:06d}@fine.mrcs" for i in range(len(second))]
    write_blocks(path, {**blocks, "optics": optics, "particles": table})
    return path


def _seen_through(simulated: SimulatedSet) -> np.ndarray:
    """Noiseless images: frequencies M·k of the specimen, and the odd phase of a tilted beam."""
    settings, lens = simulated.settings, simulated.optics
    extent = settings.box_size * settings.pixel_size
    matrix = np.eye(2) if lens.magnification is None else lens.magnification[0]
    positions, weights = simulated.ensemble.place(simulated.ensemble.coordinate)
    sigma = simulated.ensemble.sigma_angstrom
    transform = project_blobs(
        positions,
        weights * (simulated.scale * simulated.contrast[:, None]),
        0.0,
        # r·(R M) are the coordinates that frequency k counts; the place in the image is not distorted
        simulated.poses.rotation[:, :, :2] @ matrix,
        -simulated.poses.shift_angstrom,
        settings.box_size,
        settings.pixel_size,
    )
    inside, kx, ky = disc_pixels(settings.box_size)
    x, y = matrix @ np.stack([kx, ky])
    transform[:, inside] *= blob_envelope(x**2 + y**2, sigma, extent)
    transform[:, inside] *= _transfer(x / extent, y / extent, simulated)
    return to_images(transform)


def _transfer(x: np.ndarray, y: np.ndarray, simulated: SimulatedSet) -> np.ndarray:
    """sin of the even phase times exp(-2πi Cs λ² s² (s·τ)), written out anew, (N, n)."""
    lens, ctf = simulated.optics, simulated.ctf
    voltage, cs = lens.voltage_kv[0] * 1e3, lens.spherical_aberration_mm[0] * 1e7
    wavelength = 12.2642596 / np.sqrt(voltage * (1 + 0.978475598e-6 * voltage))
    s2, angle = x**2 + y**2, np.arctan2(y, x)
    u, v = ctf.defocus_u_angstrom[:, None], ctf.defocus_v_angstrom[:, None]
    defocus = (u + v + (u - v) * np.cos(2 * (angle - ctf.defocus_angle_radian[:, None]))) / 2
    chi = np.pi * wavelength * defocus * s2 - np.pi / 2 * cs * wavelength**3 * s2**2
    value = np.sin(chi + np.arcsin(lens.amplitude_contrast[0]))
    if lens.beam_tilt_mrad is None:
        return value
    tilt = lens.beam_tilt_mrad[0] * 1e-3
    odd = 2 * np.pi * cs * wavelength**2 * s2 * (x * tilt[0] + y * tilt[1])
    return value * np.exp(-1j * odd)
