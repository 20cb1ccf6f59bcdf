"""The projector without a lattice: exact Fourier slices by a non-uniform FFT (finufft).

Accurate to its tolerance whatever the volume, and some fifty times slower than the lattice: the
yardstick for the interpolation kernels, and `interpolation="nufft"` for those who want no kernel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.extras import install_command
from solvar.imaging.fourier import HalfDisc
from solvar.threads import ThreadTeam

Float32 = NDArray[np.float32]
Complex64 = NDArray[np.complex64]
Float64 = NDArray[np.float64]

# What single precision can deliver
_TOLERANCE = 1e-6


class NufftProjector:
    """Slices of volumes and their adjoint by NUFFTs of type 2 and 1; implements `Projector`.

    Parameters
    ----------
    box : int
        Edge of the volumes in voxels.
    disc : HalfDisc
    team : ThreadTeam
        Its size is the number of threads of a transform.

    Raises
    ------
    InputError
        When finufft is not installed.
    """

    def __init__(self, box: int, disc: HalfDisc, team: ThreadTeam) -> None:
        try:
            import finufft
        except ImportError:
            raise InputError(
                "interpolation by non-uniform FFT needs the package finufft",
                column="interpolation",
                remedy=f"install it with `{install_command('nufft')}`",
            ) from None
        self.box, self.disc = box, disc
        self._finufft: Any = finufft
        self._options = {"eps": _TOLERANCE, "nthreads": team.size}
        self._frequency = np.stack([disc.kx, disc.ky]).astype(np.float64) * (2 * np.pi / box)

    def prepare(self, volumes: Float32) -> Complex64:
        """The volumes as the transform wants them, (C, box, box, box) complex64."""
        return np.ascontiguousarray(volumes, dtype=np.complex64)

    def zeros(self, channels: int) -> Float32:
        """Empty volumes (channels, box, box, box)."""
        return np.zeros((channels, self.box, self.box, self.box), dtype=np.float32)

    def collect(self, scattered: Float32) -> Float32:
        """The volumes themselves."""
        return scattered

    def empty(self, size: int) -> Complex64:
        """Flat memory for image-plane arrays."""
        return np.empty(size, dtype=np.complex64)

    def channels(self, prepared: Complex64) -> int:
        """Number C of volumes that were prepared."""
        return len(prepared)

    def project(
        self,
        prepared: Complex64,
        frame: Float32,
        scale: Float32,
        out: Complex64 | None = None,
    ) -> Complex64:
        """Slices (B, C, n) times `scale`; see `Projector.project`."""
        values = self._finufft.nufft3d2(*self._points(frame), prepared, isign=-1, **self._options)
        slices = values.reshape(len(prepared), len(frame), -1).swapaxes(0, 1)
        return np.multiply(slices, scale[:, None], out=out, order="C", dtype=np.complex64)

    def scatter(self, images: Complex64, frame: Float32, scale: Float32, into: Float32) -> None:
        """Add the adjoint of `project` at (B, C, n) images to volumes."""
        channels = images.shape[1]
        strengths = np.multiply(images, scale[:, None], dtype=np.complex64).swapaxes(0, 1)
        volumes = self._finufft.nufft3d1(
            *self._points(frame),
            np.ascontiguousarray(strengths).reshape(channels, -1),
            (self.box, self.box, self.box),
            isign=1,
            **self._options,
        )
        into += volumes.reshape(into.shape).real

    def differentiate(
        self,
        prepared: Complex64,
        frame: Float32,
        scale: Float32,
        first_moment: Float64,
        residual: Complex64,
    ) -> tuple[Complex64, Float64]:
        """Rotation derivatives, exact; see `Projector.differentiate`.

        The gradient of a volume's transform is the transform of the volume times -2πi·n/L.
        """
        n = (-2j * np.pi / self.box) * (np.arange(self.box) - self.box // 2)
        moments = (n.astype(np.complex64).reshape(shape) for shape in ((-1,), (-1, 1), (-1, 1, 1)))
        gradient = np.stack([self.project(prepared * n, frame, scale) for n in moments])
        kappa = frame.astype(np.float64)[:, :, :2] @ np.stack([self.disc.kx, self.disc.ky])
        tangent = np.empty((len(frame), 3, len(self.disc)), dtype=np.complex64)
        torque = np.empty((len(frame), 3))
        for axis in range(3):
            a, b = (axis + 1) % 3, (axis + 2) % 3
            # component of κ × gradient, as ω moves κ by ω × κ
            turned = kappa[:, a, None] * gradient[b] - kappa[:, b, None] * gradient[a]
            tangent[:, axis] = np.einsum("bc,bcn->bn", first_moment, turned)
            torque[:, axis] = np.einsum("bcn,bcn->b", turned.conj(), residual).real
        return tangent, torque

    def _points(self, frame: Float32) -> Float32:
        """Coordinates z, y, x of all pixels, (3, B·n) in radians a voxel."""
        xyz = frame.astype(np.float64)[:, :, :2] @ self._frequency
        return np.ascontiguousarray(xyz[:, ::-1].swapaxes(0, 1).reshape(3, -1), dtype=np.float32)
