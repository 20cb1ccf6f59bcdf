"""The CUDA kernels: in numba's simulator against the CPU's, and through the compiler to PTX."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from solvar.errors import InputError
from solvar.imaging.fourier import HalfDisc
from solvar.imaging.projector import make_projector

SIMULATED = """
import sys
import numpy as np
from solvar.imaging.fourier import HalfDisc
from solvar.imaging.projector import make_projector
from solvar.imaging.rotations import from_euler, random

rng, disc = np.random.default_rng(1), HalfDisc.of_radius(3)
special = from_euler(np.array([0.0, 30.0]), np.array([90.0, 45.0]), np.array([0.0, 135.0]))
rotation = np.concatenate([special, random(1, rng)]).astype(np.float32)
volumes = rng.normal(size=(2, 8, 8, 8)).astype(np.float32)
scale = rng.normal(size=(3, len(disc))).astype(np.float32)
shape = 3, 2, len(disc)
images = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
moment = rng.normal(size=(3, 2))
found = {}
for interpolation in ("nearest", "trilinear", "kaiser"):
    for backend in ("numba", "numba-cuda"):
        projector = make_projector(8, disc, interpolation=interpolation, backend=backend)
        prepared, into = projector.prepare(volumes), projector.zeros(2)
        slices = projector.project(prepared, rotation, scale)
        # twice, so that scatter must add
        projector.scatter(images, rotation, scale, into)
        projector.scatter(images, rotation, scale, into)
        tangent, torque = projector.differentiate(prepared, rotation, scale, moment, images)
        results = slices, projector.collect(into), tangent, torque
        for name, values in zip(("slices", "volumes", "tangent", "torque"), results):
            found[f"{interpolation} {backend} {name}"] = values
np.savez(sys.argv[1], **found)
"""

COMPILED = """
import json, sys
import numpy as np
from types import SimpleNamespace
from numba import cuda, njit, types
from numba.cuda import dispatcher
from numba.cuda.cudadrv import nvvm

try:
    nvvm.NVVM()
except Exception as error:
    print(type(error).__name__)
    sys.exit(3)
from solvar.imaging.projector import window
from solvar.imaging.projector.numba_cuda_backend import kernels_of_width

# what a process has compiled for the CPU, the GPU's compiler knows, too
@njit
def located(x, taps):
    return window.locate(x, taps), window.slope(x, taps)

for taps in ((0, 0), (0, 0, 0)):
    located(np.float32(1.7), taps)

# device functions ask which GPU they are for
dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=(8, 0))
one, two, three, four = (types.Array(types.float32, d, "C") for d in (1, 2, 3, 4))
shape = types.UniTuple(types.int64, 4)
last = {"forward": (four,), "scatter": (four,), "differentiate": (two, four, four, three)}
found = {}
for width in (1, 2, 3):
    body = {f.__name__: f for f in kernels_of_width(width).body}
    for kernel, more in last.items():
        signature = (two, shape, types.float32, three, one, one, two, *more)
        found[f"{kernel} {width}"] = cuda.compile_ptx(body[kernel], signature, cc=(8, 0))[0]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Results of both backends in a process with numba's simulator."""
    path = tmp_path_factory.mktemp("simulator") / "found.npz"
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    subprocess.run([sys.executable, "-c", SIMULATED, path], env=environment, check=True)
    with np.load(path) as found:
        return dict(found)


@pytest.mark.parametrize("result", ["slices", "volumes", "tangent", "torque"])
@pytest.mark.parametrize("interpolation", ["nearest", "trilinear", "kaiser"])
def test_gpu_kernels_agree_with_those_of_the_cpu(simulated, interpolation, result):
    cpu, gpu = (simulated[f"{interpolation} {name} {result}"] for name in ("numba", "numba-cuda"))
    assert gpu.shape == cpu.shape and gpu.dtype == cpu.dtype
    np.testing.assert_allclose(gpu, cpu, atol=2e-6 * np.abs(cpu).max())


def test_without_cuda_the_backend_says_so(monkeypatch):
    from numba import cuda

    monkeypatch.setattr(cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"numba finds no CUDA.*docs/gpu\.md"):
        make_projector(8, HalfDisc.of_radius(3), backend="numba-cuda")


def test_a_numba_without_its_cuda_target_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba.cuda", None)
    monkeypatch.delitem(sys.modules, "solvar.imaging.projector.numba_cuda_backend", raising=False)
    monkeypatch.delattr("numba.cuda", raising=False)
    with pytest.raises(InputError, match=r"numba-cuda cannot be loaded.*docs/gpu\.md"):
        make_projector(8, HalfDisc.of_radius(3), backend="numba-cuda")


WARNED = """
import warnings
from solvar.imaging.projector import numba_cuda_backend

for text in ("Grid size 1 will likely result in GPU under-utilization", "something else"):
    warnings.warn(text)
    warnings.warn("\x1b[1m" + text + "\x1b[0m")
"""


def test_numba_may_say_anything_but_that_a_batch_is_small():
    """With colour codes, and without a GPU; test_gpu.py asks what it really says."""
    pytest.importorskip("numba.cuda")
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", WARNED], capture_output=True, text=True, check=True
    )
    assert "Grid size" not in done.stderr
    assert done.stderr.count("UserWarning") == 2


@pytest.fixture(scope="module")
def compiled():
    """PTX of every kernel, from a process of its own that has compiled for the CPU before."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip(f"no NVVM here: {done.stdout.strip()}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("kernel", ["forward", "scatter", "differentiate"])
def test_kernels_compile_for_a_gpu(compiled, width, kernel):
    """To PTX, which needs NVIDIA's compiler library and no GPU; in registers and in float32 alone."""
    text = compiled[f"{kernel} {width}"]
    assert ".visible .entry" in text
    assert ".local" not in text and ".f64" not in text
    assert ("atom." in text or "red." in text) == (kernel == "scatter")
