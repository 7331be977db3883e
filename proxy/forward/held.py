"""A provider's key that is held here: it goes to its own upstream, in the place of what a client sent.

Nothing of it is recorded but its fingerprint. Must not know who may use it: access.py does.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from proxy.exchange import Change
from proxy.forward.redact import CREDENTIAL_HEADERS, SUBPROTOCOL_SECRET, Redactor
from proxy.wire.interface import RawHeaders

_log = logging.getLogger("forward")

_SUBPROTOCOLS = b"sec-websocket-protocol"
# What clients of an upstream may send in the query, by the header that its own key goes into.
_QUERY = {
    b"x-goog-api-key": frozenset((b"key", b"access_token")),
    b"api-key": frozenset((b"api-key", b"subscription-key")),
}
_BEARER = (b"authorization", b"Bearer ")
_LIKE_OPENAI = re.compile(rb"/openai(?:/|\Z)")


class Carried(NamedTuple):
    """A request with the key on it: its headers and target, how the change is recorded, whom it is billed to."""

    headers: RawHeaders
    target: bytes
    change: Change
    credential: str


@dataclass(eq=False, slots=True)
class HeldKey:
    """`header`, in lower case, is where the upstream reads its key, `scheme` what stands before it there."""

    header: bytes
    scheme: bytes
    secret: bytes = field(repr=False)
    _refused: bool = field(default=False, init=False, repr=False)

    def refused(self, upstream: str) -> None:
        """The upstream answered 401: a client could think that of its own key, which it never saw. Logged once."""
        if not self._refused:
            self._refused = True
            _log.warning("%s refused the key that is held for it (401): set the variable in its key_env anew", upstream)

    def put_on(self, headers: RawHeaders, target: bytes, asked: bytes, redactor: Redactor) -> Carried:
        """`target` is the upstream's, `asked` the client's. What the client sent in any place for a key is taken off:
        two credentials are refused by some providers, and billed to the client's by others."""
        kept = [header for header in headers if header[0].lower() not in CREDENTIAL_HEADERS]
        offered = [header for header in kept if header[0].lower() == _SUBPROTOCOLS]
        added: RawHeaders = []
        if any(SUBPROTOCOL_SECRET.search(value) for _, value in offered):
            kept = [header for header in kept if header not in offered]
            added = [(name, left) for name, value in offered if (left := _without_secret(value))]
        name, scheme = self._place(target)
        added.append((name, scheme + self.secret))
        gone = {header[0].lower().decode("latin-1") for header in headers if header not in kept}
        without = self._without_key(asked)
        change = Change(
            "request_header_added",
            redactor.headers(added),
            removed=sorted(gone),
            target=None if without == asked else redactor.target(without).decode("latin-1"),
        )
        credential = redactor.fingerprint(self.secret).decode()
        return Carried([*kept, *added], self._without_key(target), change, credential)

    def _place(self, target: bytes) -> tuple[bytes, bytes]:
        # Google's own OpenAI-compatible paths read the key where OpenAI does.
        if self.header == b"x-goog-api-key" and _LIKE_OPENAI.search(target.partition(b"?")[0]):
            return _BEARER
        return self.header, self.scheme

    def _without_key(self, target: bytes) -> bytes:
        names = _QUERY.get(self.header)
        path, mark, query = target.partition(b"?")
        if names is None or not query:
            return target
        kept = [item for item in query.split(b"&") if _name(item) not in names]
        return path + mark + b"&".join(kept) if kept else path


def _name(item: bytes) -> bytes:
    return unquote_to_bytes(item.partition(b"=")[0]).strip().lower()


def _without_secret(value: bytes) -> bytes:
    items = [item.strip() for item in value.split(b",")]
    return b", ".join(item for item in items if not SUBPROTOCOL_SECRET.match(item))
