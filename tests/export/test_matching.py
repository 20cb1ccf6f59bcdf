"""Particles of a downsampled run are found in the original file, by whichever key both have."""

import numpy as np
import pytest
import starfile

from export.runs import check_relion31, make_run, write_clusters
from particles.particle_files import write_stack
from solvar.errors import InputError
from solvar.export import ExportOptions, Selection, export
from solvar.particles import read_particles
from solvar.results.matching import find_particles

KEYS = ("name", "coordinates")
COUNT, COLUMNS = 400, 20


def picked(blocks: dict, folder: str) -> dict:
    """The same blocks with micrographs, in a folder of their own, and coordinates 60 pixels apart."""
    table, n = blocks["particles"].copy(), np.arange(COUNT)
    table["rlnImageName"] = table["rlnImageName"].astype(str)
    table["rlnMicrographName"] = [f"{folder}/mic{m}.mrc" for m in n % 3]
    table["rlnCoordinateX"] = 100.25 + 60 * (n % COLUMNS)
    table["rlnCoordinateY"] = 80.75 + 60 * (n // COLUMNS)
    return {**blocks, "particles": table}


def extracted_again(blocks: dict, images: str) -> dict:
    """Rows in another order, images renamed and numbered anew, coordinates in whole pixels."""
    table = blocks["particles"].sample(frac=1, random_state=8).reset_index(drop=True)
    table["rlnImageName"] = [f"{n + 1:06d}@{images}" for n in range(len(table))]
    for name in ("rlnCoordinateX", "rlnCoordinateY"):
        table[name] = np.floor(table[name])
    return {**blocks, "particles": table}


@pytest.fixture(scope="module")
def original(tiny_stack):
    return picked(starfile.read(tiny_stack / "particles.star", always_dict=True), "MotionCorr/job2")


def run_of(folder, blocks, tiny_stack, key, ind=None):
    """A run on the original images, or on those of another extraction."""
    if key == "coordinates":
        blocks = extracted_again(picked(blocks, "elsewhere"), "small.mrcs")
        write_stack(folder / "small.mrcs")
    starfile.write(blocks, folder / "run.star")
    return make_run(
        folder / "job", read_particles(folder / "run.star", datadir=tiny_stack, ind=ind)
    )


def true_row(table) -> np.ndarray:
    """Row of the simulated stack that each row of a star file shows, told by its micrograph."""
    x, y = (np.floor(table[f"rlnCoordinate{axis}"].to_numpy(float)) for axis in "XY")
    return ((y - 80) // 60 * COLUMNS + (x - 100) // 60).astype(int)


def spelled(table, folder) -> list[str]:
    """Names of images as the input has them: elsewhere than beside the stack they are absolute."""
    return table["rlnImageName"].str.replace(f"@{folder}/", "@").tolist()


@pytest.mark.parametrize("key", KEYS)
def test_cluster_of_a_run_selects_its_particles_from_the_shuffled_original(
    tmp_path, tiny_stack, original, key
):
    used = np.random.default_rng(6).permutation(COUNT)[:200]
    run = run_of(tmp_path, original, tiny_stack, key, used)
    labels = np.random.default_rng(3).integers(1, 5, len(used))
    write_clusters(run, labels)
    shuffled = original["particles"].sample(frac=1, random_state=5)
    starfile.write({**original, "particles": shuffled}, tmp_path / "original.star")
    options = ExportOptions(
        Selection(clusters=(2,)),
        particles=tmp_path / "original.star",
        reading={"datadir": tiny_stack},
    )
    (path,) = export(run, "relion", tmp_path / "cluster.star", options).files
    input_rows = starfile.read(tmp_path / "run.star")["particles"].iloc[used[labels == 2]]
    wanted = set(true_row(input_rows))
    found = check_relion31(path)["particles"]
    assert set(true_row(found)) == wanted and len(found) == len(wanted) > 20
    # the images are those of the original, in the order of the file the rows were taken from
    names = original["particles"]["rlnImageName"].iloc[sorted(wanted)]
    assert spelled(found, tiny_stack) == [n for n in shuffled["rlnImageName"] if n in set(names)]


@pytest.mark.parametrize("key", KEYS)
def test_positions_are_those_of_the_same_particles(tmp_path, tiny_stack, original, key):
    run = run_of(tmp_path, original, tiny_stack, key)
    shuffled = original["particles"].sample(frac=1, random_state=5)
    starfile.write({**original, "particles": shuffled}, tmp_path / "original.star")
    particles = read_particles(tmp_path / "original.star", datadir=tiny_stack)
    place = find_particles(run, np.arange(COUNT), particles)
    table = starfile.read(tmp_path / "run.star")["particles"]
    np.testing.assert_array_equal(true_row(shuffled.iloc[place]), true_row(table))


def changed_star(folder, blocks, row, **values):
    table = blocks["particles"].copy()
    for name, value in values.items():
        table.loc[row, name] = value
    starfile.write({**blocks, "particles": table}, folder / "original.star")
    return folder / "original.star"


@pytest.mark.parametrize(
    ("row", "values", "words"),
    [
        (7, {"rlnCoordinateX": 5.0}, ("400 of 400", "1 fit no row", "mic1.mrc at (520, 80)")),
        (7, {"rlnMicrographName": "a/other.mrc"}, ("400 of 400", "1 fit no row", "same microgr")),
        (
            slice(7, 9),
            {"rlnCoordinateX": 520.0, "rlnMicrographName": "a/mic1.mrc"},
            ("398 of 398", "1 fit more than one row", "mic1.mrc at (520, 80)", "repeated picks"),
        ),
    ],
)
def test_missing_and_ambiguous_picks_are_one_sentence(
    tmp_path, tiny_stack, original, row, values, words
):
    run = run_of(tmp_path, original, tiny_stack, "coordinates")
    path = changed_star(tmp_path, original, row, **values)
    selection = Selection()
    if isinstance(row, slice):
        # rows 8 and 9 are not wanted, so that only row 7 is in question
        rows = true_row(starfile.read(tmp_path / "run.star")["particles"])
        selection = Selection(ind=np.flatnonzero((rows != 8) & (rows != 9)))
    options = ExportOptions(selection, particles=path, reading={"datadir": tiny_stack})
    with pytest.raises(InputError) as caught:
        export(run, "relion", tmp_path / "out", options)
    for word in (*words, "original.star", "of the input of the run", "image name"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_recentred_particles_are_found_within_a_wider_tolerance(tmp_path, tiny_stack, original):
    run = run_of(tmp_path, original, tiny_stack, "coordinates")
    moved = original["particles"].copy()
    step = np.random.default_rng(2).integers(-12, 13, (COUNT, 2))
    moved[["rlnCoordinateX", "rlnCoordinateY"]] += step
    path = tmp_path / "original.star"
    starfile.write({**original, "particles": moved}, path)
    options = ExportOptions(particles=path, reading={"datadir": tiny_stack})
    with pytest.raises(InputError, match="by micrograph and coordinates to 1 px"):
        export(run, "relion", tmp_path / "out", options)
    wider = ExportOptions(particles=path, reading={"datadir": tiny_stack}, pick_tolerance=15)
    (written,) = export(run, "relion", tmp_path / "out", wider).files
    assert spelled(starfile.read(written)["particles"], tiny_stack) == list(moved["rlnImageName"])


def test_a_file_without_coordinates_says_what_could_have_helped(tmp_path, tiny_stack, original):
    run = run_of(tmp_path, original, tiny_stack, "coordinates")
    options = ExportOptions(particles=tiny_stack / "particles.star")
    with pytest.raises(InputError, match="this file has no micrograph names and coordinates"):
        export(run, "relion", tmp_path / "out", options)


def cs_picks(count, prefix):
    """Location fields of a .cs file: micrographs of 4000 × 3000 pixels."""
    n = np.arange(count)
    return {
        "location/micrograph_path": np.array([f"{prefix}/mic{m}.mrc".encode() for m in n % 2]),
        "location/micrograph_shape": np.full((count, 2), (3000, 4000), np.uint32),
        "location/center_x_frac": ((100 + 60 * n) / 4000).astype(np.float32),
        "location/center_y_frac": np.full(count, 0.25, np.float32),
    }


@pytest.mark.parametrize("key", ["uid", "coordinates"])
def test_cs_rows_are_found_by_uid_or_by_location(tmp_path, key):
    from particles.particle_files import cs_table, structured, write_cs

    base = cs_table()
    fields = {name: base[name] for name in base.dtype.names}
    fine = structured({**fields, **cs_picks(len(base), "J1/motion")})
    small = structured({**fields, **cs_picks(len(base), "J44/imported")})[[4, 1, 5, 0]]
    if key == "coordinates":
        small["uid"] += np.uint64(1000)
    run = make_run(tmp_path / "job", read_particles(write_cs(tmp_path, small, "small.cs")))
    original = write_cs(tmp_path, fine[::-1], "original.cs")
    options = ExportOptions(Selection(ind=[0, 1, 3]), particles=original)
    (path,) = export(run, "cryosparc", tmp_path / "out.cs", options).files
    assert np.load(path)["uid"].tolist() == fine["uid"][[4, 1, 0]].tolist()
