"""The document in its template: one file, scripts allowed by their digests alone."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from stockpot.outputs import write_text_atomically
from stockpot.reports.page.document import page_document

__all__ = ["PAGE_NAME", "page_html", "write_page"]

PAGE_NAME = "report.html"
_HERE = Path(__file__).parent


def page_html(document: dict[str, Any], *, refresh_url: str | None = None) -> str:
    """The page of a document.

    Scripts run only if their SHA-256 stands in the page's own policy, nothing is loaded, and data are inert text.
    Styles may be inline: plotly sets them on its elements.

    Args:
        document: JSON values.
        refresh_url: asked for a newer document now and then, where the page is served; same origin.

    Returns:
        HTML that needs no other file.
    """
    scripts = [_file("plotly-cartesian.min.js"), _file("page.js")]
    allowed = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    connect = "'self'" if refresh_url is not None else "'none'"
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'"
    )
    content = {**document, "refresh": refresh_url}
    # In JSON "<" can stand only within strings, where its escape means the same.
    data = json.dumps(content, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return Template(_file("page.html")).substitute(
        policy=policy, title=html.escape(str(document["title"])), style=_file("page.css"), data=data,
        plotly=scripts[0], script=scripts[1],
    )  # fmt: skip


def write_page(folder: Path) -> Path:
    """Writes report.html into a folder from the records there.

    Raises:
        RecordError: no record there, or a damaged one.
        OutputError: the file cannot be written.
    """
    path = folder / PAGE_NAME
    write_text_atomically(path, page_html(page_document(folder)))
    return path


@cache
def _file(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
