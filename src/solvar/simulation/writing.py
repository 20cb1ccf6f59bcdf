"""Writes a simulated set: RELION 3.1 star files, the stack, and the ground truth beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from solvar.errors import InputError
from solvar.files import OwnedFolder, Writer, owned, replacing, write_json
from solvar.imaging.rotations import to_euler
from solvar.particles import Poses
from solvar.particles.star_blocks import write_blocks
from solvar.progress import Progress, Step
from solvar.simulation.truth import conformation_volumes

if TYPE_CHECKING:
    from solvar.simulation.dataset import SimulatedSet

_STACK = "particles.mrcs"
# The files that say what the images are come first: they go before the images do, and come back after.
_SIMULATION = Writer(
    "simulation",
    (
        *("particles.star", "particles_noisy.star", "settings.json", "gt.npz", _STACK),
        "particles_[0-9]*.mrcs",
        *("gt_mean.mrc", "gt_eigenvolumes.mrc", "mask.mrc", "vols/[0-9]*.mrc"),
    ),
)


@contextmanager
def simulation_folder(folder: Path, overwrite: bool = False) -> Iterator[OwnedFolder]:
    """Be the only one who writes a simulated set to `folder`, which is made if need be.

    Raises
    ------
    InputError
        If a simulated set is there and `overwrite` is false, something else wrote files of its names, or
        another process writes there.
    """
    with owned(folder, "solvar simulate") as own:
        own.refuse_foreign(_SIMULATION)
        there = own.written_by(_SIMULATION)
        if there and not overwrite:
            raise InputError(
                f"already holds {there[0]}",
                file=folder,
                remedy="choose another --output or pass --overwrite",
            )
        yield own


def _stacks(particles: SimulatedSet) -> list[tuple[str, range]]:
    """Name and rows of each stack."""
    wanted = particles.settings.stacks
    if wanted == 1:
        return [(_STACK, range(len(particles)))]
    cut = np.linspace(0, len(particles), wanted + 1).astype(int).tolist()
    return [(f"particles_{i + 1:03d}.mrcs", range(cut[i], cut[i + 1])) for i in range(wanted)]


# BLAS threads on products of this size wait for each other: one thread is up to 20 times faster
@threadpool_limits.wrap(limits=1, user_api="blas")
def write_simulated_set(particles: SimulatedSet, own: OwnedFolder, progress: Progress) -> Path:
    """Write everything about `particles` to a folder; the star file is written last.

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
    own.remove(_SIMULATION, first="particles.star")

    def place(name: str) -> Path:
        return own.file(_SIMULATION, name)

    with progress.step("simulating images", len(particles)) as step:
        for name, rows in _stacks(particles):
            _write_stack(particles, rows, place(name), step)
    _write_volumes(particles, place, progress)
    with replacing(place("gt.npz")) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **_truth_arrays(particles))
    write_json(place("settings.json"), particles.settings.model_dump(mode="json"))
    if particles.settings.pose_error or particles.settings.shift_error:
        _write_star(particles, particles.noisy_poses, place("particles_noisy.star"))
    return _write_star(particles, particles.poses, place("particles.star"))


def _write_stack(particles: SimulatedSet, rows: range, path: Path, step: Step) -> None:
    """The images chunk by chunk, so that memory does not grow with their number."""
    import mrcfile

    count, box_size = len(rows), particles.settings.box_size
    with replacing(path) as partial:
        shape = (count, box_size, box_size)
        with mrcfile.new_mmap(partial, shape=shape, mrc_mode=2, overwrite=True) as stack:
            stack.set_image_stack()
            stack.voxel_size = particles.settings.pixel_size
            moments = np.zeros(2)
            low, high = np.inf, -np.inf
            for start in range(0, count, particles.chunk):
                index = np.array(rows[start : start + particles.chunk])
                images = particles.images(index)
                stack.data[start : start + len(index)] = images
                moments += images.sum(dtype=np.float64), np.square(images, dtype=np.float64).sum()
                low, high = min(low, images.min()), max(high, images.max())
                step.advance(len(index))
            mean, square = moments / (count * box_size**2)
            header = stack.header
            header.dmin, header.dmax, header.dmean = low, high, mean
            header.rms = np.sqrt(square - mean**2)


def _write_volumes(
    particles: SimulatedSet, place: Callable[[str], Path], progress: Progress
) -> None:
    from solvar.volume_file import write_volume

    settings, ensemble = particles.settings, particles.ensemble
    with progress.step("computing true volumes", 1 + len(ensemble.examples), "volumes") as step:
        truth = particles.truth_volumes()
        write_volume(place("gt_mean.mrc"), truth.mean, settings.pixel_size)
        write_volume(place("mask.mrc"), truth.mask, settings.pixel_size)
        if len(truth.eigenvolumes):
            path = place("gt_eigenvolumes.mrc")
            _write_stacked_volumes(path, truth.eigenvolumes, settings.pixel_size)
        step.advance()
        volumes = conformation_volumes(
            ensemble, ensemble.examples, settings.box_size, settings.pixel_size, particles.scale
        )
        for name, volume in zip(ensemble.example_name, volumes, strict=True):
            write_volume(place(f"vols/{name}.mrc"), volume, settings.pixel_size)
            step.advance()


def _write_stacked_volumes(path: Path, volumes: NDArray[np.float32], pixel_size: float) -> None:
    """Volumes (r, L, L, L) one after the other along z."""
    import mrcfile

    with replacing(path) as partial, mrcfile.new(partial, overwrite=True) as file:
        file.set_data(volumes.reshape(-1, *volumes.shape[2:]))
        file.voxel_size = pixel_size


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


def _write_star(particles: SimulatedSet, poses: Poses, path: Path) -> Path:
    import pandas as pd

    optics, ctf = particles.optics, particles.ctf
    rot, tilt, psi = to_euler(poses.rotation).T
    optics_table = pd.DataFrame(
        {
            "rlnOpticsGroup": np.arange(1, len(optics.name) + 1),
            "rlnOpticsGroupName": optics.name,
            "rlnAmplitudeContrast": optics.amplitude_contrast,
            "rlnSphericalAberration": optics.spherical_aberration_mm,
            "rlnVoltage": optics.voltage_kv,
            "rlnImagePixelSize": optics.pixel_size_angstrom,
            "rlnImageSize": optics.box_size,
            "rlnImageDimensionality": 2,
        }
    )
    particle_table = pd.DataFrame(
        {
            "rlnImageName": [
                f"{frame + 1:06d}@{name}"
                for name, rows in _stacks(particles)
                for frame in range(len(rows))
            ],
            "rlnMicrographName": [f"mic{number:05d}.mrc" for number in particles.micrograph],
            "rlnOpticsGroup": particles.optics_group + 1,
            "rlnDefocusU": ctf.defocus_u_angstrom,
            "rlnDefocusV": ctf.defocus_v_angstrom,
            "rlnDefocusAngle": np.rad2deg(ctf.defocus_angle_radian),
            "rlnPhaseShift": np.rad2deg(ctf.phase_shift_radian),
            "rlnAngleRot": rot,
            "rlnAngleTilt": tilt,
            "rlnAnglePsi": psi,
            "rlnOriginXAngst": poses.shift_angstrom[:, 0],
            "rlnOriginYAngst": poses.shift_angstrom[:, 1],
            "rlnRandomSubset": particles.halfset,
        }
    )
    write_blocks(path, {"optics": optics_table, "particles": particle_table})
    return path
