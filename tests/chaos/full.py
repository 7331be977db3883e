"""The journal cannot grow: requests are refused before they cost anything, or pass and are counted; then all recovers.

Must not know which limit it is: each is a context manager that makes the journal full and, at its end, undoes it.
"""

from __future__ import annotations

import itertools
import json
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.chaos.away import locked
from tests.chaos.ledger import REQUEST, Ledger
from tests.chaos.sites import told
from tests.chaos.traffic import PATIENCE, Crowd, Provider
from tests.support.databases import Site
from tests.support.rawhttp import Message, RawUpstream, connect
from tests.support.running import Running, serving, wait_for

ANSWER = b'{"answer": "' + b"word " * 1500 + b'"}'
EVENT_SIZE = 1500


@dataclass(slots=True)
class Figures:
    """`answered` and `refused` are of the requests that filled the journal, `clients` of the streams beside them.

    `late` are those that had gone upstream when it showed that their response could not be recorded; `lost` are the
    bytes of all `gaps`.
    """

    answered: int = 0
    refused: int = 0
    late: int = 0
    gaps: int = 0
    lost: int = 0
    clients: dict[str, int] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], int] = field(default_factory=dict)


def ask(port: int, target: str, body: bytes = b"{}") -> Message:
    """One request on a connection of its own."""
    with connect(port, deadline=PATIENCE) as peer:
        head = b"POST /up%b HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        return peer.send(head % (target.encode(), len(body)), body).read_message()


Limit = Callable[[Running], AbstractContextManager[None]]


def never_stored(wiretape: Running) -> AbstractContextManager[None]:
    """Nothing leaves the journal, until it takes all the room that there is."""
    return locked(wiretape.home)


@contextmanager
def files_end_here(wiretape: Running) -> Iterator[None]:
    """No file of the worker may grow beyond what its journal has now, and some kilobytes."""
    pid = wiretape.pid("forward")
    longest = max(path.stat().st_size for path in (wiretape.home / "journal").glob("*.journal"))
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (longest + 100_000, resource.RLIM_INFINITY))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def something_fills_the_disk(wiretape: Running) -> Iterator[None]:
    """Another program's file takes all the room, for the database and the status as well."""
    path = wiretape.home / "filling"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    yield
    path.unlink()


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[None]:
    """A file system of `size` bytes in a new folder `place`. Skips where none is to be had."""
    place.mkdir(parents=True, mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def refusing(folder: Path, limit: Limit, config: str = "", site: Site | None = None) -> Figures:
    """`on_journal_failure = "refuse"`: what the clients see, what the upstream sees, what is stored in the end."""
    figures = Figures()
    provider = Provider(ANSWER, EVENT_SIZE)
    with (
        RawUpstream(provider, deadline=PATIENCE) as upstream,
        serving(folder, "--upstream", f"up={upstream.url}", config=config, variables=told(site)) as wiretape,
    ):
        port = int(wiretape.url.rpartition(":")[2])
        with Crowd(port, provider.finish.set, streams=3) as crowd:
            streams = crowd.wait_flowing()
            with limit(wiretape):
                _fill(port, provider, figures)
                wait_for(lambda: all(each.over for each in streams), "the streams' end")
                assert not any(each.complete for each in streams), "a broken stream must look like one"
                # On a full disk status files stay as they are, so that the metrics know nothing of it.
                _check_health(wiretape, told=limit is not something_fills_the_disk)
                figures.refused += sum(_refused(ask(port, f"/late/{number}")) for number in range(20))
            wait_for(lambda: _ready(wiretape) == (200, None), "the data port to be ready")
            assert ask(port, "/after").status == 200
            crowd.wait_flowing()
        wiretape.wait_stored(1)
        assert wiretape.metrics()["wiretape_exchanges_missing"] == 0
        assert wiretape.stop() == 0
    ledger = Ledger(wiretape.home, site)
    ledger.check()
    figures.clients = ledger.check_heard(crowd.heard)
    figures.outcomes = ledger.outcomes()
    assert set(figures.outcomes) == {("completed", "upstream_end"), ("interrupted", "journal_error")}
    for each in streams:
        assert each.id is not None
        assert ledger.exchange(each.id)["wire_end"] == "journal_error"
    return figures


def _fill(port: int, provider: Provider, figures: Figures) -> None:
    """Ask until a request is turned away; the upstream must not have seen that one."""
    for number in itertools.count():
        answer = ask(port, f"/fill/{number}")
        if not _refused(answer):
            assert answer.body == ANSWER
            figures.answered += 1
        elif answer.one("x-wiretape-exchange") is None:
            assert f"/fill/{number}".encode() not in provider.seen
            figures.refused += 1
            return
        else:
            figures.late += 1


def _refused(answer: Message) -> bool:
    if answer.status == 200:
        return False
    error = json.loads(answer.body)["error"]
    assert (answer.status, error["type"]) == (503, "wiretape_cannot_record"), answer
    assert "journal" in error["message"]
    return True


def _ready(wiretape: Running) -> tuple[int, str | None]:
    answer = wiretape.client.get(f"{wiretape.url}/-/ready")
    return answer.status_code, answer.json()["problem"]


def _check_health(wiretape: Running, *, told: bool) -> None:
    def unwell() -> bool:
        status, problem = _ready(wiretape)
        return status == 503 and problem is not None and "journal" in problem

    wait_for(unwell, "the data port to say that it is not ready")
    if told:
        wait_for(lambda: wiretape.metrics()["wiretape_journal_failures_total"] > 0, "the failures in the metrics")
    assert wiretape.client.get(f"{wiretape.url}/-/live").status_code == 200


def passing(folder: Path, requests: int, site: Site | None = None, never: Limit = never_stored) -> Figures:
    """`on_journal_failure = "pass"`: nothing is refused or broken, and what is not recorded is counted to the byte."""
    figures = Figures()
    provider = Provider(ANSWER, EVENT_SIZE)
    config = "forward.on_journal_failure = 'pass'\nrecord.max_journal = '1MiB'"
    with (
        RawUpstream(provider, deadline=PATIENCE) as upstream,
        serving(folder, "--upstream", f"up={upstream.url}", config=config, variables=told(site)) as wiretape,
    ):
        port = int(wiretape.url.rpartition(":")[2])
        with Crowd(port, provider.finish.set, streams=2, uploads=2) as crowd:
            streams = crowd.wait_flowing()
            with never(wiretape):
                answers = [ask(port, "/before")]
                while _ready(wiretape)[0] == 200:
                    answers.append(ask(port, "/fill"))
                answers += [ask(port, "/full", b"upload " * 999) for _ in range(requests)]
                crowd.wait_flowing()
            wait_for(lambda: _ready(wiretape) == (200, None), "the data port to be ready")
            answers.append(ask(port, "/after"))
            assert crowd.wait_flowing() == streams, "the same streams go on"
        wiretape.wait_stored(len(answers) + 4)
        metrics = wiretape.metrics()
        assert (metrics["wiretape_exchanges_missing"], metrics["wiretape_journal_failures_total"] > 0) == (0, True)
        assert wiretape.stop() == 0
        for sentence in ("has reached max_journal", "the journal can be written again"):
            assert sentence in wiretape.log, wiretape.log
    figures.answered = len(answers)
    assert all((answer.status, answer.body) == (200, ANSWER) for answer in answers)
    ledger = Ledger(wiretape.home, site)
    ledger.check()
    figures.outcomes = ledger.outcomes()
    assert figures.outcomes == {("completed", "upstream_end"): len(answers) + 4}
    assert all(heard.complete for heard in crowd.heard)
    for heard in crowd.heard:
        ledger.check_pieces(heard.id or "", heard.body)
    for answer in answers:
        ledger.check_pieces((answer.one("x-wiretape-exchange") or b"").decode(), ANSWER)
    for target, body in provider.uploads.items():
        for found in ledger.ids(b"/up" + target):
            ledger.check_pieces(found, bytes(body), REQUEST)
    sql = """SELECT count(*), CAST(sum(bytes) AS BIGINT) FROM gaps
        WHERE reason = (SELECT id FROM names WHERE value = 'journal')"""
    figures.gaps, figures.lost = ledger.one(sql)
    assert figures.lost > requests * len(ANSWER)
    return figures
