"""When two requests are the same: their canonical form, what of it differs, which recording is nearest. Pure.

Method, path, query and body count, and of the headers those that change what is asked for. Credentials never do.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from proxy.errors import UsageError
from proxy.exchange import REDACTED
from proxy.interpret.body import decoder
from proxy.interpret.gathering import MAX_JSON
from proxy.interpret.headers import joined, value_of
from proxy.interpret.meaning import Pairs
from proxy.interpret.values import BOM, NotJson, decoded
from proxy.mask import BodyMask
from proxy.replay import paths

HEADERS = (
    "accept",
    "anthropic-beta",
    "anthropic-version",
    "content-range",
    "content-type",
    "openai-beta",
    "openai-organization",
    "openai-project",
    "range",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
    "upgrade",
    "x-goog-upload-command",
    "x-goog-upload-offset",
)
"""What counts of a request's headers, unless a rule says otherwise."""

_ANYTHING = "*/*"  # an Accept that asks for nothing
_BOUNDARY = re.compile(r'boundary="?([^";]{1,200})"?', re.IGNORECASE)
_SHOWN = 200  # characters of a value in a difference
_MOST = 50  # differences that are told


class Request(NamedTuple):
    """A request as its upstream would get it. `target` is its path and query there; header text is latin-1."""

    method: str
    target: str
    headers: Pairs
    body: bytes


def title_of(request: Request) -> str:
    """What people call it: its method and path."""
    return f"{request.method} {request.target.partition('?')[0]}"


@dataclass(frozen=True, slots=True)
class Rules:
    """What is overlooked. JSON paths are those of paths.parse; normalisers (pattern, replacement) work on every text of
    a request, such as a time or an id in it. `secret_query`: parameters that are credentials, in lower case."""

    ignore_json: tuple[str, ...] = ()
    ignore_headers: tuple[str, ...] = ()
    match_headers: tuple[str, ...] = ()
    normalise: tuple[tuple[str, str], ...] = ()
    secret_query: tuple[str, ...] = ()

    def with_more(self, other: Rules) -> Rules:
        """These and others; none twice."""
        pairs = [(getattr(self, each.name), getattr(other, each.name)) for each in fields(self)]
        return Rules(*[tuple(dict.fromkeys((*ours, *theirs))) for ours, theirs in pairs])


NO_RULES = Rules()


class Canonical(NamedTuple):
    """What counts of a request: its values, as text, by where they are; `key` is equal where all of them are.

    Of a long value its beginning is here, and a digest: thousands of recordings are held.
    """

    key: bytes
    fields: dict[str, str]


class Difference(NamedTuple):
    """One place in which two requests differ; None where one has nothing there."""

    place: str
    asked: str | None
    recorded: str | None


class Matcher:
    """Makes canonical forms by rules. Raises UsageError for a path or a pattern that is none."""

    def __init__(self, rules: Rules = NO_RULES) -> None:
        self._paths = [paths.parse(each) for each in rules.ignore_json]
        ignored = {name.lower() for name in rules.ignore_headers}
        counted = (*HEADERS, *(name.lower() for name in rules.match_headers))
        self._headers = frozenset(name for name in counted if name not in ignored)
        self._normalise = [(_compiled(pattern), replacement) for pattern, replacement in rules.normalise]
        self._secret = frozenset(rules.secret_query)

    def canonical(self, request: Request) -> Canonical:
        """The canonical form of a request; whatever its bytes are."""
        path, _, query = request.target.partition("?")
        fields = {"method": request.method.upper(), "path": self._plain(path)}
        for number, (name, value) in enumerate(self._query(query)):
            fields[f"query[{number}] {name}"] = value
        kind = value_of(request.headers, "content-type") or ""
        for name in sorted(self._headers):
            said = joined(request.headers, name)
            if said and said != _ANYTHING and not said.startswith(REDACTED):
                fields[f"header {name}"] = self._plain(_BOUNDARY.sub("", said).rstrip("; "))
        fields |= self._body(request, kind)
        text = msgspec.json.encode(sorted(fields.items()))
        held = {sys.intern(place): _held(value) for place, value in fields.items()}
        return Canonical(hashlib.blake2b(text, digest_size=16).digest(), held)

    def _query(self, query: str) -> list[tuple[str, str]]:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=None) if query else []
        return sorted(
            (name, self._plain(value))
            for name, value in pairs
            if name.lower() not in self._secret and not value.startswith(REDACTED)
        )

    def _body(self, request: Request, kind: str) -> dict[str, str]:
        coding = decoder(joined(request.headers, "content-encoding"))
        body = coding.feed(request.body) + coding.finish()
        if coding.problem is not None:
            body = request.body
        if value_of(request.headers, "content-encoding") is None:
            body = BodyMask().feed(body)  # as what was recorded is
        if not body:
            return {}
        if kind.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded":
            pairs = parse_qsl(body.decode("latin-1"), keep_blank_values=True, max_num_fields=None)
            return {f"form[{at}] {name}": self._plain(value) for at, (name, value) in enumerate(pairs)}
        boundary = _BOUNDARY.search(kind)
        if boundary is not None:
            return self._parts(body, boundary[1].encode("latin-1"))
        try:
            return self._json(body)
        except (NotJson, RecursionError):
            return {"body": _digest(body)}

    def _json(self, body: bytes) -> dict[str, str]:
        if len(body) > MAX_JSON or body.removeprefix(BOM).lstrip(b" \t\r\n")[:1] not in (b"{", b"["):
            raise NotJson
        value = decoded(body)
        for steps in self._paths:
            value = paths.without(value, steps)
        return {f"body {place}".rstrip(): self._leaf(leaf) for place, leaf in paths.leaves(value).items()}

    def _leaf(self, leaf: Any) -> str:
        return msgspec.json.encode(self._plain(leaf) if type(leaf) is str else leaf).decode("utf-8", "replace")

    def _parts(self, body: bytes, boundary: bytes) -> dict[str, str]:
        """A form's parts, headers and all; what separates them is chosen anew for each request."""
        parts = body.split(b"--" + boundary)[1:-1]
        return {f"part[{number}]": self._part(part) for number, part in enumerate(parts)} or {"body": _digest(body)}

    def _part(self, part: bytes) -> str:
        try:
            return self._plain(part.strip(b"\r\n").decode()) if len(part) <= _SHOWN * 10 else _digest(part)
        except UnicodeDecodeError:
            return _digest(part)

    def _plain(self, text: str) -> str:
        for pattern, replacement in self._normalise:
            text = pattern.sub(replacement, text)
        return text


def differences(asked: Canonical, recorded: Canonical) -> list[Difference]:
    """Where two requests differ, in the order of what is asked."""
    places = dict.fromkeys((*asked.fields, *recorded.fields))
    pairs = ((place, asked.fields.get(place), recorded.fields.get(place)) for place in places)
    return [Difference(*each) for each in pairs if each[1] != each[2]][:_MOST]


def nearest(asked: Canonical, recordings: Iterable[Canonical]) -> Canonical | None:
    """The one that has most in common with what is asked, the earlier where two are equally near."""

    def distance(other: Canonical) -> tuple[bool, bool, int]:
        theirs = other.fields
        places = theirs.keys() | asked.fields.keys()
        of_other_kind = other.fields["method"] != asked.fields["method"]
        unlike = sum(theirs.get(place) != asked.fields.get(place) for place in places)
        return theirs["path"] != asked.fields["path"], of_other_kind, unlike

    return min(recordings, key=distance, default=None)


def rule_of(found: Sequence[Difference]) -> str:
    """The first rule that two requests fail by: `method`, `path`, `query`, `header NAME` or `body`."""
    order = ("method", "path", "query", "header", "form", "part", "body")
    first = min(found, key=lambda each: order.index(re.split(r"[ \[]", each.place)[0]))
    word = re.split(r"[ \[]", first.place)[0]
    return first.place if word == "header" else "body" if word in {"form", "part"} else word


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UsageError(f"the normaliser {pattern!r} is no regular expression: {error}") from None


def _digest(data: bytes) -> str:
    return f"{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}"


def _held(text: str) -> str:
    if len(text) <= _SHOWN:
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=6).hexdigest()
    return f"{text[:_SHOWN]}… ({len(text)} characters, {digest})"
