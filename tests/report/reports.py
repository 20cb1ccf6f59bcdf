"""Runs with made-up numbers, their reports, and how a test reads them."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from solvar.analysis import AnalysisSettings, analyze
from solvar.results.run import Run
from synthetic import make_fit
from written import written, written_analysis


def make_run(
    folder: Path, *, analysed: bool = False, nothing_reliable: bool = False, **kind
) -> Run:
    """A finished run in `folder`; `kind` as of `make_fit`."""
    beside = folder.parent
    fit = make_fit(beside, **kind)
    if nothing_reliable:
        none = fit.validation.reliable & False
        fit = replace(fit, validation=replace(fit.validation, reliable=none))
    run = written(folder, fit)
    if analysed:
        written_analysis(run, analyze(run, AnalysisSettings(clusters=3)))
    return run


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, and the text outside of scripts.

    Attributes
    ----------
    elements : list of (tag, dict)
    text : str
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.text = ""
        self._blind = False
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._blind = tag in ("script", "style")

    def handle_endtag(self, tag):
        self._blind = False

    def handle_data(self, text):
        if not self._blind:
            self.text += text

    @property
    def anchors(self) -> set[str]:
        """The sections that are there."""
        return {found["id"] for tag, found in self.elements if tag == "section"}

    @property
    def charts(self) -> set[str]:
        """The figures that are there."""
        return {found["data-figure"] for _, found in self.elements if "data-figure" in found}


def content(html: str) -> dict:
    """What the page's script unpacks."""
    packed = html.split('id="data">', 1)[1].split("<", 1)[0]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def numbers(column: dict) -> np.ndarray:
    """Numbers as the page reads them."""
    return column["scale"] * np.frombuffer(base64.b64decode(column["int16"]), "<i2")
