"""Files that other programs wrote: each is read, or refused with a sentence that says why."""

from __future__ import annotations

import re

import numpy as np
import pytest

from solvar.errors import InputError
from solvar.particles import ImageStack, read_particles

READABLE = {
    "relion31.star": (5, 256, 2.806),
    "relion31.v2.star": (5, 256, 2.806),
    "relion31.6opticsgroups.star": (139, 194, 1.25),
}

REFUSED = {
    "relion5.star": "row 12: is the same image as row 1, image 1 of .*; 2 repetitions in all",
    "FinalRefinement-OriginalParticles-PfCRT.star": "rlnAmplitudeContrast",
    "empiar_10076_7.star": "rlnAngleRot",
    "empiar_10076_7.cs": "alignments3D/pose",
    "cryosparc_J2_particles_exported.cs": "alignments3D/pose",
    "rln_proj_65_shifted.star": "rlnAmplitudeContrast",
    "sample_particles_relion30.star": "truncated|too short|header",
    "sta_testing_bin8.star": "no such file|not found|truncated|too short",
    "toy_projections.star": "rlnImagePixelSize",
    "toy_projections_13.star": "rlnAngleRot",
    "toy_projections_2.txt": "does not hold poses",
    "toy_projections.mrcs": "does not hold poses",
    "ind100.pkl": "no RELION star file",
}


def _place_stacks(path, folder):
    """Empty files under the names that a star file mentions."""
    for name in set(re.findall(r"\d+@(\S+)", path.read_text(errors="replace"))):
        stack = folder / name
        stack.parent.mkdir(parents=True, exist_ok=True)
        stack.touch()


@pytest.mark.parametrize("name", READABLE)
def test_star_of_a_refinement_is_read(shared_data, tmp_path, name):
    path = shared_data / "formats" / name
    _place_stacks(path, tmp_path)
    particles = read_particles(path, datadir=tmp_path)
    count, box_size, pixel_size = READABLE[name]
    assert (len(particles), particles.box_size) == (count, box_size)
    assert particles.pixel_size_angstrom == pixel_size
    assert np.ptp(particles.poses.shift_angstrom) > 0
    assert particles.source_format == "relion"


def test_order_of_blocks_does_not_matter(shared_data):
    first, second = (
        read_particles(shared_data / "formats" / name)
        for name in ("relion31.star", "relion31.v2.star")
    )
    np.testing.assert_array_equal(first.poses.rotation, second.poses.rotation)
    np.testing.assert_array_equal(first.uid, second.uid)


def test_relion_5_star_is_read_without_its_repeated_rows(shared_data, tmp_path):
    path = shared_data / "formats" / "relion5.star"
    _place_stacks(path, tmp_path)
    names = re.findall(r"\d+@\S+", path.read_text())
    first = np.sort(np.unique(names, return_index=True)[1])
    particles = read_particles(path, datadir=tmp_path, ind=first)
    assert (particles.box_size, particles.pixel_size_angstrom) == (448, 0.89)
    assert particles.optics.voltage_kv == [100.0]


def test_real_particles_are_read_as_images(shared_data):
    images = ImageStack(read_particles(shared_data / "formats" / "relion31.star"), 64)
    assert images.read([4, 0]).shape == (2, 64, 64)
    assert images.pixel_size_angstrom == pytest.approx(4 * 2.806)


@pytest.mark.parametrize("name", REFUSED)
def test_unsuitable_file_is_refused_in_one_sentence(shared_data, tmp_path, name):
    path = shared_data / "formats" / name
    if path.suffix == ".star":
        _place_stacks(path, tmp_path)
    with pytest.raises(InputError, match=REFUSED[name]) as failure:
        read_particles(path, datadir=tmp_path if path.suffix == ".star" else None)
    assert "\n" not in str(failure.value)


def test_toy_projections_are_read_with_their_pickles(shared_data):
    folder = shared_data / "formats"
    pickles = {"poses": folder / "toy_rot_trans.pkl", "ctf": folder / "test_ctf.pkl"}
    star = read_particles(folder / "toy_projections.star", **pickles)
    stack = read_particles(folder / "toy_projections.mrcs", **pickles)
    np.testing.assert_array_equal(star.poses.rotation, stack.poses.rotation)
    np.testing.assert_array_equal(star.uid, stack.uid)
    chosen = read_particles(folder / "toy_projections.mrcs", ind=folder / "ind100.pkl", **pickles)
    np.testing.assert_array_equal(chosen.row, np.arange(100))
    assert ImageStack(chosen).read([0]).shape == (1, 30, 30)


def test_two_listed_stacks_need_poses_for_both(shared_data):
    folder = shared_data / "formats"
    with pytest.raises(InputError, match=r"1000 rows of .* has 2000 particles"):
        read_particles(
            folder / "toy_projections_2.txt",
            poses=folder / "toy_rot_trans.pkl",
            ctf=folder / "test_ctf.pkl",
        )
