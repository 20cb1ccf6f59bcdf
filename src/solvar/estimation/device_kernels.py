"""The inner products and combinations of `kernels.py` for slices that lie on a device, in torch.

A batch sends its data up, and Gram matrices come down: slices and residuals, C times as large, stay where
the projector made them (docs/gpu.md). Sums over pixels run in float32 over blocks and are added up in
float64, as on the CPU.

Slices or residuals that did not fit lie in host memory (`Projector.empty`); what involves them is then
computed on the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from solvar.imaging.projector.pieces import Pieces
from solvar.imaging.projector.staging import to_device
from solvar.imaging.projector.torch_backend import to_host

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_BLOCK = 4096
_PIECE_VALUES = 1 << 26


def gram(slices: torch.Tensor, image: Complex64) -> Float64:
    """Inner products of slices and data; see `kernels.gram`."""
    count, channels, pixels = slices.shape
    out = np.empty((count, channels + 1, channels + 1))

    def compute(some: slice) -> torch.Tensor:
        rows = [_real(slices[some]), _on(slices.device, image[some])[:, None]]
        return _products(rows, rows)

    _in_pieces(count, 2 * pixels + channels**2, compute, out)
    return out


def residual(
    slices: torch.Tensor, image: Complex64, second: Float64, first: Float64, out: torch.Tensor
) -> None:
    """E·S - y·ζᵀ into `out`; see `kernels.residual`."""
    count, _, pixels = slices.shape
    device = slices.device if slices.device == out.device else torch.device("cpu")

    def compute(some: slice) -> torch.Tensor:
        mixing = _on(device, second[some]).transpose(1, 2)
        pull = _on(device, first[some])[:, :, None] * _on(device, image[some])[:, None]
        return torch.baddbmm(pull, mixing, _real(slices[some].to(device)), beta=-1)

    def keep(some: slice, found: torch.Tensor) -> None:
        _real(out)[some] = found

    values = 2 * pixels * (2 * second.shape[2] + 1)
    Pieces(_PIECE_VALUES).work(count, values, compute, keep)


def pose_products(
    slices: torch.Tensor, tangent: Any, image: Complex64, first: Float64, wave: Float32
) -> Float64:
    """Inner products of the pose derivatives; see `kernels.pose_products`."""
    count, channels, pixels = slices.shape
    out = np.empty((count, 5, 6 + channels))
    device = slices.device
    frequency = torch.as_tensor(wave).to(device)

    def compute(some: slice) -> torch.Tensor:
        columns = _real(slices[some])
        expected = torch.bmm(_on(device, first[some])[:, None], columns).unflatten(2, (-1, 2))
        turned = torch.stack([-expected[..., 1], expected[..., 0]], dim=-1)  # 2πi k ŷ
        shifts = (turned * frequency[..., None]).flatten(2)
        slopes = [_real(tangent[some].to(device)), shifts]
        return _products(slopes, [*slopes, columns, _on(device, image[some])[:, None]])

    _in_pieces(count, 2 * pixels * 8, compute, out)
    return out


def _in_pieces(
    count: int, values: int, compute: Callable[[slice], torch.Tensor], out: Float64
) -> None:
    """What is computed for ranges of images, in `out` on the host."""

    def keep(some: slice, found: torch.Tensor) -> None:
        out[some] = to_host(found)

    Pieces(_PIECE_VALUES).work(count, values, compute, keep)


def _products(left: list[torch.Tensor], right: list[torch.Tensor]) -> torch.Tensor:
    """Inner products (B, I, J) float64 of the stacked rows of `left` and `right`, (B, ·, 2n) each."""
    total: Any = 0.0
    for start in range(0, left[0].shape[2], _BLOCK):
        a, b = (
            torch.cat([rows[:, :, start : start + _BLOCK] for rows in side], dim=1)
            for side in (left, right)
        )
        total = total + torch.bmm(a, b.transpose(1, 2)).double()
    return total


def _real(values: torch.Tensor) -> torch.Tensor:
    """Complex values (…, n) as real pairs (…, 2n), a view."""
    return torch.view_as_real(values).view(*values.shape[:-1], -1)


def _on(device: torch.device, array: NDArray[Any]) -> torch.Tensor:
    """An array as float32 on a device; complex values as real pairs."""
    if np.iscomplexobj(array):
        array = np.ascontiguousarray(array).view(np.float32)
    return to_device(torch.as_tensor(np.ascontiguousarray(array, dtype=np.float32)), device)
