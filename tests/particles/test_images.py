"""Image stacks: order, types, downsampling, and what is wrong with damaged ones."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import mrcfile
import numpy as np
import pytest

from particles import particle_files as files
from particles.particle_files import COLUMNS_31, changed, with_value
from solvar.errors import InputError
from solvar.mrc_header import read_mrc_header
from solvar.particles import ImageStack, read_particles
from solvar.particles.images import downsample


def _many_stacks(folder, count=70, depth=3):
    """Particles that jump between `count` stacks, and their images."""
    rng = np.random.default_rng(1)
    images = rng.standard_normal((count, depth, files.BOX, files.BOX)).astype(np.float32)
    for i, stack in enumerate(images):
        files.write_stack(folder / f"s{i}.mrcs", stack)
    place = rng.permutation(count * depth)
    names = [f"{p % depth + 1:06d}@s{p // depth}.mrcs" for p in place]
    columns = {k: [v[0]] * len(names) for k, v in COLUMNS_31.items()}
    path = folder / "particles.star"
    path.write_text(files.star_text(changed(columns, rlnImageName=names)))
    return read_particles(path), images.reshape(-1, files.BOX, files.BOX)[place]


def test_images_come_in_the_order_that_was_asked_for(tmp_path):
    particles, images = _many_stacks(tmp_path)
    stack = ImageStack(particles)
    index = np.random.default_rng(2).integers(0, len(particles), 100)
    np.testing.assert_array_equal(stack.read(index), images[index])
    assert stack.read(np.array([], dtype=int)).shape == (0, files.BOX, files.BOX)
    assert len(stack._files) <= 64


@pytest.mark.parametrize("size", [1e-42, 1e-18, 1e30])
def test_pixels_far_from_one_are_brought_near_it_by_a_power_of_two(tmp_path, size):
    particles, images = _many_stacks(tmp_path, count=1, depth=40)
    plain = ImageStack(particles)
    assert plain.brought_near_one() is plain
    scaled = (images.astype(np.float64) * size).astype(np.float32)
    order = np.argsort(particles.exposures.frame)
    files.write_stack(tmp_path / "s0.mrcs", scaled[order])
    for box in (None, files.BOX // 2):
        near = ImageStack(particles, box).brought_near_one()
        assert np.frexp(near.factor)[0] == 0.5 and near.box_size == (box or files.BOX)
        found = near.read(np.arange(40))
        assert np.isfinite(found).all() and 1e-5 < found.std() < 10
    whole = ImageStack(particles).brought_near_one()
    np.testing.assert_array_equal(whole.read([3]), scaled[[3]] * np.float32(whole.factor))


def test_headers_are_read_once(tmp_path, monkeypatch):
    particles, images = _many_stacks(tmp_path, count=3, depth=40)
    read = []

    def recorded(path):
        read.append(path)
        return read_mrc_header(path)

    monkeypatch.setattr("solvar.particles.images.read_mrc_header", recorded)
    stack = ImageStack(particles).brought_near_one()
    np.testing.assert_array_equal(stack.read([5]), images[[5]])
    assert sorted(read) == sorted(particles.stacks)


def test_threads_may_share_a_stack(tmp_path):
    particles, images = _many_stacks(tmp_path)
    stack = ImageStack(particles)
    batches = np.random.default_rng(3).integers(0, len(particles), (40, 50))
    with ThreadPoolExecutor(4) as pool:
        for index, got in zip(batches, pool.map(stack.read, batches), strict=True):
            np.testing.assert_array_equal(got, images[index])


@pytest.mark.parametrize("dtype", ["int8", "int16", "float32", "uint16", "float16", ">f4", ">i2"])
def test_every_pixel_type_is_read_as_float32(tmp_path, dtype):
    path = files.write_star31(tmp_path)
    images = np.random.default_rng(0).integers(0, 100, (files.COUNT, files.BOX, files.BOX))
    files.write_stack(tmp_path / "stack.mrcs", images.astype(dtype))
    got = ImageStack(read_particles(path)).read([2, 0])
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, images[[2, 0]])


def test_extended_header_is_skipped(tmp_path):
    path = files.write_star31(tmp_path)
    images = files.write_stack(tmp_path / "stack.mrcs")
    with mrcfile.open(tmp_path / "stack.mrcs", "r+") as file:
        file.set_extended_header(np.zeros(160, dtype="V1"))
    np.testing.assert_array_equal(ImageStack(read_particles(path)).read([1])[0], images[1])


def _coefficients(image):
    """v̂(k) = Σ v(n) exp(-2πi k·n/L), n from index L // 2, as a direct sum over a few k."""
    side = image.shape[-1]
    n = np.arange(side) - side // 2
    k = np.arange(-3, 4)
    wave = np.exp(-2j * np.pi * np.outer(k, n) / side)
    return wave @ image @ wave.T


@pytest.mark.parametrize("side", [16, 17])
@pytest.mark.parametrize("box_size", [8, 9, 14, 15])
def test_downsampling_leaves_fourier_coefficients_unchanged(side, box_size):
    image = np.random.default_rng(0).standard_normal((2, side, side)).astype(np.float32)
    small = downsample(image, box_size)
    assert small.shape == (2, box_size, box_size) and small.dtype == np.float32
    np.testing.assert_allclose(_coefficients(small), _coefficients(image), atol=2e-4)
    np.testing.assert_allclose(small.sum(axis=(1, 2)), image.sum(axis=(1, 2)), atol=1e-4)


def test_stack_downsamples_and_knows_its_pixel_size(tmp_path):
    particles = read_particles(files.write_star31(tmp_path))
    full, small = ImageStack(particles), ImageStack(particles, 5)
    assert (small.box_size, small.pixel_size_angstrom) == (5, files.APIX * files.BOX / 5)
    assert (full.box_size, full.pixel_size_angstrom) == (files.BOX, files.APIX)
    np.testing.assert_array_equal(small.read([3, 1]), downsample(full.read([3, 1]), 5))


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def _oblong(path):
    files.write_stack(path, np.ones((files.COUNT, files.BOX, 10), np.float32))


def _other_box(path):
    files.write_stack(path, np.ones((files.COUNT, 10, 10), np.float32))


def _fewer(path):
    files.write_stack(path, np.ones((4, files.BOX, files.BOX), np.float32))


def _complex(path):
    files.write_stack(path, np.ones((6, files.BOX, files.BOX), np.complex64))


DAMAGE = {
    "missing": (lambda p: p.unlink(), r"stack.mrcs: no such file"),
    "truncated": (_truncate, r"truncated: 2460 bytes where the header promises 2560; copy"),
    "empty": (lambda p: p.write_bytes(b""), "too short for an MRC header"),
    "not MRC": (lambda p: p.write_bytes(b"x" * 4000), "is not an MRC file"),
    "compressed": (lambda p: p.write_bytes(b"\x1f\x8b" + bytes(2000)), "is compressed; decompress"),
    "complex": (_complex, "has MRC mode 4; .*; convert"),
    "oblong": (_oblong, "not square .10 × 8 pixels.; extract"),
    "another box": (_other_box, "row 1: box size is 8 pixels in optics group krios, but 10 in"),
    "too few images": (_fewer, "row 5: image 5 is asked for, but .* holds 4; use the stack"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_stack_is_refused_before_anything_is_read(tmp_path, case):
    damage, pattern = DAMAGE[case]
    particles = read_particles(files.write_star31(tmp_path))
    damage(tmp_path / "stack.mrcs")
    with pytest.raises(InputError, match=pattern):
        ImageStack(particles)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("value", "problem"), [(np.nan, "NaN"), (np.inf, "NaN or infinite"), (None, "is constant")]
)
def test_broken_image_is_named_with_stack_frame_and_row(tmp_path, value, problem):
    images = files.write_stack(tmp_path / "stack.mrcs")
    columns = with_value(COLUMNS_31, "rlnImageName", 0, "6@stack.mrcs")
    path = files.write_star31(tmp_path, with_value(columns, "rlnImageName", 5, "1@stack.mrcs"))
    if value is None:
        images[5] = 3.0
    else:
        images[5, 2, 2] = value
    files.write_stack(tmp_path / "stack.mrcs", images)
    stack = ImageStack(read_particles(path, ind=[3, 0]))
    assert stack.read([0]).shape == (1, files.BOX, files.BOX)
    with pytest.raises(InputError, match=rf"stack.mrcs: image 6 .*{problem}.*row 1 of"):
        stack.read([0, 1])


@pytest.mark.parametrize("box_size", [1, 9])
def test_box_size_must_be_smaller_than_the_images(tmp_path, box_size):
    particles = read_particles(files.write_star31(tmp_path))
    with pytest.raises(InputError, match="from 2 to 8"):
        ImageStack(particles, box_size)


def _two_sizes(folder, gain):
    """The same bright spots in coarse and fine images with noise; returns the particles and the spots."""
    rng = np.random.default_rng(7)
    count, place = 40, rng.uniform(-5, 5, (40, 2))
    for name, box, pixel in (("coarse", 16, 2.0), ("fine", 45, 0.73)):
        axis = (np.arange(box) - box // 2) * pixel
        x, y = (np.exp(-((axis - place[:, i, None]) ** 2) / 18) for i in (0, 1))
        signal = y[:, :, None] * x[:, None, :] * pixel**2
        images = signal + 16 / box * 0.05 * rng.standard_normal(signal.shape)
        files.write_stack(folder / f"{name}.mrcs", (gain[name] * images).astype(np.float32))
    rows = range(2 * count)
    names = [f"{i // 2 + 1}@{'fine' if i % 2 else 'coarse'}.mrcs" for i in rows]
    columns = {k: [v[0]] * len(names) for k, v in COLUMNS_31.items()}
    columns |= {"rlnImageName": names, "rlnOpticsGroup": [1 + i % 2 for i in rows]}
    optics = files.OPTICS_31.replace("2.0 8 2", "2.0 16 2") + "2 talos 300.0 2.7 0.1 0.73 45 2\n"
    (folder / "particles.star").write_text(files.star_text(columns, optics=optics))
    return read_particles(folder / "particles.star"), place


@pytest.mark.parametrize("gain", [{"coarse": 1.0, "fine": 1.0}, {"coarse": 0.5, "fine": 20.0}])
@pytest.mark.parametrize("box_size", [None, 8])
def test_images_of_two_sizes_come_on_one_grid_in_one_unit(tmp_path, gain, box_size):
    particles, place = _two_sizes(tmp_path, gain)
    assert (particles.box_size, particles.pixel_size_angstrom) == (16, 2.0)
    stack = ImageStack(particles, box_size)
    box = box_size or 16
    assert (stack.box_size, stack.pixel_size_angstrom) == (box, 32 / box)
    order = np.random.default_rng(8).permutation(len(particles))
    images = stack.read(order)
    assert images.shape == (80, box, box) and images.dtype == np.float32
    coarse, fine = (images[np.argsort(order)][half::2].astype(np.float64) for half in (0, 1))
    # the same scale up to what 40 noisy corners of a few pixels tell
    scale = np.sum(coarse * fine) / np.sum(coarse**2)
    assert scale == pytest.approx(1, abs=0.1)
    assert np.corrcoef(coarse.ravel(), fine.ravel())[0, 1] > 0.99
    # the coarse ones are what they would be alone
    alone = ImageStack(particles.select(np.arange(0, 80, 2)), box_size)
    np.testing.assert_array_equal(alone.read(np.arange(40)).astype(np.float64), coarse)
    # and every spot is where it was, in Å of its own extent
    extents = np.broadcast_to(stack.extent_angstrom, (2,))
    for spots, extent in ((coarse, extents[0]), (fine, extents[1])):
        axis = (np.arange(box) - box // 2) * extent / box
        weight = spots**2
        found = [np.sum(weight * a, (1, 2)) / weight.sum((1, 2)) for a in (axis, axis[:, None])]
        np.testing.assert_allclose(np.stack(found, 1), place, atol=0.1)


def test_a_broken_image_among_several_sizes_is_told_when_it_is_read(tmp_path):
    particles, _ = _two_sizes(tmp_path, {"coarse": 1.0, "fine": 1.0})
    with mrcfile.open(tmp_path / "fine.mrcs", "r+") as file:
        file.data[3] = np.nan
    stack = ImageStack(particles)
    assert np.isfinite(stack.read([0, 1, 9])).all()
    with pytest.raises(InputError, match="image 4 holds NaN"):
        stack.read([0, 7])
