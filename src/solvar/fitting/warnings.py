"""What the user should know before believing the result of a fit."""

from __future__ import annotations

import numpy as np

from solvar.estimation.low_rank import LowRankModel
from solvar.fitting.result import AbInitio, Fit, HalfsetValidation
from solvar.particles import ParticleSet


def pose_sentence(validation: HalfsetValidation, model: LowRankModel, refined: bool) -> str | None:
    """What the images say of errors of their poses; None where these do not show or were refined already."""
    if refined or validation.doubt is None:
        return None
    poses, pixel = validation.doubt.poses, model.pixel_size_angstrom
    if not validation.doubt.poses_matter:
        return None
    return (
        f"Rotations look off by about {poses.rotation_degree:.1f}° and shifts by "
        f"{poses.shift_pixel * pixel:.1f} Å: run again with --refine-pose."
    )


def warnings_of(particles: ParticleSet, found: Fit) -> list[str]:
    """Plain sentences about a fit of particles as they were given."""
    warnings = particles.remarks()
    if found.intensity_factor != 1:
        warnings.append(
            f"Pixel values are far from 1, so images were multiplied by {found.intensity_factor:g}: "
            "volumes, eigenvalues and latents are in these units."
        )
    if found.normalisation is not None and (told := found.normalisation.sentence()):
        warnings.append(told)
    if found.inverted and found.settings.density == "auto":
        warnings.append(
            "The molecule is dark in the images; they were inverted. If volumes look like "
            "a hole in the solvent, run again with --density bright."
        )
    if found.settings.halfsets and not np.array_equal(particles.halfset, found.particles.halfset):
        warnings.append(
            "The input names no half-sets, so the particles were split at random. Poses that were "
            "refined together make the halves agree better than they should."
        )
    if found.ab_initio is not None:
        warnings.append(consensus_sentence(found.ab_initio))
        if found.ab_initio.settled and not found.settings.names_mask:
            warnings.append(
                "Volumes lie within a mask that was made of them (mask.mrc): what it cuts off is lost. Give "
                "--mask-diameter for a sphere."
            )
    warnings += _pseudo_symmetry(found)
    warnings += _symmetry(found)
    warnings += _junk(found)
    if found.validation is not None:
        refined = found.settings.refine_pose
        if told := pose_sentence(found.validation, found.model, refined):
            warnings.append(told)
    confirmed = found.validation is not None and found.validation.reliable.all()
    if found.settings.refine_pose and confirmed and found.settings.rank != "auto":
        warnings.append(
            "Every component is reliable, so there may be motion that this rank does not hold. Poses "
            "would follow it: run again with a higher --rank before believing small pose corrections."
        )
    if not found.settings.halfsets:
        warnings.append(
            "Without half-sets nothing tells signal from noise: eigenvalues are too large and no "
            "component is validated."
        )
    return warnings


def _symmetry(found: Fit) -> list[str]:
    """What to know of a molecule that has not the symmetry that was asked for."""
    if found.symmetry_loss <= 0:
        return []
    name = found.settings.symmetry
    return [
        f"The molecule does not have the symmetry {name}, or not about these axes: a mean that has it "
        f"explains {found.symmetry_loss:.0%} less of images that it has not seen. Repeat without --symmetry."
    ]


def consensus_sentence(ab_initio: AbInitio) -> str:
    """Whether poses were found from the images alone, and what is not known of them."""
    count, agreed = len(ab_initio.evidence), int(ab_initio.agree.sum())
    if not ab_initio.is_molecule:
        return (
            f"No molecule was found: none of {count} starts explains images that it has not seen better than "
            "noise does. Nothing else in this run means anything."
        )
    if not ab_initio.settled:
        return (
            f"No consensus was found: no two of {count} starts agree, so these poses are not to be believed, "
            "nor anything that follows from them. Give more --starts, or particles selected by 2-D classes."
        )
    return (
        f"Poses were found from the images alone: {agreed} of {count} starts agree. Images do not tell the "
        "hand: the molecule may be its own mirror image (solvar export --flip-hand)."
    )


def _pseudo_symmetry(found: Fit) -> list[str]:
    """What to know of a molecule that looks alike from two sides, or like its mirror image."""
    if found.pose_refinement is None:
        return []
    from solvar.imaging.pseudo_symmetry import pseudo_symmetry

    before, after = found.pose_refinement.start.rotation, found.particles.poses.rotation
    told = pseudo_symmetry(before, after)
    if told is None:
        return []
    went = f"{told.count:,} particles went from one pose to another by the same "
    if told.mirror:
        return [
            f"{went}turn and mirror: the molecule looks nearly like its mirror image, and particles of both "
            "hands may be mixed. A component may be the difference of the two."
        ]
    return [
        f"{went}turn of the molecule, {told.degree:.0f}°: it looks nearly the same after it "
        "(pseudo-symmetry), and some particles may still be at the wrong one of the two poses."
    ]


def _junk(found: Fit) -> list[str]:
    """What to know of images that show no particle, or something else."""
    total, told = len(found.particles), list[str]()
    leave_out = "`solvar export RUN --to relion -o FILE.star --keep 0.5` leaves them out."
    others = found.particle_probability[found.particle_probability > 0]
    unlikely = int((found.particle_probability < 0.5).sum()) - found.monstrous
    share = float((1 - others).sum()) / total
    # where poses were looked for, an image in which none was found looks like one that shows nothing
    lost = (
        "or not where and as it is said to be"
        if found.ab_initio is None
        else "or one whose pose was not found"
    )
    if share > 0:
        told.append(
            f"About {100 * share:.2g} % of the images ({unlikely:,} of {total:,} more likely than not) show "
            f"no particle, {lost}; they are weighted down. {leave_out}"
        )
    if found.monstrous:
        told.append(
            f"{found.monstrous:,} of {total:,} images hold something that stands out far above all others "
            f"(ice, carbon, a hot pixel, another intensity?); they count nothing. {leave_out}"
        )
    return told
