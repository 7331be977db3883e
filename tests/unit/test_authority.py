"""Hosts and ports as URLs and the Host header write them."""

from __future__ import annotations

import pytest

from proxy.authority import Authority, asked, canonical, parse


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"Example.COM", Authority("example.com", None)),
        (b"example.com:443", Authority("example.com", 443)),
        (b"127.0.0.1:8800", Authority("127.0.0.1", 8800)),
        (b"[::1]", Authority("::1", None)),
        (b"[0:0:0:0:0:0:0:1]:80", Authority("::1", 80)),
        (b"[FD00::1]:80", Authority("fd00::1", 80)),
        (b"my_host.", Authority("my_host.", None)),
        *[(text, None) for text in (b"", b":80", b"a:", b"a:b", b"a:123456", b"u@a", b"u:p@a", b"a b", b"a/b", b"a,b")],
        *[
            (text, None)
            for text in (b"::1", b"[::1", b"[::1]x", b"[a.example]", b"\xe4.example", b"a%41", b"a\n", b"*")
        ],
    ],
)
def test_parts(text: bytes, found: Authority | None) -> None:
    assert parse(text) == found


def test_canonical() -> None:
    assert [canonical(host) for host in ("LocalHost", "0:0::1", "127.0.0.1")] == ["localhost", "::1", "127.0.0.1"]


def test_one_host_is_what_was_asked() -> None:
    assert asked([(b"X", b"y"), (b"HOST", b"Example.com:80")]) == b"Example.com:80"
    for headers in ([], [(b"Host", b"a"), (b"host", b"a")], [(b"Host", b"")], [(b"Host", b"u@a")]):
        assert asked(headers) is None
