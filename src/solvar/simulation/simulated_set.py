"""A simulated particle set: any of its images on demand, the truth about it, and its files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from solvar.files import OwnedFolder, write_json
from solvar.imaging.ctf import evaluate_ctf
from solvar.imaging.rotations import to_euler
from solvar.particles import CtfParameters, Optics, Poses
from solvar.particles.stack_write import write_stack
from solvar.progress import Progress, Step, harmless
from solvar.simulation.ensemble import Ensemble
from solvar.simulation.images import disc_pixels, noise_images, project_blobs, to_images
from solvar.simulation.settings import SimulationSettings
from solvar.simulation.truth import TruthVolumes, conformation_volumes, truth_volumes
from solvar.simulation.writing import (
    SIMULATION,
    simulation_folder,
    stack_rows,
    write_arrays,
    write_stacked_volumes,
    write_star,
)
from solvar.volume_file import write_volume

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_CHUNK_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class SimulatedSet:
    """N particles with everything about them known; the noise has unit variance.

    Attributes
    ----------
    settings : SimulationSettings
    ensemble : Ensemble
        Conformations, before `scale`.
    poses : Poses
        True poses; shifts in Å as a star file holds them (the negative of the position).
    noisy_poses : Poses
        The same with the errors that the settings ask for.
    ctf : CtfParameters
    optics : Optics
    optics_group : (N,) int64
    micrograph : (N,) int64
    halfset : (N,) int8
        1 or 2.
    contrast : (N,) float64
    noise_power : (G, L, L) float64
        Centred noise power per optics group, mean 1.
    scale : float
        Factor on the ensemble's densities that gives the wanted signal-to-noise ratio.
    """

    settings: SimulationSettings
    ensemble: Ensemble
    poses: Poses
    noisy_poses: Poses
    ctf: CtfParameters
    optics: Optics
    optics_group: Int64
    micrograph: Int64
    halfset: NDArray[np.int8]
    contrast: Float64
    noise_power: Float64
    scale: float

    def __len__(self) -> int:
        return len(self.contrast)

    @property
    def latent(self) -> Float64 | None:
        """True latents z (N, r) of a 'gaussian' set in units of its eigenvolumes, else None."""
        return None if self.ensemble.modes is None else self.scale * self.ensemble.coordinate

    @property
    def chunk(self) -> int:
        """How many images to make at a time to stay within some 64 MiB."""
        atoms = self.ensemble.place(self.ensemble.coordinate[:1])[0].shape[1]
        box_size = self.settings.box_size
        return int(np.clip(_CHUNK_BYTES // (16 * box_size * (atoms + box_size)), 1, 1024))

    def clean_images(self, index: Int64) -> Float32:
        """Noiseless images (contrast, CTF and position applied) of the particles `index`.

        Returns
        -------
        (n, L, L) float32
            Rows y, columns x, origin at L // 2.
        """
        settings = self.settings
        positions, weights = self.ensemble.place(self.ensemble.coordinate[index])
        transform = project_blobs(
            positions,
            weights * (self.scale * self.contrast[index, None]),
            self.ensemble.sigma_angstrom,
            self.poses.rotation[index],
            -self.poses.shift_angstrom[index],
            settings.box_size,
            settings.pixel_size,
        )
        inside, kx, ky = disc_pixels(settings.box_size)
        transform[:, inside] *= evaluate_ctf(
            kx,
            ky,
            settings.box_size * settings.pixel_size,
            self.ctf.take(index),
            self.optics,
            self.optics_group[index],
        )
        return to_images(transform)

    def images(self, index: Int64) -> Float32:
        """Images with noise, (n, L, L) float32; the same for a particle in whatever company."""
        noise = noise_images(self.noise_power[self.optics_group[index]], index, self.settings.seed)
        return self.clean_images(index) + noise

    def truth_volumes(self, rank: int = 10) -> TruthVolumes:
        """Mean, up to `rank` scaled eigenvolumes, and mask, at the scale of the images."""
        settings = self.settings
        return truth_volumes(
            self.ensemble, settings.box_size, settings.pixel_size, self.scale, rank
        )

    def write(
        self, folder: str | Path, progress: Progress | None = None, *, overwrite: bool = False
    ) -> Path:
        """Write star files, stack and ground truth to `folder`; returns the main star file.

        Raises
        ------
        InputError
            If a simulated set is there and `overwrite` is false, or the folder cannot be used.
        """
        with simulation_folder(Path(folder), overwrite) as own:
            return self.write_to(own, harmless(progress))

    # BLAS threads on products of this size wait for each other: one thread is up to 20 times faster
    @threadpool_limits.wrap(limits=1, user_api="blas")
    def write_to(self, own: OwnedFolder, progress: Progress) -> Path:
        """Write everything to a folder; the star file is written last.

        Files: particles.star, particles_noisy.star (if pose errors are asked for), particles.mrcs (or
        particles_001.mrcs … for several stacks),
        gt.npz, gt_mean.mrc, gt_eigenvolumes.mrc (stacked along z; none without heterogeneity),
        mask.mrc, vols/NNN.mrc, settings.json.

        Returns
        -------
        Path
            Of particles.star.
        """
        # an earlier star file would describe other images
        own.remove(SIMULATION, first="particles.star")
        settings = self.settings
        stacks = stack_rows(len(self), settings.stacks)
        with progress.step("simulating images", len(self)) as step:
            for name, rows in stacks.items():
                shape = (len(rows), settings.box_size, settings.box_size)
                path = own.file(SIMULATION, name)
                write_stack(path, shape, settings.pixel_size, self._chunks(rows, step))
        self._write_volumes(own, progress)
        write_arrays(own.file(SIMULATION, "gt.npz"), _truth_arrays(self))
        write_json(own.file(SIMULATION, "settings.json"), settings.model_dump(mode="json"))
        if settings.pose_error or settings.shift_error:
            noisy = own.file(SIMULATION, "particles_noisy.star")
            write_star(noisy, self.optics, self._columns(self.noisy_poses, stacks))
        star = own.file(SIMULATION, "particles.star")
        write_star(star, self.optics, self._columns(self.poses, stacks))
        return star

    def _chunks(self, rows: range, step: Step) -> Iterator[Float32]:
        """The images of some rows a chunk at a time, so that memory does not grow with their number."""
        for start in range(0, len(rows), self.chunk):
            index = np.array(rows[start : start + self.chunk])
            yield self.images(index)
            step.advance(len(index))

    def _write_volumes(self, own: OwnedFolder, progress: Progress) -> None:
        settings, ensemble = self.settings, self.ensemble
        box, pixel_size = settings.box_size, settings.pixel_size
        examples = ensemble.examples
        with progress.step("computing true volumes", 1 + len(examples), "volumes") as step:
            truth = self.truth_volumes()
            write_volume(own.file(SIMULATION, "gt_mean.mrc"), truth.mean, pixel_size)
            write_volume(own.file(SIMULATION, "mask.mrc"), truth.mask, pixel_size)
            if len(truth.eigenvolumes):
                path = own.file(SIMULATION, "gt_eigenvolumes.mrc")
                write_stacked_volumes(path, truth.eigenvolumes, pixel_size)
            step.advance()
            volumes = conformation_volumes(ensemble, examples, box, pixel_size, self.scale)
            for name, volume in zip(ensemble.example_name, volumes, strict=True):
                write_volume(own.file(SIMULATION, f"vols/{name}.mrc"), volume, pixel_size)
                step.advance()

    def _columns(self, poses: Poses, stacks: dict[str, range]) -> dict[str, Any]:
        """What a star file says of each particle, at some poses."""
        rot, tilt, psi = to_euler(poses.rotation).T
        return {
            "rlnImageName": [
                f"{frame + 1:06d}@{name}"
                for name, rows in stacks.items()
                for frame in range(len(rows))
            ],
            "rlnMicrographName": [f"mic{number:05d}.mrc" for number in self.micrograph],
            "rlnOpticsGroup": self.optics_group + 1,
            "rlnDefocusU": self.ctf.defocus_u_angstrom,
            "rlnDefocusV": self.ctf.defocus_v_angstrom,
            "rlnDefocusAngle": np.rad2deg(self.ctf.defocus_angle_radian),
            "rlnPhaseShift": np.rad2deg(self.ctf.phase_shift_radian),
            "rlnAngleRot": rot,
            "rlnAngleTilt": tilt,
            "rlnAnglePsi": psi,
            "rlnOriginXAngst": poses.shift_angstrom[:, 0],
            "rlnOriginYAngst": poses.shift_angstrom[:, 1],
            "rlnRandomSubset": self.halfset,
        }


def _truth_arrays(particles: SimulatedSet) -> dict[str, Any]:
    """What gt.npz holds; `rotations` are RELION's matrices, the transposes of R."""
    settings, ensemble, ctf = particles.settings, particles.ensemble, particles.ctf
    position_px = -particles.poses.shift_angstrom / settings.pixel_size
    angle = np.rad2deg(ctf.defocus_angle_radian)
    noise_power = particles.noise_power.astype(np.float32)
    arrays: dict[str, Any] = {
        "case": settings.heterogeneity,
        "rotations": np.swapaxes(particles.poses.rotation, -1, -2),
        "shift_px": position_px,
        "origin_px": -position_px,
        "contrast": particles.contrast,
        "defocus": np.column_stack([ctf.defocus_u_angstrom, ctf.defocus_v_angstrom, angle]),
        "noise_power": noise_power[0] if len(noise_power) == 1 else noise_power,
        "optics_group": particles.optics_group,
        "subset": particles.halfset.astype(np.int64),
        "alpha": particles.scale,
        "apix": settings.pixel_size,
        "L": settings.box_size,
        "snr": settings.snr,
        "seed": settings.seed,
    }
    if ensemble.modes is not None:
        arrays["z"] = particles.latent
        arrays["eigenvalues"] = particles.scale**2 * ensemble.modes.variance
        arrays["vol_coord"] = _flat(particles.scale * ensemble.examples)
    elif ensemble.coordinate.shape[1]:
        arrays["state_coord"] = _flat(ensemble.coordinate)
        arrays["vol_coord"] = _flat(ensemble.examples)
    if ensemble.state is not None:
        arrays["state"] = ensemble.state
        arrays["population"] = ensemble.node_weight
        arrays["coord_of_state"] = _flat(ensemble.nodes)
    return arrays


def _flat(coordinate: NDArray[np.float64]) -> NDArray[np.float64]:
    """One coordinate a row as a plain vector (n,), several as (n, d)."""
    return coordinate[:, 0] if coordinate.shape[1] == 1 else coordinate
