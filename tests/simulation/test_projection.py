"""Conventions of volumes and projections, against direct sums and an NUFFT."""

import numpy as np
import pytest

from solvar.imaging.rotations import from_euler
from solvar.imaging.rotations import random as random_rotations
from solvar.simulation.images import project_blobs, to_images
from solvar.simulation.volumes import blob_volume

BOX, PIXEL = 32, 3.0


@pytest.fixture
def blobs():
    rng = np.random.default_rng(5)
    return rng.uniform(-15, 15, (40, 3)), rng.uniform(0.5, 1.5, 40)


def project(positions, weights, rotation, offset=(0.0, 0.0), sigma=3.0):
    return project_blobs(
        positions[None], weights[None], sigma, rotation[None], np.array([offset]), BOX, PIXEL
    )


def test_a_blob_appears_at_row_z_y_x_of_the_volume():
    position = np.array([[6.0, -9.0, 12.0]])
    volume = blob_volume(position, np.ones(1), 3.0, BOX, PIXEL)
    peak = np.unravel_index(volume.argmax(), volume.shape)
    assert peak == (16 + 4, 16 - 3, 16 + 2)


def test_a_blob_appears_at_the_transposed_rotation_of_its_position():
    rotation = from_euler([40.0], [70.0], [-25.0])[0]
    # placed so that it must be seen at pixel (x, y) = (+3, -5), at any depth
    position = rotation @ np.array([9.0, -15.0, 21.0])
    image = to_images(project(position[None], np.ones(1), rotation))[0]
    assert np.unravel_index(image.argmax(), image.shape) == (16 - 5, 16 + 3)


def test_a_particle_at_plus_p_is_displaced_by_plus_p(blobs):
    rotation = from_euler([10.0], [50.0], [80.0])[0]
    centred = to_images(project(*blobs, rotation))[0]
    moved = to_images(project(*blobs, rotation, offset=(2 * PIXEL, -3 * PIXEL)))[0]
    np.testing.assert_allclose(moved, np.roll(centred, (-3, 2), axis=(0, 1)), atol=1e-5)


def test_projection_along_z_is_the_sum_of_the_volume_over_z(blobs):
    volume = blob_volume(*blobs, 3.0, BOX, PIXEL)
    image = to_images(project(*blobs, np.eye(3)))[0]
    np.testing.assert_allclose(image, volume.sum(axis=0), atol=2e-5)
    assert volume.sum() == pytest.approx(blobs[1].sum(), rel=1e-5)


def test_volume_is_the_sampled_gaussian_where_the_grid_resolves_it():
    position, sigma = np.array([[4.0, 1.0, -2.0]]), 6.0
    volume = blob_volume(position, np.ones(1), sigma, BOX, PIXEL)
    grid = (np.arange(BOX) - BOX // 2) * PIXEL
    z, y, x = np.meshgrid(grid, grid, grid, indexing="ij")
    r2 = (x - 4) ** 2 + (y - 1) ** 2 + (z + 2) ** 2
    density = np.exp(-r2 / (2 * sigma**2)) / (2 * np.pi * sigma**2) ** 1.5 * PIXEL**3
    np.testing.assert_allclose(volume, density, atol=1e-6 * density.max() * 10)


def test_nothing_is_put_at_or_beyond_nyquist(blobs):
    k = np.arange(BOX) - BOX // 2
    volume = blob_volume(*blobs, 0.5, BOX, PIXEL)
    spectrum = np.abs(np.fft.fftshift(np.fft.fftn(volume)))
    k2 = k[:, None, None] ** 2 + k[:, None] ** 2 + k**2
    assert spectrum[k2 >= (BOX / 2) ** 2].max() < 1e-4 * spectrum.max()
    image = to_images(project(*blobs, np.eye(3), sigma=0.5))[0]
    spectrum = np.abs(np.fft.fftshift(np.fft.fft2(image)))
    assert spectrum[(k[:, None] ** 2 + k**2) >= (BOX / 2) ** 2].max() < 1e-4 * spectrum.max()


def test_projections_are_central_slices_of_the_volume_by_nufft(blobs):
    finufft = pytest.importorskip("finufft")
    # wide blobs: neither the edge of the box nor Nyquist cuts anything off, so both are exact
    volume = blob_volume(*blobs, 5.0, BOX, PIXEL).astype(np.complex128)
    ky, kx = np.mgrid[-BOX // 2 : BOX // 2, 0 : BOX // 2 + 1]
    inside = kx**2 + ky**2 < (BOX / 2) ** 2
    kx, ky = kx[inside], ky[inside]
    for rotation in random_rotations(4, np.random.default_rng(0)):
        k = rotation @ np.stack([kx, ky, np.zeros_like(kx)]).astype(float)
        points = np.ascontiguousarray(2 * np.pi / BOX * k)
        expected = finufft.nufft3d2(
            points[2], points[1], points[0], volume, eps=1e-9, isign=-1, modeord=0
        )
        transform = project(*blobs, rotation, sigma=5.0)[0]
        found = np.fft.fftshift(transform, axes=0)[inside]
        np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
