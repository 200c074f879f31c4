"""The page of a folder that is still being filled, on this machine's own address."""

from __future__ import annotations

import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from stockpot.errors import OutputError, StockpotError
from stockpot.reports.page.document import page_document
from stockpot.reports.page.html import page_html

__all__ = ["folder_version", "page_server"]

#: What changes the page when it changes.
_WATCHED = (
    "results.json", "analysis.json", "diagnosis.json", "soup.json", "*/soup.json", "ingredients/plan.json",
    "ingredients/*/run.json", "progress.jsonl",
)  # fmt: skip


def folder_version(folder: Path) -> str:
    """A short text that changes with every record that lands."""
    marks = []
    for path in sorted(path for pattern in _WATCHED for path in folder.glob(pattern)):
        try:
            stat = path.stat()
        except OSError:  # replaced at this moment: the next look sees it
            continue
        marks.append(f"{path.relative_to(folder)} {stat.st_size} {stat.st_mtime_ns}")
    return hashlib.sha256("\n".join(marks).encode()).hexdigest()[:16]


def page_server(folder: Path, *, host: str = "127.0.0.1", port: int = 0) -> ThreadingHTTPServer:
    """A server of one page, made from the records anew at each request, and of its version.

    Args:
        folder: of an experiment, also one under way.
        host: to listen at.
        port: 0 takes any that is free.

    Returns:
        Not serving yet; close it after use.

    Raises:
        OutputError: the address cannot be had.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/version":
                self._answer(200, "text/plain", folder_version(folder))
            elif self.path == "/":
                self._answer(200, "text/html", _page(folder))
            else:
                self._answer(404, "text/plain", "there is one page, at /")

        def _answer(self, status: int, kind: str, text: str) -> None:
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Requests are nobody's news."""

    try:
        return ThreadingHTTPServer((host, port), Handler)
    except OSError as exc:
        raise OutputError(
            f"{host}:{port} cannot be served at: {exc.strerror or exc}", fix="give another --port"
        ) from exc


def _page(folder: Path) -> str:
    version = folder_version(folder)  # before the records are read: what lands meanwhile is seen at the next look
    try:
        document = page_document(folder, is_under_way=True)
    except StockpotError as error:  # nothing yet, or a record at the moment it is written
        document = {
            "title": folder.resolve().name, "stockpot": "", "sentence": f"Nothing to show yet: {error.message}",
            "notes": [], "table": None, "markdown": "", "comparisons": None, "runs": [], "figures": [], "findings": [],
            "recommendation": None, "provenance": {"soups": []}, "missing": [], "progress": [],
        }  # fmt: skip
    return page_html({**document, "version": version}, refresh_url="/version")
