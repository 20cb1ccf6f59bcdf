"""A processor that cannot multiply and add in one step gets the same numbers, and no call a lane."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from imaging.projectors import build, extreme_rotations, random_images

BOX, K_C, CHANNELS = 16, 7, 5


def numbers():
    """What kernels make of fixed volumes and images, and how far they are from adjoint."""
    rng = np.random.default_rng(1)
    projector = build(BOX, K_C, backend="numba", interpolation="kaiser")
    volumes = rng.normal(size=(CHANNELS, BOX, BOX, BOX)).astype(np.float32)
    rotation = extreme_rotations(rng)
    scale = rng.normal(size=(len(rotation), len(projector.disc))).astype(np.float32)
    prepared = projector.prepare(volumes)
    slices = projector.project(prepared, rotation, scale)
    images = random_images(rng, *slices.shape)
    into = projector.zeros(CHANNELS)
    projector.scatter(images, rotation, scale, into)
    back = projector.collect(into)
    tangent, torque = projector.differentiate(
        prepared, rotation, scale, rng.normal(size=slices.shape[:2]), images
    )
    away = np.vdot(slices.astype(complex), images).real - np.vdot(volumes.astype(float), back)
    away /= np.linalg.norm(slices) * np.linalg.norm(images)
    return {"slices": slices, "back": back, "tangent": tangent, "torque": torque, "away": away}


def calls_of_fmaf():
    from solvar.imaging.projector import numba_kernels

    kernels = (numba_kernels.forward, numba_kernels.scatter, numba_kernels.differentiate)
    return sum(code.count("fmaf") for kernel in kernels for code in kernel.inspect_asm().values())


@pytest.mark.skipif(platform.machine() != "x86_64", reason="others can all multiply and add")
@pytest.mark.slow
def test_kernels_of_an_old_processor_agree_and_call_no_function_for_each_number(tmp_path):
    old = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    script = (
        "import numpy; from imaging.test_processors import calls_of_fmaf, numbers; "
        f"numpy.savez({str(tmp_path / 'old.npz')!r}, **numbers(), calls=calls_of_fmaf())"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **old, "PYTHONPATH": path}, check=True
    )
    found = np.load(tmp_path / "old.npz")
    assert found["calls"] == 0 and abs(found["away"]) < 2e-6
    for name, here in numbers().items():
        if name != "away":
            np.testing.assert_allclose(found[name], here, atol=3e-6 * np.abs(here).max())
