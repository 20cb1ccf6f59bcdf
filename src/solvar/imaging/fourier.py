"""Fourier conventions: centred transforms, the half disc of pixels, shells.

v̂(k) = Σ_n v(n) exp(-2πi k·n/L) with n measured from index L // 2; unnormalised. Of a real image
only a half plane is independent: kx > 0, or kx = 0 and ky ≥ 0. The disc |k| ≤ k_c of it is all the
estimator ever stores. The real inner product of two images is Σ_half w Re(conj(a)·b) with w = 2,
and w = 1 at DC, the one self-conjugate pixel while k_c < L/2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class HalfDisc:
    """The pixels |k| ≤ k_c of the half plane, sorted by |k| and then by angle.

    Sorting by |k| makes the disc of every smaller k_c a prefix of this one, so that a band of
    frequency marching reads the leading part of each cached image and copies nothing.

    Attributes
    ----------
    k_c : int
        Radius in integer frequencies.
    kx, ky : (n,) int32
        Frequencies along columns and rows.
    """

    k_c: int
    kx: Int32
    ky: Int32

    @classmethod
    def of_radius(cls, k_c: int) -> HalfDisc:
        """All half-plane pixels with |k| ≤ `k_c`."""
        ky, kx = np.mgrid[-k_c : k_c + 1, 0 : k_c + 1]
        keep = (kx**2 + ky**2 <= k_c**2) & ((kx > 0) | (ky >= 0))
        kx, ky = kx[keep], ky[keep]
        # ring m holds m-1 < |k| ≤ m: rings nest for every integer cut-off, and neighbours along a
        # ring stay neighbours in memory, which keeps the projector's reads local
        ring = np.ceil(np.sqrt(kx**2 + ky**2))
        order = np.lexsort((np.arctan2(ky, kx), ring))
        return cls(k_c, kx[order].astype(np.int32), ky[order].astype(np.int32))

    def __len__(self) -> int:
        return len(self.kx)

    @cached_property
    def weight(self) -> Float32:
        """(n,) float32: 2, and 1 at DC."""
        return np.where((self.kx == 0) & (self.ky == 0), 1.0, 2.0).astype(np.float32)

    @cached_property
    def shell(self) -> Int32:
        """(n,) int32: |k| rounded to the nearest integer."""
        return np.rint(np.hypot(self.kx, self.ky)).astype(np.int32)

    def prefix(self, k_c: int) -> HalfDisc:
        """The disc of a smaller radius; its pixels are the first ones of this disc."""
        count = int(np.count_nonzero(self.kx**2 + self.ky**2 <= k_c**2))
        return HalfDisc(k_c, self.kx[:count], self.ky[:count])


def images_to_disc(images: Float32, disc: HalfDisc, workers: int = 1) -> Complex64:
    """Fourier coefficients of real images on a half disc.

    Parameters
    ----------
    images : (B, L, L) float32
        Axes y, x; origin at index L // 2.
    disc : HalfDisc
        With k_c < L/2.
    workers : int
        Threads of the transform.

    Returns
    -------
    (B, n) complex64
    """
    import scipy.fft

    box = images.shape[-1]
    spectrum = scipy.fft.rfft2(images, workers=workers)
    return spectrum[:, disc.ky % box, disc.kx] * _origin_phase(disc, box)


def centring_phase(disc: HalfDisc, shift: Float64) -> Complex64:
    """exp(-2πi k·t): moves the content of an image by t, (B, 2) in box lengths -> (B, n)."""
    # one table a row of frequencies and a product instead of B·n exponentials
    frequency = np.arange(-disc.k_c, disc.k_c + 1)
    along_x = np.exp(-2j * np.pi * shift[:, :1] * frequency).astype(np.complex64)
    along_y = np.exp(-2j * np.pi * shift[:, 1:] * frequency).astype(np.complex64)
    # take, unlike an index, leaves each image's pixels together in memory
    along_x = np.take(along_x, disc.kx + disc.k_c, axis=1)
    along_x *= np.take(along_y, disc.ky + disc.k_c, axis=1)
    return along_x


def disc_to_images(values: Complex64, disc: HalfDisc, box: int, workers: int = 1) -> Float32:
    """Real images of half-disc coefficients; the inverse of `images_to_disc` for |k| ≤ k_c.

    Parameters
    ----------
    values : (B, n) complex
    box : int
        Edge L of the images, L > 2 k_c.

    Returns
    -------
    (B, L, L) float32
    """
    import scipy.fft

    spectrum = np.zeros((len(values), box, box // 2 + 1), dtype=np.complex64)
    coefficients = values * np.conj(_origin_phase(disc, box))
    spectrum[:, disc.ky % box, disc.kx] = coefficients
    on_axis = (disc.kx == 0) & (disc.ky > 0)
    spectrum[:, -disc.ky[on_axis] % box, 0] = np.conj(coefficients[:, on_axis])
    return scipy.fft.irfft2(spectrum, s=(box, box), workers=workers)


def _origin_phase(disc: HalfDisc, box: int) -> Complex64:
    """Factor that moves the origin from index 0 to L // 2."""
    cycles = (disc.kx + disc.ky) * (box // 2) / box
    return np.exp(2j * np.pi * cycles).astype(np.complex64)


def volume_shells(box: int) -> Int32:
    """Shell number |k| rounded to the nearest integer on the rfftn grid, (L, L, L//2+1) int32."""
    full = np.fft.fftfreq(box, 1 / box)
    half = np.arange(box // 2 + 1)
    radius = np.sqrt(full[:, None, None] ** 2 + full[None, :, None] ** 2 + half**2)
    return np.rint(radius).astype(np.int32)


def hermitian_weight(box: int) -> Float32:
    """How often each rfftn coefficient counts in a sum over the full grid, (L//2+1,) float32."""
    weight = np.full(box // 2 + 1, 2.0, dtype=np.float32)
    weight[0] = 1.0
    if box % 2 == 0:
        weight[-1] = 1.0
    return weight


def fourier_filter(volume: Float32, response: Float32, workers: int = 1) -> Float32:
    """The volume with its rfftn coefficients multiplied by a real response."""
    import scipy.fft

    spectrum = scipy.fft.rfftn(volume, workers=workers) * response
    return scipy.fft.irfftn(spectrum, s=volume.shape, workers=workers)


def low_passed(volume: Float32, finest: float) -> Float32:
    """Without shells beyond |k| = `finest`, the middle of an edge of two shells: a soft one rings less."""
    response = np.clip((finest + 1 - volume_shells(len(volume))) / 2, 0, 1).astype(np.float32)
    return fourier_filter(volume, response)


def moved_volume(volume: Float32, move: Float64) -> Float32:
    """A volume (L, L, L) whose content has moved by (x, y, z), box lengths, and round the edges."""
    import scipy.fft
    import scipy.ndimage

    box = volume.shape[-1]
    spectrum = scipy.ndimage.fourier_shift(scipy.fft.rfftn(volume), box * move[::-1], n=box)
    moved: Float32 = scipy.fft.irfftn(spectrum, volume.shape).astype(volume.dtype)
    return moved


def crop_volume(volume: Float32, box: int) -> Float32:
    """Fourier-crop or -pad volumes (..., L, L, L) to (..., box, box, box).

    Coefficients v̂(k) are kept as they are (so voxel values scale by (L/box)³), frequencies at or
    beyond the smaller Nyquist are dropped, the origin stays at index box // 2. Volumes that
    have this box already are returned as they are.
    """
    before = volume.shape[-1]
    if box == before:
        return volume
    out = np.empty((*volume.shape[:-3], box, box, box), volume.dtype)
    pairs = zip(volume.reshape(-1, *[before] * 3), out.reshape(-1, *[box] * 3), strict=True)
    for one, cropped in pairs:
        cropped[:] = _cropped(one, box)
    return out


def _cropped(volume: Float32, box: int) -> Float32:
    """One volume, axis by axis: nothing is as large as its whole complex transform."""
    import scipy.fft

    before = len(volume)
    reach = (min(box, before) - 1) // 2
    index = np.arange(-reach, reach + 1)
    found = scipy.fft.rfft(scipy.fft.ifftshift(volume), axis=2)[..., : reach + 1]
    for axis in (1, 0):
        found = np.take(scipy.fft.fft(found, axis=axis), index % before, axis=axis)
    for axis in (0, 1):
        shape = list(found.shape)
        shape[axis] = box
        padded = np.zeros(shape, found.dtype)
        np.moveaxis(padded, axis, 0)[index % box] = np.moveaxis(found, axis, 0)
        found = scipy.fft.ifft(padded, axis=axis)
    real: Float32 = scipy.fft.fftshift(scipy.fft.irfft(found, box, axis=2))
    return real
