"""However exchanges end, many at once and in any combination: each has one outcome, and nothing of it stays open."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from tests.flow.wire.stage import LAST_CHUNK, STREAM, Origin, Stage, chunk, request
from tests.support.rawhttp import Ended, Peer
from tests.support.running import wait_for

EXCHANGES = 400
AT_ONCE = 12
EVENT = b"data: " + b"y" * 3000 + b"\n\n"
LEAVING: dict[str, Callable[[Peer], object]] = {"FIN": Peer.close, "half a FIN": Peer.fin, "RST": Peer.rst}
CLIENTS = ("reads all", "reads all", *LEAVING, "does not finish its request")
UPSTREAMS = ("ends well", "ends well", "FIN", "RST", "garbage", "FIN before the head", "answers early")


class Dice:
    """What happens to the n-th exchange: the same on every run, and known to both sides."""

    def __init__(self, number: int) -> None:
        chance = random.Random(number)
        self.client = chance.choice(CLIENTS)
        self.upstream = chance.choice(UPSTREAMS)
        self.events = chance.randrange(60)
        self.leaves_after = chance.randrange(1, 60_000)
        self.body = chance.randbytes(chance.randrange(1, 20_000))


def _script(peer: Peer) -> None:
    try:
        while True:
            _, headers = peer.read_head()
            known = {name.lower(): value for name, value in headers}
            dice = Dice(int(known[b"x-ask"]))
            if dice.upstream == "answers early":
                _answer(peer, dice)
            peer.read_exactly(int(known[b"content-length"]))
            if dice.upstream != "answers early":
                _answer(peer, dice)
    except (Ended, OSError):
        return


def _answer(peer: Peer, dice: Dice) -> None:
    if dice.upstream == "FIN before the head":
        peer.close()
        return
    peer.send(STREAM, *[chunk(EVENT)] * dice.events)
    if dice.upstream in {"ends well", "answers early"}:
        peer.send(LAST_CHUNK)
    elif dice.upstream == "garbage":
        peer.send(b"garbage\r\n")
    elif dice.upstream == "RST":
        peer.rst()
    else:
        peer.close()


def _ask(stage: Stage, origin: Origin, number: int) -> str:
    """One client; what became of its exchange, as far as that is certain."""
    dice = Dice(number)
    with stage.client() as client:
        data = request(origin.at(), dice.body, b"X-Ask: %d" % number, b"Connection: close")
        if dice.client == "does not finish its request":
            client.send(data[: len(data) - len(dice.body) // 2 - 1])
            return "left"
        client.send(data)
        if dice.client != "reads all":
            _read_some(client, dice.leaves_after)
            LEAVING[dice.client](client)
            return "left"
        return _read_all(client, dice)


def _read_some(client: Peer, size: int) -> None:
    try:
        client.read_exactly(size)
    except Ended:
        pass


def _read_all(client: Peer, dice: Dice) -> str:
    try:
        answer = client.read_message()
    except Ended:
        assert dice.upstream in {"FIN", "RST", "garbage"}
        return "broken"
    if answer.status == 502:
        assert dice.upstream in {"FIN before the head", "RST"}
        return "502"
    assert dice.upstream in {"ends well", "answers early"}
    assert answer.body == EVENT * dice.events
    return "completed"


def _sockets(stage: Stage) -> int:
    """How many the worker has open."""
    found = 0
    for each in Path(f"/proc/{stage.wiretape.pid('forward')}/fd").iterdir():
        with suppress(FileNotFoundError):
            found += each.readlink().name.startswith("socket:")
    return found


def test_any_end(stage: Stage) -> None:
    before = _sockets(stage)
    with stage.origin(_script) as origin, ThreadPoolExecutor(AT_ONCE) as pool:
        became = Counter(pool.map(lambda number: _ask(stage, origin, number), range(EXCHANGES)))
    outcomes = Counter(each.outcome for each in stage.recorded(origin, EXCHANGES))
    assert outcomes["completed"] >= became["completed"]
    assert outcomes["upstream_failed"] >= became["502"] + became["broken"]
    assert outcomes.keys() <= {"completed", "upstream_failed", "client_left"}
    assert stage.wiretape.metrics()["wiretape_exchanges_missing"] == 0
    wait_for(lambda: stage.wiretape.metrics()["wiretape_exchanges_active"] == 0, "the end of all")
    wait_for(lambda: _sockets(stage) <= before, "nothing to stay open")
