"""The page of a folder that is still being filled, on this machine's own address."""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from stockpot.errors import OutputError, StockpotError
from stockpot.reports.page.document import page_document
from stockpot.reports.page.html import page_html

__all__ = ["folder_version", "is_own_host", "page_server"]

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


def is_own_host(header: str, host: str) -> bool:
    """Whether a request is for an address that we serve at, and not for a stranger's name that leads here.

    A page elsewhere could else read ours through a name of its own that it makes point to this machine (DNS
    rebinding). Only names can be made to do that: where we serve at all addresses, a number is ours.

    Args:
        header: the request's Host, with or without a port.
        host: what we serve at.

    Example:
        >>> [is_own_host(name, "127.0.0.1") for name in ("127.0.0.1:8642", "localhost", "evil.example:8642")]
        [True, True, False]
    """
    try:
        name = urlsplit(f"//{header}").hostname or ""
    except ValueError:  # an IPv6 address without its end
        return False
    if name in (host.lower(), "localhost", "127.0.0.1", "::1"):
        return True
    if host not in ("", "0.0.0.0"):
        return False
    return name == socket.gethostname().lower() or _is_number(name)


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def page_server(folder: Path, *, host: str = "127.0.0.1", port: int = 0) -> ThreadingHTTPServer:
    """A server of one page, made from the records anew at each request, and of its version.

    Requests for other hosts than this one are refused (421).

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
            if not is_own_host(self.headers.get("Host", ""), host):
                self._answer(421, "text/plain", f"this address is not served here: ask for {host}")
            elif self.path == "/version":
                self._answer(200, "text/plain", folder_version(folder))
            elif self.path == "/":
                self._answer(200, "text/html", _page(folder))
            else:
                self._answer(404, "text/plain", "there is one page, at /")

        def do_HEAD(self) -> None:
            self.do_GET()  # _answer leaves out the content

        def _answer(self, status: int, kind: str, text: str) -> None:
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Requests are nobody's news."""

    try:
        return ThreadingHTTPServer((host, port), Handler)
    except OSError as exc:
        is_port = exc.errno in (errno.EADDRINUSE, errno.EACCES)
        fix = "give another --port" if is_port else "give an address of this machine as --host"
        raise OutputError(f"{host}:{port} cannot be served at: {exc.strerror or exc}", fix=fix) from exc


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
