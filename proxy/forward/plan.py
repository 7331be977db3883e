"""What a request's head decides before the first byte moves: its upstream, the head it gets there, how it is recorded.

A program's heads differ in little but their Content-Length, so a plan is made of all the rest, once. What is refused
here was never an exchange. Must not know sockets or the journal.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from proxy import passes
from proxy.exchange import Change, HeaderList, Origin, RequestHead
from proxy.forward import answers, headers, routes
from proxy.forward.answers import Answer
from proxy.forward.attribution import session_in_path, wishes
from proxy.forward.policy import Policy, Rules, stricter
from proxy.forward.recorder import is_coded
from proxy.forward.redact import Redactor
from proxy.forward.routes import BadTags, BadTarget, Destination, Route, Wish, route
from proxy.forward.uploads import uploads
from proxy.upload_urls import way_to
from proxy.wire.fields import ByName
from proxy.wire.interface import ClientRequest, RawHeaders, UpstreamRequest
from proxy.wire.request import encode_head

_IS_PASS = ByName(lambda name: name == passes.HEADER)
_COMPLETIONS = b"/completions"  # of chats, too
_REFUSED_METHODS = frozenset((b"CONNECT", b"TRACE"))


class TurnedAway(Exception):
    """A request that is answered by us and never becomes an exchange."""

    def __init__(self, answer: Answer, dialect: str = "openai") -> None:
        super().__init__(answer.message)
        self.answer = answer
        self.dialect = dialect


@dataclass(frozen=True, slots=True)
class Asking:
    """The head of a request that asks for what its client did not; else as a Plan."""

    wish: Wish
    before: bytes
    after: bytes

    def request(self, plain: UpstreamRequest, length: int) -> UpstreamRequest:
        """That request with a body of so many bytes."""
        head = self.before if plain.chunked else b"%b%d%b" % (self.before, length, self.after)
        return replace(plain, head=head)


@dataclass(frozen=True, slots=True)
class Plan:
    """For every request whose head differs from one in nothing but the value of its Content-Length, whose place is left
    open: between `before` and `after` in the upstream's head, and at `length_at` in `headers`."""

    destination: Destination
    record: str  # all, meta or none
    target: bytes  # at the upstream
    before: bytes
    after: bytes
    method: str
    recorded_target: str
    headers: HeaderList  # as they are recorded
    length_at: int  # the place of that header among them
    shows_length: bool
    coded: bool  # the body, which is not looked into then
    credential: str | None
    session: str | None
    tags: HeaderList
    origin: int
    replay_of: str | None
    rules: Rules
    change: Change | None  # of the request's head
    asking: Asking | None = None  # where it may be made to ask for its stream's usage
    special: bool = False  # whether a plain relay and its recorder are not enough

    def request(self, asked: ClientRequest) -> UpstreamRequest:
        """The request as it goes to the upstream."""
        head = self.before
        if asked.length_at >= 0:
            head = b"%b%b%b" % (head, asked.headers[asked.length_at][1], self.after)
        return UpstreamRequest(asked.method, self.target, head, asked.chunked, asked.upgrade)

    def recorded(self, asked: ClientRequest, client: str) -> RequestHead:
        """The head as it is recorded, still without its ordinal."""
        shown, place = self.headers, self.length_at
        if self.shows_length:
            shown = shown.copy()
            shown[place] = (shown[place][0], asked.headers[asked.length_at][1].decode("ascii"))
        return RequestHead(
            0,
            time.time_ns() // 1000,
            self.destination.name,
            self.destination.dialect,
            self.method,
            self.recorded_target,
            asked.version,
            shown,
            client,
            self.credential,
            self.session,
            self.tags,
            self.record,
            self.origin,
            self.replay_of,
        )


class _Onward(NamedTuple):
    """The head that goes to the upstream. `credential` is whom it is billed to if not the client."""

    headers: RawHeaders
    target: bytes
    change: Change | None = None
    credential: str | None = None


class Planner:
    """`destinations` by the name in the URL. `admit` uses a pass up, and says whether it was one."""

    def __init__(
        self,
        destinations: dict[bytes, Destination],
        redactor: Redactor,
        policy: Policy,
        admit: Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        self._destinations = destinations
        # Without those that are played and nothing else: a pass would lead back to playback.
        self._live = {name: each.live or each for name, each in destinations.items() if each.live or not each.whole}
        self._admit = admit
        self._redactor = redactor
        self._policy = policy

    def plan(self, asked: ClientRequest) -> Plan:
        """Raises TurnedAway."""
        known = asked.known
        if known is not None and known.owner is self and isinstance(known.memo, Plan):
            return known.memo
        given = [value for name, value in asked.headers if _IS_PASS[name]]
        if given:
            return self._passed(asked, given[0])
        plan = self._make(asked, self._destinations)
        if known is not None:
            known.owner, known.memo = self, plan
        return plan

    def _passed(self, asked: ClientRequest, given: bytes) -> Plan:
        """Of a request that may ask its upstream once, where others are answered by playback; it is recorded."""
        if not self._admit(given):
            raise TurnedAway(answers.no_pass())
        if routes.first_name(asked.target) not in self._live:
            raise TurnedAway(answers.only_played(routes.first_name(asked.target).decode("latin-1")))
        ours = (passes.HEADER, b"x-wiretape-record")
        kept = [header for header in asked.headers if header[0].lower() not in ours]
        at = asked.length_at if asked.length_at < 0 else kept.index(asked.headers[asked.length_at])
        return self._make(replace(asked, headers=kept, length_at=at), self._live)

    def _make(self, asked: ClientRequest, destinations: dict[bytes, Destination]) -> Plan:
        access = self._policy.access
        preflight = access.preflight(asked)
        if preflight is not None:
            raise TurnedAway(preflight)
        found = self._route(asked, destinations)
        destination = found.destination
        refusal = access.refusal(asked, guarded=destination.guarded)
        if refusal is not None:
            raise TurnedAway(refusal, destination.dialect)
        page = access.page(asked.headers)
        try:
            wished = wishes(asked.headers)
        except BadTags as error:
            raise TurnedAway(answers.bad_request(str(error)), destination.dialect) from None
        record = stricter(destination.record, wished.record)
        if record == "all" and not self._policy.record_bodies:
            record = "meta"
        redactor = self._redactor
        tags, in_path = session_in_path(found.tags)
        session = in_path if wished.session is None else wished.session
        onward = self._onward(asked, found, session, known_page=bool(page))
        place = asked.length_at
        shown = redactor.headers(asked.headers)
        before, after = _around(asked, onward.target, onward.headers)
        resent = wished.replay_of is not None and destination.origin == Origin.LIVE
        asking = _asking(asked, destination, onward.target, onward.headers) if record != "none" else None
        return Plan(
            destination=destination,
            record=record,
            target=onward.target,
            before=before,
            after=after,
            method=asked.method.decode(),
            recorded_target=redactor.target(asked.target).decode("latin-1"),
            headers=shown,
            length_at=place,
            shows_length=place >= 0 and shown[place][1].encode("latin-1") == asked.headers[place][1],
            coded=is_coded(shown),
            credential=onward.credential or redactor.credential(asked.headers, asked.target),
            session=None if session is None else redactor.text(session),
            tags=[(redactor.text(name), redactor.text(value)) for name, value in (*tags, *wished.tags)],
            origin=Origin.RESEND if resent else destination.origin,
            replay_of=wished.replay_of,
            rules=self._rules(asked, destination, page),
            change=onward.change,
            asking=asking,
            special=asking is not None or destination.keep_alive is not None or destination.signer is not None,
        )

    def _rules(self, asked: ClientRequest, destination: Destination, page: tuple[tuple[bytes, bytes], ...]) -> Rules:
        rules, home = self._policy.rules, destination.uploads
        if home is None:
            return replace(rules, page=page) if page else rules
        way = b"" if destination.whole else way_to(asked.target)
        return replace(rules, page=page, uploads=uploads(home, asked, way, self._policy.scheme, self._redactor))

    def _onward(self, asked: ClientRequest, found: Route, session: str | None, *, known_page: bool) -> _Onward:
        destination = found.destination
        passed = headers.to_upstream(asked, destination.host, strip_attribution=self._policy.strip_attribution)
        if destination.whole:
            if known_page:
                # Playback answers no pages, for it does not know which may ask.
                passed = headers.without_page(passed)
            passed += headers.for_playback(asked.headers)
            passed += [] if session is None else [(b"x-wiretape-session", session.encode("utf-8", "replace"))]
            return _Onward(passed, asked.target)
        if destination.key is not None:
            return _Onward(*destination.key.put_on(passed, found.target, asked.target, self._redactor))
        return _Onward(passed, found.target)

    def _route(self, asked: ClientRequest, destinations: dict[bytes, Destination]) -> Route:
        if asked.method in _REFUSED_METHODS:
            raise TurnedAway(answers.no_method(asked.method.decode()))
        try:
            found = route(asked.target, destinations)
        except (BadTarget, BadTags) as error:
            raise TurnedAway(answers.bad_request(str(error))) from None
        if found is None:
            raise TurnedAway(self._unknown(routes.first_name(asked.target).decode("latin-1")))
        doubled = routes.doubled_segment(found.target)
        if doubled == "v1":
            # The upstream would answer 404 without a word on why.
            name = found.destination.name
            text = f"the path has {doubled} twice: the base_url is one /{doubled} too long; see `wiretape upstreams`"
            raise TurnedAway(Answer(404, "doubled_segment", f"{name}: {text}"), found.destination.dialect)
        return found

    def _unknown(self, name: str) -> Answer:
        known = sorted(key.decode() for key in self._destinations)
        hint = self._policy.templates.get(name)
        if hint is not None:
            return Answer(404, "unknown_upstream", f"the upstream {name!r} needs a value first: {hint}")
        nearest = difflib.get_close_matches(name, known, 1)
        guess = f", did you mean {nearest[0]!r}?" if nearest else ";"
        shown = name if len(name) <= 64 else name[:64] + "…"
        shown = self._redactor.target(shown.encode("latin-1", "replace")).decode("latin-1")
        text = f"no upstream is named {shown!r}{guess} the first segment of the path names one of: {', '.join(known)}"
        return Answer(404, "unknown_upstream", text)


def _around(asked: ClientRequest, target: bytes, passed: RawHeaders) -> tuple[bytes, bytes]:
    """The upstream's head, what is before and after the value of its Content-Length if it has one."""
    head = encode_head(asked.method, target, passed)
    if asked.length_at < 0:
        return head, b""
    name, value = asked.headers[asked.length_at]
    before, line, rest = head.partition(b"\r\n%b: " % name)
    return before + line, rest[len(value) :]


def _asking(asked: ClientRequest, destination: Destination, target: bytes, passed: RawHeaders) -> Asking | None:
    """Of a request that may ask for a stream of completions, as far as its head tells."""
    wish = destination.usage
    if wish is None or asked.method != b"POST" or not (asked.chunked or asked.length_at >= 0) or asked.upgrade:
        return None
    if not target.partition(b"?")[0].endswith(_COMPLETIONS) or headers.media_type(passed) != b"application/json":
        return None
    if headers.bears_digest(passed):
        return None
    return Asking(wish, *_around(asked, target, headers.with_identity(passed)))
