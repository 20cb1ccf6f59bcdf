"""A visitor of a viewer who has no browser, but does what one does with the printed address."""

from __future__ import annotations

import re
import urllib.request
from http.cookiejar import CookieJar

from solvar.viewer.security import PAGE_HEADER


def visit(address: str) -> urllib.request.OpenerDirector:
    """Come with the address; what is opened afterwards carries the cookie and the page's secret."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    with opener.open(address, timeout=20) as welcome:
        opener.addheaders.append((PAGE_HEADER, page_secret(welcome.read().decode())))
    return opener


def page_secret(welcome: str) -> str:
    """What the page that is shown first leaves in the browser's sessionStorage."""
    found = re.search(r'setItem\("solvar-page", "([\w-]{40,})"\)', welcome)
    assert found, welcome
    return found[1]
