"""What the console makes of status files: readiness and metrics, also of files that are damaged, dead or missing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.console.facts import look, problems
from proxy.console.metrics import Metrics
from proxy.status import StatusFile, read_all

FORWARD = {"worker": "a", "address": ["127.0.0.1", 8800], "accepted": 3, "active": 1, "problem": None}
INGEST = {"database": "ok", "ended": {"stored": 0, "highest": 0}, "journals": {"a": {"stored": 3, "highest": 3}}}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "status").mkdir()
    return tmp_path


def tell(home: Path, role: str, facts: dict[str, Any]) -> None:
    StatusFile(home, role).write(facts)


def tell_dead(home: Path, role: str, pid: int, facts: dict[str, Any]) -> None:
    frame = {"role": role, "pid": pid, "born": "never", "written": 1.0, "facts": facts}
    (home / "status" / f"{role}-{pid}.json").write_bytes(msgspec.json.encode(frame))


def metrics(page: bytes) -> dict[str, float]:
    samples = [each for family in text_string_to_metric_families(page.decode()) for each in family.samples]
    return {each.name + "".join(each.labels.values()): each.value for each in samples}


def test_ready_when_forward_serves_and_ingest_reaches_the_database(home: Path) -> None:
    tell(home, "forward", FORWARD)
    tell(home, "ingest", INGEST)
    assert problems(look(home)) == []


@pytest.mark.parametrize(
    ("forward", "ingest", "reason"),
    [
        (None, INGEST, "forward is not running"),
        ({**FORWARD, "address": None}, INGEST, "forward is not running"),
        ({**FORWARD, "stopped": True}, INGEST, "forward is not running"),
        ({**FORWARD, "problem": "the journal cannot be written"}, INGEST, "the journal cannot be written"),
        (FORWARD, None, "ingest is not running"),
        (FORWARD, {**INGEST, "database": "the database is locked"}, "the database is locked"),
        (FORWARD, {}, "ingest has not reached the database yet"),
    ],
)
def test_not_ready(home: Path, forward: dict[str, Any] | None, ingest: dict[str, Any] | None, reason: str) -> None:
    if forward is not None:
        tell(home, "forward", forward)
    if ingest is not None:
        tell(home, "ingest", ingest)
    (problem,) = problems(look(home))
    assert reason in problem


def test_facts_of_another_version_are_their_defaults(home: Path) -> None:
    tell(home, "forward", {"accepted": "many", "address": 5})
    tell(home, "ingest", {"ended": []})
    (home / "status" / "forward-1.json").write_text("{half")
    page = metrics(Metrics(home).render())
    assert page["wiretape_exchanges_accepted_total"] == 0
    assert page["wiretape_database_up"] == 0


def test_without_any_status_there_is_a_page_all_the_same(tmp_path: Path) -> None:
    page = metrics(Metrics(tmp_path).render())
    assert page["wiretape_exchanges_accepted_total"] == page["wiretape_journal_lag_bytes"] == 0


def test_the_lag_is_forwards_until_ingest_speaks(home: Path) -> None:
    tell(home, "forward", {**FORWARD, "waiting_bytes": 700})
    assert metrics(Metrics(home).render())["wiretape_journal_lag_bytes"] == 700
    tell(home, "ingest", {**INGEST, "lag_bytes": 5, "lag_seconds": 0.5, "damage": 2, "unread": 7})
    page = metrics(Metrics(home).render())
    assert page["wiretape_exchanges_unread"] == 7
    assert (page["wiretape_journal_lag_bytes"], page["wiretape_journal_lag_seconds"]) == (5, 0.5)
    assert page["wiretape_journal_damage_total"] == 2
    assert page["wiretape_database_up"] == 1


def test_a_dead_ingest_still_says_what_it_stored(home: Path) -> None:
    tell_dead(home, "ingest", 1, INGEST)
    page = metrics(Metrics(home).render())
    assert page["wiretape_exchanges_stored_total"] == 3
    assert page["wiretape_database_up"] == 0


def test_the_living_ingest_is_heard_rather_than_the_dead(home: Path) -> None:
    tell_dead(home, "ingest", 1, {**INGEST, "lag_bytes": 9})
    tell(home, "ingest", {**INGEST, "lag_bytes": 4})
    assert metrics(Metrics(home).render())["wiretape_journal_lag_bytes"] == 4


def test_counters_never_fall_when_a_worker_is_gone(home: Path) -> None:
    page = Metrics(home)
    dead = {**FORWARD, "worker": "old", "turned_away": {"bad_request": 4}, "journal_failures": 2}
    tell_dead(home, "forward", 1, dead)
    tell(home, "forward", {**FORWARD, "turned_away": {"bad_request": 1, "unknown_upstream": 1}, "journal_failures": 1})
    before = metrics(page.render())
    assert before["wiretape_turned_away_totalbad_request"] == 5
    assert before["wiretape_turned_away_totalunknown_upstream"] == 1
    assert before["wiretape_journal_failures_total"] == 3
    (home / "status" / "forward-1.json").unlink()
    after = metrics(page.render())
    assert {name: after[name] for name in before if "turned" in name or "failures" in name} == {
        name: before[name] for name in before if "turned" in name or "failures" in name
    }


def test_only_living_workers_have_exchanges_under_way(home: Path) -> None:
    tell_dead(home, "forward", 1, {**FORWARD, "worker": "old", "active": 7})
    tell(home, "forward", FORWARD)
    assert metrics(Metrics(home).render())["wiretape_exchanges_active"] == 1
    assert {status.pid for status in read_all(home)} == {1, os.getpid()}


def test_write_times_add_up_over_workers(home: Path) -> None:
    writes = {"8.192e-06": 3, "+Inf": 1}
    tell_dead(home, "forward", 1, {**FORWARD, "worker": "old", "journal_writes": writes, "journal_write_ns": 5 * 10**8})
    writes = {"8.192e-06": 2, "1.6384e-05": 5, "+Inf": 0}
    tell(home, "forward", {**FORWARD, "journal_writes": writes, "journal_write_ns": 10**9})
    found = metrics(Metrics(home).render())
    name = "wiretape_journal_write_seconds"
    assert [found[f"{name}_bucket{bound}"] for bound in ("8.192e-06", "1.6384e-05", "+Inf")] == [5, 10, 11]
    assert (found[f"{name}_count"], found[f"{name}_sum"]) == (11, 1.5)
