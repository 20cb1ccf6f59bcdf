"""Where exports go, what they never touch, and the volumes for ChimeraX."""

import json
import re

import numpy as np
import pytest
import starfile

from export.runs import TARGETS_OF_FEW, run_on
from particles.particle_files import COLUMNS_31, star_text, with_value, write_stack
from solvar.errors import InputError
from solvar.export import ExportOptions, Selection, export
from solvar.files import Ledger, Writer, owned
from solvar.results.supported import supported_model
from solvar.volume_file import read_volume, write_volume
from solvar.volumes import Targets, VolumeSettings, reconstruct

# what is no result
LEFT = {"manifest.json", "cluster1"}


@pytest.fixture
def run(tmp_path):
    return run_on("relion31", tmp_path)[0]


def test_folders_are_created_and_nothing_is_left_beside_the_files(run, tmp_path):
    for target in TARGETS_OF_FEW:
        output = tmp_path / "deep" / "down" / target.name
        paths = export(run, target.name, output).files
        assert sorted(output.iterdir()) == sorted(paths)


def test_existing_files_stay_without_overwrite(run, tmp_path):
    (path,) = export(run, "relion", tmp_path / "out").files
    before = path.read_bytes()
    with pytest.raises(InputError, match="--overwrite"):
        export(run, "relion", tmp_path / "out", ExportOptions(Selection(ind=[1])))
    assert path.read_bytes() == before
    export(run, "relion", tmp_path / "out", ExportOptions(Selection(ind=[1]), overwrite=True))
    assert len(starfile.read(path)["particles"]) == 1


def test_one_file_in_the_way_keeps_all_from_being_written(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "poses.pkl").touch()
    with pytest.raises(InputError, match="is there already"):
        export(run, "cryodrgn", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["poses.pkl"]


def test_inputs_are_never_replaced(run, tmp_path):
    source = tmp_path / "particles.star"
    (tmp_path / "link.star").symlink_to(source)
    before = source.read_bytes()
    options = ExportOptions(overwrite=True)
    for output in (source, tmp_path / "link.star", tmp_path, run.folder):
        with pytest.raises(InputError, match="never replaced"):
            export(run, "relion", output, options)
    with pytest.raises(InputError, match="never replaced"):
        export(run, "chimerax", run.folder, options)
    assert source.read_bytes() == before


def test_a_file_that_lacks_a_particle_is_refused_with_its_name(run, tmp_path):
    names = with_value(COLUMNS_31, "rlnImageName", 2, "000009@other.mrcs")
    write_stack(tmp_path / "other.mrcs")
    (tmp_path / "other.star").write_text(star_text(names))
    with pytest.raises(InputError) as caught:
        export(run, "relion", tmp_path / "o", ExportOptions(particles=tmp_path / "other.star"))
    for word in ("1 of 6 particles", "000003@stack.mrcs", "image name", "other.star"):
        assert word in str(caught.value)
    some = ExportOptions(Selection(ind=[2], invert=True), particles=tmp_path / "other.star")
    export(run, "relion", tmp_path / "o", some)


def test_a_file_that_holds_a_particle_twice_is_refused(run, tmp_path):
    twice = with_value(COLUMNS_31, "rlnImageName", 2, "000001@stack.mrcs")
    (tmp_path / "other.star").write_text(star_text(twice))
    with pytest.raises(InputError, match="same image as row 1"):
        export(run, "relion", tmp_path / "o", ExportOptions(particles=tmp_path / "other.star"))


def test_lost_cryosparc_particles_are_named_by_uid(tmp_path):
    run, _ = run_on("cryosparc", tmp_path)
    table = np.load(run.record["particles"]["source"])
    with (tmp_path / "J9" / "fewer.cs").open("wb") as file:
        np.save(file, table[:3])
    options = ExportOptions(particles=tmp_path / "J9" / "fewer.cs")
    with pytest.raises(InputError, match=f"3 of 6 particles.*uid {table['uid'][3]}"):
        export(run, "cryosparc", tmp_path / "o", options)


@pytest.mark.parametrize(
    ("to", "options", "words"),
    [
        ("frealign", {}, "choose from relion"),
        ("relion", {"refined_poses": True}, "holds no refined poses"),
        ("cryodrgn", {"latents": True}, "--latents"),
        ("relion", {"component": 2}, "--component"),
        ("chimerax", {"selection": Selection(ind=[0])}, "a selection"),
        ("chimerax", {"refined_poses": False}, "--input-poses"),
        ("chimerax", {"component": 4}, "there is no component 4"),
    ],
)
def test_options_that_make_no_sense(run, tmp_path, to, options, words):
    with pytest.raises(InputError, match=words):
        export(run, to, tmp_path / "out", ExportOptions(**options))
    assert not (tmp_path / "out").exists()


def test_source_that_is_gone_is_told_with_the_way_out(run, tmp_path):
    (tmp_path / "particles.star").rename(tmp_path / "moved.star")
    with pytest.raises(InputError, match="--particles"):
        export(run, "relion", tmp_path / "out")
    export(run, "relion", tmp_path / "out", ExportOptions(particles=tmp_path / "moved.star"))


def test_motion_is_the_mean_and_two_standard_deviations_to_each_side(run, tmp_path):
    paths = export(run, "chimerax", tmp_path / "out", ExportOptions(component=2)).files
    minus, mean, plus = (read_volume(path)[0] for path in paths[:3])
    model = supported_model(run)
    np.testing.assert_allclose(mean, model.mean, atol=1e-6)
    np.testing.assert_allclose((minus + plus) / 2, mean, atol=1e-5)
    step = 2 * np.sqrt(model.eigenvalues[1]) * model.eigenvolumes[1]
    np.testing.assert_allclose(plus - mean, step, atol=1e-5)
    assert read_volume(paths[0])[1] == pytest.approx(run.pixel_size_angstrom)
    # the surface coloured by what changes lies beside it
    change = read_volume(paths[0].parent / "change.mrc")[0]
    np.testing.assert_allclose(change, run.change.spread, atol=1e-6)
    assert "color sample #1 map #2" in (paths[0].parent / "change.cxc").read_text()
    assert all(
        name in paths[-1].read_text() for name in ("volume morph #1-3", 'movie encode "morph.mp4"')
    )


def test_script_shows_the_volumes_of_a_folder_in_numerical_order(run, tmp_path):
    volumes = tmp_path / "volumes"
    volumes.mkdir()
    for number in (10, 9, 1):
        write_volume(volumes / f"state_{number}.mrc", run.model.mean * number, 2.0)
    (path,) = export(run, "chimerax", tmp_path / "out", ExportOptions(volumes=volumes)).files
    opened = re.findall(r'open "(.*?)" id (\d)', path.read_text())
    assert [(path.parent / name).name for name, _ in opened] == [
        f"state_{n}.mrc" for n in (1, 9, 10)
    ]
    assert all((path.parent / name).resolve().is_file() for name, _ in opened)
    level = float(re.search(r"level (\S+)", path.read_text()).group(1))
    assert 0 < level < (run.model.mean * 9).max()


def test_half_maps_beside_the_volumes_are_not_part_of_the_series(run, tmp_path):
    volumes = tmp_path / "volumes"
    volumes.mkdir()
    for name in ("a", "a_half1", "a_half2", "b", "b_postprocessed"):
        write_volume(volumes / f"{name}.mrc", run.model.mean, 2.0)
    table = volumes / "volumes.json"
    table.write_text(json.dumps(_table("b.mrc", "a.mrc")))
    (path,) = export(run, "chimerax", tmp_path / "out", ExportOptions(volumes=volumes)).files
    opened = re.findall(r'open "(.*?)" id (\d)', path.read_text())
    assert [(path.parent / name).name for name, _ in opened] == ["b.mrc", "a.mrc"]
    for damaged in ({}, _table("b.mrc", "../mean.mrc")):
        table.write_text(json.dumps(damaged))
        with pytest.raises(InputError, match=r"volumes\.json, column .*make the volumes again"):
            export(run, "chimerax", tmp_path / "out2", ExportOptions(volumes=volumes))


def _table(*files):
    """A table of volumes as `solvar volume` writes it."""
    volumes = [
        {
            "name": f,
            "z": [0],
            "particles": 0,
            "resolution_angstrom": None,
            "fsc": None,
            "files": [f],
        }
        for f in files
    ]
    return {
        "format": "solvar-volumes", "format_version": 1, "run_id": "0", "settings": {},
        "particles": None, "pixel_size_angstrom": 2.0, "volumes": volumes,
    }  # fmt: skip


def test_folder_without_a_series_is_refused(run, tmp_path):
    (tmp_path / "volumes").mkdir()
    with pytest.raises(InputError, match="holds 0 maps"):
        export(run, "chimerax", tmp_path / "out", ExportOptions(volumes=tmp_path / "volumes"))


@pytest.mark.parametrize("place", ["out", "job/run/cluster1", "job/run"])
def test_an_export_owns_its_folder_or_the_run_that_it_lies_in(run, tmp_path, place):
    output = tmp_path / place / "some.star"
    home = run.folder if place.startswith("job") else output.parent
    home.mkdir(exist_ok=True)
    with (
        owned(home, "solvar analyze"),
        pytest.raises(InputError, match="being written to by `solvar analyze`"),
    ):
        export(run, "relion", output)
    assert not output.exists()
    manifest = Ledger.read(run.folder).files
    export(run, "relion", output)
    if output.parent != run.folder:  # whose files are all inputs
        export(run, "relion", output, ExportOptions(overwrite=True))
    assert Ledger.read(run.folder).files == manifest
    assert {"some.star"} == {p.name for p in output.parent.iterdir()} - set(manifest) - LEFT


def test_results_are_never_replaced_and_links_in_the_run_folder_not_followed(run, tmp_path):
    (tmp_path / "other").mkdir()
    other, _ = run_on("relion31", tmp_path / "other")
    with owned(run.folder, "test") as own:
        own.file(Writer("volumes", ("volumes/a/mean.mrc",)), "volumes/a/mean.mrc").touch()
    (tmp_path / "elsewhere").mkdir()
    (run.folder / "selections").symlink_to(tmp_path / "elsewhere")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for to, output, words in (
        ("relion", other.folder, "is a result that solvar keeps here"),
        ("relion", other.folder / "particles.star", "is a result that solvar keeps here"),
        ("chimerax", run.folder / "volumes" / "a", "is a result that solvar keeps here"),
        ("relion", run.folder / "selections", "is a link"),
    ):
        with pytest.raises(InputError, match=words):
            export(run, to, output, ExportOptions(overwrite=True))
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_volumes_of_one_call_are_a_series(run, tmp_path):
    targets = Targets(np.zeros((3, 3)), ("c", "a", "b"))
    folder = run.folder / "volumes" / "mine"
    reconstruct(run, targets, folder, VolumeSettings(method="reproject", bfactor=-10))
    (path,) = export(run, "chimerax", tmp_path / "out", ExportOptions(volumes=folder)).files
    opened = [path.parent / name for name in re.findall(r'open "(.*?)" id', path.read_text())]
    assert [p.resolve() for p in opened] == [folder / f"{name}.mrc" for name in "cab"]
    (folder / "volumes.json").unlink()
    with pytest.raises(InputError, match="holds no finished volumes"):
        export(run, "chimerax", tmp_path / "out2", ExportOptions(volumes=folder))
