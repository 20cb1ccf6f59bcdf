"""Whether the molecule has the symmetry that is said of its mean: what images of the other half say."""

from __future__ import annotations

import numpy as np

from solvar.imaging.fsc import resolution
from solvar.imaging.point_groups import PointGroup
from solvar.imaging.symmetry import find_axes, symmetry_fsc
from solvar.preflight.findings import Finding
from solvar.preflight.quick_mean import QuickMean, is_beyond_chance

# a mean that loses more than this by its symmetry has none, or about other axes
_MUCH = 0.5


def symmetry_finding(mean: QuickMean, group: PointGroup) -> Finding:
    """Whether a mean with a symmetry explains images of the other half as well as one without.

    Parameters
    ----------
    mean : QuickMean
    group : PointGroup
        Of two operations or more.
    """
    symmetric = mean.with_symmetry(group.operations)
    lost = mean.gain - symmetric.gain
    if not is_beyond_chance(lost):
        return Finding("ok", "symmetry", f"a mean with {group.name} explains images no worse")
    extent, k_c = mean.images.store.extent_angstrom, mean.bands[0].k_c
    alike = resolution(symmetry_fsc(mean.means[0], mean.means[1], group, k_c + 1), extent)
    text = (
        f"a mean with {group.name} explains {lost.sum() / mean.gain.sum():.0%} less of the images"
    )
    if np.isfinite(alike):
        text += f"; the molecule has this symmetry to {alike:.0f} Å"
    if lost.sum() < _MUCH * mean.gain.sum():
        return Finding("warning", "symmetry", f"{text}, and what breaks it is lost from the mean")
    return Finding("error", "symmetry", f"{text}; {_axes_found(mean, group)}")


def _axes_found(mean: QuickMean, group: PointGroup) -> str:
    """Where the axes lie, if anywhere."""
    axes = find_axes(np.mean(mean.means, axis=0), group)
    turned = mean.with_symmetry(group.turned(axes.rotation).operations)
    if is_beyond_chance(mean.gain - turned.gain) and turned.gain.sum() < _MUCH * mean.gain.sum():
        return "no other axes were found either: is it the right point group?"
    along = axes.rotation[:, 2]
    place = ", ".join(f"{each:.2f}" for each in along)
    return (
        f"it has it about other axes, the one along z lies along x, y, z = {place}: turn the poses there, "
        "as by aligning the map's symmetry in the program that they come from"
    )
