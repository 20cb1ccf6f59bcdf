"""Gather what the page shows, and write it: one file, nothing loaded from elsewhere."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solvar._version import __version__
from solvar.analysis.reading import StoredAnalysis, read_analysis
from solvar.analysis.words import gap_sentence, motion_sentence, states_sentence
from solvar.estimation.low_rank import prior_spread
from solvar.files import OwnedFolder, replacing, strict_json
from solvar.fitting.warnings import consensus_sentence
from solvar.progress import Progress, harmless
from solvar.report import style
from solvar.report.html import tables, words
from solvar.report.html.encoding import packed
from solvar.report.html.explorer import explorer
from solvar.report.html.pictures import (
    change_pictures,
    component_pictures,
    consensus_pictures,
    movies,
)
from solvar.report.interactive import analysis as analysis_figures
from solvar.report.interactive import curves, theme
from solvar.report.interactive.junk import particle_probability
from solvar.report.interactive.poses import pose_corrections
from solvar.report.volumes import VIEWS
from solvar.results.run import Run
from solvar.results.words import NO_OTHER_CAUSE, agreement, component_name, verdict
from solvar.results.writer import REPORT
from solvar.text import visible, with_capital

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from markupsafe import Markup

FILE = "report.html"
_TEMPLATES = Path(__file__).parent / "templates"
# More components make a long page of what is mostly noise; all are in the run folder.
_SHOWN = 8


def write_report(run: Run, own: OwnedFolder, progress: Progress | None = None) -> Path | None:
    """Write ``report.html`` to the folder of `run`, with its analysis if there is one.

    A report that cannot be made is told through `progress` and leaves no file: the numbers of the run
    are safe on disk by then.

    Parameters
    ----------
    run : Run
    own : OwnedFolder
        The right to write in its folder.
    progress : Progress, optional

    Returns
    -------
    path : Path or None
        None if it could not be made.
    """
    progress = harmless(progress)
    try:
        with progress.step("Report", 0):
            path = own.file(REPORT, FILE)
            text = page(run)
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
    except Exception as error:
        own.remove(REPORT)  # an earlier report would tell of something else
        reason = f"{type(error).__name__}: {error}"
        progress.message(f"{FILE} was not written ({reason}); all numbers are in {run.folder}")
        return None
    return path


def page(run: Run) -> str:
    """The report of `run` as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    analysis = read_analysis(run)
    shown = min(run.rank, _SHOWN)
    pictures = component_pictures(run, shown)
    figures = _figures(run, analysis)
    drawn = {
        "templates": {name: theme.template(name == "dark").to_plotly_json() for name in ("light", "dark")},
        "figures": {name: _untemplated(figure) for name, figure in figures.items()},
        "explorer": explorer(run, analysis),
        "motion": pictures.pop("motion"),
    }  # fmt: skip
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=_finalized,
    )  # fmt: skip
    environment.filters["breakable"] = _breakable
    environment.filters["with_capital"] = with_capital
    return environment.get_template("report.html.j2").render(
        run=run,
        name=run.folder.resolve().name,
        version=run.record["version"],
        written_by=__version__,
        analysis=analysis,
        tables=tables,
        words=words,
        no_other_cause=NO_OTHER_CAUSE,
        movies=movies(run),
        states_sentence=states_sentence,
        gap_sentence=gap_sentence,
        motion_sentence=motion_sentence,
        components=_components(run, pictures["slices"]),
        more_components=run.rank - shown,
        mean_slices=list(zip(VIEWS, pictures["mean"], strict=True)),
        edge_angstrom=pictures["edge_angstrom"],
        change=change_pictures(run),
        formation=consensus_pictures(run),
        consensus_told=consensus_sentence(run.ab_initio) if run.ab_initio is not None else "",
        figures=set(figures),
        sections=_sections(run, analysis),
        explorer=drawn["explorer"],
        style=Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup((_TEMPLATES / "report.js").read_text(encoding="utf-8")),
        plotly=plotly_code(),
        data=packed(json.dumps(json.loads(strict_json(drawn)), separators=(",", ":")).encode()),
    )


def _finalized(value: Any) -> Any:
    """What comes from files turns no line of the page around and hides nothing; markup is our own."""
    from markupsafe import Markup

    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _breakable(command: str) -> Markup:
    """A command that a narrow column may break after a folder, and never within an option."""
    from markupsafe import Markup, escape

    words = [
        Markup('<span class="option">{}</span>').format(word)
        if word.startswith("-")
        else escape(word).replace("/", Markup("/<wbr>"))
        for word in command.split(" ")
    ]
    return Markup(" ").join(words)


@cache
def plotly_code() -> str:
    """plotly.js, packed: 4.8 MB of source are 2.0 MB in the page."""
    from plotly.offline import get_plotlyjs

    return packed(get_plotlyjs().encode())


def _untemplated(figure: go.Figure) -> dict[str, Any]:
    """A figure in JSON's types, without its template: the page has one for light and one for dark."""
    content = json.loads(figure.to_json())
    content["layout"].pop("template", None)
    return content


def _figures(run: Run, analysis: StoredAnalysis | None) -> dict[str, go.Figure]:
    """Every figure that the run has something for, by the name of its place in the page."""
    model, validation = run.model, run.validation
    figures = {"spectrum": curves.spectrum(model.eigenvalues, validation)}
    if validation is not None:
        box = model.box_size * run.pixel_size_angstrom
        figures["mean_fsc"] = curves.mean_fsc(validation, box)
        figures["component_fsc"] = curves.component_fsc(validation, box)
    if (run.particle_probability < 1).any():
        figures["junk"] = particle_probability(run.particle_probability)
    if (corners := run.corner_noise_power) is not None:
        edge = model.box_size * run.pixel_size_angstrom
        figures["noise"] = curves.noise_ratio(
            run.noise_power / corners, edge, group="exposure" if run.is_of_tilts else "optics group"
        )
    if run.pose_change is not None and run.pose_change.applied:
        figures["poses"] = pose_corrections(run.pose_change)
    if analysis is not None:
        summary = analysis.summary
        if analysis.density is not None:
            spread = prior_spread(model.eigenvalues)
            gaps = [p["name"] for p in summary["trajectories"] if p["crosses_gap"]]
            figures["landscape"] = analysis_figures.landscape(
                analysis.density, analysis.paths, spread, states=analysis.states, gaps=gaps,
                real=[run.is_real(j) for j in analysis.density.components],
            )  # fmt: skip
        figures["associations"] = analysis_figures.associations(summary["associations"])
        figures["coverage"] = analysis_figures.coverage(summary["clusters"]["angular_coverage"])
    return figures


def _components(run: Run, slices: list[list[str]]) -> list[dict[str, Any]]:
    """What the card of each component says and shows."""
    validation, eigenvalues = run.validation, run.model.eigenvalues
    cards = []
    for j, addresses in enumerate(slices):
        card: dict[str, Any] = {
            "number": j + 1,
            "name": component_name(run, j),
            "share": style.percent(eigenvalues[j], eigenvalues.sum()),
            "slices": list(zip(VIEWS, addresses, strict=True)),
            "verdict": None,
            "agreement": None,
        }
        if validation is not None:
            card["verdict"], card["good"] = verdict(run, j), bool(validation.reliable[j])
            card["agreement"] = agreement(run, j) if validation.reliable[j] else None
        cards.append(card)
    return cards


def _sections(run: Run, analysis: StoredAnalysis | None) -> list[tuple[str, str]]:
    """Anchors and titles, in the order of the page."""
    return [
        ("summary", "Summary"),
        ("motion", "Motion"),
        ("particles", "Particles"),
        ("components", "Components"),
        *([("resolution", "Resolution")] if run.validation is not None else []),
        *([("consensus", "Consensus")] if run.ab_initio is not None else []),
        *([("poses", "Poses")] if run.pose_change is not None else []),
        *([("analysis", "Analysis")] if analysis is not None else []),
        ("record", "Record"),
        ("cite", "How to cite"),
    ]
