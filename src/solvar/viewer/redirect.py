"""A page on disk that leads to an address: so a browser is started without the token on its command line.

Every user of a machine can read the command lines of all processes; the file only its owner.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

_PAGE = """<!doctype html><meta charset="utf-8"><title>solvar</title>
<meta name="referrer" content="no-referrer"><meta http-equiv="refresh" content="0;url={address}">
<p><a href="{address}">Open the viewer</a></p>
"""


@contextmanager
def redirect(address: str) -> Iterator[str]:
    """The file:// address of a page that leads to `address`; the page is there inside the block.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    # of mode 0700; what tidies /tmp may have been there first
    with TemporaryDirectory(prefix="solvar-view-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "open.html"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(handle, "w", encoding="utf-8") as file:
            file.write(_PAGE.format(address=escape(address)))
        yield path.as_uri()
