"""Masked FSC of estimated against true volumes, and its area, as CryoBench defines them.

Two averages are in use, which answer different questions and must not be compared with each other:

per image
    The volume μ + V z of each particle against the volume of its own state; the mean over particles.
    It judges model and latents together.
per conformation
    One estimated volume for each true state, at the mean latent of its particles; the mean over states.
    Errors of single latents average out: it judges the model and is usually higher.

Where states are continuous, the ten particles nearest to a stored conformation stand for it in both.

Nothing is aligned: a rotation or shift common to all particles that a refinement of poses leaves costs FSC.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.estimation.low_rank import LowRankModel
from solvar.evaluation.truth import Truth
from solvar.imaging.fourier import crop_volume
from solvar.imaging.fsc import shell_products
from solvar.volume_file import read_volume

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_BLOCK = 16  # true volumes in memory at a time
_FEWEST = 10  # particles that make the mean latent of a step of a motion
_MOST_IMAGES = 200  # of each state
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def fsc_auc(fsc: Float64) -> Float64:
    """Area under Fourier shell correlations over k/L from 0 to Nyquist.

    Parameters
    ----------
    fsc : (..., L // 2 + 1)
        Shells 0 to Nyquist; clipped to [0, 1].

    Returns
    -------
    (...) float64
        Trapezoidal rule: 0.5 where the curve is 1 throughout, 0 where it is nowhere positive.
    """
    curve = np.clip(fsc, 0, 1)
    between = (curve[..., 1:] + curve[..., :-1]).sum(axis=-1) / 2
    return 0.5 * between / (curve.shape[-1] - 1)


@dataclass(frozen=True, eq=False)
class StateProducts:
    """Shell products from which the FSC of any μ + V z with any true state follows.

    The transform of a masked μ + V z is linear in (1, z). Its FSC with a true volume is a ratio of forms
    in (1, z), so thousands of volumes are compared without being made.

    Attributes
    ----------
    gram : (S, r + 1, r + 1) float64
        Shell means of products of the masked mean and eigenvolumes.
    cross : (S, r + 1, K) float64
        The same of these with K true volumes.
    power : (S, K) float64
        Of the true volumes.
    """

    gram: Float64
    cross: Float64
    power: Float64

    @classmethod
    def of(
        cls, model: LowRankModel, volumes: Mapping[int, Path], mask: Float32 | None
    ) -> StateProducts:
        """Read true volumes in blocks, Fourier-cropped to the box of the model.

        Raises `InputError` for a volume that cannot be read or spans another box.
        """
        shells = model.box_size // 2 + 1
        ours = np.concatenate([model.mean[None], model.eigenvolumes])
        ours = ours if mask is None else ours * mask
        cross, power = [], []
        for block in volume_blocks(list(volumes.values()), model, mask):
            product = shell_products(np.concatenate([ours, block]), block, shells)
            cross.append(product[:, : len(ours)])
            power.append(np.einsum("skk->sk", product[:, len(ours) :]))
        return cls(
            shell_products(ours, ours, shells),
            np.concatenate(cross, axis=2),
            np.concatenate(power, axis=1),
        )

    def fsc(self, z: Float64, state: Int64) -> Float64:
        """FSC of the volumes at latents z (n, r) with the true volumes state (n,) < K, (n, S)."""
        form = np.column_stack([np.ones(len(z)), z])
        product = np.einsum("ni,sin->ns", form, self.cross[:, :, state], optimize=True)
        ours = np.einsum("nsi,ni->ns", np.einsum("ni,sij->nsj", form, self.gram), form)
        norm = ours * self.power[:, state].T
        return product / np.sqrt(np.maximum(norm, 1e-60))


def volume_blocks(
    paths: list[Path], model: LowRankModel, mask: Float32 | None
) -> Iterator[Float32]:
    """True volumes, masked, on the grid of the model."""
    extent = model.box_size * model.pixel_size_angstrom
    for start in range(0, len(paths), _BLOCK):
        volumes = []
        for path in paths[start : start + _BLOCK]:
            volume, pixel_size = read_volume(path)
            theirs = len(volume) * pixel_size
            if theirs > 0 and abs(theirs / extent - 1) > 1e-3:
                raise InputError(
                    f"spans {theirs:.1f} Å, the run's volumes {extent:.1f} Å",
                    file=path,
                    remedy="give the truth of the particles that were run",
                )
            volumes.append(crop_volume(volume, model.box_size) * (1 if mask is None else mask))
        yield np.stack(volumes).astype(np.float32)


def per_conformation_fsc(z: Float64, truth: Truth, products: StateProducts) -> Float64:
    """One estimated volume a true state: FSC curves, (K, S) float64.

    Parameters
    ----------
    z : (N, r)
        Latents of the particles of `truth`.
    truth : Truth
    products : StateProducts
        Of `state_volumes(truth)`, in this order.
    """
    centre = np.stack(
        [z[particles_of(truth, state)].mean(axis=0) for state in state_volumes(truth)]
    )
    return products.fsc(centre, np.arange(len(centre)))


@dataclass(frozen=True, eq=False)
class ImageAreas:
    """AUC-FSC of single particles against the volumes of their own states.

    Attributes
    ----------
    auc : (n,) float64
    state : (n,) int64
        Which of the true volumes, 0 to K - 1.
    weight : (n,) float64
        Particles that each stands for, sum 1.
    """

    auc: Float64
    state: Int64
    weight: Float64

    @property
    def mean(self) -> float:
        """Mean over all particles whose state has a volume."""
        return float(self.auc @ self.weight)

    def quantiles(self, state: int | None = None) -> list[float]:
        """Weighted 5, 25, 50, 75 and 95 % quantiles, of all particles or of one state."""
        chosen = np.full(len(self.auc), True) if state is None else self.state == state
        order = np.argsort(self.auc[chosen])
        cumulative = self.weight[chosen][order].cumsum()
        place = np.searchsorted(cumulative, np.array(_QUANTILES) * cumulative[-1])
        return self.auc[chosen][order][np.minimum(place, len(order) - 1)].tolist()


def per_image_auc(
    z: Float64,
    truth: Truth,
    products: StateProducts,
    images_per_state: int = _MOST_IMAGES,
    seed: int = 0,
) -> ImageAreas:
    """Each particle's μ + V z against its own state's volume.

    Parameters
    ----------
    z : (N, r)
        Latents of the particles of `truth`.
    truth : Truth
    products : StateProducts
        Of `state_volumes(truth)`, in this order.
    images_per_state : int
        States with more particles are sampled without replacement and keep their weight.
    seed : int
    """
    rng = np.random.default_rng(seed)
    rows, states, weights = [], [], []
    for number, state in enumerate(state_volumes(truth)):
        mine = _members(truth, state)
        taken = rng.permutation(mine)[:images_per_state]
        rows.append(taken)
        states.append(np.full(len(taken), number))
        weights.append(np.full(len(taken), len(mine) / len(taken)))
    which, weight = np.concatenate(states), np.concatenate(weights)
    auc = fsc_auc(products.fsc(z[np.concatenate(rows)], which))
    return ImageAreas(auc, which, weight / weight.sum())


def state_volumes(truth: Truth) -> dict[int, Path]:
    """The volumes whose name is the number of a state that some particle has, ascending.

    Without states, of a continuous motion, all volumes whose coordinates are known, numbered by their order.
    """
    if truth.state is None:
        known = truth.volume_coordinate is not None and coordinate_of(truth) is not None
        return dict(enumerate(truth.volumes.values())) if known else {}
    named = {int(name): path for name, path in truth.volumes.items() if name.isdecimal()}
    present = set(np.unique(truth.state).tolist())
    return {state: named[state] for state in sorted(named) if state in present}


def particles_of(truth: Truth, state: int) -> Int64:
    """Rows of the particles that stand for a state.

    Those in it; where it is a step of a motion that few particles are at, or a point of a continuous one, the
    ten nearest in the state coordinate.
    """
    if truth.state is None:
        return _members(truth, state)
    rows = np.flatnonzero(truth.state == state)
    if len(rows) >= _FEWEST or truth.discrete_state() is not None:
        return rows
    if truth.state_coordinate is None:
        return rows
    return _nearest(truth.state_coordinate, truth.state_coordinate[rows[0]])


def _members(truth: Truth, state: int) -> Int64:
    """The particles whose own volume is that of a state; of a continuous motion the ten nearest to it."""
    if truth.state is not None:
        return np.flatnonzero(truth.state == state)
    coordinate, place = coordinate_of(truth), truth.volume_coordinate
    assert coordinate is not None and place is not None  # or there would be no such state
    return _nearest(coordinate, place[state])


def coordinate_of(truth: Truth) -> Float64 | None:
    """Where each particle is, in the units of `Truth.volume_coordinate`."""
    return truth.latent if truth.state_coordinate is None else truth.state_coordinate


def _nearest(coordinate: Float64, place: Float64) -> Int64:
    """The ten particles nearest to a place."""
    return np.argsort(distances(coordinate, place), kind="stable")[:_FEWEST]


def distances(coordinate: Float64, place: Float64) -> Float64:
    """How far particles at (N, d) are from a place (d,), every coordinate in units of its spread, (N,)."""
    spread = np.maximum(coordinate.std(axis=0), np.finfo(np.float64).tiny)
    distance: Float64 = np.linalg.norm((coordinate - place) / spread, axis=1)
    return distance


def volume_metrics(model: LowRankModel, z: Float64, truth: Truth) -> dict[str, Any]:
    """Both kinds of AUC-FSC, per image first, of JSON's types; empty without volumes.

    Beside each, that of the mean volume in place of all: averaged over particles, and over states.

    Parameters
    ----------
    model : LowRankModel
    z : (N, r)
    truth : Truth
        On the grid of the model and of these particles. Its mask is used, else the model's.
    """
    volumes = state_volumes(truth)
    if not volumes:
        return {}
    mask = model.mask if truth.mask is None else truth.mask
    products = StateProducts.of(model, volumes, mask)
    curves = per_conformation_fsc(z, truth, products)
    count = len(volumes)
    mean_alone = products.fsc(np.zeros((count, z.shape[1])), np.arange(count))
    areas, unmoved = fsc_auc(curves), fsc_auc(mean_alone)
    images = per_image_auc(z, truth, products)
    return {
        "states": list(volumes),
        "per_image_auc": images.mean,
        "per_image_mean_volume_auc": float(unmoved[images.state] @ images.weight),
        "per_image_auc_quantiles": images.quantiles(),
        "per_image_auc_quantiles_by_state": [images.quantiles(state) for state in range(count)],
        "per_image_count": len(images.auc),
        "per_conformation_auc": float(areas.mean()),
        "mean_volume_auc": float(unmoved.mean()),
        "per_conformation_auc_by_state": areas.tolist(),
        "per_conformation_fsc": curves.tolist(),
        "mean_volume_auc_by_state": unmoved.tolist(),
        "mean_volume_fsc": mean_alone.mean(axis=0).tolist(),
    }
