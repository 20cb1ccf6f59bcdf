"""Figures of a run, drawn with matplotlib when asked."""

from solvar.report.figures import draw_figures

__all__ = ["draw_figures"]
