"""Who may ask the console: an ASGI application around another. Must not know what is asked for.

A page of a foreign site can make a browser ask a loopback port under a name of its own (DNS rebinding); the Host header
gives it away.
"""

from __future__ import annotations

import hmac
import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import parse_qs

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN_PATHS = frozenset(("/-/live",))  # answered without a token: what restarts a process knows none
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]]+)(?::[0-9]*)?")
_HEADERS = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Guard:
    """`host` is the console's configured address. `token` None asks for none."""

    def __init__(self, application: ASGIApp, *, host: str, token: str | None) -> None:
        self._application = application
        self._host = host.lower().rstrip(".")
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "the console serves neither WebSocket nor lifespan"

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        await (self._refusal(scope) or self._application)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or not self.knows(hosts[0]):
            text = f"this console is not asked under that name; use localhost, 127.0.0.1 or console.host ({self._host})"
            return JSONResponse({"error": text}, 403)
        if self._token is not None and scope["path"] not in OPEN_PATHS and not self._presented(scope, self._token):
            text = "present console.token as `Authorization: Bearer TOKEN` or as ?token=TOKEN"
            return JSONResponse({"error": text}, 401, {"www-authenticate": "Bearer"})
        return None

    def knows(self, host: str) -> bool:
        """Whether the value of a Host header names this console."""
        found = _HOST.fullmatch(host.strip())
        if found is None:
            return False
        name = found[1].strip("[]").lower().rstrip(".")
        if name in {"localhost", self._host}:
            return True
        own, asked = _address(self._host), _address(name)
        if own is not None and own.is_unspecified:
            return True  # which names lead here only the network knows; such a console has a token, which no page has
        return asked is not None and asked.is_loopback

    def _presented(self, scope: Scope, token: str) -> bool:
        given = [
            value.split(None, 1)[1].strip()
            for name, value in scope["headers"]
            if name == b"authorization" and value[:7].lower() == b"bearer " and value[7:].strip()
        ]
        query = parse_qs(scope["query_string"].decode("latin-1"), encoding="latin-1")
        given += [value.encode("latin-1") for value in query.get("token", ())]
        # A list, not a generator: how many are compared must not tell which was right.
        return any([hmac.compare_digest(value, token.encode()) for value in given])  # noqa: C419


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
