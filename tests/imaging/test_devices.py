"""Which backend computes where; batches that do not fit a device's memory."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from imaging.projectors import ELSEWHERE, everything, pretend_to_copy, problem
from solvar.errors import InputError
from solvar.estimation import device_kernels
from solvar.imaging.fourier import HalfDisc
from solvar.imaging.projector import BACKENDS, make_projector, runs_here, staging, torch_backend
from solvar.imaging.projector.devices import resolve
from solvar.imaging.projector.kernel import KERNELS
from solvar.imaging.projector.lattice import Lattice
from solvar.imaging.projector.pieces import Pieces, values_of_a_piece
from solvar.imaging.projector.torch_backend import BagKernels, TorchProjector

DISC = HalfDisc.of_radius(4)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (("auto", None), ("numba", "cpu")),
        (("auto", "cpu"), ("numba", "cpu")),
        (("auto", "cuda"), ("torch", "cuda")),
        (("auto", "cuda:1"), ("torch", "cuda:1")),
        (("torch", None), ("torch", "cpu")),
        (("torch", "cuda:1"), ("torch", "cuda:1")),
        (("numba", "auto"), ("numba", "cpu")),
        (("numba-cuda", None), ("numba-cuda", "cuda")),
        (("numba-cuda", "cuda:1"), ("numba-cuda", "cuda:1")),
    ],
)
def test_backend_and_device_follow_from_what_was_said(said, meant):
    assert resolve(*said, BACKENDS) == meant


@pytest.mark.parametrize("gpu", [False, True])
def test_auto_takes_a_gpu_where_there_is_one(monkeypatch, gpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert resolve("auto", "auto", BACKENDS) == (("torch", "cuda") if gpu else ("numba", "cpu"))
    # a GPU does not come without asking
    assert resolve("auto", None, BACKENDS) == ("numba", "cpu")


@pytest.mark.parametrize(
    ("backend", "device", "sentence"),
    [
        ("torch", "cuda:77", r"no device 'cuda:77'.*choose one of cpu"),
        ("auto", "mps", "mps.*float64"),
        ("auto", "warp", "warp: there is no such device; choose one of cpu, cuda"),
        ("numba", "cuda", "numba does not run on cuda; choose torch or numba-cuda"),
        ("numba-cuda", "cpu", "numba-cuda does not run on cpu; choose numba or torch"),
    ],
)
def test_what_cannot_compute_here_is_bad_input(backend, device, sentence):
    with pytest.raises(InputError, match=sentence):
        make_projector(8, HalfDisc.of_radius(3), backend=backend, device=device)
    assert not runs_here(backend, device)


def test_nufft_on_a_gpu_is_bad_input():
    with pytest.raises(InputError, match="nufft does not run on cuda"):
        make_projector(8, HalfDisc.of_radius(3), interpolation="nufft", device="cuda")


class Scarce(BagKernels):
    """Kernels whose device is full beyond `limit` images."""

    limit, message, calls = 3, "CUDA out of memory. Tried to allocate", 0

    def _windows(self, rotation, kernel):
        Scarce.calls += 1
        if len(rotation) > self.limit:
            raise RuntimeError(self.message)
        return super()._windows(rotation, kernel)


@pytest.mark.parametrize(
    "message", ["CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED when calling"]
)
def test_a_batch_that_does_not_fit_is_halved_with_the_same_result(monkeypatch, message):
    monkeypatch.setattr(Scarce, "message", message)
    monkeypatch.setattr(Scarce, "calls", 0)
    arrays = problem(DISC)
    lattice = Lattice(12, DISC.k_c, KERNELS["kaiser"])
    ample = everything(TorchProjector(lattice, DISC, "cpu"), *arrays)
    tight = everything(TorchProjector(lattice, DISC, "cpu", kernels=Scarce), *arrays)
    for name, expected in ample.items():
        np.testing.assert_allclose(tight[name], expected, atol=2e-6 * float(abs(expected).max()))
    # slices: 12, 6, then 3 images at a time; the adjoint starts with 3, derivatives need thrice as much
    assert Scarce.calls == (2 + 4) + 4 + 12


def test_a_single_image_that_does_not_fit_is_a_memory_error(monkeypatch):
    monkeypatch.setattr(Scarce, "limit", 0)
    lattice = Lattice(12, DISC.k_c, KERNELS["kaiser"])
    with pytest.raises(MemoryError, match="one image"):
        everything(TorchProjector(lattice, DISC, "cpu", kernels=Scarce), *problem(DISC))


def test_a_lattice_that_does_not_fit_is_a_memory_error(monkeypatch):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    projector = TorchProjector(Lattice(12, DISC.k_c, KERNELS["kaiser"]), DISC, "cpu")
    monkeypatch.setattr(torch, "zeros", full)
    with pytest.raises(MemoryError, match="lattice"):
        projector.zeros(1)


@pytest.mark.parametrize(
    ("device", "free", "values"),
    [
        ("cpu", 80 << 30, 1 << 22),
        ("cuda", 80 << 30, 1 << 30),
        ("cuda", (16 << 30) - (3 << 20), 1 << 29),
        ("cuda:1", 8 << 30, (8 << 30) // 32 + (3 << 20) // 32),
        ("cuda", 1 << 30, 1 << 26),
        ("lazy", 0, 1 << 26),
    ],
)
def test_pieces_take_a_share_of_the_memory_that_is_free(monkeypatch, device, free, values):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 80 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 7 << 20)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 4 << 20)
    assert values_of_a_piece(torch.device(device)) == values


def test_other_failures_are_not_taken_for_a_full_memory():
    def fail(some):
        raise RuntimeError("an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        Pieces(100).work(10, 1, fail, lambda some, made: None)


def test_a_piece_is_gone_before_the_next_one_is_made():
    alive, most = weakref.WeakSet(), []

    def compute(some):
        piece = np.ones(some.stop - some.start).view(Piece)
        alive.add(piece)
        most.append(len(alive))
        return piece

    total = []
    Pieces(3).work(10, 1, compute, lambda some, made: total.append(float(made.sum())))
    assert total == [3, 3, 3, 1]
    assert max(most) == 1


class Piece(np.ndarray):
    """An array that a set of weak references can hold."""

    __hash__ = object.__hash__


def test_slices_that_do_not_fit_the_device_lie_on_the_host(monkeypatch):
    projector = TorchProjector(Lattice(12, DISC.k_c, KERNELS["kaiser"]), DISC, "cpu")
    plain = torch.empty

    def scarce(*arguments, device=None, **options):
        if device is not None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(*arguments, **options)

    monkeypatch.setattr(torch, "empty", scarce)
    assert projector.empty(5).shape == (5,)


class Crowded(TorchProjector):
    """A device without room for some of the arrays of a batch."""

    full: tuple[int, ...] = ()
    asked = 0

    def empty(self, size):
        self.asked += 1
        on_host = self.asked in self.full
        return torch.empty(size, dtype=torch.complex64) if on_host else super().empty(size)


@pytest.mark.parametrize("full", [(1,), (2,), (1, 2), (3,), (1, 2, 3)])
def test_work_goes_on_with_slices_that_lie_on_the_host(monkeypatch, full):
    monkeypatch.setattr(torch_backend, "to_host", pretend_to_copy)
    monkeypatch.setattr(device_kernels, "to_host", pretend_to_copy)
    monkeypatch.setattr(Crowded, "full", full)
    with FakeTensorMode(allow_non_fake_inputs=True):
        projector = Crowded(Lattice(12, DISC.k_c, KERNELS["kaiser"]), DISC, ELSEWHERE)
        found = everything(projector, *problem(DISC))
    places = [str(found[name].device) for name in ("slices", "residuals", "tangent")]
    assert places == ["cpu" if number in full else ELSEWHERE for number in (1, 2, 3)]


@pytest.mark.parametrize("interpolation", sorted(KERNELS))
def test_everything_stays_on_the_device_it_was_put_on(monkeypatch, interpolation):
    monkeypatch.setattr(torch_backend, "to_host", pretend_to_copy)
    monkeypatch.setattr(device_kernels, "to_host", pretend_to_copy)
    arrays = problem(DISC)
    with FakeTensorMode(allow_non_fake_inputs=True):
        projector = TorchProjector(Lattice(12, DISC.k_c, KERNELS[interpolation]), DISC, ELSEWHERE)
        found = everything(projector, *arrays)
        images = projector.project(found["lattice"], *arrays[1:3])
    assert isinstance(images, np.ndarray)
    tensors = [found.pop(name) for name in ("lattice", "slices", "residuals", "sums", "tangent")]
    assert {str(tensor.device) for tensor in tensors} == {ELSEWHERE}
    assert all(isinstance(array, np.ndarray) for array in found.values())
    with pytest.raises(Exception, match="device"), FakeTensorMode(allow_non_fake_inputs=True):
        # the mode does notice
        torch.ones(2, device=ELSEWHERE) + torch.ones(2)


class Emptying:
    """The event that a buffer has been fetched, by a device that does so only when it is waited for."""

    def __init__(self):
        self.under_way = []

    def record(self, stream):
        self.under_way = [*stream]
        stream.clear()

    def synchronize(self):
        for target, part in self.under_way:
            target.copy_(part)
        self.under_way = []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize("shape", [(13,), (5, 5), (2, 3, 25), (200,)])
def test_arrays_reach_the_device_by_way_of_two_buffers(monkeypatch, dtype, shape):
    events, stream = [], []

    def event():
        events.append(Emptying())
        return events[-1]

    def copy_later(target, part, non_blocking):
        assert non_blocking
        stream.append((target, part))

    monkeypatch.setattr(staging, "_page_locked", lambda size: torch.zeros(size, dtype=torch.uint8))
    monkeypatch.setattr(staging, "_event", event)
    monkeypatch.setattr(staging, "_stream", lambda device: stream)
    monkeypatch.setattr(staging, "_fetch", copy_later)
    stage = staging.Stage(torch.device("cpu"), 64)
    for turn in range(3):
        array = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(turn))
        kept = array.clone()
        found = stage.send(array)
        # the caller may use its array for something else
        array.zero_()
        for each in events:
            each.synchronize()
        assert found.dtype == dtype and found.shape == shape
        assert torch.equal(found, kept)
    assert len(events) == 2


def test_where_no_memory_can_be_locked_arrays_go_as_they_are(monkeypatch):
    def refuse(size):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(staging, "_page_locked", refuse)
    array = torch.arange(100.0)
    assert torch.equal(staging.Stage(torch.device("cpu"), 64).send(array), array)
