"""Runs wiretape on libraries that fail in ways nobody expects, with a message that quotes a secret ($SECRET).

`lookup.invalid` as an upstream's host fails the event loop's address lookup, EXPLODE in an upstream's answer the HTTP
parser, an odd credential its hash. Must not change anything of wiretape's own.
"""

from __future__ import annotations

import hmac
import os
from typing import Any

import httptools
import uvloop

from proxy.__main__ import main

SECRET = os.environ.get("SECRET", "")
_hash = hmac.new


class Loop(uvloop.Loop):
    """Fails to look up one host."""

    async def getaddrinfo(self, host: Any, *arguments: Any, **more: Any) -> Any:
        if host == "lookup.invalid":
            raise RuntimeError(f"no route for {SECRET}")
        return await super().getaddrinfo(host, *arguments, **more)


class Parser(httptools.HttpResponseParser):
    """Fails to parse one answer."""

    def feed_data(self, data: Any) -> None:
        if b"EXPLODE" in data:
            raise RuntimeError(f"cannot parse {SECRET}")
        super().feed_data(data)


def failing_hash(key: bytes, message: bytes, digest: Any) -> Any:
    """Fails on one credential."""
    if message.startswith(b"odd-"):
        raise RuntimeError(f"cannot hash {message!r}")
    return _hash(key, message, digest)


if __name__ == "__main__":
    for library, name, failing in (
        (uvloop, "new_event_loop", Loop),
        (httptools, "HttpResponseParser", Parser),
        (hmac, "new", failing_hash),
    ):
        setattr(library, name, failing)
    main()
