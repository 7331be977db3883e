"""Playback's own URLs: health, and sessions that programs open, look at and close over HTTP. No page of a browser may.

A session is opened with a cassette or without, is asked under `/~session=NAME/UPSTREAM/…`, and gives back a cassette.
"""

from __future__ import annotations

import asyncio
import re
from typing import cast
from urllib.parse import parse_qs, unquote

import msgspec

from proxy.errors import UsageError, WiretapeError
from proxy.replay.cassette_reader import BadCassette, Cassette, read
from proxy.replay.library import Order
from proxy.replay.match import NO_RULES, Matcher, Rules
from proxy.replay.playback import Playback, headers_of
from proxy.replay.said import Reply, error, report
from proxy.replay.session import MODES, Mode, Session
from proxy.replay.stock import Load, stock_of
from proxy.replay.visit import is_page
from proxy.store import Engine
from proxy.wire.interface import ClientRequest

SESSIONS = "/-/sessions/"
_CASSETTE = "/cassette"
_LOOPBACK = re.compile(r"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?", re.IGNORECASE)
_HELP = f"playback answers /-/live, /-/ready, GET, PUT and DELETE of {SESSIONS}NAME, and GET of {SESSIONS}NAME/cassette"


class Control:
    """Answers for a playback. `engine` is where recordings are stored, `load` brings one from there.

    `rules` and `order` are those of the configuration, to which a cassette adds its own.
    """

    def __init__(self, playback: Playback, engine: Engine | None, load: Load, rules: Rules, order: Order) -> None:
        self._playback = playback
        self._engine = engine
        self._load = load
        self._rules = rules
        self._order: Order = order

    async def answer(self, asked: ClientRequest, body: bytes) -> Reply:
        """What to say to a request for one of these URLs."""
        path, _, query = asked.target.decode("latin-1").partition("?")
        method = asked.method
        if is_page(asked) or not _is_ours(headers_of(asked)):
            return Reply(
                403, error("forbidden", "only programs of this machine may ask this, and no page of a browser")
            )
        if path in {"/-/live", "/-/ready"} and method == b"GET":
            return Reply(200, msgspec.json.encode({"ok": True}))
        name, slash, more = path.removeprefix(SESSIONS).partition("/")
        if not path.startswith(SESSIONS) or slash + more not in {"", _CASSETTE}:
            return Reply(404, error("not_found", _HELP))
        name = unquote(name)
        if method == b"PUT" and not slash:
            return self._open(name, body, query)
        if method == b"GET" and slash:
            return await self._cassette(name)
        if method not in {b"GET", b"DELETE"} or slash:
            return Reply(405, error("not_found", _HELP))
        said = report(self._playback.session(name), name)
        if method == b"DELETE":
            self._playback.session(name).stock.library.forget(name)
            self._playback.opened.pop(name, None)
        return Reply(200, said)

    def _open(self, name: str, text: bytes, query: str) -> Reply:
        """A session begins, anew if there was one. What it does not say of itself is as for all others."""
        if not name:
            return Reply(400, error("bad_request", f"a session needs a name: PUT {SESSIONS}NAME"))
        try:
            mode, rules = _wishes(query)
            cassette = read(text.decode().split("\n")) if text else None
            if mode != "playback" and self._playback.port is None:
                said = "this playback records nothing: start one by `wiretape playback --record`"
                return Reply(409, error("cannot_record", said))
            self._playback.opened[name] = self._made(name, mode, cassette, rules)
        except BadCassette as problem:
            return Reply(400, error("bad_cassette", f"the cassette cannot be played: {problem}"))
        except UnicodeDecodeError:
            return Reply(400, error("bad_cassette", "the cassette cannot be played: it is not UTF-8 text"))
        except UsageError as problem:
            return Reply(400, error("bad_request", str(problem)))
        return Reply(201, report(self._playback.opened[name], name))

    def _made(self, name: str, mode: Mode, cassette: Cassette | None, rules: Rules) -> Session:
        """Raises UsageError."""
        if cassette is None:
            common = self._playback.common
            if mode == "playback":
                if rules != NO_RULES:
                    raise UsageError(
                        "rules are for a session with a cassette: those of all others are the configuration's"
                    )
                common.stock.library.forget(name)
                return Session(name, mode, common.stock, common.matcher)
            cassette = Cassette([], NO_RULES)
        cassette = cassette._replace(rules=cassette.rules.with_more(rules))
        matcher = Matcher(self._rules.with_more(cassette.rules))
        return Session(name, mode, stock_of(cassette.tracks, matcher, self._order, self._load), matcher, cassette)

    async def _cassette(self, name: str) -> Reply:
        session = self._playback.opened.get(name)
        if session is None:
            return Reply(404, error("not_found", f"no session of this name is open: PUT {SESSIONS}NAME opens one"))
        try:
            await session.quiet()
            text = await asyncio.get_running_loop().run_in_executor(None, lambda: "".join(session.text(self._engine)))
        except TimeoutError:
            return Reply(503, error("cannot_record", "something is still being recorded: end it, or try again"))
        except WiretapeError as problem:
            return Reply(503, error("cannot_record", f"the cassette cannot be made: {problem}"))
        return Reply(200, text.encode(), b"text/plain; charset=utf-8")


class _Given(msgspec.Struct, forbid_unknown_fields=True):
    """Rules as a program says them, by the names that the configuration has for them."""

    ignore_json: tuple[str, ...] = ()
    ignore_headers: tuple[str, ...] = ()
    match_headers: tuple[str, ...] = ()
    normalise: tuple[tuple[str, str], ...] = ()


def _wishes(query: str) -> tuple[Mode, Rules]:
    """What a session is to be. Raises UsageError."""
    asked = parse_qs(query)
    mode, rules = asked.pop("mode", ["playback"])[-1], asked.pop("rules", ["{}"])[-1]
    if asked or mode not in MODES:
        raise UsageError(f"a session is opened with ?mode=, one of {', '.join(MODES)}, and &rules=, in JSON")
    try:
        given = msgspec.json.decode(rules, type=_Given)
    except (msgspec.MsgspecError, RecursionError) as problem:
        names = ", ".join(_Given.__struct_fields__)
        raise UsageError(f'rules are JSON such as {{"ignore_json": ["**.id"]}}, with {names}: {problem}') from None
    return cast("Mode", mode), Rules(given.ignore_json, given.ignore_headers, given.match_headers, given.normalise)


def _is_ours(headers: list[tuple[str, str]]) -> bool:
    """Whether this machine is asked under a name that is its own, and not one that a page gave it (DNS rebinding)."""
    hosts = [value for name, value in headers if name.lower() == "host"]
    return len(hosts) == 1 and _LOOPBACK.fullmatch(hosts[0]) is not None
