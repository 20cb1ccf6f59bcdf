"""Kernel regression in latent space, with the low-rank model as a control variate.

The volume at z* is x(z*) = μ + V z* + r(z*). For particles near z* the model's image of the particle's own
state is taken from its image, so what is averaged is the residual of the model, not the motion on the way:

    r(z*) = (D + Λ)⁻¹ Σ_i Pᵀ C a_i (y_i - a_i C P(μ + V z_i)),  D = Σ_i a_i² Pᵀ C²,   over a ball around z*

Λ follows from the FSC of the two halves' residuals: where they do not agree the volume is the model's. Of
four balls each shell takes the one that comes closest to the other half's smallest ball, or none. Half-maps
are plain averages of the images in the ball that most shells chose, without the model (`half_maps.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.back_projection import BackProjection
from solvar.estimation.image_batch import ImageBatch
from solvar.estimation.information import sampling_information, shell_mean
from solvar.estimation.kernels import on_host
from solvar.estimation.posterior import Posterior, squared_differences
from solvar.estimation.prior import mean_precision
from solvar.imaging.fourier import crop_volume, fourier_filter, volume_shells
from solvar.imaging.fsc import fourier_shell_correlation
from solvar.volumes.half_maps import HalfMaps
from solvar.volumes.neighbours import nested_balls
from solvar.volumes.source import Source
from solvar.volumes.volume import Reconstruction

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_FRACTIONS = (0.05, 0.1, 0.2, 0.4)
# next to nothing, relative to the mean information: keeps empty corners of Fourier space at 0
_WEAK = 1e-3
_SMOOTH = 5


class KernelRegression:
    """Kernel regression of a run's images; implements `Method`.

    Parameters
    ----------
    source : Source
    known : Posterior
        Of its particles.
    """

    def __init__(self, source: Source, known: Posterior) -> None:
        self.source, self._known = source, known
        everybody = np.arange(len(known.z))
        self._band = source.band(everybody)
        self._shells = self._band.k_c + 1
        volumes = np.concatenate([source.mean[None], source.columns])
        self._prepared = self._band.projector.prepare(crop_volume(volumes, self._band.box))
        self._residual = self._residual_images()
        self._half_maps = HalfMaps(source, known.contrast)

    def volume(self, target: Float64) -> Reconstruction:
        """The volume at a point z* (r,)."""
        distance = squared_differences(self._known.z, target)
        balls = [nested_balls(distance, half, _FRACTIONS) for half in self.source.halves]
        halves = [self._accumulate(shells) for shells in balls]
        moved = np.tensordot(target.astype(np.float32), self.source.columns, axes=1)
        model: Float32 = (self.source.mean + moved) * self.source.mask
        candidates = [_Candidate.of(self, halves, b) for b in range(len(_FRACTIONS))]
        choice = self._choose(candidates)
        correction = np.zeros_like(self._band.support.mean)
        for b, candidate in enumerate(candidates):
            response = (choice == b).astype(np.float32)[self._shell_index()]
            correction += fourier_filter(candidate.combined, response)
        widest = self._widest(choice) + 1
        members = [np.sort(np.concatenate(shells[:widest])) for shells in balls]
        return Reconstruction(
            volume=model + crop_volume(correction, len(model)) * self.source.mask,
            halves=self._half_maps.make(members),
            particles=sum(map(len, members)),
            effective=self.source.images.total_weight(np.concatenate(members)),
        )

    def _residual_images(self) -> Complex64 | None:
        """y - a C P(μ + V z) of all images; None where images lie on disk, and so would these."""
        images = self.source.images
        if images.store.pixels.is_slow:
            return None
        out = np.empty((len(images.store.ctf_power), len(images.disc)), dtype=np.complex64)
        for batch in self._band.batches():
            out[batch.row] = self._new_residual(batch)
        return out

    def _new_residual(self, batch: ImageBatch) -> Complex64:
        slices = on_host(self._band.slices(self._prepared, batch.frame, batch.ctf))
        own = np.column_stack([np.ones(len(batch.row)), self._known.z[batch.particle]])
        weight = (self._known.contrast[batch.particle, None] * own).astype(np.float32)
        shown = np.matmul(weight[:, None], slices.view(np.float32))[:, 0].view(np.complex64)
        return batch.data - shown

    def _accumulate(self, shells: list[Int64]) -> _Sums:
        """Sums over the balls of one half."""
        band = self._band
        residual, information = [], []
        for index in shells:
            total = BackProjection(band.projector, 1)
            for batch in band.batches(index):
                kept = self._residual
                rest = self._new_residual(batch) if kept is None else kept[batch.row]
                weighted = rest * self._known.contrast[batch.particle, None].astype(np.float32)
                total.add(weighted[:, None], batch.frame, batch.ctf)
            square = np.float32(np.mean(self._known.contrast[index] ** 2))
            found = sampling_information(self.source.images, index, band.k_c, band.team)
            residual.append(band.sum(total.sum())[0])
            information.append(found.on_grid(band.box, band.k_c) * square)
        return _Sums(*(list(np.cumsum(each, axis=0)) for each in (residual, information)))

    def divided(
        self, back_projection: Float32, information: Float32, prior: Float64 | None
    ) -> Float32:
        """(D + Λ)⁻¹ of a back-projection, in the mask; Λ per shell, or next to nothing."""
        voxels = np.float32(self._band.box**3)
        precision = (
            np.full(self._shells, _WEAK * float(information.mean())) if prior is None else prior
        )
        response = 1 / (voxels * (information + self._band.expand(precision)))
        mask = self._band.support.mean
        return mask * fourier_filter(mask * back_projection, response.astype(np.float32))

    def shell_information(self, information: Float32) -> Float64:
        """Shell means of D."""
        return shell_mean(information, self._band.box, self._shells)

    def fsc(self, first: Float32, second: Float32) -> Float64:
        """FSC of two volumes up to k_c."""
        return fourier_shell_correlation(first, second, self._shells)

    def _choose(self, candidates: list[_Candidate]) -> Int64:
        """Ball of each shell, -1 for none, (S + 1,): the last entry is for what lies beyond k_c."""
        from scipy.ndimage import uniform_filter1d

        reference = candidates[0].halves
        errors = [self._power(reference[0]) + self._power(reference[1])]
        for candidate in candidates:
            away = [candidate.shrunk[h] - reference[1 - h] for h in (0, 1)]
            errors.append(self._power(away[0]) + self._power(away[1]))
        relative = np.stack(errors) / np.maximum(errors[0], 1e-30)
        smooth = uniform_filter1d(relative, _SMOOTH, axis=1, mode="nearest")
        return np.append(smooth.argmin(axis=0) - 1, -1)

    def _power(self, volume: Float32) -> Float64:
        import scipy.fft

        return shell_mean(np.abs(scipy.fft.rfftn(volume)) ** 2, self._band.box, self._shells)

    def _shell_index(self) -> Int64:
        return np.minimum(volume_shells(self._band.box), self._shells).astype(np.int64)

    @staticmethod
    def _widest(choice: Int64) -> int:
        """The ball of the half-maps: the one that most shells chose, the second if none did."""
        chosen = choice[choice >= 0]
        return int(np.bincount(chosen).argmax()) if len(chosen) else 1


@dataclass(frozen=True, eq=False)
class _Sums:
    """Back-projections of residuals, and the information, per nested ball of a half."""

    residual: list[Float32]
    information: list[Float32]


@dataclass(frozen=True, eq=False)
class _Candidate:
    """Residual volumes of one ball: of either half, shrunk ones, and of both together."""

    halves: list[Float32]
    shrunk: list[Float32]
    combined: Float32

    @classmethod
    def of(cls, method: KernelRegression, sums: list[_Sums], ball: int) -> _Candidate:
        residual = [half.residual[ball] for half in sums]
        information = [half.information[ball] for half in sums]
        halves = [method.divided(r, d, None) for r, d in zip(residual, information, strict=True)]
        mean_information = np.mean([method.shell_information(d) for d in information], axis=0)
        prior = mean_precision(method.fsc(halves[0], halves[1]), mean_information)
        shrunk = [method.divided(r, d, prior) for r, d in zip(residual, information, strict=True)]
        combined = method.divided(residual[0] + residual[1], information[0] + information[1], prior)
        return cls(halves, shrunk, combined)
