"""Particles are known by micrograph and coordinates in its pixels."""

import numpy as np
import pytest

from particles.particle_files import COLUMNS_31, COUNT, cs_table, star_text, write_cs, write_stack
from particles.particle_files import structured as table_of
from solvar.particles import Picks, read_particles
from solvar.particles.picks import find_picks

RNG = np.random.default_rng(0)


def scattered(count, micrographs=5, apart=40):
    """Picks that are at least `apart` pixels from each other, in any order."""
    side = int(np.ceil(np.sqrt(count / micrographs))) + 1
    grid = np.stack(np.meshgrid(*[np.arange(side) * apart] * 2), axis=-1).reshape(-1, 2)
    place = RNG.permutation(micrographs * len(grid))[:count]
    names = [f"mic_{number}.mrc" for number in range(micrographs)]
    return Picks.of_paths(names, place // len(grid), grid[place % len(grid)] + RNG.uniform(size=2))


def test_every_pick_is_found_in_a_shuffled_list_of_more():
    among = scattered(500)
    order = RNG.permutation(500)[:200]
    place, candidates = find_picks(among.select(order), among)
    assert (candidates == 1).all()
    np.testing.assert_array_equal(place, order)


def test_coordinates_that_were_rounded_to_whole_pixels_are_the_same():
    among = scattered(300)
    for rounded in (np.round, np.floor, np.ceil):
        wanted = Picks(among.micrograph, among.micrograph_index, rounded(among.coordinate_pixel))
        place, candidates = find_picks(wanted, among)
        assert (candidates == 1).all()
        np.testing.assert_array_equal(place, np.arange(300))


def test_a_neighbour_outside_the_tolerance_or_on_another_micrograph_is_nobody():
    among = Picks.of_paths(["a.mrc", "b.mrc"], np.array([0, 1]), [[10, 10], [50, 10]])
    wanted = Picks.of_paths(
        ["a.mrc", "c.mrc"], np.array([0, 0, 1, 0]), [[10, 11.1], [50, 10], [10, 10], [np.nan, 10]]
    )
    assert find_picks(wanted, among)[1].tolist() == [0, 0, 0, 0]
    assert find_picks(wanted, among, tolerance_pixel=2)[1].tolist() == [1, 0, 0, 0]


def test_two_candidates_and_two_claims_to_one_are_ambiguous():
    among = Picks.of_paths(["a"], np.zeros(3, int), [[10, 10], [10.5, 10], [90, 90]])
    wanted = Picks.of_paths(["a"], np.zeros(3, int), [[10, 10], [90, 90], [90.5, 90]])
    assert find_picks(wanted, among)[1].tolist() == [2, 2, 2]
    assert find_picks(wanted.select(np.array([1])), among)[1].tolist() == [1]


def test_folders_of_micrographs_do_not_matter_but_their_names_do():
    picks = Picks.of_paths(
        ["J1/mic.mrc", "3@J2/mic.mrc", "mic2.mrc"], np.arange(3), np.zeros((3, 2))
    )
    assert picks.micrograph == ("mic.mrc", "mic2.mrc")
    assert picks.micrograph_index.tolist() == [0, 0, 1]
    unnamed = Picks.of_paths([""], np.zeros(1, int), [[1, 1]])
    assert find_picks(unnamed, unnamed)[1].tolist() == [0]


def test_star_files_give_names_and_coordinates(tmp_path):
    write_stack(tmp_path / "stack.mrcs")
    columns = {
        **COLUMNS_31,
        "rlnMicrographName": ["Micrographs/b.mrc", "Micrographs/a.mrc"] * (COUNT // 2),
        "rlnCoordinateX": [str(10.5 * n) for n in range(COUNT - 1)] + ["none"],
        "rlnCoordinateY": [str(7 * n) for n in range(COUNT)],
    }
    (tmp_path / "p.star").write_text(star_text(columns))
    picks = read_particles(tmp_path / "p.star", ind=[5, 1, 2]).picks
    assert [picks.micrograph[m] for m in picks.micrograph_index] == ["a.mrc", "a.mrc", "b.mrc"]
    np.testing.assert_array_equal(picks.coordinate_pixel, [[np.nan, 35], [10.5, 7], [21, 14]])
    assert picks.describe(2) == "b.mrc at (21, 14)"


def test_cs_files_give_fractions_of_width_and_height(tmp_path):
    base = cs_table()
    location = {
        "location/micrograph_path": np.array([b">J3/motion/mic.mrc"] * COUNT),
        "location/micrograph_shape": np.full((COUNT, 2), (3000, 4000), np.uint32),
        "location/center_x_frac": np.linspace(0, 1, COUNT, dtype=np.float32),
        "location/center_y_frac": np.full(COUNT, 0.5, np.float32),
    }
    table = table_of({**{name: base[name] for name in base.dtype.names}, **location})
    picks = read_particles(write_cs(tmp_path, table)).picks
    assert picks.micrograph == ("mic.mrc",)
    np.testing.assert_allclose(picks.coordinate_pixel[:, 0], np.linspace(0, 4000, COUNT), atol=1e-3)
    np.testing.assert_allclose(picks.coordinate_pixel[:, 1], 1500)


@pytest.mark.parametrize(("name", "repeated"), [("relion31.star", [0, 1]), ("relion5.star", [])])
def test_picks_of_files_of_relion_itself_are_apart(shared_data, tmp_path, name, repeated):
    """The tolerance is far below what lies between particles; one file repeats a pick."""
    import starfile

    source = shared_data / "formats" / name
    names = starfile.read(source)["particles"]["rlnImageName"]
    for stack in names.str.split("@").str[1].unique():
        (tmp_path / stack).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / stack).touch()
    particles = read_particles(source, datadir=tmp_path, ind=np.flatnonzero(~names.duplicated()))
    place, candidates = find_picks(particles.picks, particles.picks)
    assert np.flatnonzero(candidates != 1).tolist() == repeated
    rest = np.setdiff1d(np.arange(len(particles)), repeated)
    np.testing.assert_array_equal(place[rest], rest)
