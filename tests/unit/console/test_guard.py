"""Who may ask the console: names that a page of a foreign site cannot use, and the token."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy.console.app import create

Headers = list[tuple[bytes, bytes]]
LOCAL: Headers = [(b"host", b"127.0.0.1:8801")]


def ask(
    home: Path, path: str, headers: Headers, query: bytes = b"", *, host: str = "127.0.0.1", token: str | None = None
) -> tuple[int, dict[bytes, bytes]]:
    """The status and headers of an answer."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query,
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8801),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(create(home, host=host, token=token)(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.mark.parametrize(
    ("name", "host", "status"),
    [
        (b"127.0.0.1:8801", "127.0.0.1", 200),
        (b"127.8.9.1", "127.0.0.1", 200),
        (b"localhost:1", "127.0.0.1", 200),
        (b"LocalHost.", "127.0.0.1", 200),
        (b"[::1]:8801", "127.0.0.1", 200),
        (b"evil.example:8801", "127.0.0.1", 403),
        (b"localhost.evil.example", "127.0.0.1", 403),
        (b"127.0.0.1.evil.example", "127.0.0.1", 403),
        (b"192.0.2.7", "127.0.0.1", 403),
        (b"a@localhost", "127.0.0.1", 403),
        (b"", "127.0.0.1", 403),
        (b"192.0.2.7:8801", "192.0.2.7", 200),
        (b"box.example", "Box.example", 200),
        (b"[2001:db8::1]:8801", "2001:db8::1", 200),
        (b"whatever.example", "0.0.0.0", 200),
    ],
)
def test_host(tmp_path: Path, name: bytes, host: str, status: int) -> None:
    assert ask(tmp_path, "/metrics", [(b"host", name)], host=host)[0] == status


def test_no_host_and_two_hosts_are_refused(tmp_path: Path) -> None:
    assert ask(tmp_path, "/metrics", [])[0] == 403
    assert ask(tmp_path, "/metrics", [*LOCAL, (b"host", b"evil.example")])[0] == 403


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ([], b"", 401),
        ([(b"authorization", b"Bearer wrong")], b"", 401),
        ([(b"authorization", b"Bearer ")], b"", 401),
        ([(b"authorization", b"Basic s3cret")], b"", 401),
        ([], b"token=s3cre", 401),
        ([], b"token=", 401),
        ([], b"token=%C3%A9", 401),
        ([(b"authorization", b"bearer  s3cret")], b"", 200),
        ([(b"authorization", b"Bearer s3cret")], b"", 200),
        ([], b"a=b&token=s3cret", 200),
    ],
)
def test_token(tmp_path: Path, headers: Headers, query: bytes, status: int) -> None:
    found, answered = ask(tmp_path, "/metrics", [*LOCAL, *headers], query, token="s3cret")
    assert found == status
    assert (answered.get(b"www-authenticate") == b"Bearer") == (status == 401)


def test_whether_it_lives_is_told_without_a_token_but_not_under_a_foreign_name(tmp_path: Path) -> None:
    assert ask(tmp_path, "/-/live", LOCAL, token="s3cret")[0] == 200
    assert ask(tmp_path, "/-/ready", LOCAL, token="s3cret")[0] == 401
    assert ask(tmp_path, "/-/live", [(b"host", b"evil.example")], token="s3cret")[0] == 403


@pytest.mark.parametrize("path", ["/", "/-/live", "/-/ready", "/metrics", "/none"])
def test_every_answer_says_how_little_a_browser_may_do_with_it(tmp_path: Path, path: str) -> None:
    for headers in (LOCAL, [(b"host", b"evil.example")]):
        _, answered = ask(tmp_path, path, headers)
        assert b"default-src 'none'" in answered[b"content-security-policy"]
        assert answered[b"x-content-type-options"] == b"nosniff"


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    assert ask(tmp_path, "/none", LOCAL)[0] == 404
    assert ask(tmp_path, "/metrics/", LOCAL)[0] == 404
