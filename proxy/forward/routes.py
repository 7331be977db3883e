"""Which upstream a request target names, and what its target is there. Works on raw octets; decodes nothing but tags.

An upstream can only be one that is configured: no form of target or header reaches another host.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import unquote_to_bytes

from proxy.forward.held import Held
from proxy.forward.signer import Signer
from proxy.forward.uploads import Home
from proxy.wire.interface import Upstream

MAX_TAGS = 32
MAX_TAG_BYTES = 256

Tags = tuple[tuple[str, str], ...]


class BadTags(ValueError):
    """Tags that are not name=value pairs; the text says what is wrong."""


class BadTarget(ValueError):
    """A request target that a reverse proxy does not answer; the text says what is wrong."""


@dataclass(slots=True)
class Wish:
    """What an upstream is asked for in requests that do not ask for it; `on` until it refuses that."""

    on: bool = True


@dataclass(frozen=True, slots=True)
class Destination:
    """A configured upstream as forward needs it. `base_path` and `host` come from its URL."""

    name: str
    dialect: str
    upstream: Upstream
    host: bytes
    base_path: bytes
    origin: int
    record: str  # all, meta or none
    drain: bool  # read on when the client leaves
    whole: bool = False  # it gets the target as it came, tags and name and all
    live: Destination | None = None  # in its place for who brings a pass
    usage: Wish | None = None  # that its streams tell their usage, which is asked for where a client did not
    key: Held | None = None  # what it is asked with, if that is held here
    uploads: Home | None = None  # where its URLs for uploads are to lead back through us
    keep_alive: float | None = None  # seconds of silence after which a stream of events gets a comment

    @property
    def signer(self) -> Signer | None:
        """What makes something of `key` for each request, if that is what it does."""
        return self.key if isinstance(self.key, Signer) else None

    @property
    def holds(self) -> bool:
        """Whether its requests must be whole before they go."""
        return self.signer is not None and self.signer.whole

    @property
    def guarded(self) -> bool:
        """Whether a request may lead to a key of ours, at once or by way of playback."""
        return self.key is not None or (self.live is not None and self.live.key is not None)


@dataclass(frozen=True, slots=True)
class Route:
    destination: Destination
    target: bytes
    tags: Tags


def parse_tags(text: bytes) -> Tags:
    """`project=search,env=ci` as pairs. Raises BadTags."""
    pairs = []
    for item in text.split(b","):
        name, equals, value = item.partition(b"=")
        if not equals or not name.strip():
            raise BadTags("tags are name=value pairs joined by commas, such as project=search,env=ci")
        if len(name) > MAX_TAG_BYTES or len(value) > MAX_TAG_BYTES:
            raise BadTags(f"a tag's name and value have at most {MAX_TAG_BYTES} bytes each")
        pairs.append((name.strip().decode("utf-8", "replace"), value.strip().decode("utf-8", "replace")))
    if len(pairs) > MAX_TAGS:
        raise BadTags(f"an exchange has at most {MAX_TAGS} tags")
    return tuple(pairs)


def route(target: bytes, destinations: dict[bytes, Destination]) -> Route | None:
    """The route of a raw target; None where its first segment names nothing. Raises BadTarget and BadTags."""
    if not target.startswith(b"/"):
        raise BadTarget("the request target must begin with / (this is a reverse proxy: it does not fetch URLs)")
    if b"#" in target:
        raise BadTarget("a request target has no fragment (#)")
    tags: Tags = ()
    name, rest = _first_segment(target)
    if name.startswith(b"~"):
        tags = parse_tags(unquote_to_bytes(name[1:]))
        if not rest.startswith(b"/"):
            return None
        name, rest = _first_segment(rest)
    destination = destinations.get(name)
    if destination is None:
        return None
    path = destination.base_path + rest
    if not path.startswith(b"/"):
        path = b"/" + path
    return Route(destination, path, tags)


def first_name(target: bytes) -> bytes:
    """The segment that should have named an upstream, for an error's text."""
    name, rest = _first_segment(target) if target.startswith(b"/") else (target, b"")
    return _first_segment(rest)[0] if name.startswith(b"~") and rest.startswith(b"/") else name


def doubled_segment(target: bytes) -> str | None:
    """`/v1/v1` and the like at the beginning of an upstream's path: a base URL with one segment too many."""
    parts = target.partition(b"?")[0].split(b"/")[1:4]
    for one, two in pairwise(parts):
        if one and one == two:
            return one.decode("latin-1")
    return None


def _first_segment(target: bytes) -> tuple[bytes, bytes]:
    """`/a/b?c` → (a, /b?c)."""
    path_end = target.find(b"?")
    slash = target.find(b"/", 1)
    end = min(at for at in (path_end, slash, len(target)) if at >= 0)
    return target[1:end], target[end:]
