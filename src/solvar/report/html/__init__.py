"""`report.html`: everything about a run in one page that opens without a network."""

from solvar.report.html.page import write_report

__all__ = ["write_report"]
