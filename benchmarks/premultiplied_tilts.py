"""By what the 2-D stacks of a tilt series were multiplied: noise per exposure and shell under four models.

    python benchmarks/premultiplied_tilts.py ../shared/data/tomo/warp/…_optimisation_set.star

Images that were multiplied by C hold noise of power C²·N. After division by the right C², log N differs
between exposures by what noise itself does; by a wrong one, by what that is wrong by. Shells below 4 and the
corners of the transform are left out: there the particle shows, or images were filtered.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np

from solvar.imaging.ctf import evaluate_ctf
from solvar.particles import ImageStack, read_particles

FIRST_SHELL, LAST_SHARE = 4, 0.85


def main(path: str) -> None:
    particles = read_particles(path)
    images, box = particles.exposures, particles.box_size
    kx, ky = (grid.ravel() for grid in np.meshgrid(*2 * [np.fft.fftfreq(box, 1 / box)]))
    shell = np.rint(np.hypot(kx, ky)).astype(int)
    shells = np.arange(FIRST_SHELL, int(LAST_SHARE * box / 2) + 1)
    pixels = ImageStack(particles).recorded(np.arange(len(images)))
    power = np.abs(np.fft.fft2(pixels)).reshape(len(images), -1) ** 2
    extent = box * particles.pixel_size_angstrom
    dose = images.ctf.dose_per_angstrom2
    bare = replace(images.ctf, dose_per_angstrom2=None)
    models = {
        "CTF, scale, critical exposure": images.ctf,
        "CTF, scale, exp(-dose s²)": replace(bare, bfactor_angstrom2=4 * dose),
        "CTF, scale": bare,
        "CTF, critical exposure": replace(images.ctf, scale=None),
    }
    # exposures of a series, all particles together
    _, exposure = np.unique(images.tilt_image, return_inverse=True)
    for name, ctf in models.items():
        square = evaluate_ctf(kx, ky, extent, ctf, particles.optics, images.optics_group) ** 2
        log = np.array(
            [
                np.log(
                    _sums(power[:, shell == s], exposure) / _sums(square[:, shell == s], exposure)
                )
                for s in shells
            ]
        )
        spread = (log - log.mean(axis=1, keepdims=True)).std()
        print(f"{name:32s} log power differs by {spread:.3f} (standard deviation)")


def _sums(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    return np.bincount(group, values.sum(axis=1))


if __name__ == "__main__":
    main(sys.argv[1])
