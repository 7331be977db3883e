"""What `doctor` says: that all is well, or what is wrong, before anything runs, while it runs, and afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.support.here import run_here
from tests.support.rawhttp import IDLE, Ended, Message, Peer, RawUpstream
from tests.support.running import serving

Doctor = Callable[..., tuple[int, Any]]


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    """The exit code, and what it found."""

    def ask() -> tuple[int, Any]:
        done = run_here(tmp_path, "doctor", "--home", str(tmp_path / "home"), "--format", "json")
        assert not done.err
        return done.code, json.loads(done.out)

    return ask


def test_before_anything_runs(doctor: Doctor) -> None:
    code, found = doctor()
    assert (code, found["problems"]) == (0, [])
    assert any("nothing is recorded yet" in hint for hint in found["hints"])


def test_while_all_is_well_and_when_it_was_stopped(tmp_path: Path, doctor: Doctor) -> None:
    with serving(tmp_path, fresh=True) as wiretape:
        for _ in range(2):
            assert wiretape.client.get(f"{wiretape.base_url()}/v1/models").status_code == httpx.codes.OK
        wiretape.wait_stored(2)
        code, found = doctor()
        assert (code, found["ok"], found["problems"]) == (0, True, [])
        assert found["exchanges"] == {
            "accepted": 2, "stored": 2, "waiting": 0, "missing": 0, "kept": 2, "outcomes": {"completed": 2},
            "not_understood": {},
        }  # fmt: skip
        assert found["configuration"] == {"file": str(tmp_path / "wiretape.toml")}
        assert (found["home"]["path"], found["home"]["writable"]) == (str(wiretape.home), True)
        assert (found["database"]["state"], found["database"]["url"]) == (
            "ok",
            f"sqlite:///{wiretape.home}/wiretape.db",
        )
        assert (found["journal"]["lag_bytes"], found["journal"]["lag_seconds"], found["journal"]["damage"]) == (0, 0, 0)
        assert found["roles"] == {
            role: [wiretape.pid(role)] for role in ("console", "forward", "ingest", "serve") if role != "serve"
        } | {"serve": [wiretape.process.pid]}
        wiretape.stop()
    assert doctor()[0] == 0


def test_a_database_that_ingest_does_not_reach(tmp_path: Path, doctor: Doctor) -> None:
    with serving(tmp_path, "--database", f"sqlite:///{tmp_path}/away/wiretape.db", command="ingest"):
        code, found = doctor()
    assert code == 1
    assert any("away" in problem for problem in found["problems"])
    assert any("forward is not running" in problem for problem in found["problems"])


def test_a_configuration_with_a_mistake(tmp_path: Path, doctor: Doctor) -> None:
    (tmp_path / "wiretape.toml").write_text("forward.prot = 1")
    code, found = doctor()
    assert code == 1
    assert "forward.port" in str(found["problems"])


def _next(peer: Peer) -> Message | None:
    try:
        return peer.read_message()
    except Ended:
        return None


def test_what_was_not_understood_is_listed(tmp_path: Path, doctor: Doctor) -> None:
    """With how often; errors are no form that somebody could understand."""

    def answer(peer: Peer) -> None:
        while (asked := _next(peer)) is not None:
            status = b"404 No" if asked.target.startswith(b"/nothing") else b"200 OK"
            body = b'{"jobs":[]}'
            peer.send(b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n%s" % (status, body))

    targets = ["/v1/fine_tuning/jobs/ftjob-a1b2c3", "/v1/fine_tuning/jobs/ftjob-d4e5f6?x=1", "/nothing", "/%1B[m"]
    with (
        RawUpstream(answer, deadline=IDLE) as origin,
        serving(tmp_path, "--upstream", f"openai={origin.url}") as wiretape,
    ):
        for target in targets:
            wiretape.client.get(wiretape.base_url("openai") + target)
        wiretape.wait_stored(len(targets))
        code, found = doctor()
    assert code == 0
    assert found["exchanges"]["not_understood"] == {
        "openai GET /openai/v1/fine_tuning/jobs/*": 2,
        "openai GET /openai/%1B[m": 1,
    }
    assert any("3 exchanges succeeded and could not be understood" in hint for hint in found["hints"])
