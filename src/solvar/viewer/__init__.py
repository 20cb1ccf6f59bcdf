"""The local web application of a run: `solvar view`.

A page on 127.0.0.1 with the latents, the molecule at any point, selections and reconstructions.
"""

from __future__ import annotations

from solvar.viewer.app import Viewer, make_viewer
from solvar.viewer.server import ViewerServer, serve

__all__ = ["Viewer", "ViewerServer", "make_viewer", "serve"]
