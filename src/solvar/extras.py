"""Packages that only some commands need: whether they are there, and what installs them here.

The name `solvar` belongs to another project on the Python package index, so nothing tells the user to
install it from there.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from solvar.commands import command_line

# What is imported of each extra.
_MODULES = {"view": ("dash", "skimage"), "nufft": ("finufft",), "umap": ("umap",)}
_EXTRA = re.compile(r"""\s*extra\s*==\s*['"]([\w-]+)['"]\s*""")


def missing(extra: str) -> bool:
    """Whether a package of the extra "view", "nufft" or "umap" is not installed."""
    return any(importlib.util.find_spec(module) is None for module in _MODULES[extra])


def install_command(extra: str) -> str:
    """The line that installs the packages of an extra for the Python that runs this.

    Parameters
    ----------
    extra : str
        "view", "nufft", "umap" or "cuda".
    """
    folder = _checkout()
    if folder is None:
        return command_line(*_installer(), *_requirements(extra))
    pins = folder / "constraints.txt"
    pinned: list[str | Path] = ["-c", pins] if pins.is_file() else []
    return command_line(*_installer(), *pinned, "-e", f"{folder}[{extra}]")


def _installer() -> list[str | Path]:
    # environments that uv made have no pip of their own
    if importlib.util.find_spec("pip") is None:
        return ["uv", "pip", "install", "--python", Path(sys.executable)]
    return [Path(sys.executable), "-m", "pip", "install"]


def _checkout() -> Path | None:
    """The folder of an editable installation that this code runs from; None for any other."""
    try:
        record = json.loads(metadata.distribution("solvar").read_text("direct_url.json") or "{}")
        editable, url = record["dir_info"]["editable"], urlsplit(record["url"])
    except (metadata.PackageNotFoundError, ValueError, KeyError, TypeError):
        return None
    folder = Path(url2pathname(url.path))
    ours = editable and url.scheme == "file" and Path(__file__).resolve().is_relative_to(folder)
    return folder if ours else None


def _requirements(extra: str) -> list[str]:
    """The packages of an extra with their versions, as this copy asks for them."""
    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    if project.is_file():  # a clone that is on the path and not installed
        declared = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        return list(declared["optional-dependencies"][extra])
    found = []
    for line in metadata.requires("solvar") or []:
        requirement, _, marker = line.partition(";")
        named = _EXTRA.fullmatch(marker)
        if named is not None and named.group(1) == extra:
            found.append(requirement.strip())
    return found
