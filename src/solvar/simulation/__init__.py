"""Particle stacks with known truth, from pseudo-atoms or a coordinate file."""

from solvar.simulation.dataset import simulate
from solvar.simulation.molecule import (
    AtomStates,
    FlexibleMolecule,
    atoms_from_file,
    flexible_molecule,
)
from solvar.simulation.settings import SimulationSettings
from solvar.simulation.simulated_set import SimulatedSet
from solvar.simulation.truth import TruthVolumes
from solvar.simulation.volumes import blob_volume

__all__ = [
    "AtomStates",
    "FlexibleMolecule",
    "SimulatedSet",
    "SimulationSettings",
    "TruthVolumes",
    "atoms_from_file",
    "blob_volume",
    "flexible_molecule",
    "simulate",
]
