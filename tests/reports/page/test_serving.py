"""The server of a page: to whom it answers, and what it says where it cannot be."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockpot.errors import OutputError
from stockpot.reports.page.serving import is_own_host, page_server


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with page_server(tmp_path) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()


def ask(port: int, method: str, path: str, host: str) -> tuple[int, int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={"Host": host})
    answer = connection.getresponse()
    found = answer.status, int(answer.headers["Content-Length"]), answer.read()
    connection.close()
    return found


def test_a_strangers_name_is_refused_and_our_own_are_answered(port: int) -> None:
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "", "["):
        status, _, content = ask(port, "GET", "/", host)
        assert status == 421
        assert b"html" not in content
    for host in (f"127.0.0.1:{port}", "localhost", f"LOCALHOST:{port}", "[::1]:1"):
        assert ask(port, "GET", "/version", host)[0] == 200


def test_head_is_get_without_content(port: int) -> None:
    for path in ("/", "/version", "/nothing"):
        status, length, content = ask(port, "GET", path, "localhost")
        assert (status, length) == (404 if path == "/nothing" else 200, len(content))
        assert ask(port, "HEAD", path, "localhost") == (status, length, b"")
    assert ask(port, "HEAD", "/", "evil.example")[0] == 421


@pytest.mark.parametrize(
    ("header", "host", "is_own"),
    [
        ("box.example:80", "box.example", True),
        ("Box.Example", "box.example", True),
        ("10.0.0.7:80", "box.example", False),
        ("10.0.0.7:80", "0.0.0.0", True),
        ("evil.example", "0.0.0.0", False),
        (socket.gethostname(), "0.0.0.0", True),
        (socket.gethostname() + "x", "0.0.0.0", False),
    ],
)
def test_what_is_served_is_ours(header: str, host: str, is_own: bool) -> None:
    assert is_own_host(header, host) is is_own


def test_the_fix_is_the_port_or_the_host(port: int, tmp_path: Path) -> None:
    with pytest.raises(OutputError) as taken:
        page_server(tmp_path, port=port)
    assert "another --port" in (taken.value.fix or "")
    with pytest.raises(OutputError) as unknown:
        page_server(tmp_path, host="256.1.1.1")
    assert "--host" in (unknown.value.fix or "")
