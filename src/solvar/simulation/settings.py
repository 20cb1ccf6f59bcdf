"""Every choice about a simulated data set, validated once and saved with it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from solvar.imaging.point_groups import PointGroup

Heterogeneity = Literal["hinge-loop", "loop", "discrete", "rigid", "gaussian", "subunits"]
TiltFormat = Literal["relion5", "warp1"]

# every combination of their states is part of the truth
_MOST_SUBUNITS = 8
_OF_TILTS = ("tilt_range", "tilt_axis", "dose_per_tilt", "hand", "tilt_format")


class SimulationSettings(BaseModel):
    """Settings of `simulate`; the command line and the API share these names and defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    particles: int = Field(
        3000, ge=1, description="Number of particles, each of one image or one tilt series."
    )
    box_size: int = Field(64, ge=16, le=1024, multiple_of=2, description="Image edge, pixels.")
    pixel_size: float = Field(3.0, gt=0, description="Pixel size, Å.")
    snr: float = Field(
        0.1,
        gt=0,
        description="Variance of the noiseless images over that of the noise; in tilt series of the least "
        "exposed images.",
    )
    heterogeneity: Heterogeneity = Field(
        "hinge-loop",
        description="hinge-loop: two continuous motions; loop: the second one alone, of a tenth of the mass; "
        "discrete: a few states, or the models of "
        "--atoms; rigid: none; gaussian: drawn from a low-rank Gaussian model with known latents; "
        "subunits: each subunit of --symmetry has its arm open or closed.",
    )
    symmetry: str = Field(
        "C1", description="Point group of an assembly of built-in molecules (C4, D2, O …)."
    )
    occupancy: float = Field(
        0.5, gt=0, lt=1, description="Share of the subunits that are open, of 'subunits'."
    )
    states: int = Field(4, ge=1, le=1000, description="Number of states of 'discrete'.")
    motion: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the range of the built-in motions, 50° of the hinge and 90° of the loop.",
    )
    rank: int = Field(4, ge=1, le=50, description="Number of latents of 'gaussian'.")
    heterogeneity_fraction: float = Field(
        0.2, gt=0, le=2, description="Total variance over the squared norm of the mean, 'gaussian'."
    )
    atoms: Path | None = Field(
        None, description="PDB or mmCIF file to use instead of the built-in molecule."
    )
    diameter: float | None = Field(
        None,
        gt=0,
        description="Diameter of the molecule, Å; default: 60 % of the box, files as read.",
    )
    blob_sigma: float | None = Field(
        None, ge=0, description="Standard deviation of each blob or atom, Å; default: by size."
    )
    defocus_min: float = Field(8000.0, ge=0, description="Smallest defocus, Å.")
    defocus_max: float = Field(25000.0, ge=0, description="Largest defocus, Å.")
    astigmatism: float = Field(
        200.0, ge=0, description="Standard deviation of half the defocus difference, Å."
    )
    voltage: float = Field(300.0, gt=0, description="Acceleration voltage, kV.")
    spherical_aberration: float = Field(2.7, ge=0, description="Spherical aberration, mm.")
    amplitude_contrast: float = Field(0.1, ge=0, lt=1, description="Amplitude contrast.")
    optics_groups: int = Field(
        1, ge=1, le=100, description="Optics groups; they differ in optics and in noise colour."
    )
    contrast_sd: float = Field(0.15, ge=0, le=0.5, description="Spread of the contrast around 1.")
    shift_sd: float = Field(2.0, ge=0, description="Spread of the particle position per axis, px.")
    noise_colour: float = Field(
        2.0, ge=0, description="Excess of the noise power at low frequency; 0 is white."
    )
    pose_error: float = Field(
        3.0, ge=0, description="Rotation error in particles_noisy.star, degrees rms in total."
    )
    shift_error: float = Field(
        1.0, ge=0, description="Shift error in particles_noisy.star, px per axis."
    )
    tilts: int = Field(
        0, ge=0, le=200, description="Images a particle, of a tilt series; 0: single particles."
    )
    tilt_range: float = Field(60.0, gt=0, lt=90, description="Largest tilt, degrees.")
    tilt_axis: float = Field(
        85.0, ge=-360, le=360, description="Of the tilt axis, from y of the images, degrees."
    )
    dose_per_tilt: float = Field(
        3.0, ge=0, description="Electrons per Å² that each image of a tilt series takes."
    )
    hand: int = Field(
        1, description="1: what is higher is more underfocused in tilted images; -1: less."
    )
    tilt_format: TiltFormat = Field(
        "relion5",
        description="How tilt series are written. relion5: a row a particle and files of tomograms; warp1: a "
        "row a tilt.",
    )
    stacks: int = Field(1, ge=1, le=1000, description="Stack files the images are spread over.")
    seed: int = Field(0, ge=0, description="Seed of every random choice.")

    @property
    def wanted_diameter(self) -> float:
        """Of the built-in molecule or assembly, Å."""
        return self.diameter or 0.6 * self.box_size * self.pixel_size

    @field_validator("symmetry")
    @classmethod
    def _known_group(cls, name: str) -> str:
        return PointGroup.named(name).name

    @model_validator(mode="after")
    def _consistent(self) -> SimulationSettings:
        if self.defocus_max < self.defocus_min:
            raise ValueError("defocus_max must not be smaller than defocus_min")
        self._check_tilts()
        if self.stacks > self.particles:
            raise ValueError("there are more stacks than particles")
        if self.atoms is not None and self.heterogeneity in ("hinge-loop", "loop"):
            raise ValueError(
                "an atom file has no hinge or loop; choose heterogeneity discrete (its models), rigid or "
                "gaussian"
            )
        moves = self.atoms is None and self.heterogeneity in ("hinge-loop", "loop", "discrete")
        if self.motion != 1 and not moves:
            raise ValueError(
                "motion is that of the built-in hinge and loop; choose heterogeneity hinge-loop or discrete"
            )
        self._check_symmetry()
        if self.diameter is not None and self.diameter > self.box_size * self.pixel_size:
            raise ValueError("the molecule's diameter is larger than the box")
        return self

    def _check_symmetry(self) -> None:
        subunits = len(PointGroup.named(self.symmetry))
        if self.heterogeneity == "subunits" and not 1 < subunits <= _MOST_SUBUNITS:
            raise ValueError(
                f"heterogeneity subunits needs a --symmetry of 2 to {_MOST_SUBUNITS} subunits"
            )
        if subunits > 1 and self.heterogeneity not in ("subunits", "rigid"):
            raise ValueError("an assembly with --symmetry is rigid, or its subunits differ")
        if subunits > 1 and self.atoms is not None:
            raise ValueError("--symmetry assembles built-in molecules; leave out --atoms")

    def _check_tilts(self) -> None:
        if self.hand not in (1, -1):
            raise ValueError("--hand is 1 or -1")
        fields = type(self).model_fields
        idle = [each for each in _OF_TILTS if getattr(self, each) != fields[each].default]
        if idle and not self.tilts:
            option = "--" + idle[0].replace("_", "-")
            raise ValueError(
                f"{option} is of tilt series; say with --tilts how many images each has"
            )
        if self.tilts and self.tilt_format == "relion5" and self.stacks > 1:
            raise ValueError(
                "RELION 5 has a stack for each particle; leave out --stacks or choose --tilt-format warp1"
            )
