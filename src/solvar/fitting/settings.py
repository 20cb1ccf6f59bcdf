"""Every choice a user can make about the main job, validated once and saved with the result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from solvar import plugins
from solvar.imaging.point_groups import PointGroup
from solvar.imaging.projector import BACKENDS, Projection
from solvar.imaging.projector.devices import DEVICE_NAMES, complaint
from solvar.machine import MOST_THREADS

_AUTO_COLUMNS = 10
_MOST_DIGITS = 9
# What a plug-in can add to, and the names that are built in
_CHOICES = {
    "backend": (plugins.PROJECTORS, ("auto", *BACKENDS)),
    "objective": (plugins.OBJECTIVES, ("ml", "ls")),
    "pose_solver": (plugins.POSE_SOLVERS, ("newton", "adam")),
}
# Says that settings are those of a run that was made already, perhaps where more is installed than here
RECORDED = {"recorded": True}


@dataclass(frozen=True)
class FocusMask:
    """A mask volume in which components live, and how many of its own it has; None: it shares them."""

    path: Path
    columns: int | None = None

    @classmethod
    def named(cls, text: Path) -> FocusMask:
        """Of `path` or `path:columns`."""
        path, colon, columns = str(text).rpartition(":")
        if not colon or not columns.isdecimal() or len(columns) > _MOST_DIGITS:
            return cls(text)
        return cls(Path(path), int(columns))


class FitSettings(BaseModel):
    """Settings of the main job; the command line and the API share these names and defaults.

    Lengths are in ångströms. Frozen: a run is described by the settings it started with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: Annotated[int, Field(ge=1, le=200)] | Literal["auto"] = Field(
        10, description="Number of eigenvolumes; auto: those that the half-sets confirm, of ten."
    )
    mask: Path | None = Field(
        None, description="Mask volume (.mrc, values 0 to 1); default: made from the half-maps."
    )
    mask_diameter: float | None = Field(
        None,
        gt=0,
        description="Diameter of a soft sphere as the mask, Å; default: made from the half-maps.",
    )
    symmetry: str = Field(
        "C1",
        description="Point group of the mean (C4, D2, T, O, I2 …), axes as in RELION.",
    )
    focus_mask: list[Path] = Field(
        [],
        description="Mask volume in which components live, the mean in the whole; may be repeated. "
        "head.mrc:4 gives it four components of its own.",
    )
    rest_rank: int = Field(
        0,
        ge=0,
        le=200,
        description="Components outside all focus masks, so that what moves there does not leak in.",
    )
    downsample: int | None = Field(
        None, ge=8, description="Fourier-crop images to this box size in pixels."
    )
    resolution: float | None = Field(
        None, gt=0, description="Finest resolution used, Å; default: the last shell before Nyquist."
    )
    interpolation: Literal["kaiser", "trilinear", "nearest", "nufft"] = Field(
        "kaiser", description="How Fourier slices are read off the lattice."
    )
    upsampling: float | None = Field(
        None,
        ge=1,
        le=4,
        description="Zero-padding factor of the volumes; default: 1.25 (kaiser), 2 (others).",
    )
    refine_contrast: bool = Field(True, description="Estimate one contrast factor per particle.")
    refine_pose: bool = Field(
        False,
        description="Refine rotations and shifts inside the heterogeneous model.",
    )
    refine_tilts: bool = Field(
        False,
        description="Tilt series: also refine the shift of each tilt image, which its particles share (with "
        "--refine-pose).",
    )
    tilt_contrast: bool = Field(
        False,
        description="Tilt series: also estimate the contrast of each exposure, which its particles share.",
    )
    ab_initio: bool = Field(
        False,
        description="Find poses from the images alone, and refine them: what solvar abinitio does.",
    )
    starts: int = Field(
        6,
        ge=2,
        le=100,
        description="Attempts at a first volume, at most; two that agree are enough (abinitio).",
    )
    pose_solver: str = Field(
        "newton",
        description="How refinement moves rotations: newton (damped Gauss-Newton), or adam, far slower.",
    )
    pose_search: Annotated[float, Field(ge=0, le=180)] | Literal["global"] = Field(
        "global",
        description="How far particles that look misplaced are searched: degrees, or global.",
    )
    solver: Literal["em", "adam"] = Field(
        "em",
        description="How eigenvolumes are fitted: incremental EM, or the paper's minibatch Adam, far slower.",
    )
    objective: str = Field(
        "ml",
        description="ml: likelihood; ls: least squares of the covariance (with --solver adam).",
    )
    spatial_prior: bool = Field(
        True,
        description="Let eigenvolumes vary more where the half-sets agree that the molecule changes; kept "
        "where held-out particles gain by it.",
    )
    halfsets: bool = Field(
        True, description="Fit the two half-sets apart and derive the prior from their agreement."
    )
    density: Literal["auto", "bright", "dark"] = Field(
        "auto",
        description="Sign of the particle in the images; 'auto' decides from the mean volume.",
    )
    batch_size: int | None = Field(
        None, ge=1, lt=2**53, description="Particles per update; default: by rule."
    )
    lazy: bool | None = Field(
        None,
        description="Keep whitened images on disk; default: when they would take half of the free memory.",
    )
    scratch: Path | None = Field(
        None, description="Folder for whitened images on disk; default: the run folder."
    )
    cache_precision: Literal["float32", "float16"] = Field(
        "float32", description="Numbers of whitened images on disk; float16 takes half the space."
    )
    force: bool = Field(
        False,
        description="Go on where solvar check finds an error; the finding is kept as a warning.",
    )
    seed: int = Field(0, ge=0, lt=2**53, description="Seed of every random choice.")
    threads: int | None = Field(
        None, ge=1, le=MOST_THREADS, description="Threads; default: all available cores."
    )
    backend: str = Field(
        "auto",
        description=f"Projector: {', '.join(BACKENDS)}; auto: numba on the CPU, torch elsewhere.",
    )
    device: str | None = Field(
        None,
        description=f"{DEVICE_NAMES} (a GPU if there is one); default: cpu, unless the backend needs a GPU.",
    )

    @property
    def names_mask(self) -> bool:
        """Whether it is said where the molecule is."""
        return self.mask is not None or self.mask_diameter is not None

    @property
    def focus(self) -> list[FocusMask]:
        """The focus masks."""
        return [FocusMask.named(path) for path in self.focus_mask]

    @property
    def block_columns(self) -> tuple[int, ...]:
        """How many columns each focus mask has, or all of them together, and the rest; () for one block."""
        counts = [each.columns for each in self.focus if each.columns is not None]
        if self.rest_rank:
            counts = [*(counts or [self.columns - self.rest_rank]), self.rest_rank]
        return tuple(counts)

    @property
    def block_names(self) -> list[str]:
        """What the places of `block_columns` are called: by their masks, or "rest"."""
        names = [each.path.stem for each in self.focus]
        if len(set(names)) < len(names):
            names = [str(each.path) for each in self.focus]
        if names and self.focus[0].columns is None:
            names = [" or ".join(names)]
        return [*names, *(["rest"] if self.rest_rank else [])]

    @property
    def has_spatial_prior(self) -> bool:
        """Whether halves are to tell how much columns may vary at each place."""
        return self.spatial_prior and self.halfsets and self.solver == "em"

    @property
    def has_symmetry(self) -> bool:
        """Whether the mean has more than the identity, and particles go to any of their equivalent poses."""
        return self.symmetry != "C1"

    @property
    def point_group(self) -> PointGroup:
        """Of the mean."""
        return PointGroup.named(self.symmetry)

    @property
    def columns(self) -> int:
        """Columns that are fitted: with rank auto more than are kept."""
        return _AUTO_COLUMNS if self.rank == "auto" else self.rank

    @property
    def projection(self) -> Projection:
        """How slices are computed."""
        return Projection(self.interpolation, self.upsampling, self.backend, self.device)

    @field_validator(*_CHOICES)
    @classmethod
    def _known_name(cls, name: str, info: ValidationInfo) -> str:
        if info.context == RECORDED:
            return plugins.well_formed(name)
        assert info.field_name is not None
        group, built_in = _CHOICES[info.field_name]
        return plugins.known(group, name, built_in)

    @field_validator("symmetry")
    @classmethod
    def _known_group(cls, name: str) -> str:
        return PointGroup.named(name).name

    @field_validator("device")
    @classmethod
    def _known_device(cls, name: str | None) -> str | None:
        if name is not None and (problem := complaint(name)):
            raise ValueError(problem)
        return name

    @model_validator(mode="before")
    @classmethod
    def _rough_poses_are_refined(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("ab_initio"):
            return {**given, "refine_pose": True}
        return given

    @model_validator(mode="before")
    @classmethod
    def _rank_is_the_sum_of_blocks(cls, given: Any) -> Any:
        """Where every focus mask says how many components it has, nobody needs to say how many there are."""
        if not isinstance(given, dict) or given.get("rank") == "auto":
            return given
        paths = given.get("focus_mask")
        if not isinstance(paths, list) or not all(isinstance(path, str | Path) for path in paths):
            return given
        masks = [FocusMask.named(Path(path)) for path in paths]
        own = [mask.columns for mask in masks if mask.columns is not None]
        rest = str(given.get("rest_rank") or 0)
        if not own or len(own) < len(masks) or not rest.isdecimal():
            return given
        return {**given, "rank": max(1, sum(own) + int(rest))}

    @model_validator(mode="after")
    def _blocks_are_consistent(self) -> FitSettings:
        if self.rest_rank and not self.focus_mask:
            raise ValueError("--rest-rank is what lives outside focus masks; give --focus-mask")
        if len({each.columns is None for each in self.focus}) > 1:
            raise ValueError("give every --focus-mask a number of components (head.mrc:4), or none")
        if not self.block_columns:
            return self
        if self.rank == "auto":
            raise ValueError("--rank auto cannot go with numbers of components of focus masks")
        if min(self.block_columns) < 1:
            raise ValueError(
                "a --focus-mask needs one component or more (of --rank less --rest-rank)"
            )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> FitSettings:
        if self.objective != "ml" and self.solver == "em":
            raise ValueError(
                f"EM maximises a likelihood; give --solver adam with --objective {self.objective}"
            )
        if self.rank == "auto" and not self.halfsets:
            raise ValueError("--rank auto asks the half-sets; it cannot go with --no-halfsets")
        if self.refine_tilts and not self.refine_pose:
            raise ValueError("tilts are refined beside poses; give --refine-pose, too")
        if self.solver == "adam" and self.refine_pose:
            raise ValueError("poses are refined with --solver em alone")
        if self.solver == "adam" and self.has_symmetry:
            raise ValueError("the mean keeps its --symmetry with --solver em alone")
        return self
