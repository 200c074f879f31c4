"""A hub on this machine: the few routes that huggingface_hub asks, over folders; every request is remembered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import NamedTuple
from urllib.parse import unquote, urlsplit


class Repository(NamedTuple):
    """One commit's files, and the branches that point to it."""

    folder: Path
    commit: str
    branches: tuple[str, ...] = ("main",)


class Hub(NamedTuple):
    """Where it listens, and the paths that it was asked for."""

    address: str
    asked: list[str]


@contextmanager
def fake_hub(repositories: Mapping[str, Repository]) -> Iterator[Hub]:
    """A hub with these repositories, named `datasets/OWNER/NAME` and `models/OWNER/NAME`."""
    asked: list[str] = []
    routes = {**repositories, **{name.removeprefix("models/"): found for name, found in repositories.items()}}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path).strip("/")
            asked.append(path)
            if path.startswith(("api/datasets/", "api/models/")):
                self._answer_api(path.removeprefix("api/"))
            else:
                self._answer_file(path)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

        def _found(self, name: str, revision: str) -> Repository | None:
            if name not in routes:
                self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
                return None
            if revision not in (routes[name].commit, *routes[name].branches):
                self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                return None
            return routes[name]

        def _answer_api(self, path: str) -> None:
            kind, owner, name, *rest = path.split("/")
            what, revision = (rest[0], rest[1]) if len(rest) > 1 else ("revision", "main")
            if (found := self._found(f"{kind}/{owner}/{name}", revision)) is None:
                return
            files = sorted(file for file in found.folder.rglob("*") if file.is_file())
            names = {file.relative_to(found.folder).as_posix(): file for file in files}
            tree = [
                {"type": "file", "path": name, "size": file.stat().st_size, "oid": _etag(file)}
                for name, file in names.items()
            ]
            info = {"id": f"{owner}/{name}", "sha": found.commit, "siblings": [{"rfilename": name} for name in names]}
            content = json.dumps(tree if what == "tree" else info).encode()
            self._send(200, content, {"Content-Type": "application/json"})

        def _answer_file(self, path: str) -> None:
            name, _, rest = path.partition("/resolve/")
            revision, _, file = rest.partition("/")
            if (found := self._found(name, revision)) is None:
                return
            where = found.folder / file
            if not where.is_file():
                self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": found.commit})
                return
            self._send(200, where.read_bytes(), {"X-Repo-Commit": found.commit, "ETag": f'"{_etag(where)}"'})

        def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Hub(f"http://127.0.0.1:{server.server_address[1]}", asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()
