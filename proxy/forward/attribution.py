"""What a request's headers say about itself: tags, session, how much to record, what it is sent again of. Ours, and
those of other gateways."""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import UUID

import msgspec

from proxy.forward.headers import ATTRIBUTION_PREFIXES, OURS
from proxy.forward.routes import MAX_TAG_BYTES, MAX_TAGS, BadTags, Tags, parse_tags
from proxy.wire.fields import ByName
from proxy.wire.interface import RawHeaders

RECORD = ("all", "meta", "none")
MAX_SESSION = 256
_ID = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SESSIONS = (b"helicone-session-id", b"x-portkey-trace-id")


@dataclass(frozen=True, slots=True)
class Wishes:
    tags: Tags = ()
    session: str | None = None
    record: str = "all"
    replay_of: str | None = None


_NONE = Wishes()
_SPEAKS = ByName(lambda name: name.startswith((OURS, *ATTRIBUTION_PREFIXES)))


def wishes(headers: RawHeaders) -> Wishes:
    """Raises BadTags for what is ours and wrong; other gateways' headers are taken as far as they make sense."""
    speaking = [header for header in headers if _SPEAKS[header[0]]]
    return _wishes(speaking) if speaking else _NONE


def session_in_path(tags: Tags) -> tuple[Tags, str | None]:
    """A path's tags without the one named `session`, and its value: who can only set a base URL has no header."""
    session = next((value for name, value in tags if name == "session"), None)
    if session is None:
        return tags, None
    return tuple(each for each in tags if each[0] != "session"), session[:MAX_SESSION]


def _wishes(headers: RawHeaders) -> Wishes:
    tags: list[tuple[str, str]] = []
    session: str | None = None
    record = "all"
    replay_of: str | None = None
    for name, value in headers:
        lower = name.lower()
        if lower.startswith(b"x-wiretape-"):
            if lower == b"x-wiretape-tags":
                tags.extend(parse_tags(value))
            elif lower == b"x-wiretape-session":
                session = value.decode("utf-8", "replace")[:MAX_SESSION]
            elif lower == b"x-wiretape-record":
                record = _record(value)
            elif lower == b"x-wiretape-replay-of":
                replay_of = _replay_of(value)
        elif lower.startswith(ATTRIBUTION_PREFIXES):
            if lower in _SESSIONS and session is None:
                session = value.decode("utf-8", "replace")[:MAX_SESSION]
            tags.extend(_foreign(lower, value))
    return Wishes(tuple(tags[:MAX_TAGS]), session, record, replay_of)


def _record(value: bytes) -> str:
    wish = value.decode("latin-1").strip().lower()
    if wish not in RECORD:
        raise BadTags("x-wiretape-record is one of all, meta, none")
    return wish


def _replay_of(value: bytes) -> str:
    if _ID.fullmatch(value.strip()) is None:
        raise BadTags("x-wiretape-replay-of is the id of the exchange that is sent again, as `wiretape ls` shows it")
    return str(UUID(value.strip().decode()))


def _foreign(name: bytes, value: bytes) -> Tags:
    text = value.decode("utf-8", "replace")
    if name.startswith(b"helicone-property-"):
        return ((name[18:].decode("latin-1")[:MAX_TAG_BYTES], text[:MAX_TAG_BYTES]),)
    if name == b"helicone-user-id":
        return (("user", text[:MAX_TAG_BYTES]),)
    if name == b"x-litellm-tags":
        return tuple(("tag", item.strip()[:MAX_TAG_BYTES]) for item in text.split(",") if item.strip())
    if name in (b"x-portkey-metadata", b"cf-aig-metadata"):
        return _metadata(value)
    return ()


def _metadata(value: bytes) -> Tags:
    """A flat JSON object, as Portkey and Cloudflare take it."""
    try:
        data = msgspec.json.decode(value)
    except (ValueError, RecursionError):  # not only DecodeError: text that is not UTF-8, or nested too deep
        return ()
    if not isinstance(data, dict):
        return ()
    plain = [(key, item) for key, item in data.items() if isinstance(item, str | int | float | bool)]
    return tuple((str(key)[:MAX_TAG_BYTES], str(item)[:MAX_TAG_BYTES]) for key, item in plain[:MAX_TAGS])
