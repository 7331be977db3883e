"""The rows of a large ledger: what a house of 50 keys and 60 models would have recorded, the same on every run.

Agents come and go; each works in one session with one key and one model, and every request is drawn from shapes that
were made before, so that a row costs a few microseconds. Must not know a database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from math import exp
from random import Random
from typing import Any, NamedTuple

from proxy.exchange import Origin, Outcome, WireEnd
from proxy.store.schema import NameKind

MODELS = [f"model-{number:02}" for number in range(60)]
SERVED = {name: f"{name}-2026-05-01" for name in MODELS[2::3]}
"""Models that answer by another name."""
UPSTREAMS = [f"upstream-{number:02}" for number in range(20)]
CREDENTIALS = [f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}" for number in range(1, 51)]
VIRTUAL_KEYS = [f"team-{number:02}" for number in range(20)]
PROJECTS = [f"project-{number:02}" for number in range(12)]
ENVIRONMENTS = ("prod", "staging", "ci")
NODES = ("one", "two")
"""Each of these lists begins with what is used most."""

IDLE = "idle"
"""A model, a credential, a session, an upstream: they have names, and no exchange is left."""

LONGEST = 200  # exchanges of one session
ACTIVE = 48  # agents at work at a time
VARIETY = 1000  # shapes of a model

VARYING = ("id", "ordinal", "started_us", "response_id", "request_id", "request_hash", "response_hash")
OF_AGENT = ("credential", "virtual_key", "session", "tag_set", "client", "client_kind", "node", "journal")

Named = Callable[[NameKind, str], int]
TagSet = Callable[[Sequence[tuple[str, str]]], "int | None"]
Price = Callable[[str], "int | None"]

_DIALECTS = (
    ("openai", "chat", "/v1/chat/completions", "chatcmpl-", ("stop", "length", "tool_calls")),
    ("openai", "responses", "/v1/responses", "resp_", ("completed", "incomplete", "completed")),
    ("anthropic", "messages", "/v1/messages", "msg_01", ("end_turn", "max_tokens", "tool_use")),
)
_NORMAL = ("stop", "length", "tool_calls")
_FAILED = ((429, "Too Many Requests", 60), (500, "Internal Server Error", 15), (529, "", 10), (400, "Bad Request", 15))
_ENDS = (
    (Outcome.CLIENT_LEFT, WireEnd.CLIENT_LEFT, 60),
    (Outcome.UPSTREAM_FAILED, WireEnd.UPSTREAM_ERROR, 30),
    (Outcome.INTERRUPTED, WireEnd.WORKER_DIED, 10),
)
_USAGE = (("complete", 95.0), ("missing", 2.0), ("partial", 1.0), ("derived", 2.0))


class Words(NamedTuple):
    """Where ids come from: of a name, of a set of tags, of a price."""

    named: Named
    tag_set: TagSet
    price: Price
    journals: Sequence[int]


class Route(NamedTuple):
    """A model at an upstream, and what may happen there: the values of `Shapes.columns`, and how a response's id
    begins (None: there is none)."""

    shapes: list[tuple[tuple[Any, ...], str | None]]


def zipf(number: int) -> list[float]:
    """Cumulative weights: the second is used half as often as the first, the third a third as often."""
    return list(accumulate(1 / (rank + 1) for rank in range(number)))


class Shapes:
    """Draws what an exchange may look like, but for its time, its ids and who asked."""

    columns: tuple[str, ...] = ()

    def __init__(self, random: Random, words: Words) -> None:
        self._random = random
        self._words = words
        self._versions = words.named(NameKind.HTTP_VERSION, "1.1"), words.named(NameKind.METHOD, "POST")
        for kind in (NameKind.MODEL, NameKind.CREDENTIAL, NameKind.SESSION, NameKind.UPSTREAM):
            words.named(kind, IDLE)
        self._price = words.price('{"input":"3","output":"15"}')

    def route(self, model: int, variety: int) -> Route:
        upstream = model % len(UPSTREAMS)
        made = [self._shape(model, upstream) for _ in range(variety)]
        self.columns = tuple(made[0][0])
        return Route([(tuple(values.values()), begins) for values, begins in made])

    def _shape(self, model: int, upstream: int) -> tuple[dict[str, Any], str | None]:
        random, named = self._random, self._words.named
        dialect, operation, target, begins, reasons = _DIALECTS[upstream % len(_DIALECTS)]
        failed = random.random() < 0.03
        cut = not failed and random.random() < 0.005
        http_version, method = self._versions
        values: dict[str, Any] = {
            "origin": int(Origin.RESEND if random.random() < 0.002 else Origin.LIVE),
            "upstream": named(NameKind.UPSTREAM, UPSTREAMS[upstream]),
            "dialect": named(NameKind.DIALECT, dialect),
            "method": method,
            "target": named(NameKind.TARGET, target),
            "record": 0,
            "http_version": http_version,
            "operation": named(NameKind.OPERATION, operation),
            "model_asked": named(NameKind.MODEL, MODELS[model]),
            "retry_count": 0,
            "interpreter": 1,
            "counted": True,
            "failed": failed or cut,
            **self._end(failed, cut),
        }
        if failed:
            values |= self._paid(usage="none") | dict.fromkeys(self._answered(model, reasons))
            values |= {"finish_reason_norm": named(NameKind.FINISH_REASON, "error")}
            return values, None
        told = random.choices([each[0] for each in _USAGE], [each[1] for each in _USAGE])[0]
        values |= self._paid(usage="partial" if cut else told)
        values |= self._answered(model, reasons)
        return values, begins

    def _end(self, failed: bool, cut: bool) -> dict[str, Any]:
        """How it ended and how long it took."""
        random, named = self._random, self._words.named
        status, reason, _ = random.choices(_FAILED, [each[2] for each in _FAILED])[0] if failed else (200, "OK", 0)
        outcome, wire_end, _ = (
            random.choices(_ENDS, [each[2] for each in _ENDS])[0] if cut else (Outcome.COMPLETED, 0, 0)
        )
        head = int(random.lognormvariate(0, 0.7) * 250_000)
        taken = head + int(random.lognormvariate(0, 1) * 3_000_000)
        chunks = 1 if failed else 1 + int(random.lognormvariate(4, 1))
        return {
            "status": status,
            "reason": named(NameKind.REASON, reason),
            "wire_end": int(wire_end),
            "error": "the connection was reset" if outcome == Outcome.UPSTREAM_FAILED else None,
            "outcome": int(outcome),
            "request_bytes": int(random.lognormvariate(9.5, 1.2)),
            "response_bytes": 180 * chunks,
            "request_chunks": 1,
            "response_chunks": chunks,
            "unrecorded_bytes": 0,
            "lost_records": 0,
            "masked": 0,
            "request_sent_us": 900 + random.randrange(400),
            "head_us": head,
            "first_byte_us": head + 300,
            "last_byte_us": taken,
            "end_us": taken + 200,
            "overhead_us": 200 + random.randrange(200),
        }

    def _answered(self, model: int, reasons: Sequence[str]) -> dict[str, Any]:
        random, named = self._random, self._words.named
        kind = random.choices((0, 1, 2), (70, 5, 25))[0]
        first = int(exp(random.gauss(0, 0.732)) * 600_000)  # one in twenty is over two seconds
        return {
            "model_served": named(NameKind.MODEL, SERVED.get(MODELS[model], MODELS[model])),
            "streaming": random.random() < 0.8,
            "finish_reason": named(NameKind.FINISH_REASON, reasons[kind]),
            "finish_reason_norm": named(NameKind.FINISH_REASON, _NORMAL[kind]),
            "service_tier": named(NameKind.SERVICE_TIER, "default"),
            "terminated": True,
            "first_event_us": first - first // 10,
            "first_visible_us": first,
            "terminal_event_us": first + int(random.lognormvariate(0, 1) * 3_000_000),
        }

    def _paid(self, usage: str) -> dict[str, Any]:
        """Tokens and what they cost: one in a hundred more than ten cents."""
        random, named = self._random, self._words.named
        asked, answered = int(random.lognormvariate(8, 1.2)), int(random.lognormvariate(5.7, 1))
        known = usage not in ("none", "missing")
        priced = known and random.random() > 0.02
        status = "priced" if priced else "unpriced" if known else "unknown"
        return {
            "input_tokens": asked if known else None,
            "output_tokens": answered if known else None,
            "total_tokens": asked + answered if known else None,
            "cache_read_tokens": asked // 2 if known else None,
            "cache_write_tokens": 0 if known else None,
            "reasoning_tokens": answered // 4 if known else None,
            "estimated_output_tokens": None if known else answered,
            "usage_state": named(NameKind.USAGE_STATE, usage),
            "cost_pico": int(exp(random.gauss(0, 1.384)) * 4e9) if priced else None,
            "cost_status": named(NameKind.COST_STATUS, status),
            "price": self._price if priced else None,
        }


class Agents:
    """Who asks: one that has asked all it wanted makes room for another. `session` gives the id of a new session."""

    def __init__(self, random: Random, words: Words, session: Callable[[], int]) -> None:
        self._random = random
        self._words = words
        self._session = session
        self._credentials, self._models = zipf(len(CREDENTIALS)), zipf(len(MODELS))
        named = words.named
        self._clients = [named(NameKind.CLIENT, each) for each in ("10.0.0.7", "10.0.0.8", "10.0.1.3")]
        self._kinds = [named(NameKind.CLIENT_KIND, each) for each in ("python-sdk", "agent", "curl")]

    def new(self) -> list[Any]:
        """What is left to ask, the values of OF_AGENT, the number of its model."""
        random, named, words = self._random, self._words.named, self._words
        credential = random.choices(range(len(CREDENTIALS)), cum_weights=self._credentials)[0]
        model = random.choices(range(len(MODELS)), cum_weights=self._models)[0]
        tags = [("env", random.choices(ENVIRONMENTS, (6, 2, 2))[0]), ("project", PROJECTS[credential % len(PROJECTS)])]
        node = random.randrange(len(NODES))
        length = int(exp(random.random() * 5.3)) if random.random() < 0.9 else 1
        values = (
            named(NameKind.CREDENTIAL, CREDENTIALS[credential]),
            named(NameKind.VIRTUAL_KEY, VIRTUAL_KEYS[credential % 20]) if credential % 2 else None,
            self._session() if length > 1 else None,
            words.tag_set(tags) if random.random() < 0.9 else None,
            random.choice(self._clients),
            random.choice(self._kinds),
            named(NameKind.NODE, NODES[node]),
            words.journals[node],
        )
        return [min(length, LONGEST), values, model]


class Rows:
    """`columns`, and rows that give them, the oldest first, as evenly over `span_us` until `until_us` as requests
    come."""

    def __init__(self, words: Words, session: Callable[[], int], variety: int = VARIETY) -> None:
        self._random = Random(10)
        shapes = Shapes(self._random, words)
        self._routes = [shapes.route(model, variety) for model in range(len(MODELS))]
        self._agents = Agents(self._random, words, session)
        self._variety = variety
        self.columns = (*VARYING, *OF_AGENT, *shapes.columns)

    def __call__(self, number: int, until_us: int, span_us: int) -> Iterator[tuple[Any, ...]]:
        random, bits, noise = self._random.random, self._random.getrandbits, self._random.randbytes
        agents = [self._agents.new() for _ in range(ACTIVE)]
        since, variety, last = until_us - span_us, self._variety, 0
        for ordinal in range(1, number + 1):
            place = int(random() * ACTIVE)
            agent = agents[place]
            if agent[0] == 0:
                agent = agents[place] = self._agents.new()
            agent[0] -= 1
            shape, begins = self._routes[agent[2]].shapes[int(random() * variety)]
            at = since + int((ordinal - random()) / number * span_us)
            ms, us = divmod(at, 1000)
            last = stamp = max(ms << 12 | us * 4096 // 1000, last + 1)
            key = (stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0x2 << 62 | bits(62)
            hashes = noise(64)
            response = None if begins is None else f"{begins}{bits(120):030x}"
            request = f"req_{bits(96):024x}"
            varying = (key.to_bytes(16, "big"), ordinal, at, response, request, hashes[:32], hashes[32:])
            yield (*varying, *agent[1], *shape)
