"""What the demo's providers have in common: a reply and its pauses, reading a request, loading a stream.

Must not know one provider from another.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from email.utils import formatdate
from importlib import resources
from itertools import cycle, islice
from string import Template
from typing import Annotated, Protocol, TypeVar

import msgspec

from proxy.wire.interface import RawHeaders

T = TypeVar("T")
Headers = list[tuple[str, str]]

BEFORE_HEAD = 0.25  # seconds, as are the next two
BEFORE_FIRST = 0.05
BETWEEN = (0.062, 0.038, 0.071, 0.080, 0.045, 0.057, 0.024, 0.068, 0.076, 0.051, 0.079, 0.033)

DEFAULT_MODEL = "wiretape-demo"
MAX_MODEL_NAME = 256  # characters; the name is repeated in every event
ModelName = Annotated[str, msgspec.Meta(max_length=MAX_MODEL_NAME)]


@dataclass(frozen=True, slots=True)
class Reply:
    """A response and its timing: `pauses` are seconds, the first before the head, then one before each part."""

    status: int
    headers: RawHeaders
    parts: list[bytes]
    pauses: list[float]


class Unreadable(ValueError):
    """A request that cannot be answered; the text says why and holds nothing of the request."""


class Provider(Protocol):
    """One provider's part of the demo. Paths are decoded and without their query."""

    def methods(self, path: str) -> tuple[bytes, ...]:
        """The methods that `path` is served for; none where it is not this provider's."""

    def answer(self, path: str, query: str, body: bytes) -> Reply:
        """The reply to a request that `methods` allows. Raises Unreadable."""

    def refuse(self, status: int, message: str) -> Reply:
        """An error in the provider's own shape."""


def read(body: bytes, shape: type[T]) -> T:
    """The request body as `shape`; raises Unreadable."""
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.DecodeError as error:
        raise Unreadable(f"the request body is not the JSON object that this path takes: {error}") from None
    except RecursionError:
        raise Unreadable("the request body is nested too deeply to be read as JSON") from None


def stream_text(name: str) -> str:
    """The text of the stream file `name`, lines ended by LF."""
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def events(text: str, values: dict[str, str]) -> list[str]:
    """The blocks of a stream, each with its blank line, with `values` in the place of their placeholders."""
    escaped = {name: msgspec.json.encode(value).decode()[1:-1] for name, value in values.items()}
    return [f"{block}\n\n" for block in Template(text).substitute(escaped).split("\n\n") if block]


def event_data(event: str) -> bytes:
    """The `data` of a block that has one such line."""
    return event[event.index("data: ") + len("data: ") :].rstrip().encode()


def pauses(count: int) -> list[float]:
    """The pauses of a stream of `count` events."""
    return [BEFORE_HEAD, BEFORE_FIRST, *islice(cycle(BETWEEN), count - 1)]


def streamed(headers: Headers, parts: list[bytes]) -> Reply:
    """A response whose parts come one by one; nothing tells its length beforehand."""
    return Reply(200, _head(headers), parts, pauses(len(parts)))


def written(headers: Headers, body: bytes, count: int) -> Reply:
    """A response in one piece, that takes as long as a stream of `count` events."""
    return whole(200, headers, body, sum(pauses(count)))


def whole(status: int, headers: Headers, body: bytes, pause: float = 0.0) -> Reply:
    """A response in one piece, `pause` seconds after the request."""
    return Reply(status, _head([*headers, ("content-length", str(len(body)))]), [body], [pause, 0.0])


def fresh(prefix: str) -> str:
    """An id that nothing else has, and that tells by its prefix that it is made up."""
    return prefix + secrets.token_hex(12)


def _head(headers: Headers) -> RawHeaders:
    return [(name.encode(), value.encode("latin-1")) for name, value in [("date", formatdate(usegmt=True)), *headers]]
