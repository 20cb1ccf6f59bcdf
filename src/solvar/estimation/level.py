"""One level of the frequency march: pixels up to k_c, volumes on the smallest grid that holds them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.cache import CHUNK, ImageBatch, WhitenedImages
from solvar.estimation.information import sampling_information, shell_mean
from solvar.estimation.kernels import gram
from solvar.estimation.likelihood import ImagePosterior, image_posterior
from solvar.estimation.settings import FitSettings
from solvar.estimation.slack import PoseSlack, eliminate
from solvar.imaging.fourier import volume_shells
from solvar.imaging.masks import resample_mask
from solvar.imaging.projector import make_projector
from solvar.parallel import Array
from solvar.threads import ThreadTeam

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Prior:
    """Prior precision Λ per shell of the Fourier coefficients of the mean and of every column.

    Attributes
    ----------
    mean, columns : (S,) float64
        In the units of the sampling information D; inf where nothing is allowed.
    """

    mean: Float64
    columns: Float64


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Posterior variance of the Fourier coefficients of the columns W = [μ | V], per shell.

    An image that took part in fitting W agrees with it better than a new one would: W holds a share of
    that image's own noise. To first order the share equals what the variance of W adds to the image's
    Gram matrix, so adding it (the E-step of variational Bayes) keeps latents and contrasts from
    believing their own noise (docs/decisions/0006).

    Attributes
    ----------
    mean : (S,) float64
    columns : (r, S) float64
        In the basis `basis`.
    basis : (r, r) float64
        Columns are directions among the columns of V.
    """

    mean: Float64
    columns: Float64
    basis: Float64

    def of_columns(self, ctf_power: Float32) -> Float64:
        """What it adds to EᵀE of images with shell powers (B, S), (B, r, r)."""
        excess = ctf_power.astype(np.float64) @ self.columns.T
        return np.einsum("ij,bj,kj->bik", self.basis, excess, self.basis)

    def add_to(self, gram_matrix: Float64, ctf_power: Float32) -> None:
        """Add the expected excess to Gram matrices (B, r + 2, r + 2) of images, in place."""
        gram_matrix[:, 0, 0] += ctf_power.astype(np.float64) @ self.mean
        gram_matrix[:, 1:-1, 1:-1] += self.of_columns(ctf_power)


@dataclass(frozen=True, eq=False)
class ImagePlane:
    """A batch as the M-step needs it.

    Attributes
    ----------
    slices : (B, C, n)
        Of all columns, those of a `PoseSlack` last; where the projector computes.
    mixing : (B, C, 1 + r)
        Second moments of all coefficients with those of W = [μ | V].
    """

    slices: Any
    mixing: Float64


class Level:
    """The particles `index` at frequencies up to `k_c`.

    Volumes live on the smallest even grid that holds these frequencies, with the same coefficients
    v̂(k) as on the full grid, so that a level costs what its pixels cost.

    Attributes
    ----------
    box : int
        Edge of the level's volumes.
    support : float
        Mean square of the mask: the share of the grid's degrees of freedom that is in use.
    """

    def __init__(
        self,
        images: WhitenedImages,
        index: Int64,
        k_c: int,
        mask: Float32,
        settings: FitSettings,
        team: ThreadTeam,
    ) -> None:
        self.images, self.index, self.k_c, self.team = images, index, k_c, team
        self.box = level_box(k_c, images.box)
        self.disc = images.disc.prefix(k_c)
        self.mask = resample_mask(mask, self.box)
        self.support = float(np.mean(self.mask**2))
        self.projector = make_projector(
            self.box,
            self.disc,
            interpolation=settings.interpolation,
            upsampling=settings.upsampling,
            backend=settings.backend,
            device=settings.device,
            team=team,
        )
        self._rooms: dict[str, Any] = {}
        self._shell = np.minimum(volume_shells(self.box), k_c + 1)

    @cached_property
    def information(self) -> Float32:
        """D(k) on the rfftn grid; not every level needs it."""
        return sampling_information(self.images, self.index, self.box, self.k_c, self.team)

    @cached_property
    def shell_information(self) -> Float64:
        """Shell means of D."""
        return shell_mean(self.information, self.box, self.k_c + 1)

    def batches(self, index: Int64 | None = None, size: int = CHUNK) -> Iterator[ImageBatch]:
        """The images of some of the level's particles, of all by default, as `WhitenedImages.batches`."""
        return self.images.batches(self.index if index is None else index, self.disc, size)

    def sum(self, values: Array) -> Array:
        """A sum over particles, over those of all processes."""
        return self.images.processes.sum(values)

    def collect(self, accumulator: Any) -> Float32:
        """Volumes (C, box, box, box) of an accumulator that slices were scattered into."""
        return self.sum(self.projector.collect(accumulator))

    def slices(self, prepared: Any, rotation: Float32, ctf: Float32) -> Any:
        """Slices (B, C, n) of a batch, in memory that the next call uses again."""
        shape = len(rotation), self.projector.channels(prepared), len(self.disc)
        return self.projector.project(prepared, rotation, ctf, self.room("slices", shape))

    def room(self, name: str, shape: tuple[int, ...]) -> Any:
        """An uninitialised array in memory that stays with the level under this name.

        It lies where the projector computes (docs/gpu.md).
        Fresh memory for every batch cost two threads up to half their speed in page faults.
        """
        size = int(np.prod(shape))
        if name not in self._rooms or len(self._rooms[name]) < size:
            self._rooms[name] = self.projector.empty(size)
        return self._rooms[name][:size].reshape(shape)

    def posterior(
        self,
        prepared: Any,
        batch: ImageBatch,
        contrast_sd: float,
        excess: Uncertainty | None,
        slack: PoseSlack | None = None,
    ) -> tuple[ImagePosterior, ImagePlane]:
        """E-step of a batch.

        Parameters
        ----------
        prepared
            `projector.prepare` of `with_slack` of the columns W.
        batch : ImageBatch
        contrast_sd : float
        excess : Uncertainty or None
            Of W, when the batch took part in fitting it; None for particles that did not.
        slack : PoseSlack or None

        Returns
        -------
        ImagePosterior
        ImagePlane
            Its slices last until the next E-step.
        """
        slices = self.slices(prepared, batch.rotation, batch.ctf)
        products = gram(slices, batch.data, self.team)
        if slack is not None:
            products, elimination = eliminate(products, slack.centre[batch.index])
        found = self.judge(products, batch, contrast_sd, excess)
        mixing = found.second
        if slack is not None:
            cross = elimination.cross_moment(found.first, found.second)
            mixing = np.concatenate([mixing, cross], axis=1)
        return found, ImagePlane(slices, mixing)

    def judge(
        self, products: Float64, batch: ImageBatch, contrast_sd: float, excess: Uncertainty | None
    ) -> ImagePosterior:
        """Posterior of a batch from its Gram matrices (B, r + 2, r + 2)."""
        if excess is not None:
            products = products.copy()
            excess.add_to(products, batch.ctf_power[:, : self.k_c + 1])
        return image_posterior(products, contrast_sd)

    def expand(self, per_shell: Float64) -> Float32:
        """Values per shell on the rfftn grid; inf beyond k_c."""
        values = np.append(per_shell[: self.k_c + 1], np.inf)
        return values[self._shell].astype(np.float32)

    def spectrum(self, volumes: Float32) -> Complex64:
        """rfftn of (C, box, box, box) volumes."""
        import scipy.fft

        return scipy.fft.rfftn(volumes, axes=(1, 2, 3), workers=self.team.size)

    def volumes(self, spectrum: Complex64) -> Float32:
        """Inverse of `spectrum`."""
        import scipy.fft

        edge = (self.box,) * 3
        return scipy.fft.irfftn(spectrum, s=edge, axes=(1, 2, 3), workers=self.team.size)


def level_box(k_c: int, box: int) -> int:
    """Smallest grid that holds |k| ≤ k_c, a multiple of 4 where there is room, at most `box`."""
    return min(box, 2 * k_c + 2 + (2 * k_c + 2) % 4)
