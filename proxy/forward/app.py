"""The data port's ASGI application: routes a request, opens its exchange and lets a Relay carry it.

What is refused here was never an exchange: it is counted as turned away and leaves no row.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

import msgspec

from proxy.exchange import ExchangeIds
from proxy.forward import answers
from proxy.forward.altered import AlteredRecorder
from proxy.forward.answers import Answer
from proxy.forward.asking import AskingRelay
from proxy.forward.client import AsgiClient, Receive, Scope, Send, client_of
from proxy.forward.holding import LIMIT_KEY, HoldingRelay
from proxy.forward.keep_alive import KeptAlive
from proxy.forward.plan import Plan, Planner, TurnedAway
from proxy.forward.policy import Policy
from proxy.forward.recorder import Recorder, Unrecorded
from proxy.forward.recording import Recording
from proxy.forward.redact import Redactor
from proxy.forward.relay import Relay
from proxy.forward.routes import Destination
from proxy.journal.writer import JournalError
from proxy.log import place
from proxy.wire.interface import ClientSide, RawHeaders, RequestError
from proxy.wire.request import BadFraming

_log = logging.getLogger("forward")
R = TypeVar("R", bound=Recorder)


class App:
    """`destinations` by the name in the URL. `admit` uses a pass up, and says whether it was one.

    `turned_away` counts by reason.
    """

    def __init__(
        self,
        destinations: dict[bytes, Destination],
        recording: Recording,
        redactor: Redactor,
        policy: Policy,
        ready: Callable[[], str | None],
        admit: Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        self.destinations = destinations
        self.turned_away: Counter[str] = Counter()
        self._relays: set[Relay] = set()
        self._waited: dict[Relay, asyncio.Future[None]] = {}  # by whoever called the application
        self._planner = Planner(destinations, redactor, policy, admit)
        self._recording = recording
        self._redactor = redactor
        self._policy = policy
        self._ready = ready
        self._ids = ExchangeIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"the data port speaks HTTP, not {scope['type']}")
        try:
            client = client_of(scope, receive, send)
        except BadFraming as error:
            await _refuse_plainly(send, self._turn_away(answers.bad_request(str(error))))
            return
        relay = self.take(client)
        if relay is not None:
            over = self._waited[relay] = asyncio.get_running_loop().create_future()
            try:
                await over
            finally:
                relay.stop()
        if isinstance(client, AsgiClient):
            await client.finish()

    def take(self, client: ClientSide) -> Relay | None:
        """Answer a request, or begin to relay it; never raises, never waits (see wire.server.Take)."""
        try:
            if client.request.target.startswith(b"/-/"):
                self._health(client)
                return None
            relay = self._open(client)
        except TurnedAway as refusal:
            self._answer(client, self._turn_away(refusal.answer), refusal.dialect)
            return None
        except Exception as error:  # noqa: BLE001 - the edge of a request: it must not take the worker with it
            _log.error("internal error while opening an exchange (%s)", place(error))
            self._answer(client, self._turn_away(answers.internal(place(error))), "openai")
            return None
        self._relays.add(relay)
        relay.start()
        return relay if relay in self._relays else None

    @property
    def active(self) -> int:
        """Exchanges under way."""
        return len(self._relays)

    def stop(self) -> None:
        """Break off what is under way."""
        for relay in list(self._relays):
            relay.stop()

    def _over(self, relay: Relay) -> None:
        self._relays.discard(relay)
        waited = self._waited.pop(relay, None)
        if waited is not None and not waited.done():
            waited.set_result(None)

    def refuse(self, error: RequestError) -> tuple[bytes, bytes]:
        """What the wire could not take (see wire.server.Refuse)."""
        answer = self._turn_away(answers.refused(error))
        body = answer.body("openai")
        lines = [b"HTTP/1.1 %d %b\r\n" % (answer.status, answer.reason)]
        lines += [b"%b: %b\r\n" % header for header in answer.head(body)]
        return b"".join(lines), body

    def _turn_away(self, answer: Answer) -> Answer:
        if answer.status >= HTTPStatus.BAD_REQUEST:
            self.turned_away[answer.kind] += 1
        return answer

    def _answer(self, client: ClientSide, answer: Answer, dialect: str) -> None:
        client.attach(Deaf())
        answers.send(client, answer, answer.body(dialect), *self._policy.access.page(client.request.headers))

    def _open(self, client: ClientSide) -> Relay:
        """Everything that is decided before the first byte moves. Raises TurnedAway."""
        asked = client.request
        plan = self._planner.plan(asked)
        destination, rules = plan.destination, plan.rules
        limit = rules.max_request_body
        if limit is not None and asked.length is not None and asked.length > limit:
            raise TurnedAway(answers.too_large(limit), destination.dialect)
        if plan.special:
            relay = self._special(client, plan)
        else:
            recorder = self._recorder(Unrecorded if plan.record == "none" else Recorder, client, plan)
            relay = Relay(destination, plan.request(asked), recorder, self._redactor, rules, client, self._over)
        try:
            relay.begin()
        except JournalError as error:
            raise TurnedAway(answers.cannot_record(str(error)), destination.dialect) from None
        return relay

    def _special(self, client: ClientSide, plan: Plan) -> Relay:
        """One for which something is changed on the way, in the request or in what passes. Raises TurnedAway."""
        asked, destination, limit = client.request, plan.destination, plan.rules.transform_limit
        asking = plan.asking if plan.asking is not None and plan.asking.wish.on else None
        if (asking is not None or destination.holds) and asked.length is not None and asked.length > limit:
            raise TurnedAway(answers.too_large(limit, LIMIT_KEY), destination.dialect)
        altered = None if plan.record == "none" else self._recorder(AlteredRecorder, client, plan)
        recorder = altered or self._recorder(Unrecorded, client, plan)
        if destination.keep_alive is not None:
            client = KeptAlive(client, destination.keep_alive, altered)
        request, redactor, rules = plan.request(asked), self._redactor, plan.rules
        if asking is not None and altered is not None:
            return AskingRelay(destination, request, altered, redactor, rules, client, self._over, asking=asking)
        carry = Relay if destination.signer is None else HoldingRelay
        return carry(destination, request, recorder, redactor, rules, client, self._over)

    def _recorder(self, kind: type[R], client: ClientSide, plan: Plan) -> R:
        head = plan.recorded(client.request, client.address)
        recorder = kind(self._recording, self._ids.next_number(), head, coded=plan.coded, now=time.perf_counter_ns)
        if plan.change is not None:
            recorder.change(plan.change)
        return recorder

    def _health(self, client: ClientSide) -> None:
        path = client.request.target.partition(b"?")[0]
        problem = self._ready() if path == b"/-/ready" else None
        status = 503 if problem is not None else 200
        if path not in (b"/-/live", b"/-/ready"):
            status, problem = 404, "the data port answers /-/live and /-/ready; pages and metrics are on the console"
        body = msgspec.json.encode({"ok": status == 200, "problem": problem})
        client.attach(Deaf())
        answers.send(client, Answer(status, "", ""), body)


class Deaf:
    """Listens to a client whose answer depends on nothing that is still to come."""

    def on_body(self, data: bytes) -> None: ...

    def on_request_end(self, trailers: RawHeaders) -> None: ...

    def on_request_failed(self, error: RequestError) -> None: ...

    def on_lost(self, *, reset: bool) -> None: ...

    def pause_response(self) -> None: ...

    def resume_response(self) -> None: ...


async def _refuse_plainly(send: Send, answer: Answer) -> None:
    """Through a server that let pass what cannot be framed."""
    body = answer.body("openai")
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.head(body)})
    await send({"type": "http.response.body", "body": body, "more_body": False})
