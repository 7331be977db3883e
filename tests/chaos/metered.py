"""Requests whose answers tell tokens, each another number: what is spent can be added up by whoever got the answers.

Must not know what is recorded, or how; but for `check_sums`, which compares what is stored with that.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.chaos.ledger import REQUEST, Ledger
from tests.chaos.traffic import PACE, PATIENCE, Clients, Provider
from tests.support.rawhttp import connect

MODEL = "gpt-4o-mini"
_ASKED = b'{"model": "%b", "messages": [{"role": "user", "content": "say %b"}]}'
_SAID = b"say "


@dataclass(frozen=True, slots=True)
class Answered:
    """One request that came back with 200: the id that wiretape gave it, and its name."""

    id: str
    name: bytes


def asked(name: bytes) -> bytes:
    """The body of the request of a name."""
    return _ASKED % (MODEL.encode(), name)


def tokens(name: bytes) -> tuple[int, int]:
    """Input and output that the upstream counts for it."""
    number = sum(place * sign for place, sign in enumerate(name, 1))
    return number % 97 + 1, number % 31 + 1


def answer(name: bytes) -> bytes:
    """The body of the response to it."""
    given, made = tokens(name)
    usage = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
    message = {"role": "assistant", "content": f"{name.decode()} " * made}
    said = {"id": f"chatcmpl-{name.decode()}", "object": "chat.completion", "model": MODEL, "usage": usage}
    return json.dumps(said | {"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}).encode()


class Meter(Provider):
    """Answers chat completions; what else a Provider does it does too."""

    def answer_to(self, body: bytes) -> bytes:
        _, said, rest = body.partition(_SAID)
        return answer(rest.partition(b'"')[0]) if said else self.answer


class Askers(Clients):
    """Clients that send one request after the other, each on a connection of its own, until the block ends.

    `strict`: each request must be answered with 200 and the right bytes; else a failure is followed by the next try,
    as where a whole node dies.
    """

    def __init__(self, port: int, name: str, *, clients: int = 3, strict: bool = True, pace: float = PACE) -> None:
        super().__init__(clients, self._ask_on)
        self.unsure = 0  # requests of which nobody knows what became of them
        self._port = port
        self._name = name
        self._strict = strict
        self._pace = pace
        self._answered: list[list[Answered]] = [[] for _ in range(clients)]

    @property
    def done(self) -> int:
        return sum(len(each) for each in self._answered)

    @property
    def answered(self) -> list[Answered]:
        return [each for done in self._answered for each in done]

    def _ask_on(self, number: int) -> None:
        while not self.stop.is_set():
            try:
                self._ask(f"{self._name}{number}", self._answered[number])
            except BaseException:
                if self._strict:
                    raise
                self.unsure += 1
                self.stop.wait(self._pace)

    def _ask(self, client: str, done: list[Answered]) -> None:
        with connect(self._port, deadline=PATIENCE) as peer:
            while not self.stop.is_set():
                name = f"{client}-{len(done)}".encode()
                body = asked(name)
                head = b"POST /up/v1/chat/completions HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n"
                found = peer.send(head % len(body), body).read_message()
                assert (found.status, found.body) == (200, answer(name)), found
                done.append(Answered((found.one("x-wiretape-exchange") or b"").decode(), name))
                self.stop.wait(self._pace)


def check_answered(ledger: Ledger, answered: list[Answered]) -> None:
    """Every answer is stored once, byte for byte as its client got it, with its tokens, and so is what was asked."""
    stored: dict[str, list[bytes]] = {}
    sql = """SELECT l.id, c.side, c.data FROM chunks c JOIN exchange_list l ON l.exchange_id = c.exchange_id
        WHERE l.target = '/up/v1/chat/completions' ORDER BY c.exchange_id, c.seq"""
    for exchange, side, data in ledger.query(sql):
        stored.setdefault(exchange, [b"", b""])[side != REQUEST] += data
    counted = {row[0]: row[1:] for row in ledger.query("SELECT id, input_tokens, output_tokens FROM exchange_list")}
    assert len({each.id for each in answered}) == len(answered)
    for each in answered:
        found = stored.get(each.id)
        assert found == [asked(each.name), answer(each.name)], f"{each} is stored as {found}"
        assert counted[each.id] == tokens(each.name), f"{each} has the tokens {counted[each.id]}"


_COUNTED = "count(*), CAST(sum(CASE WHEN failed THEN 1 ELSE 0 END) AS BIGINT)"
_AMOUNTS = ("input_tokens", "output_tokens")
_COST = "coalesce(cost_reported_pico, cost_pico, 0)"
_MODEL = "coalesce(model_served, model_asked, 0)"
_KEYS = {
    "spend_hours": (
        "hour, upstream, model, cost_status, writer",
        f"started_us / 3600000000, coalesce(upstream, 0), {_MODEL}, coalesce(cost_status, 0), coalesce(node, 0)",
    ),
    "spend_keys": (
        "day, model, credential, virtual_key, writer",
        f"started_us / 86400000000, {_MODEL}, coalesce(credential, 0), coalesce(virtual_key, 0), coalesce(node, 0)",
    ),
}
"""Rollup -> its key, and the same of an exchange (days are those of UTC)."""


def check_sums(ledger: Ledger, answered: list[Answered] | None = None) -> dict[str, int]:
    """Each row of the rollups is the sum of its exchanges, and all of them what the upstream told (`answered` are all
    that got an answer); exchanges, input and output tokens in all."""
    amounts = ", ".join(f"CAST(sum(coalesce({each}, 0)) AS BIGINT)" for each in (*_AMOUNTS, _COST))
    for table, (kept, made) in _KEYS.items():
        width = kept.count(",") + 1
        by = ", ".join(str(place + 1) for place in range(width))
        sums = f"SELECT {made}, {_COUNTED}, {amounts} FROM exchanges WHERE counted GROUP BY {by}"  # noqa: S608 - our columns
        columns = f"{kept}, exchanges, errors, {', '.join(_AMOUNTS)}, cost_pico"
        found = ledger.query(f"SELECT {columns} FROM {table}")  # noqa: S608 - our columns
        assert sorted(map(tuple, found)) == sorted(map(tuple, ledger.query(sums))), table
    totals = ", ".join(f"CAST(coalesce(sum({each}), 0) AS BIGINT)" for each in ("exchanges", *_AMOUNTS))
    count, given, made_tokens = ledger.one(f"SELECT {totals} FROM spend_hours")  # noqa: S608 - our columns
    if answered is not None:
        told = [tokens(each.name) for each in answered]
        assert (given, made_tokens) == (sum(each[0] for each in told), sum(each[1] for each in told))
    return {"exchanges": count, "input_tokens": given, "output_tokens": made_tokens}
