"""A recorded request as it can be sent again: its address, headers and body, variables where credentials stood.

Whatever was recorded is hostile: who writes it down for a shell or an interpreter quotes every word of it. Must not
know settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

from proxy.errors import UsageError
from proxy.exchange import REDACTED, Side
from proxy.interpret.recorded import upstream_target
from proxy.replay.captured import Tape, capture
from proxy.store import Engine
from proxy.store.rows import Exchange

# RFC 9110, 7.6.1, and what a client makes of the address and the body itself.
NOT_AGAIN = frozenset(
    (
        "connection",
        "content-length",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
"""Headers that are made anew."""

_OURS = "x-wiretape-"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t -~\x80-\xff]*")
_TARGET = re.compile(r"/[!\"$-~\x80-\xff]*")
REDACTED_KEY = re.compile(REDACTED + "([0-9a-f]{16})")
OF_A_KEY = frozenset(
    (
        "access_token",
        "api-key",
        "api_key",
        "apikey",
        "authorization",
        "key",
        "ocp-apim-subscription-key",
        "subscription-key",
        "x-api-key",
        "x-goog-api-key",
    )
)
"""Headers and parameters in which the key stands that a request is billed to."""

_PARAMETER = re.compile(r"([^?&;=]*)=\Z")
_SIGNED = "aws4-hmac-sha256 "
_PLAIN = re.compile(r"(?:[A-Za-z0-9._~/?=&:,+@*;-]|%[0-9A-Fa-f]{2})*")
_LONGEST_NAME = 60


class Variable(NamedTuple):
    """An environment variable that holds a credential."""

    name: str


Words = tuple[str | Variable, ...]
"""Text (latin-1: a character is a byte) with credentials in it."""


@dataclass(frozen=True, slots=True)
class Requested:
    """`origin` is scheme, host and port; `target` path and query; `headers` those that a client does not make itself.

    `streamed`: the answer came as a stream. `notes` say in sentences what cannot be sent as it was.
    """

    exchange: UUID
    method: str
    origin: str
    target: Words
    headers: tuple[tuple[str, Words], ...]
    body: bytes
    streamed: bool = False
    notes: tuple[str, ...] = ()

    @property
    def variables(self) -> list[str]:
        """The names of the variables that are to be set, in order."""
        said = [*self.target, *(word for _, words in self.headers for word in words)]
        return list(dict.fromkeys(word.name for word in said if isinstance(word, Variable)))

    @property
    def has_body(self) -> bool:
        """Whether there is one, be it an empty one."""
        return bool(self.body) or self.method in {"POST", "PUT", "PATCH"}

    @property
    def plain(self) -> bool:
        """Whether a client that is given the address as a URL asks for this very target."""
        text = "".join("x" if isinstance(word, Variable) else word for word in self.target)
        path, question, query = text.partition("?")
        dots = {each.lower().replace("%2e", ".") for each in path.split("/")} & {".", ".."}
        return _PLAIN.fullmatch(text) is not None and not dots and "?" not in query and bool(query) == bool(question)

    def header(self, name: str) -> str | None:
        """The text of the first header of this (lower case) name; None if there is none."""
        for each, words in self.headers:
            if each.lower() == name:
                return "".join(word for word in words if isinstance(word, str))
        return None


def request_of(engine: Engine, given: str) -> Tape:
    """The tape of a request that can be sent again. Raises what `capture` raises, and UsageError for a tunnel."""
    tape = capture(engine, given, Side.REQUEST)
    if tape.exchange.status == 101:
        tape.close()
        raise UsageError(f"{tape.exchange.id} is a connection of many messages, no request: use `wiretape replay`")
    return tape


def requested(tape: Tape, address: str, key: str, *, through: bool = False) -> Requested:
    """The request of a tape, to be sent to an upstream's `address`, or `through` the data port that is there.

    `key` names the variable for the credential that it is billed to. Raises UsageError for what no client can send.
    """
    exchange = tape.exchange
    origin, target = _address(address, exchange.target or "", through=through)
    if not _TOKEN.fullmatch(exchange.method or "") or not _TARGET.fullmatch(target):
        raise UsageError(f"the request line of {exchange.id} holds what HTTP does not allow: it cannot be sent again")
    names = _Names(exchange, key)
    headers = []
    notes = [tape.note] if tape.note else []
    for name, value in tape.headers:
        if name.lower() in NOT_AGAIN or name.lower().startswith(_OURS):
            continue
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            notes.append(f"{exchange.id}: a header holds what HTTP does not allow, and is left out")
            continue
        headers.append((name, names.words(value.strip(" \t"), name)))
        if value.lower().startswith(_SIGNED):
            notes.append(f"{exchange.id}: the request was signed for its time, so a key alone does not make it valid")
    return Requested(
        exchange=exchange.id,
        method=exchange.method or "",
        origin=origin,
        target=names.words(target, "path"),
        headers=tuple(headers),
        body=b"".join(data for _, data in tape),
        streamed=bool(exchange.streaming),
        notes=tuple(notes),
    )


def _address(address: str, target: str, *, through: bool) -> tuple[str, str]:
    """Origin and target, as forward would ask for it."""
    parts = urlsplit(address)
    origin = f"{parts.scheme}://{parts.netloc}"
    return origin, target if through else joined_target(parts.path, target)


def joined_target(base: str, target: str) -> str:
    """A target of the data port as its upstream is asked for it, whose address has the path `base`."""
    rest = upstream_target(target)
    # `/openai?x` has nothing behind the upstream's name, `/openai/?x` has a slash.
    if rest.partition("?")[0] == "/" and not target.partition("?")[0].endswith("/"):
        rest = rest[1:]
    path = base + rest
    return path if path.startswith("/") else f"/{path}"


class _Names:
    """Gives each credential its variable: equal fingerprints have one."""

    def __init__(self, exchange: Exchange, key: str) -> None:
        self._upstream = exchange.upstream or ""
        self._key = key
        self._known = {} if exchange.credential is None else {exchange.credential: key}

    def words(self, text: str, place: str) -> Words:
        """Text with variables for what was taken out; `place` is the header's name, or `path`."""
        return tuple(word for word in self._split(text, place) if word != "")

    def _split(self, text: str, place: str) -> Iterator[str | Variable]:
        done = 0
        for found in REDACTED_KEY.finditer(text):
            before = text[done : found.start()]
            named = _PARAMETER.search(before)
            yield before
            yield Variable(self._name(found[1], named[1] if named is not None and named[1] else place))
            done = found.end()
        yield text[done:]

    def _name(self, fingerprint: str, place: str) -> str:
        if fingerprint not in self._known:
            wanted = self._key if place.lower() in OF_A_KEY else variable_name(self._upstream, place)
            taken, number = set(self._known.values()), 1
            name = wanted
            while name in taken:
                number += 1
                name = f"{wanted}_{number}"
            self._known[fingerprint] = name
        return self._known[fingerprint]


def variable_name(upstream: str, what: str) -> str:
    """`openai`, `x-key` → `OPENAI_X_KEY`: a name for a variable, whatever the two are."""
    name = re.sub(r"[^A-Z0-9]+", "_", f"{upstream[:_LONGEST_NAME]}_{what[:_LONGEST_NAME]}".upper()).strip("_")
    return name if name and not name[0].isdigit() else f"KEY_{name}"
