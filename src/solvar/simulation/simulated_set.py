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
from solvar.particles import CtfParameters, Optics, Poses
from solvar.particles.stack_write import write_stack
from solvar.progress import Progress, Step, harmless
from solvar.simulation.ensemble import Ensemble
from solvar.simulation.images import disc_pixels, noise_images, project_blobs, to_images
from solvar.simulation.settings import SimulationSettings
from solvar.simulation.tilt_files import (
    names_of_tilts,
    stacks_of_particles,
    write_particles,
    write_tomograms,
)
from solvar.simulation.tilt_series import TiltSeries
from solvar.simulation.truth import TruthVolumes, conformation_volumes, truth_volumes
from solvar.simulation.writing import (
    SIMULATION,
    ctf_columns,
    image_names,
    optics_columns,
    pose_columns,
    simulation_folder,
    stack_rows,
    write_arrays,
    write_stacked_volumes,
    write_tables,
)
from solvar.volume_file import write_volume

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_CHUNK_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class SimulatedSet:
    """N particles with everything about them known; the noise has unit variance.

    There are M images: one a particle, or those of `series`.

    Attributes
    ----------
    settings : SimulationSettings
    ensemble : Ensemble
        Conformations, before `scale`.
    poses : Poses
        True poses; shifts in Å as a star file holds them (the negative of the position). Those of tilt series
        have three components and lie, like the rotations, in the frame of the specimen.
    noisy_poses : Poses
        The same with the errors that the settings ask for.
    ctf : CtfParameters
        Of the images.
    optics : Optics
    optics_group : (N,) int64
    micrograph : (N,) int64
        Or specimen, of tilt series.
    halfset : (N,) int8
        1 or 2.
    contrast : (N,) float64
    noise_power : (G, L, L) float64
        Centred noise power per optics group, mean 1.
    scale : float
        Factor on the ensemble's densities that gives the wanted signal-to-noise ratio.
    series : TiltSeries or None
        How images are tilted; None where each particle has one, untilted.
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
    series: TiltSeries | None = None

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

    @property
    def image_count(self) -> int:
        """M."""
        return len(self) if self.series is None else len(self.series.particle)

    def least_exposed(self, particle: Int64) -> Int64:
        """The image of each particle, (n,), in a tilt series the least exposed one."""
        return particle if self.series is None else self.series.least_exposed(particle)

    @property
    def poses_as_read(self) -> Poses:
        """True poses in the frame that readers of the files give a particle.

        That is the specimen's where tomograms describe the tilts, else that of the least exposed image.
        """
        if self.series is None or self._tomograms is not None:
            return self.poses
        return self._poses_of_images(self.least_exposed(np.arange(len(self))), self.poses)

    def clean_images(self, index: Int64) -> Float32:
        """Noiseless images (contrast, CTF and position applied), those with the numbers `index`.

        Returns
        -------
        (n, L, L) float32
            Rows y, columns x, origin at L // 2.
        """
        settings, particle = self.settings, self._particle(index)
        positions, weights = self._placed(particle)
        poses = self._poses_of_images(index, self.poses)
        transform = project_blobs(
            positions,
            weights * (self.scale * self.contrast[particle, None]),
            self.ensemble.sigma_angstrom,
            poses.rotation,
            -poses.shift_angstrom[:, :2],
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
            self.optics_group[particle],
        )
        return to_images(transform)

    def images(self, index: Int64) -> Float32:
        """Images with noise, (n, L, L) float32; each the same in whatever company."""
        power = self.noise_power[self.optics_group[self._particle(index)]]
        return self.clean_images(index) + noise_images(power, index, self.settings.seed)

    def _particle(self, image: Int64) -> Int64:
        return image if self.series is None else self.series.particle[image]

    def _poses_of_images(self, image: Int64, poses: Poses) -> Poses:
        if self.series is None:
            return Poses(poses.rotation[image], poses.shift_angstrom[image])
        return self.series.poses_of(image, poses)

    def _placed(self, particle: Int64) -> tuple[Float64, Float64]:
        """Positions (n, A, 3) and weights (n, A) of the blobs of particles, each of which is placed once."""
        once, place = np.unique(particle, return_inverse=True)
        if len(once) == len(particle):
            return self.ensemble.place(self.ensemble.coordinate[particle])
        positions, weights = self.ensemble.place(self.ensemble.coordinate[once])
        return positions[place], weights[place]

    def truth_volumes(self, rank: int = 10) -> TruthVolumes:
        """Mean, up to `rank` scaled eigenvolumes, and mask, at the scale of the images."""
        settings = self.settings
        return truth_volumes(
            self.ensemble, settings.box_size, settings.pixel_size, self.scale, rank
        )

    def write(
        self, folder: str | Path, progress: Progress | None = None, *, overwrite: bool = False
    ) -> Path:
        """Write star files, stacks and ground truth to `folder`; returns the main star file.

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
        mask.mrc, vols/NNN.mrc, settings.json. Tilt series in RELION 5's format have a stack a particle
        (subtomograms/TOMOGRAM/NNNNNN.mrcs), tomograms.star, tilt_series/TOMOGRAM.star and
        optimisation_set.star.

        Returns
        -------
        Path
            Of particles.star.
        """
        # an earlier star file would describe other images
        own.remove(SIMULATION, first="particles.star")
        settings = self.settings
        stacks = self._stacks()
        unit = "particles" if self.series is None else "images"
        with progress.step("simulating images", self.image_count, unit) as step:
            paths = own.claim(SIMULATION, stacks)
            for path, rows in zip(paths, stacks.values(), strict=True):
                shape = (len(rows), settings.box_size, settings.box_size)
                write_stack(path, shape, settings.pixel_size, self._chunks(rows, step))
        self._write_volumes(own, progress)
        write_arrays(own.file(SIMULATION, "gt.npz"), _truth_arrays(self))
        write_json(own.file(SIMULATION, "settings.json"), settings.model_dump(mode="json"))
        if self._tomograms is not None:
            write_tomograms(own, self._tomograms, self.optics, self.optics_group)
        if settings.pose_error or settings.shift_error:
            self._write_star(own.file(SIMULATION, "particles_noisy.star"), self.noisy_poses, stacks)
        star = own.file(SIMULATION, "particles.star")
        self._write_star(star, self.poses, stacks)
        return star

    @property
    def _tomograms(self) -> TiltSeries | None:
        """`series` where files of tomograms describe it."""
        return self.series if self.settings.tilt_format == "relion5" else None

    def _stacks(self) -> dict[str, range]:
        """Name of each stack, and the images in it."""
        if self._tomograms is not None:
            return stacks_of_particles(self._tomograms)
        return stack_rows(self.image_count, self.settings.stacks)

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

    def _write_star(self, path: Path, poses: Poses, stacks: dict[str, range]) -> None:
        """The star file of particles at some poses."""
        if self._tomograms is not None:
            of_rows = self.optics, self.optics_group, self.halfset
            write_particles(path, self._tomograms, poses, *of_rows)
            return
        index = np.arange(self.image_count)
        particle = self._particle(index)
        if self.series is None:
            names = {"rlnMicrographName": [f"mic{number:05d}.mrc" for number in self.micrograph]}
        else:
            names = names_of_tilts(self.series)
        columns = {
            "rlnImageName": image_names(stacks),
            **names,
            "rlnOpticsGroup": self.optics_group[particle] + 1,
            **ctf_columns(self.ctf),
            **pose_columns(self._poses_of_images(index, poses)),
            "rlnRandomSubset": self.halfset[particle],
        }
        write_tables(path, optics=optics_columns(self.optics), particles=columns)


def _truth_arrays(particles: SimulatedSet) -> dict[str, Any]:
    """What gt.npz holds; `rotations` are RELION's matrices, the transposes of R."""
    settings, ensemble, ctf = particles.settings, particles.ensemble, particles.ctf
    poses = particles.poses_as_read
    position_px = -poses.shift_angstrom / settings.pixel_size
    angle = np.rad2deg(ctf.defocus_angle_radian)
    noise_power = particles.noise_power.astype(np.float32)
    arrays: dict[str, Any] = {
        "case": settings.heterogeneity,
        "rotations": np.swapaxes(poses.rotation, -1, -2),
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
    if particles.series is not None:
        arrays["particle_of_image"] = particles.series.particle
        arrays["tilt_of_image"] = particles.series.tilt
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
