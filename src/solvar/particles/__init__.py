"""What comes in: particles, their identity, poses, optics and images."""

from solvar.particles.cryodrgn_write import write_poses_pickle
from solvar.particles.halfsets import assign_halfsets
from solvar.particles.images import ImageStack
from solvar.particles.particle_set import CtfParameters, Optics, ParticleSet, Poses
from solvar.particles.registry import read_particles
from solvar.particles.relion_write import write_star

__all__ = [
    "CtfParameters",
    "ImageStack",
    "Optics",
    "ParticleSet",
    "Poses",
    "assign_halfsets",
    "read_particles",
    "write_poses_pickle",
    "write_star",
]
