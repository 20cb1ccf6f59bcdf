"""The final latents: every particle placed in the model, with the model's axes and scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel, e_step
from solvar.estimation.low_rank import SMALLEST_EIGENVALUE, prior_spread
from solvar.estimation.posterior import Posterior
from solvar.files import Shelf
from solvar.progress import Step

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_VOXELS_AT_A_TIME = 1 << 16
# of precisions that go from process to process at a time
_PIECE_BYTES = 32 << 20


@dataclass(frozen=True, eq=False)
class PrincipalAxes:
    """Principal axes of columns V.

    Attributes
    ----------
    eigenvolumes : (r, L, L, L) float32
        Orthonormal.
    eigenvalues : (r,) float64
        Falling.
    rotation : (r, r) float64
        R with V R = eigenvolumes · √eigenvalues.
    block : (r,) int64
        The block of columns that each is made of.
    """

    eigenvolumes: Float32
    eigenvalues: Float64
    rotation: Float64
    block: Int64

    def first(self, count: int) -> PrincipalAxes:
        """The first ones."""
        return PrincipalAxes(
            self.eigenvolumes[:count],
            self.eigenvalues[:count],
            self.rotation[:, :count],
            self.block[:count],
        )

    def on(self, shelf: Shelf) -> PrincipalAxes:
        """The same, kept on a shelf."""
        return replace(self, eigenvolumes=shelf.keep(self.eigenvolumes))

    def with_eigenvalues(self, eigenvalues: Float64) -> PrincipalAxes:
        """The same axes with other variances along them."""
        return replace(self, eigenvalues=eigenvalues)


def principal_axes(columns: Float32, block: Int64 | None = None) -> PrincipalAxes:
    """Principal axes of columns V (r, L, L, L), each signed so that its skewness is positive.

    Those of each block (r,) of columns by themselves: axes of several blocks are orthogonal as far as the
    blocks do not overlap.
    """
    if block is None or len(np.unique(block)) < 2:
        return _axes_of_block(columns, 0 if block is None else int(block[0]))
    found = [_axes_of_block(columns[block == b], int(b)) for b in np.unique(block)]
    order = np.argsort([-value for each in found for value in each.eigenvalues], kind="stable")
    rotation = np.zeros((len(columns),) * 2)
    for each in found:
        # ascending in labels, so that axes stand where their block's columns do
        own = np.flatnonzero(block == each.block[0])
        rotation[np.ix_(own, own)] = each.rotation
    return PrincipalAxes(
        np.concatenate([each.eigenvolumes for each in found])[order],
        np.concatenate([each.eigenvalues for each in found])[order],
        rotation[:, order],
        np.concatenate([each.block for each in found])[order],
    )


def _axes_of_block(columns: Float32, label: int) -> PrincipalAxes:
    """Principal axes of columns that mix with each other."""
    value, rotation = _principal_rotation(columns)
    eigenvolumes, sign = _signed(columns, rotation / np.sqrt(np.maximum(value, 1e-30)))
    block = np.full(len(columns), label)
    return PrincipalAxes(eigenvolumes, value, rotation * sign, block)


def _principal_rotation(columns: Sequence[Float32] | Float32) -> tuple[Float64, Float64]:
    """Eigenvalues (r,) of V Vᵀ, falling, and the rotation R (r, r) that makes V R principal."""
    # float64: the Gram matrix squares the condition number of V
    products = np.zeros((len(columns), len(columns)))
    for _, some in _pieces(columns):
        products += some @ some.T
    value, rotation = np.linalg.eigh(products)
    return np.maximum(value[::-1], 0), rotation[:, ::-1]


def _signed(columns: Sequence[Float32] | Float32, factor: Float64) -> tuple[Float32, Float64]:
    """V·factor, factor (r, m), each signed so that its skewness is positive, and the signs (m,)."""
    found = np.empty((factor.shape[1], *columns[0].shape), np.float32)
    flat, skewness = found.reshape(len(found), -1), np.zeros(len(found))
    for here, some in _pieces(columns):
        axes = factor.T @ some
        skewness += np.sum(axes * axes * axes, axis=1)
        flat[:, here] = axes
    sign = np.where(skewness < 0, -1.0, 1.0)
    flat *= sign[:, None].astype(np.float32)
    return found, sign


def _pieces(columns: Sequence[Float32] | Float32) -> Iterator[tuple[slice, Float64]]:
    """Some voxels of all columns at a time, where they stand and (r, n) of them."""
    flat = [column.reshape(-1) for column in columns]
    for start in range(0, flat[0].size, _VOXELS_AT_A_TIME):
        here = slice(start, start + _VOXELS_AT_A_TIME)
        yield here, np.stack([each[here] for each in flat]).astype(np.float64)


def leading(columns: Sequence[Float32] | Float32, rank: int) -> Float32:
    """The `rank` leading principal columns, eigenvolume · √eigenvalue, of V Vᵀ; V may have no column."""
    if not len(columns):
        return np.asarray(columns, np.float32)
    _, rotation = _principal_rotation(columns)
    return _signed(columns, rotation[:, :rank])[0]


def leading_of_blocks(
    columns: Sequence[Float32] | Float32, block: Int64, counts: Sequence[int]
) -> Float32:
    """The leading principal columns of each block (r,), so many of each, block by block."""
    if len(counts) == 1:
        return leading(columns, counts[0])
    parts = [
        leading([columns[j] for j in np.flatnonzero(block == b).tolist()], count)
        for b, count in enumerate(counts)
    ]
    return np.concatenate(parts)


def combined(columns: Float32, factor: Float64) -> Float32:
    """Columns V·factor of V (r, L, L, L) and a factor (r, m), (m, L, L, L)."""
    return np.tensordot(factor.T.astype(np.float32), columns, axes=1)


def along(
    columns: Float32, target: Float32, block: Int64 | None = None, onto: Int64 | None = None
) -> Float32:
    """Columns V·Q (m, L, L, L) of V, turned onto others by Q: orthogonal Procrustes, r(r-1)/2 numbers.

    Those of a block (r,) onto the ones of the same block (m,).
    """
    if block is not None and onto is not None and len(np.unique(block)) > 1:
        found = np.empty_like(target)
        for b in np.unique(onto):
            found[onto == b] = along(columns[block == b], target[onto == b])
        return found
    left, _, right = np.linalg.svd(inner_products(target, columns), full_matrices=False)
    return combined(columns, (left @ right).T)


def inner_products(first: Float32, second: Float32) -> Float64:
    """Of volumes (a, l, l, l) and (b, l, l, l), (a, b)."""
    return np.tensordot(first, second, axes=((1, 2, 3), (1, 2, 3))).astype(np.float64)


def place_particles(
    band: Band,
    model: ColumnModel,
    eigenvalues: Float64,
    step: Step,
    model_error: Float64 | None = None,
) -> Posterior:
    """Posterior of all particles of a band under the final model, at the first process.

    At the others it is that of no particle: precisions reach the first one piece by piece.

    Parameters
    ----------
    band : Band
    model : ColumnModel
        Its columns V are eigenvolume · √eigenvalue. Its pose errors, if any, widen the error bars of the
        latents.
    eigenvalues : (r,)
        Prior variances of the latents.
    step : Step
        Told of every particle.
    model_error : (r, r), optional
        Covariance that errors of the model add to every particle's latents; none by default.
    """
    prepared, processes = BandModel(band, model), band.images.processes
    count, rank = len(band.index) if processes.rank == 0 else 0, len(eigenvalues)
    shapes = (count, rank), (count, rank, rank), (count,), (count,)
    whole = [band.shelf.pile(shape, np.float64) for shape in shapes]
    # whole batches of as many particles as have so many bytes of precisions
    batch = prepared.chunk()
    batches = max(1, _PIECE_BYTES // (8 * rank**2 * batch * processes.size))
    each = batches * batch * processes.size
    for piece in (band.index[first : first + each] for first in range(0, len(band.index), each)):
        parts = [np.zeros((len(piece), *shape[1:])) for shape in shapes]
        for place, found in placed(prepared, eigenvalues, piece, model_error):
            for part, values in zip(parts, vars(found).values(), strict=True):
                part[place] = values
            step.advance(len(place))
        for rows, part in zip(whole, parts, strict=True):
            part = band.sum(part)
            if processes.rank == 0:
                rows.put(part)
    return Posterior(*(rows.whole() for rows in whole))


def placed(
    prepared: BandModel, eigenvalues: Float64, index: Int64, model_error: Float64 | None = None
) -> Iterator[tuple[Int64, Posterior]]:
    """As `place_particles`, those of the particles `index` that this process owns, batch by batch.

    Yields
    ------
    (B,) int64
        Where the particles stand among `index`.
    Posterior
    """
    deviation = prior_spread(eigenvalues, SMALLEST_EIGENVALUE)
    variance, k_c = prepared.model.variance, prepared.band.k_c
    for batch in prepared.batches(index):
        found, _ = e_step(prepared, batch)
        known = np.linalg.inv(found.covariance)
        if variance is not None:
            # it undoes what an image's own noise did to its latents, and is no information
            power = batch.ctf_power[:, : k_c + 1]
            known -= found.contrast_square[:, None, None] * variance.of_columns(power)
        precision = known / np.outer(deviation, deviation)
        if model_error is not None:
            precision = _less_certain(precision, model_error)
        yield (
            batch.place,
            Posterior(found.z * deviation, precision, found.contrast, found.log_likelihood),
        )


def _less_certain(precision: Float64, covariance: Float64) -> Float64:
    """Precisions (B, r, r) of what a further error of this covariance (r, r) has been added to."""
    # (M⁻¹ + C)⁻¹ = (1 + M C)⁻¹ M
    found = np.linalg.solve(np.eye(len(covariance)) + precision @ covariance, precision)
    return np.asarray((found + found.transpose(0, 2, 1)) / 2)
