"""What comes in: particles, their identity, poses, optics and images."""

from solvar.particles.particle_set import CtfParameters, Optics, ParticleSet, Poses

__all__ = ["CtfParameters", "Optics", "ParticleSet", "Poses"]
