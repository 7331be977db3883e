"""`export har`, `export openai-jsonl`, and what is shown of their progress."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from tests.support.archives import body_of, validate
from tests.support.recordings import EVENTS, HOSTILE, HOSTILE_CHUNKS, PACKED, oldest_first
from tests.unit.cli.conftest import Command, Ran, tame

Ids = dict[str, UUID]


def entries(ran: Ran) -> dict[str, dict[str, Any]]:
    """By id."""
    assert ran.code == 0, ran.err
    return {each["_wiretape"]["id"]: each for each in validate(ran.json)}


def test_har_of_all(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("export", "har")
    assert tame(ran.out)
    assert list(entries(ran)) == oldest_first(ids)


def test_har_tells_what_crossed_the_wire(wiretape: Command, ids: Ids) -> None:
    entry = entries(wiretape("export", "har", ids["stream"]))[str(ids["stream"])]
    asked, answered = entry["request"], entry["response"]
    assert (asked["method"], asked["url"]) == ("POST", "https://api.openai.com/chat/completions")
    assert {"name": "x-twice", "value": "b"} in asked["headers"]
    assert (asked["bodySize"], body_of(asked["postData"])) == (13, b'{"model":"m"}')
    assert (answered["status"], answered["statusText"]) == (200, "OK")
    assert body_of(answered["content"]) == b"".join(EVENTS)
    assert answered["content"]["compression"] == 0
    assert entry["timings"] | {"send": 0, "wait": 40.0, "receive": 572.345} == entry["timings"]
    own = entry["_wiretape"]
    assert own["outcome"] == "completed"
    assert own["request_chunks"] == [{"at_us": 50, "size": 9}, {"at_us": 51, "size": 4}]
    assert own["response_chunks"] == [{"at_us": at * 100_000, "size": len(data)} for at, data in enumerate(EVENTS, 1)]


def test_har_bodies(wiretape: Command, ids: Ids) -> None:
    found = entries(wiretape("export", "har"))
    packed = found[str(ids["packed"])]["response"]
    assert body_of(packed["content"]) == PACKED
    assert packed["content"]["size"] == len(PACKED)
    assert packed["content"]["compression"] == len(PACKED) - packed["bodySize"]
    hostile = found[str(ids["hostile"])]
    assert hostile["response"]["content"]["encoding"] == "base64"
    assert body_of(hostile["response"]["content"]) == b"".join(HOSTILE_CHUNKS)
    assert body_of(hostile["request"]["postData"]) == HOSTILE.encode()
    broken = found[str(ids["broken"])]["response"]["content"]
    assert PACKED.startswith(body_of(broken))
    assert "too early" in broken["comment"]
    refused = found[str(ids["refused"])]["response"]
    assert (refused["status"], refused["bodySize"], refused["content"]["text"]) == (0, -1, "")
    assert "postData" not in found[str(ids["bodiless"])]["request"]


def test_har_of_some(wiretape: Command, ids: Ids, tmp_path: Path) -> None:
    assert list(entries(wiretape("export", "har", "--status", "4xx"))) == oldest_first(ids, ("hostile", "lossy"))
    assert entries(wiretape("export", "har", "--status", "555")) == {}
    wiretape("export", "har", "last", "--output", tmp_path / "x")
    assert len(validate(msgspec.json.decode((tmp_path / "x").read_bytes()))) == 1


def test_openai_jsonl_counts_what_it_skips(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("export", "openai-jsonl")
    assert (ran.code, ran.out) == (0, b"")
    assert sum(int(line.split()[1]) for line in ran.err.splitlines()) == len(ids)
    assert "skipped: no chat" in ran.err
    assert "skipped: without one whole answer" in ran.err


@pytest.mark.parametrize("form", ["jsonl", "openai-jsonl", "har"])
def test_ids_or_filters(wiretape: Command, form: str) -> None:
    ran = wiretape("export", form, "last", "--limit", "2")
    assert (ran.code, ran.out) == (2, b"")


@pytest.mark.engines("sqlite")
@pytest.mark.parametrize("form", ["jsonl", "openai-jsonl", "har"])
def test_no_progress_where_lines_would_run_into_it(terminal: Command, ids: Ids, form: str) -> None:
    ran = terminal("export", form)
    assert ran.code == 0
    assert tame(ran.out)


@pytest.mark.engines("sqlite")
@pytest.mark.parametrize("form", ["jsonl", "openai-jsonl", "har"])
def test_progress_on_a_terminal(terminal: Command, ids: Ids, form: str, tmp_path: Path) -> None:
    ran = terminal("export", form, "--output", tmp_path / "x")
    assert (ran.code, (tmp_path / "x").exists()) == (0, True)
    assert f"{len(ids)}/{len(ids)}" in ran.text
    assert terminal("export", form, "--status", "555", "--output", tmp_path / "x").code == 0


def test_no_progress_without_a_terminal(wiretape: Command, tmp_path: Path) -> None:
    for form in ("jsonl", "har"):
        assert wiretape("export", form, "--output", tmp_path / "x").err == ""
