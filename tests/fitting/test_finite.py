"""Numbers that are not finite are told with their stage, or their image."""

from __future__ import annotations

import numpy as np
import pytest

from particles import particle_files as files
from solvar.errors import InputError, SolvarError
from solvar.estimation.finite import require_finite, require_finite_images
from solvar.fitting import fit as fitting
from solvar.fitting.settings import FitSettings
from solvar.particles import read_particles


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_stage_array_and_cause_are_named(bad):
    good, odd = np.ones((2, 3), np.float32), np.array([1.0, bad])
    require_finite("mean", "bad poses", means=good, others=[good, None])
    words = "stage 'mean' ended with 1 values of prior precision .* Likely cause: bad poses"
    with pytest.raises(SolvarError, match=words) as caught:
        require_finite("mean", "bad poses", means=good, prior_precision=[good, None, odd])
    # the run failed: the input may be good
    assert caught.value.exit_code == 1 and not isinstance(caught.value, InputError)


def test_image_is_named_by_file_frame_and_row(tmp_path):
    particles = read_particles(files.write_star31(tmp_path), ind=[4, 1, 3])
    pixels = np.ones((3, 5), np.complex64)
    require_finite_images(pixels, particles, np.arange(3))
    pixels[1, 2] = np.inf
    with pytest.raises(SolvarError, match=r"stack\.mrcs: image 2 \(row 2 of .*particles\.star\)"):
        require_finite_images(pixels, particles, np.arange(3))


def test_images_that_overflow_stop_the_fit_at_its_first_stage(tmp_path):
    """3e36 is finite in single precision, its square is not."""
    images = np.random.default_rng(0).standard_normal((files.COUNT, 8, 8)).astype(np.float32)
    images[2] *= 3e36
    star = files.write_star31(tmp_path)
    files.write_stack(tmp_path / "stack.mrcs", images)
    settings = FitSettings(rank=1, threads=1)
    patched = pytest.MonkeyPatch()
    with patched.context() as context, np.errstate(all="ignore"):
        context.setattr(fitting, "_require_enough", lambda *_: None)
        with pytest.raises(SolvarError, match="not finite"):
            fitting.fit(read_particles(star), settings)
