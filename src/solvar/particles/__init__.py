"""What comes in: particles, their identity, poses, optics and images."""

from solvar.imaging.optics import CtfParameters, Optics
from solvar.particles.copies import refuse_copied_stacks
from solvar.particles.cryodrgn_write import write_poses_pickle
from solvar.particles.exposures import Exposures
from solvar.particles.halfsets import assign_halfsets
from solvar.particles.images import ImageStack
from solvar.particles.particle_set import ParticleSet, Poses
from solvar.particles.picks import Picks
from solvar.particles.reading import Reading
from solvar.particles.registry import read_as, read_particles
from solvar.particles.relion_write import write_star

__all__ = [
    "CtfParameters",
    "Exposures",
    "ImageStack",
    "Optics",
    "ParticleSet",
    "Picks",
    "Poses",
    "Reading",
    "assign_halfsets",
    "read_as",
    "read_particles",
    "refuse_copied_stacks",
    "write_poses_pickle",
    "write_star",
]
