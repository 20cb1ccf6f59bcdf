"""`--subtract`: what is taken out of images, in which pixels, and what stays as it was."""

from dataclasses import replace

import mrcfile
import numpy as np
import pytest
import starfile
from typer.testing import CliRunner

from export.runs import assert_same_particles
from particles.particle_files import write_stack
from solvar.cli.export import app
from solvar.errors import InputError
from solvar.export import ExportOptions, Selection, export
from solvar.export.subtraction import Subtraction
from solvar.fitting.fit import fit
from solvar.fitting.settings import FitSettings
from solvar.imaging.ctf import evaluate_ctf
from solvar.imaging.rotations import random as random_rotations
from solvar.imaging.rotations import to_euler
from solvar.particles import ImageStack, read_particles
from solvar.particles.star_blocks import write_blocks
from solvar.results.run import Run
from solvar.volume_file import write_volume
from synthetic import make_fit
from written import written

BOX, PIXEL, COUNT = 24, 3.0, 40


def made_star(folder, box=BOX, pixel=PIXEL, groups=1, scale=None, count=COUNT, **optics):
    """A star file of particles of nothing but noise, each `scale` as strong; the first half is of group 1."""
    import pandas as pd

    rng = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)
    boxes, pixels = (np.broadcast_to(each, groups) for each in (box, pixel))
    group = np.arange(count) * groups // count
    names = np.empty(count, object)
    for g in range(groups):
        members = np.flatnonzero(group == g)
        noise = rng.standard_normal((len(members), boxes[g], boxes[g]))
        if scale is not None:
            noise *= scale[members, None, None]
        write_stack(folder / f"{g}.mrcs", noise.astype(np.float32))
        names[members] = [f"{i + 1:06d}@{g}.mrcs" for i in range(len(members))]
    rot, tilt, psi = to_euler(random_rotations(count, rng)).T
    table = {
        "rlnImageName": names,
        "rlnOpticsGroup": group + 1,
        "rlnDefocusU": rng.uniform(8e3, 2e4, count),
        "rlnDefocusV": rng.uniform(8e3, 2e4, count),
        "rlnDefocusAngle": rng.uniform(0, 180, count),
        "rlnAngleRot": rot,
        "rlnAngleTilt": tilt,
        "rlnAnglePsi": psi,
        "rlnOriginXAngst": rng.normal(0, 4, count),
        "rlnOriginYAngst": rng.normal(0, 4, count),
        "userColumn": [f"0{i}.50" for i in range(count)],
    }
    lens = {
        "rlnOpticsGroup": np.arange(1, groups + 1),
        "rlnOpticsGroupName": [f"g{g}" for g in range(groups)],
        "rlnVoltage": 300.0,
        "rlnSphericalAberration": 2.7,
        "rlnAmplitudeContrast": 0.1,
        "rlnImagePixelSize": pixels,
        "rlnImageSize": boxes,
        "rlnImageDimensionality": 2,
        **optics,
    }
    path = folder / "particles.star"
    write_blocks(path, {"optics": pd.DataFrame(lens), "particles": pd.DataFrame(table)})
    return path


def made_run(folder, star, settings=None, **changes):
    """A finished run on a star file whose numbers are made up, and taken for the truth here."""
    particles = read_particles(star)
    settings = settings or FitSettings(rank=2, threads=1, halfsets=False, interpolation="nufft")
    box = settings.downsample or particles.box_size
    (folder / "made").mkdir(parents=True)
    fitted = make_fit(folder / "made", rank=2, count=len(particles), box=box, halfsets=False)
    pixel = particles.pixel_size_angstrom * particles.box_size / box
    model = replace(fitted.model, pixel_size_angstrom=pixel)
    fitted = replace(fitted, particles=particles, settings=settings, model=model, **changes)
    written(folder / "run", fitted)
    return Run(folder / "run")


def one_side(run, path):
    """A mask of what lies at x > 0, with a soft edge."""
    axis = np.arange(run.box_size) - run.box_size // 2
    mask = np.broadcast_to(np.clip((axis + 2) / 4, 0, 1), (run.box_size,) * 3)
    write_volume(path, mask.astype(np.float32), run.pixel_size_angstrom)
    return mask


def projected(run, particles, i, volume, k_c):
    """The image of a volume at the file's own pixels, by the sum over voxels and nothing else."""
    group = particles.exposures.optics_group[i : i + 1]
    box = int(particles.optics.box_size[group[0]])
    pixel = float(particles.optics.pixel_size_angstrom[group[0]])
    extent, extent_of_volume = box * pixel, run.box_size * run.pixel_size_angstrom
    k = np.rint(np.fft.fftfreq(box, 1 / box)).astype(int)
    ky, kx = (each.ravel() for each in np.meshgrid(k, k, indexing="ij"))
    matrix = np.eye(2)
    if particles.optics.magnification is not None:
        matrix = particles.optics.magnification[group[0]]
    plane = matrix @ np.stack([kx, ky]) / extent
    frequency = run.particles["rotation"][i][:, :2] @ plane  # cycles per Å, (3, n)
    axis = (np.arange(run.box_size) - run.box_size // 2) * run.pixel_size_angstrom
    x, y, z = (np.exp(-2j * np.pi * np.outer(each, axis)) for each in frequency)
    value = np.einsum("zyx,nz,ny,nx->n", volume, z, y, x, optimize=True)
    shift = run.particles["shift_angstrom"][i]
    value *= np.exp(2j * np.pi * (kx * shift[0] + ky * shift[1]) / extent)
    ctf = particles.exposures.rows(np.array([i])).ctf
    seen = evaluate_ctf(kx, ky, extent, ctf, particles.optics, group)[0]
    premultiplied = particles.optics.premultiplied
    if premultiplied is not None and premultiplied[group[0]]:
        seen = seen**2
    value *= seen * (np.linalg.norm(plane, axis=0) * extent_of_volume <= k_c * (1 + 1e-6))
    value *= (np.abs(kx) <= (box - 1) // 2) & (np.abs(ky) <= (box - 1) // 2)
    value *= np.hypot(kx, ky) <= (box - 1) // 2
    # the origin is at index box // 2
    value *= np.exp(-2j * np.pi * (kx + ky) * (box // 2) / box)
    return np.fft.ifft2(value.reshape(box, box)).real


def subtracted(run, folder, **options):
    """Images before and after, and the particles as they are read back from the files."""
    mask = one_side(run, folder / "mask.mrc")
    given = ExportOptions(subtract=folder / "mask.mrc", **options)
    files = export(run, "relion", folder / "out", given).files
    return mask, read_particles(files[-1])


def whole(particles, i):
    exposures = particles.exposures
    stack = particles.stacks[exposures.stack_index[i]]
    return mrcfile.read(stack)[exposures.frame[i]].astype(np.float64)


def error_of(run, folder):
    """The largest deviation of what is taken out of some images from what is expected, relative."""
    before = read_particles(run.source)
    mask, after = subtracted(run, folder)
    settings = run.settings
    stack = ImageStack(before, settings.downsample)
    k_c = (stack.box_size - 1) // 2
    worst = 0.0
    for i in (0, 1, COUNT // 2, COUNT - 1):
        volume = (1 - mask) * run.volume_at(run.posterior.z[i])
        expected = run.posterior.contrast[i] * projected(run, before, i, volume, k_c)
        expected *= run.particle_probability[i] / stack.gain(np.array([i]))
        expected *= -1 if run.record["result"]["inverted"] else 1
        taken = whole(before, i) - whole(after, i)
        scale = max(np.linalg.norm(expected), 1e-3)
        worst = max(worst, float(np.linalg.norm(taken - expected) / scale))
    return worst


KINDS = {
    "even": {},
    "odd": {"box": 25},
    "premultiplied": {"rlnCtfDataAreCtfPremultiplied": 1},
    "magnified": {
        "rlnMagMat00": 1.02,
        "rlnMagMat01": 0.01,
        "rlnMagMat10": -0.005,
        "rlnMagMat11": 0.99,
    },
    "two sizes": {"groups": 2, "box": (24, 39), "pixel": (3.0, 2.0)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_taken_out_is_the_image_of_what_lies_outside_the_mask(kind, tmp_path):
    run = made_run(tmp_path, made_star(tmp_path / "in", **KINDS[kind]))
    assert error_of(run, tmp_path) < 1e-3


@pytest.mark.parametrize("box", [24, 25])
def test_images_of_a_binned_run_keep_their_own_pixels(box, tmp_path):
    settings = FitSettings(rank=2, threads=1, halfsets=False, interpolation="nufft", downsample=16)
    run = made_run(tmp_path, made_star(tmp_path / "in", box=box), settings)
    assert error_of(run, tmp_path) < 1e-3
    after = read_particles(tmp_path / "out" / "particles.star")
    assert whole(after, 0).shape == (box, box)


def test_interpolation_of_the_run_costs_less_than_a_thousandth_of_the_power(tmp_path):
    settings = FitSettings(rank=2, threads=1, halfsets=False)
    run = made_run(tmp_path, made_star(tmp_path / "in"), settings)
    assert error_of(run, tmp_path) ** 2 < 1e-3


def test_dark_molecules_are_taken_out_with_their_sign(tmp_path):
    run = made_run(tmp_path, made_star(tmp_path / "in"), inverted=True)
    assert error_of(run, tmp_path) < 1e-3


def test_images_without_a_particle_stay_as_they_are(tmp_path):
    shown = np.ones(COUNT)
    shown[:2] = 0.0, 0.5
    run = made_run(tmp_path, made_star(tmp_path / "in"), particle_probability=shown)
    assert error_of(run, tmp_path) < 1e-3
    after = read_particles(tmp_path / "out" / "particles.star")
    np.testing.assert_array_equal(whole(read_particles(run.source), 0), whole(after, 0))


def test_images_lose_as_much_as_they_were_recorded_strong(tmp_path):
    count = 200
    scale = np.exp(np.random.default_rng(0).normal(0, 0.4, count))
    even = made_run(tmp_path / "even", made_star(tmp_path / "even" / "in", count=count))
    star = made_star(tmp_path / "uneven" / "in", scale=scale, count=count)
    uneven = made_run(tmp_path / "uneven", star)
    taken = []
    for run in (even, uneven):
        after = subtracted(run, run.folder.parent)[1]
        before = read_particles(run.source)
        taken.append([np.linalg.norm(whole(before, i) - whole(after, i)) for i in range(count)])
    ratio = np.array(taken[1]) / taken[0] / scale
    # corners of so few pixels tell a strength to a few per cent
    assert np.std(np.log(ratio)) < 0.1 < np.std(np.log(scale))


def test_of_images_that_the_model_explains_the_kept_part_is_left(tmp_path):
    star = made_star(tmp_path / "in")
    run = made_run(tmp_path, star)
    before = read_particles(star)
    k_c = (BOX - 1) // 2
    mask = one_side(run, tmp_path / "mask.mrc")
    with mrcfile.open(tmp_path / "in" / "0.mrcs", "r+") as stack:
        for i in range(COUNT):
            volume = run.volume_at(run.posterior.z[i])
            stack.data[i] += run.posterior.contrast[i] * projected(run, before, i, volume, k_c)
        noisy = stack.data.copy()
    (tmp_path / "again").mkdir()
    run = made_run(tmp_path / "again", star)
    after = subtracted(run, tmp_path)[1]
    for i in range(0, COUNT, 10):
        contrast, model = run.posterior.contrast[i], run.volume_at(run.posterior.z[i])
        whole_image = contrast * projected(run, before, i, model, k_c)
        kept = contrast * projected(run, before, i, mask * model, k_c)
        left = whole(after, i) - (noisy[i] - whole_image)
        assert np.linalg.norm(left - kept) < 1e-3 * np.linalg.norm(whole_image)


def test_rows_keep_every_column_and_name_the_new_images(tmp_path):
    star = made_star(tmp_path / "in")
    run = made_run(tmp_path, star)
    files = subtracted(run, tmp_path, selection=Selection(ind=[3, 5, 8]))
    old = starfile.read(star)["particles"].iloc[[3, 5, 8]].reset_index(drop=True)
    new = starfile.read(tmp_path / "out" / "particles.star")["particles"]
    same = [name for name in old.columns if name != "rlnImageName"]
    assert old[same].equals(new[same])
    stack = (tmp_path / "out" / "particles.mrcs").absolute()
    assert new["rlnImageName"].tolist() == [f"{i:06d}@{stack}" for i in (1, 2, 3)]
    assert files[1].box_size == BOX
    text = (tmp_path / "out" / "particles.star").read_text()
    assert "03.50" in text  # as it is spelled
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.suffix != ".json") == [
        "particles.mrcs",
        "particles.star",
    ]


def test_cryosparc_rows_keep_uid_and_poses(tmp_path):
    run = made_run(tmp_path, made_star(tmp_path / "in"))
    one_side(run, tmp_path / "mask.mrc")
    options = ExportOptions(subtract=tmp_path / "mask.mrc")
    export(run, "cryosparc", tmp_path / "out", options)
    found = read_particles(tmp_path / "out" / "particles.cs")
    before = read_particles(run.source)
    stacks, exposures = found.stacks, before.exposures
    moved = replace(exposures, stack_index=0 * exposures.frame, frame=np.arange(COUNT))
    assert_same_particles(found, replace(before, stacks=stacks, exposures=moved))
    # and once more from the .cs, over what is there
    again = made_run(tmp_path / "again", tmp_path / "out" / "particles.cs")
    export(again, "cryosparc", tmp_path / "twice", options)
    twice = read_particles(tmp_path / "twice" / "particles.cs")
    np.testing.assert_array_equal(twice.uid, found.uid)
    assert twice.stacks[0].parent == tmp_path / "twice"
    export(again, "cryosparc", tmp_path / "twice", replace(options, overwrite=True))


def test_components_are_taken_out_as_far_as_half_sets_are_sure_of_them(tmp_path):
    particles = read_particles(made_star(tmp_path / "in"))
    (tmp_path / "made").mkdir()
    made = make_fit(tmp_path / "made", rank=3, count=COUNT, box=BOX)
    settings = FitSettings(rank=3, threads=1)
    written(tmp_path / "run", replace(made, particles=particles, settings=settings))
    run = Run(tmp_path / "run")
    mask = one_side(run, tmp_path / "mask.mrc")
    found = Subtraction.of(run, tmp_path / "mask.mrc").volumes
    outside = (1 - mask) * np.concatenate([run.model.mean[None], run.model.eigenvolumes])
    np.testing.assert_array_equal(run.validation.reliable, [True, True, False])
    np.testing.assert_allclose(found[0], outside[0], rtol=1e-5)
    assert not found[3].any() and (np.abs(found[1]) <= np.abs(outside[1])).all()
    sure = run.change.variance > 3 * run.change.error
    np.testing.assert_allclose(found[1][sure], outside[1][sure], rtol=0.11, atol=1e-12)


def refusal(run, folder, to="relion", output="out", **options):
    with pytest.raises(InputError) as caught:
        export(run, to, folder / output, ExportOptions(**options))
    assert not (folder / output).exists()
    return str(caught.value)


def test_masks_that_leave_nothing_to_do_are_refused(tmp_path):
    run = made_run(tmp_path, made_star(tmp_path / "in"))
    grid = np.indices((BOX,) * 3).sum(axis=0)
    corner = (grid < 6).astype(np.float32)
    for values, word in (
        (np.ones((BOX,) * 3), "keeps all of what"),
        (1 - corner, "keeps all of what"),
        (corner, "keeps none of what"),
        (np.zeros((BOX,) * 3), "empty"),
    ):
        write_volume(tmp_path / "mask.mrc", values, PIXEL)
        told = refusal(run, tmp_path, subtract=tmp_path / "mask.mrc")
        assert word in told and "mask.mrc" in told


def test_what_makes_no_sense_is_refused(tmp_path, monkeypatch):
    run = made_run(tmp_path, made_star(tmp_path / "in"))
    mask = tmp_path / "mask.mrc"
    one_side(run, mask)
    assert "--subtract has no meaning" in refusal(run, tmp_path, to="cryodrgn", subtract=mask)
    assert "pass a folder" in refusal(run, tmp_path, output="out.star", subtract=mask)
    with monkeypatch.context() as full:
        full.setattr("solvar.export.new_stacks.free_disk", lambda _: 1000)
        assert "0.0 GiB left" in refusal(run, tmp_path, subtract=mask)
    other = made_star(tmp_path / "other")
    told = refusal(run, tmp_path, subtract=mask, particles=other)
    assert "other images than the run was made from" in told
    series = run.read_input()
    twice = replace(series.exposures, particle=np.arange(COUNT) // 2)
    monkeypatch.setattr(
        "solvar.export.subtraction.particles_of", lambda _: replace(series, exposures=twice)
    )
    assert "one image a particle" in refusal(run, tmp_path, subtract=mask)


def test_nothing_is_left_of_an_export_that_fails(tmp_path, monkeypatch):
    run = made_run(tmp_path, made_star(tmp_path / "in"))
    subtracted(run, tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def fails(*_):
        raise InputError("broke")

    monkeypatch.setattr("solvar.export.reading_back.compare", fails)
    options = ExportOptions(subtract=tmp_path / "mask.mrc", overwrite=True)
    with pytest.raises(InputError, match="broke"):
        export(run, "relion", tmp_path / "out", options)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}


def test_a_run_on_subtracted_particles_works(tiny_stack, tmp_path):
    settings = FitSettings(rank=1, threads=1, mask=tiny_stack / "mask.mrc")
    particles = read_particles(tiny_stack / "particles.star")
    written(tmp_path / "run", fit(particles, settings))
    run = Run(tmp_path / "run")
    one_side(run, tmp_path / "mask.mrc")
    arguments = ["-o", tmp_path / "out", "--subtract", tmp_path / "mask.mrc"]
    result = CliRunner().invoke(app, [str(each) for each in (run.folder, *arguments)])
    assert result.exit_code == 0, result.output
    assert "particles.mrcs" in result.stdout and "400 particles" in result.stdout
    left = fit(read_particles(tmp_path / "out" / "particles.star"), settings)
    mask = one_side(run, tmp_path / "mask.mrc")
    power = [np.sum((model.mean * (mask == 0)) ** 2) for model in (run.model, left.model)]
    assert power[1] < 0.02 * power[0]
    kept = [model.mean[mask == 1] for model in (run.model, left.model)]
    assert np.corrcoef(*kept)[0, 1] > 0.95
