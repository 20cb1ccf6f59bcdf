"""The tables of the page as rows of text; the template escapes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from solvar.analysis.bodies.motion import STILL
from solvar.analysis.reading import StoredAnalysis
from solvar.analysis.words import PATHS
from solvar.commands import command_line
from solvar.estimation.causes import CAUSES
from solvar.fitting.own_mask import mask_words
from solvar.fitting.settings import FitSettings
from solvar.imaging.fsc import resolution
from solvar.report import style
from solvar.results.poses import PARTS
from solvar.results.run import Run
from solvar.results.words import component_name, resolution_text, short_verdict


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes
    ----------
    head : list of str
    rows : list of list of str
    numeric : int
        From this column on, cells are set flush right.
    """

    head: list[str]
    rows: list[list[str]]
    numeric: int = 1


def components(run: Run) -> Table:
    """One row a component: share, eigenvalue and what the half-sets say."""
    head = ["Component", "Share of variance found", "Eigenvalue"]
    validation, eigenvalues = run.validation, run.model.eigenvalues
    if validation is not None:
        head += ["Half-map similarity", "Resolution (Å)", "Verdict"]
    rows = []
    for j, eigenvalue in enumerate(eigenvalues):
        row = [
            component_name(run, j),
            style.percent(eigenvalue, eigenvalues.sum()),
            f"{eigenvalue:.4g}",
        ]
        if validation is not None:
            row += [
                f"{validation.reliability[j]:.2f}",
                resolution_text(run, validation.component_resolution[j]),
                short_verdict(run, j),
            ]
        rows.append(row)
    return Table(head, rows)


def doubts(run: Run) -> Table | None:
    """One row a component: what it explains, and how much of that something else could explain."""
    if run.validation is None or run.validation.doubt is None:
        return None
    found = run.validation.doubt.evidence
    head = ["Component", "Gain (nats)", "pose errors", "defocus", "background", "any view"]
    rows = []
    for j, gain in enumerate(found.gain):
        row = [component_name(run, j), f"{gain:.3g}"]
        if found.seen[j]:
            row += [f"{100 * share:.0f} %" for share in (*found.explained[j], found.left[j])]
        else:
            row += ["–"] * (len(CAUSES) + 1)
        rows.append(row)
    return Table([*head, "none of these"], rows)


def poses(run: Run) -> Table | None:
    """One row a part of the pose: its correction and what is still unknown; None if they were kept."""
    told = run.record["result"].get("poses")
    if told is None:
        return None
    rows = []
    for name, words, unit in PARTS:
        part = told[f"{name}_{'angstrom' if unit == 'Å' else 'degree'}"]
        keys = ("correction_median", "correction_rms", "spread_median", "spread_rms")
        rows.append([f"{words} ({unit})", *(f"{part[key]:.3g}" for key in keys)])
    head = ["", "Correction, median", "rms", "Still unknown, median", "rms"]
    return Table(head, rows)


def clusters(analysis: StoredAnalysis) -> Table:
    """One row a cluster: particles, share, evenness of its views."""
    told = analysis.summary["clusters"]
    total = sum(told["size"])
    rows = [
        [str(k), f"{size:,}", style.percent(size, total), f"{100 * views:.0f} %", str(nearest)]
        for k, (size, views, nearest) in enumerate(
            zip(told["size"], told["angular_coverage"], told["nearest_particle"], strict=True), 1
        )
    ]
    return Table(["Cluster", "Particles", "Share", "Views", "Nearest particle (row)"], rows)


def paths(analysis: StoredAnalysis) -> Table | None:
    """One row a path; None if there is none."""
    found = analysis.summary["trajectories"]
    rows = [
        [
            PATHS.get(one["name"], one["name"]),
            f"{one['length']:.1f}",
            f"{min(one['behind']):,} to {max(one['behind']):,}",
        ]
        for one in found
    ]
    return Table(["Path", "Length (σ)", "Particles behind a point"], rows) if rows else None


def rigid_bodies(analysis: StoredAnalysis) -> Table | None:
    """One row a component and body that changes; None where no atoms were given, or all is still."""
    rows = [
        [
            str(one["component"]),
            body["body"],
            body["verdict"],
            f"{body['displacement_angstrom']:.1f} ± {body['error_angstrom']:.1f}",
            f"{body['rotation_degree']:.0f}",
            " → ".join(f"{100 * min(share, 1):.0f} %" for share in body["occupancy"]),
            f"{100 * max(body['explained'], 0):.0f} %",
        ]
        for one in analysis.summary.get("rigid_bodies") or []
        for body in one["bodies"]
        if body["verdict"] != STILL
    ]
    head = [
        "Component",
        "Body",
        "",
        "Displacement (Å)",
        "Rotation (°)",
        "There",
        "Change explained",
    ]
    return Table(head, rows, numeric=3) if rows else None


def costs(run: Run) -> Table:
    """One row a stage: wall and CPU time, peak memory; the sum at the end."""
    stages = [
        (one.name, one.wall_seconds, one.cpu_seconds, one.peak_memory_mib) for one in run.costs
    ]
    if len(stages) > 1:
        _, wall, cpu, memory = zip(*stages, strict=True)
        stages.append(("all", sum(wall), sum(cpu), max(memory)))
    rows = [
        [name, f"{wall:,.1f} s", f"{cpu:,.1f} s", f"{memory:,.0f} MiB"]
        for name, wall, cpu, memory in stages
    ]
    return Table(["Stage", "Wall time", "CPU time", "Peak memory"], rows)


def settings(run: Run, *, changed: bool) -> Table:
    """The settings that differ from their defaults, or those that do not."""
    given = run.record["settings"]
    rows = []
    for name, field in FitSettings.model_fields.items():
        value = given.get(name)
        if (value != field.default) == changed:
            option = f"--{name.replace('_', '-')}"
            rows.append([option, _value(value), field.description or ""])
    return Table(["Setting", "Value", "Meaning"], rows, numeric=3)


def _value(value: Any) -> str:
    if value is None or value == []:
        return "default"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def provenance(run: Run) -> Table:
    """Where the result came from."""
    record = run.record
    machine = record.get("machine", {})
    sizes = record["particles"].get("halfset_sizes") or []
    focus = run.settings.focus_mask
    rows = [
        ["Particles", f"{run.source} ({record['particles']['source_format']})"],
        ["Mask", mask_words(run.settings, run.model.mask, run.pixel_size_angstrom)],
        *([["Symmetry of the mean", run.settings.symmetry]] if run.settings.has_symmetry else []),
        *([["Components in", ", ".join(map(str, focus))]] if focus else []),
        *([["Half-sets", " and ".join(f"{size:,}" for size in sizes)]] if any(sizes) else []),
        ["Started, finished", f"{day(record['started'])}, {day(record['finished'])} (UTC)"],
        [
            "Machine",
            ", ".join(str(machine[key]) for key in ("processor", "host") if key in machine),
        ],
        [
            "Versions",
            ", ".join(f"{name} {one}" for name, one in record.get("packages", {}).items()),
        ],
    ]
    if record["command"]:
        # not the place of the program on that machine
        rows.insert(0, ["Command", command_line("solvar", *map(str, record["command"][1:]))])
    return Table([], rows, numeric=2)


def day(stamp: str) -> str:
    """An ISO 8601 time without seconds and zone."""
    return datetime.fromisoformat(stamp).strftime("%Y-%m-%d %H:%M")


def _spread_of_contrasts(run: Run) -> list[tuple[str, str]]:
    told = run.record["result"].get("tilt_contrast")
    return [] if told is None else [("contrast of exposures, sd", f"{told['sd']:.2f}")]


def facts(run: Run) -> list[tuple[str, str]]:
    """The run in a few numbers."""
    model = run.model
    told = [
        ("particles", f"{run.distinct_particles:,}"),
        *([] if run.copy_of is None else [("symmetry copies", f"{run.particle_count:,}")]),
        *([("images", f"{run.record['particles']['images']:,}")] if run.is_of_tilts else []),
        *_spread_of_contrasts(run),
        ("components", str(run.rank)),
        ("box", f"{model.box_size} px, {model.box_size * run.pixel_size_angstrom:.0f} Å"),
    ]
    if run.validation is not None:
        reached = resolution(run.validation.mean_fsc, model.box_size * run.pixel_size_angstrom)
        told.append(("mean (half-sets)", f"{resolution_text(run, reached)} Å"))
    return told
