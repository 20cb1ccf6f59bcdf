"""Volumes of a run at points in latent space, with half-maps and resolution.

A new method is one new file that implements `Method` and one line in `METHODS`, or a plug-in.
"""

from __future__ import annotations

from solvar.volumes.reconstruct import reconstruct
from solvar.volumes.settings import VolumeSettings
from solvar.volumes.targets import Targets, along_component, cluster_centres, from_file, from_text
from solvar.volumes.volume import Reconstruction

__all__ = [
    "Reconstruction",
    "Targets",
    "VolumeSettings",
    "along_component",
    "cluster_centres",
    "from_file",
    "from_text",
    "reconstruct",
]
