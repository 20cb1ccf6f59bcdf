"""The projector: Fourier slices of volumes, and the adjoint.

One interface, several backends; a new backend is one new file and one line in `BACKENDS`, or a plug-in.

Nothing is imported before it is used: settings read the names of the backends from here.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from solvar import plugins
from solvar.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from solvar.imaging.fourier import HalfDisc
    from solvar.threads import ThreadTeam

    Float32 = NDArray[np.float32]
    Complex64 = NDArray[np.complex64]
    Float64 = NDArray[np.float64]

# Where each backend runs, the usual kind of device first. Its module, named `…_backend`, has a function
# `make(lattice, disc, device, team)`. A plug-in has both, `devices` and `make`.
BACKENDS: dict[str, tuple[str, ...]] = {
    "numba": ("cpu",),
    "torch": ("cpu", "cuda"),
    "numba-cuda": ("cuda",),
}


class Projector(Protocol):
    """Slices of C volumes of edge `box` on a half disc, and the adjoint.

    With A the map volumes -> images of `prepare` followed by `project`, `scatter` followed by
    `collect` is its adjoint: ⟨A v, y⟩ = ⟨v, Aᵀ y⟩ with ⟨a, b⟩ = Σ Re(conj(a)·b) over the half disc
    without weights (callers fold √w into `scale`).

    A frame F (3 × 2) says where a slice lies: pixel (kx, ky) is the volume's transform at F·(kx, ky). Of a
    rotation these are the first two columns; an optics group may stretch them. More columns are not read.

    Arrays of the image plane, written Complex64 here, may also be what `empty` gives: a backend that
    computes elsewhere keeps them there. `rotation` may be the first two columns of rotations, (B, 3, 2).

    Attributes
    ----------
    box : int
        Edge of the volumes in voxels.
    disc : HalfDisc
        The n pixels of a slice.
    """

    box: int
    disc: HalfDisc

    def prepare(self, volumes: Float32) -> Any:
        """What slices are read from; (C, box, box, box) float32, axes z, y, x."""

    def empty(self, size: int) -> Any:
        """Flat complex memory for image-plane arrays, where the projector computes if it fits there."""

    def channels(self, prepared: Any) -> int:
        """Number C of volumes that were prepared."""

    def project(
        self, prepared: Any, frame: Float32, scale: Float32, out: Complex64 | None = None
    ) -> Complex64:
        """Slices times a factor a pixel: frame (B, 3, 2), scale (B, n) -> (B, C, n).

        A numpy array unless `out` is something else.
        """

    def differentiate(
        self,
        prepared: Any,
        frame: Float32,
        scale: Float32,
        first_moment: Float64,
        residual: Complex64,
    ) -> tuple[Complex64, Float64]:
        """Derivatives of slices for frames expm([ω]×) F at ω = 0.

        With E_c the slice of channel c times `scale`, returns the tangent Σ_c ζ_c ∂E_c/∂ω,
        (B, 3, n) complex64, and the torque Σ_c Re⟨∂E_c/∂ω, residual_c⟩, (B, 3) float64, for
        first_moment ζ (B, C) and residual (B, C, n). The tangent is an array of the residual's kind.
        """

    def zeros(self, channels: int) -> Any:
        """An empty accumulator for `scatter`."""

    def scatter(self, images: Complex64, frame: Float32, scale: Float32, into: Any) -> None:
        """Add the adjoint of `project` at (B, C, n) images to an accumulator."""

    def collect(self, scattered: Any) -> Float32:
        """Volumes (C, box, box, box) of an accumulator: the adjoint of `prepare`."""


def make_projector(
    box: int,
    disc: HalfDisc,
    *,
    interpolation: str = "kaiser",
    upsampling: float | None = None,
    backend: str = "auto",
    device: str | None = None,
    team: ThreadTeam | None = None,
    stretch: float = 1.0,
) -> Projector:
    """The projector of an interpolation, backend and device.

    Parameters
    ----------
    box : int
        Edge of the volumes in voxels.
    disc : HalfDisc
        Pixels of a slice, k_c < box/2.
    interpolation : {"kaiser", "trilinear", "nearest", "nufft"}
    upsampling : float, optional
        Zero-padding factor; default: the kernel's own. Unused by "nufft".
    backend : str
        A key of `BACKENDS`, a plug-in, or "auto": numba on the CPU, torch elsewhere. Unused by "nufft".
    device : str, optional
        "cpu", "cuda", "cuda:1" … or "auto", a GPU if there is one; default: the CPU, if the backend
        runs there.
    team : ThreadTeam, optional
        Threads of the numba and NUFFT backends; default: all cores.
    stretch : float
        By how much frames may lengthen a vector (kx, ky). What is read beyond k_c is no part of the volume:
        `scale` must be 0 there.

    Raises
    ------
    InputError
        When the optional package of a backend is not installed, when the backend does not run on the
        device or when the device does not exist.

    Notes
    -----
    Eight arguments: what is projected, how and where; `Projection` holds the ones that a run keeps.
    """
    from solvar.imaging.projector.kernel import KERNELS
    from solvar.imaging.projector.lattice import Lattice
    from solvar.threads import ThreadTeam

    team = team or ThreadTeam()
    if interpolation == "nufft":
        from solvar.imaging.projector.devices import resolve
        from solvar.imaging.projector.nufft_backend import NufftProjector

        resolve("nufft", device, {"nufft": ("cpu",)})
        return NufftProjector(box, disc, team)
    lattice = Lattice(box, disc.k_c, KERNELS[interpolation], upsampling, stretch)
    backend, device = resolve_backend(backend, device)
    made: Projector = _module(backend).make(lattice, disc, device, team)
    return made


@dataclass(frozen=True)
class Projection:
    """How slices are computed, whatever their size: see `make_projector`."""

    interpolation: str = "kaiser"
    upsampling: float | None = None
    backend: str = "auto"
    device: str | None = None

    def projector(
        self, box: int, disc: HalfDisc, team: ThreadTeam | None = None, stretch: float = 1.0
    ) -> Projector:
        """The projector of volumes of edge `box` and slices on a disc, see `make_projector`."""
        return make_projector(
            box,
            disc,
            interpolation=self.interpolation,
            upsampling=self.upsampling,
            backend=self.backend,
            device=self.device,
            team=team,
            stretch=stretch,
        )

    def on_cpu(self) -> Projection:
        """The same slices, computed on the CPU by what is fastest there."""
        return replace(self, backend="auto", device="cpu")


def runs_here(backend: str, device: str | None) -> bool:
    """Whether this machine has what `make_projector` would need for a backend and a device."""
    from solvar.imaging.fourier import HalfDisc

    try:
        make_projector(8, HalfDisc.of_radius(2), backend=backend, device=device)
    except InputError:
        return False
    return True


def resolve_backend(backend: str, device: str | None) -> tuple[str, str]:
    """Name of the backend and device as torch spells it, of what `make_projector` is given.

    Raises
    ------
    InputError
        When there is no such backend, or it does not run on the device.
    """
    from solvar.imaging.projector.devices import resolve

    families = dict(BACKENDS)
    if backend != "auto" and backend not in BACKENDS:
        families[backend] = tuple(plugins.load(plugins.PROJECTORS, backend).devices)
    return resolve(backend, device, families)


def _module(backend: str) -> Any:
    if backend not in BACKENDS:
        return plugins.load(plugins.PROJECTORS, backend)
    name = f"solvar.imaging.projector.{backend.replace('-', '_')}_backend"
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{backend} cannot be loaded ({error})",
            column="backend",
            remedy="see `solvar doctor` and docs/gpu.md, or leave --backend out",
        ) from None
