"""What is held here to ask an upstream with: it goes to that upstream alone, in the place of what a client sent.

Here is a provider's key; signer.py has what is made for each request. Nothing of it is recorded but its fingerprint.
Must not know who may use it: access.py does.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

from proxy.exchange import Change
from proxy.forward.redact import CREDENTIAL_HEADERS, SUBPROTOCOL_SECRET, Redactor
from proxy.wire.interface import RawHeaders, UpstreamResponse

_log = logging.getLogger("forward")

_SUBPROTOCOLS = b"sec-websocket-protocol"
# Where clients put keys, tokens and signatures; x-amz-date is part of one.
_OFFERED = frozenset((*CREDENTIAL_HEADERS, b"x-amz-content-sha256", b"x-amz-date", b"x-amz-security-token"))
GOOGLE_QUERY = frozenset((b"key", b"access_token"))
# What clients of an upstream may send in the query, by the header that its own key goes into.
_QUERY = {
    b"x-goog-api-key": GOOGLE_QUERY,
    b"api-key": frozenset((b"api-key", b"subscription-key")),
}
_SIGNED_QUERY = b"x-amz-"  # of a URL that is signed itself
_BEARER = (b"authorization", b"Bearer ")
_LIKE_OPENAI = re.compile(rb"/openai(?:/|\Z)")


class Carried(NamedTuple):
    """A request with the key on it: its headers and target, how the change is recorded, whom it is billed to."""

    headers: RawHeaders
    target: bytes
    change: Change
    credential: str


class Held(Protocol):
    """What an upstream is asked with."""

    def put_on(self, headers: RawHeaders, target: bytes, asked: bytes, redactor: Redactor) -> Carried:
        """`target` is the upstream's, `asked` the client's. What the client sent in any place for a key is taken off:
        two credentials are refused by some providers, and billed to the client's by others."""

    def fault(self, upstream: str, response: UpstreamResponse) -> str | None:
        """What is wrong with what is held here, as far as a response tells: its client, which never saw that, could
        think it of its own. Printable ASCII; logged when it is new."""


@dataclass(eq=False, slots=True)
class HeldKey:
    """A key. `header`, in lower case, is where the upstream reads it, `scheme` what stands before it there."""

    header: bytes
    scheme: bytes
    secret: bytes = field(repr=False)
    _refused: bool = field(default=False, init=False, repr=False)

    def put_on(self, headers: RawHeaders, target: bytes, asked: bytes, redactor: Redactor) -> Carried:
        """See Held."""
        name, scheme = self._place(target)
        credential = redactor.fingerprint(self.secret).decode()
        query = _QUERY.get(self.header, frozenset())
        return carried(headers, [(name, scheme + self.secret)], target, asked, query, credential, redactor)

    def fault(self, upstream: str, response: UpstreamResponse) -> str | None:
        """See Held."""
        if response.status != HTTPStatus.UNAUTHORIZED:
            return None
        text = f"{upstream} refused the key that is held for it (401): set the variable in its key_env anew"
        if not self._refused:
            self._refused = True
            _log.warning("%s", text)
        return text

    def _place(self, target: bytes) -> tuple[bytes, bytes]:
        # Google's own OpenAI-compatible paths read the key where OpenAI does.
        if self.header == b"x-goog-api-key" and _LIKE_OPENAI.search(target.partition(b"?")[0]):
            return _BEARER
        return self.header, self.scheme


def carried(
    headers: RawHeaders,
    put: RawHeaders,
    target: bytes,
    asked: bytes,
    query: frozenset[bytes],
    credential: str,
    redactor: Redactor,
) -> Carried:
    """A request without what its client sent in any place for a key, and with what is `put` there. `query` are the
    parameters that may hold one; see Held.put_on."""
    kept = [header for header in headers if header[0].lower() not in _OFFERED]
    offered = [header for header in kept if header[0].lower() == _SUBPROTOCOLS]
    added: RawHeaders = []
    if any(SUBPROTOCOL_SECRET.search(value) for _, value in offered):
        kept = [header for header in kept if header not in offered]
        added = [(name, left) for name, value in offered if (left := _without_secret(value))]
    added += put
    gone = {header[0].lower().decode("latin-1") for header in headers if header not in kept}
    without = _without_key(asked, query)
    change = Change(
        "request_header_added",
        redactor.headers(added),
        removed=sorted(gone),
        target=None if without == asked else redactor.target(without).decode("latin-1"),
    )
    return Carried([*kept, *added], _without_key(target, query), change, credential)


def _without_key(target: bytes, names: frozenset[bytes]) -> bytes:
    path, mark, query = target.partition(b"?")
    if not query:
        return target
    kept = [item for item in query.split(b"&") if not _is_key(_name(item), names)]
    return path + mark + b"&".join(kept) if kept else path


def _is_key(name: bytes, names: frozenset[bytes]) -> bool:
    return name in names or name.startswith(_SIGNED_QUERY)


def _name(item: bytes) -> bytes:
    return unquote_to_bytes(item.partition(b"=")[0]).strip().lower()


def _without_secret(value: bytes) -> bytes:
    items = [item.strip() for item in value.split(b",")]
    return b", ".join(item for item in items if not SUBPROTOCOL_SECRET.match(item))
