"""Slices of volumes and their adjoint as functions that torch differentiates, whatever the backend.

Slices S = P v are linear in the volumes v, and so are back-projections v = Pᵀ S in the slices. A projector
knows Pᵀ and the derivatives of slices by rotations, so nothing is differentiated through a kernel:

    function             gradient in its argument      torque of expm([ω]×) R at ω = 0
    S = P v              v̄ = Pᵀ S̄                      Re⟨∂(P v)/∂ω, S̄⟩
    v = Pᵀ S             S̄ = P v̄                       Re⟨∂(P v̄)/∂ω, S⟩

with ⟨a, b⟩ the plain sum Σ conj(a)·b over the half disc, which is torch's inner product, too.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.autograd.function import once_differentiable

from solvar.imaging.fourier import HalfDisc
from solvar.imaging.projector import Projector, make_projector

Float32 = NDArray[np.float32]


def project(
    volumes: torch.Tensor | ArrayLike,
    rotations: torch.Tensor | ArrayLike,
    k_c: int | None = None,
    *,
    projector: Projector | None = None,
) -> torch.Tensor:
    """Central Fourier slices of volumes, differentiable in volumes and rotations.

    Slice c of view b holds the transform of volume c at R_b·(kx, ky, 0), for the frequencies of
    ``HalfDisc.of_radius(k_c)`` in their order. Multiply it by a CTF (B, 1, n) to get images.

    Parameters
    ----------
    volumes : (C, L, L, L) real tensor
        Axes channel, z, y, x; origin at index L // 2.
    rotations : (B, 3, 3) real tensor
        From the frame of the image to that of the volume; or their first two columns, frames (B, 3, 2).
    k_c : int, optional
        Largest frequency; default: the last whole shell before Nyquist, (L - 1) // 2.
    projector : Projector, optional
        What computes, such as `solvar.make_projector` makes; it has a `k_c` of its own. By default
        Kaiser-Bessel interpolation on the CPU.

    Returns
    -------
    (B, C, n) complex64 tensor
        On the device of `volumes`.

    Raises
    ------
    ValueError
        If shapes do not fit, or a rotation is none.

    Notes
    -----
    The gradient in rotations is that along rotations: right for whatever they are made from (Euler angles,
    rotation vectors, quaternions), and silent about leaving them. There is no second derivative. A GPU
    helps where the projector computes there; volumes and rotations pass through the host.
    """
    volumes, rotations = torch.as_tensor(volumes), _checked(rotations)
    if volumes.ndim != 4 or volumes.is_complex() or len(set(volumes.shape[1:])) != 1:
        raise ValueError(f"volumes must be real (C, L, L, L), not {_told(volumes)}")
    chosen = _chosen(projector, volumes.shape[-1], k_c)
    slices: torch.Tensor = _Linear.apply(volumes, rotations, chosen, False)
    return slices


def backproject(
    slices: torch.Tensor | ArrayLike,
    rotations: torch.Tensor | ArrayLike,
    box: int,
    k_c: int | None = None,
    *,
    projector: Projector | None = None,
) -> torch.Tensor:
    """Sum of slices put back into volumes, the adjoint of `project`; differentiable in both arguments.

    ⟨project(v, R), s⟩ = ⟨v, backproject(s, R)⟩ with plain sums over the half disc: multiply by
    ``HalfDisc.weight`` for those over the whole disc. Nothing is divided by how often a frequency was seen.

    Parameters
    ----------
    slices : (B, C, n) complex tensor
    rotations : (B, 3, 3) real tensor
        Or frames (B, 3, 2), as in `project`.
    box : int
        Edge L of the volumes.
    k_c, projector
        As in `project`.

    Returns
    -------
    (C, L, L, L) float32 tensor
        On the device of `slices`.

    Raises
    ------
    ValueError
        If shapes do not fit, or a rotation is none.
    """
    slices, rotations = torch.as_tensor(slices), _checked(rotations)
    chosen = _chosen(projector, box, k_c)
    wanted = len(rotations), len(chosen.disc)
    if slices.ndim != 3 or (slices.shape[0], slices.shape[2]) != wanted:
        raise ValueError(f"slices must be ({wanted[0]}, C, {wanted[1]}), not {_told(slices)}")
    volumes: torch.Tensor = _Linear.apply(slices, rotations, chosen, True)
    return volumes


def _checked(rotations: torch.Tensor | ArrayLike) -> torch.Tensor:
    rotations = torch.as_tensor(rotations)
    if rotations.ndim != 3 or tuple(rotations.shape[1:]) not in ((3, 3), (3, 2)):
        raise ValueError(f"rotations must be (B, 3, 3) or (B, 3, 2), not {_told(rotations)}")
    return rotations


def _told(tensor: torch.Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)}"


def _chosen(projector: Projector | None, box: int, k_c: int | None) -> Projector:
    """The projector that the caller has, or the usual one."""
    if projector is None:
        return _usual(box, (box - 1) // 2 if k_c is None else k_c)
    if projector.box != box or k_c not in (None, projector.disc.k_c):
        raise ValueError(
            f"the projector is for L = {projector.box} and k_c = {projector.disc.k_c}, "
            f"not for L = {box} and k_c = {k_c}"
        )
    return projector


@lru_cache(maxsize=4)
def _usual(box: int, k_c: int) -> Projector:
    return make_projector(box, HalfDisc.of_radius(k_c))


class _Views:
    """A projector and rotations, between tensors."""

    def __init__(self, projector: Projector, rotations: torch.Tensor) -> None:
        self._projector = projector
        self._rotation = _on_host(rotations, torch.float32)
        self._scale = np.ones((len(rotations), len(projector.disc)), np.float32)

    def apply(self, values: torch.Tensor, back: bool) -> torch.Tensor:
        """P of volumes, or Pᵀ of slices."""
        return self._backproject(values) if back else self._project(values)

    def _project(self, volumes: torch.Tensor) -> torch.Tensor:
        prepared = self._projector.prepare(_on_host(volumes, torch.float32))
        shape = len(self._rotation), len(volumes), len(self._projector.disc)
        out = self._projector.empty(int(np.prod(shape))).reshape(shape)
        self._projector.project(prepared, self._rotation, self._scale, out)
        return torch.as_tensor(out).to(volumes.device)

    def _backproject(self, slices: torch.Tensor) -> torch.Tensor:
        into = self._projector.zeros(slices.shape[1])
        self._projector.scatter(self._where_it_computes(slices), self._rotation, self._scale, into)
        return torch.as_tensor(self._projector.collect(into)).to(slices.device)

    def turn(
        self, volumes: torch.Tensor, slices: torch.Tensor, rotations: torch.Tensor
    ) -> torch.Tensor:
        """Gradient of Re⟨P volumes, slices⟩ in the rotations."""
        prepared = self._projector.prepare(_on_host(volumes, torch.float32))
        _, torque = self._projector.differentiate(
            prepared,
            self._rotation,
            self._scale,
            np.zeros(slices.shape[:2]),
            self._where_it_computes(slices),
        )
        return _along_rotations(rotations, torch.as_tensor(torque))

    def _where_it_computes(self, slices: torch.Tensor) -> Any:
        memory = self._projector.empty(1)
        if isinstance(memory, torch.Tensor):
            return _plain(slices).to(memory.device, torch.complex64)
        return _on_host(slices, torch.complex64)


def _on_host(tensor: torch.Tensor, dtype: torch.dtype) -> NDArray[Any]:
    return _plain(tensor).to("cpu", dtype).contiguous().numpy()


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """Numbers alone: gradients may be views that are conjugated or negated when somebody reads them."""
    return tensor.detach().resolve_conj().resolve_neg()


def _along_rotations(rotations: torch.Tensor, torque: torch.Tensor) -> torch.Tensor:
    """The smallest gradient whose product with each turn [ω]×R is torque·ω.

    With u_c the columns of R it is λ × u_c: Σ_c (λ × u_c)·(ω × u_c) = ω·Mλ, M = Σ_c |u_c|² - u_c u_cᵀ.
    """
    column = rotations.detach().to("cpu", torch.float64)
    outer = column @ column.mT
    trace = torch.einsum("bii->b", outer)
    moment = trace[:, None, None] * torch.eye(3, dtype=torch.float64) - outer
    pull = torch.linalg.solve(moment, torque.to(torch.float64))
    gradient = torch.linalg.cross(pull[:, :, None].expand_as(column), column, dim=1)
    return gradient.to(rotations.device, rotations.dtype)


class _Linear(torch.autograd.Function):
    """S = P v, or its adjoint v = Pᵀ S if `back`."""

    @staticmethod
    def forward(
        ctx: Any, values: torch.Tensor, rotations: torch.Tensor, projector: Projector, back: bool
    ) -> torch.Tensor:
        ctx.save_for_backward(values, rotations)
        ctx.views, ctx.back = _Views(projector, rotations), back
        found: torch.Tensor = ctx.views.apply(values, back)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        values, rotations = ctx.saved_tensors
        of_values = of_rotations = None
        if ctx.needs_input_grad[0]:
            of_values = ctx.views.apply(gradient, not ctx.back).to(values.dtype)
        if ctx.needs_input_grad[1]:
            volumes, slices = (gradient, values) if ctx.back else (values, gradient)
            of_rotations = ctx.views.turn(volumes, slices, rotations)
        return of_values, of_rotations, None, None
