"""Recorded requests sent again through the data port, by an ordinary HTTP client: what is sent, and what became of it.

Must not know settings or the environment: credentials are handed in, for none is in a record.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import quote
from uuid import UUID

import httpx2 as httpx

from proxy.errors import UsageError, WiretapeError
from proxy.exchange import Side
from proxy.interpret.values import NotJson, decoded, mapping
from proxy.replay.edits import Edit, edited, has
from proxy.replay.requested import NOT_AGAIN, OF_A_KEY, REDACTED_KEY
from proxy.store import Engine, read
from proxy.store.engine import reading
from proxy.store.rows import Exchange, Pairs
from proxy.wire.tls import own_port_context

REPLAY_OF, ID_HEADER = b"x-wiretape-replay-of", "x-wiretape-exchange"
SWITCHED = 101
PATIENCE = 30.0
"""Seconds for ingest to store and read what has ended."""

_POLL = 0.05
_TOLD = 64 * 1024  # bytes of an answer that are looked at, for why the data port refused

_NOT_AGAIN = NOT_AGAIN | {"expect"}  # the client at hand sends its body at once
_KEY = re.compile(rf"((?:bearer|token) +)?{REDACTED_KEY.pattern}", re.IGNORECASE)
# Gemini's `/models/NAME:generateContent`; Bedrock's `/model/NAME/converse`, whose names have colons; Azure's.
_MODEL_IN_PATH = re.compile(r"(?P<before>/models/)[^/:]+(?=:)|(?P<part>/(?:model|deployments)/)[^/]+(?=/)")


class Original(NamedTuple):
    """A recorded request that can be sent again: its head as it was recorded, and its body to the byte."""

    exchange: Exchange
    headers: Pairs
    body: bytes


class Move(NamedTuple):
    """To another upstream: its name, and the path of its base URL in the place of the one before."""

    name: str
    base_path: str
    instead_of: str


class Request(NamedTuple):
    """What is sent; `left_out` are names of recorded credentials that nobody has any more."""

    original: UUID
    method: str
    target: str
    headers: list[tuple[bytes, bytes]]
    body: bytes | None
    left_out: tuple[str, ...] = ()


class Sent(NamedTuple):
    """What was sent, and when (microseconds since 1970). `id` is None where the data port does not tell it."""

    original: UUID
    id: UUID | None
    status: int
    since_us: int


def original(engine: Engine, given: str) -> Original:
    """A recorded request. Raises UsageError if it is not there, WiretapeError if it cannot be sent again."""
    with reading(engine) as connection:
        found = read.get_exchange(connection, read.find_exchange(connection, given))
        if found is None:
            raise UsageError(f"the exchange {given} was deleted just now")
        heads = [head for head in read.headers(connection, found.id) if head.side == Side.REQUEST]
        _check(found, known=bool(heads))
        body = b"".join(chunk.data for chunk in read.chunks(connection, found.id, Side.REQUEST))
    if found.request_hash is None or hashlib.sha256(body).digest() != found.request_hash:
        why = "the keys in it were masked" if found.masked else "it was not recorded whole, or is not kept any more"
        raise WiretapeError(f"{found.id} cannot be sent again: of its request's body {why}")
    return Original(found, heads[0].headers, body)


def _check(found: Exchange, *, known: bool) -> None:
    problems = {
        "it is still running": found.outcome is None,
        "it is a WebSocket, not one request": found.status == SWITCHED,
        "records of it were lost": bool(found.lost_records) or not known,
        "bodies of it are not kept": bool(found.record and found.request_bytes),
        "it is not known what was asked": not (found.method and found.target and found.upstream),
        "a key stands in its path": REDACTED_KEY.search((found.target or "").partition("?")[0]) is not None,
    }
    for problem, holds in problems.items():
        if holds:
            raise WiretapeError(f"{found.id} cannot be sent again: {problem}")


# --- what is sent ---


def request(
    again: Original, key: Callable[[], str | None], move: Move | None, model: str | None, edits: Sequence[Edit]
) -> Request:
    """The request to be sent. `key` is asked where a credential was recorded; None leaves it out.

    Raises WiretapeError for what cannot be made again, UsageError for a change that is none.
    """
    left_out: list[str] = []
    target = _with_key(again, again.exchange.target or "", key)
    body = again.body
    if move is not None:
        target = _moved(target, move)
    if model is not None:
        target, body = _with_model(again, target, model)
    if edits:
        _check_plain(again)
        body = edited(body, edits)
    headers = [(name.encode("latin-1"), value) for name, value in _passed(again, key, left_out)]
    headers.append((REPLAY_OF, str(again.exchange.id).encode()))
    framed = bool(again.body) or any(name.lower() == "content-length" for name, _ in again.headers)
    return Request(
        again.exchange.id, again.exchange.method or "", target, headers, body if framed else None, tuple(left_out)
    )


def _passed(again: Original, key: Callable[[], str | None], left_out: list[str]) -> list[tuple[str, bytes]]:
    """The headers that are sent again, in order."""
    named = [value for name, value in again.headers if name.lower() == "connection"]
    hops = _NOT_AGAIN | {each.strip().lower() for value in named for each in value.split(",")}
    passed = []
    for name, value in again.headers:
        lower = name.lower()
        if lower in hops or lower.startswith("x-wiretape-"):
            continue
        if REDACTED_KEY.search(value) is None:
            passed.append((name, value.encode("latin-1")))
        elif lower in OF_A_KEY:
            held = _KEY.fullmatch(value)
            if held is None:
                raise WiretapeError(f"{again.exchange.id} cannot be sent again: its {name} is more than a key")
            secret = key()
            if secret is not None:
                passed.append((name, f"{held[1] or ''}{secret}".encode()))
        else:
            left_out.append(name)
    return passed


def _with_key(again: Original, target: str, key: Callable[[], str | None]) -> str:
    """A target with the key where one was in its query."""
    path, question, query = target.partition("?")
    items = query.split("&") if question else []
    for place, item in enumerate(items):
        if REDACTED_KEY.search(item) is None:
            continue
        name, _, value = item.partition("=")
        if name.lower() not in OF_A_KEY or _KEY.fullmatch(value) is None:
            raise WiretapeError(f"{again.exchange.id} cannot be sent again: its query is signed, or is more than a key")
        items[place] = f"{name}={quote(key() or '', safe='')}"
    return path + question + "&".join(items)


def _moved(target: str, move: Move) -> str:
    """A target of another upstream, with the same tags and the same path behind the base URL."""
    path, question, query = target.partition("?")
    segments = path.split("/")
    place = 2 if segments[1].startswith("~") else 1
    rest = "".join(f"/{each}" for each in segments[place + 1 :])
    if rest.startswith(f"{move.instead_of}/"):
        rest = move.base_path + rest[len(move.instead_of) :]
    return "/".join([*segments[:place], move.name]) + rest + question + query


def _with_model(again: Original, target: str, model: str) -> tuple[str, bytes]:
    """Target and body with another model, wherever one was named."""
    path, question, query = target.partition("?")
    path, changed = _MODEL_IN_PATH.subn(
        lambda found: (found["before"] or found["part"]) + quote(model, safe=""), path, count=1
    )
    body = again.body
    if _coding(again) in ("", "identity") and has(body, "model"):
        body = edited(body, [Edit(("model",), _quoted(model))])
    elif not changed:
        _check_plain(again)
        raise UsageError(f"{again.exchange.id} names no model, in its body or its path: leave --model out")
    return path + question + query, body


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _coding(again: Original) -> str:
    return ", ".join(value for name, value in again.headers if name.lower() == "content-encoding").strip().lower()


def _check_plain(again: Original) -> None:
    if _coding(again) not in ("", "identity"):
        raise UsageError(f"the body of {again.exchange.id} is compressed, so nothing can be changed in it")


# --- sending ---


class DataPort:
    """Where requests are sent; a context manager. `address` is `http://HOST:PORT`, or `https://` with `cert`, the file
    of the port's own certificate: nobody else is believed. Raises UsageError for one that is none."""

    def __init__(self, address: str, cert: Path | None = None) -> None:
        self._address = address
        verify = True if cert is None else own_port_context(cert)
        # What stands in the environment must not lead a key elsewhere; how long an answer takes is the upstream's.
        self._client = httpx.Client(trust_env=False, timeout=None, verify=verify)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def send(self, asked: Request) -> Sent:
        """Send a request, and let go of its answer as it comes. Raises WiretapeError if it became no exchange."""
        target = asked.target.encode("latin-1")
        made = httpx.Request(
            asked.method,
            self._address,
            headers=asked.headers,
            content=asked.body,
            extensions={"target": target, "timeout": httpx.Timeout(None, connect=10.0).as_dict()},
        )
        since_us = time.time_ns() // 1000
        try:
            answer = self._client.send(made, stream=True)
        except httpx.ConnectError as error:
            if "certificate" in str(error).lower():
                text = f"the data port {self._address} has another certificate than forward.cert, or an expired one"
                raise WiretapeError(text) from None
            raise WiretapeError(f"no data port answers at {self._address}: start `wiretape serve`") from None
        except httpx.HTTPError as error:
            raise WiretapeError(f"the data port {self._address} broke off ({type(error).__name__})") from None
        begin = _let_go(answer)
        _check_answered(answer, begin)
        return Sent(asked.original, _id_of(answer), answer.status_code, since_us)


def _let_go(answer: httpx.Response) -> bytes:
    """Read an answer to its end, whatever that is: the record tells. Its beginning."""
    begin = bytearray()
    try:
        for data in answer.iter_raw():
            begin += data[: max(_TOLD - len(begin), 0)]
    except httpx.HTTPError:
        pass
    finally:
        answer.close()
    return bytes(begin)


def _id_of(answer: httpx.Response) -> UUID | None:
    try:
        return UUID(answer.headers.get(ID_HEADER, ""))
    except ValueError:
        return None


def _check_answered(answer: httpx.Response, begin: bytes) -> None:
    """Raise for what the data port turned away: there is no exchange of that."""
    if ID_HEADER in answer.headers or answer.status_code < 400:
        return
    try:
        said = mapping(mapping(decoded(begin)).get("error"))
    except NotJson:
        return
    kind = str(said.get("type") or said.get("code") or said.get("status"))
    if kind.startswith("wiretape_") and not kind.startswith("wiretape_upstream_"):  # of those there are exchanges
        raise WiretapeError(f"the data port refused it ({answer.status_code}): {said.get('message')}")


# --- what became of it ---


def stored(engine: Engine, sent: Sent, patience: float = PATIENCE) -> Exchange | None:
    """The exchange that it became, once ingest has stored and read it; as far as it is known when patience ends."""
    until = time.monotonic() + patience
    while True:
        found = _found(engine, sent)
        if (found is not None and found.interpreter is not None) or time.monotonic() > until:
            return found
        time.sleep(_POLL)


def _found(engine: Engine, sent: Sent) -> Exchange | None:
    with reading(engine) as connection:
        if sent.id is not None:
            return read.get_exchange(connection, sent.id)
        again = [each for each in read.resends(connection, sent.original) if each.started_us >= sent.since_us]
        return again[0] if again else None
