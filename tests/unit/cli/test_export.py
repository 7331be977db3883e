"""`export`: event streams without their coding, and exchanges as JSON lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from tests.support.recordings import EVENTS, PACKED, newest_first, oldest_first
from tests.unit.cli.conftest import Command, Ran, tame

Ids = dict[str, UUID]


def objects(ran: Ran) -> list[Any]:
    assert ran.code == 0, ran.err
    return [msgspec.json.decode(line) for line in ran.out.split(b"\n") if line]


def test_sse_undoes_the_coding(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("export", "sse", ids["packed"])
    assert (ran.code, ran.out, ran.err) == (0, PACKED, "")


def test_sse_of_a_plain_stream_is_its_bytes(wiretape: Command, ids: Ids) -> None:
    assert wiretape("export", "sse", ids["stream"]).out == b"".join(EVENTS)


def test_sse_of_several_keeps_their_events_apart(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("export", "sse", ids["packed"], ids["running"], ids["packed"])
    assert ran.out == PACKED + b"data: so far\n\n" + PACKED
    ran = wiretape("export", "sse", ids["broken"], ids["stream"])
    cut, whole = ran.out[: -len(b"".join(EVENTS))], ran.out[-len(b"".join(EVENTS)) :]
    assert whole == b"".join(EVENTS)
    assert cut.endswith(b"\n\n")
    assert PACKED.startswith(cut.rstrip(b"\n"))


def test_sse_of_a_truncated_stream_gives_its_beginning_and_fails(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("export", "sse", ids["broken"])
    assert ran.code == 1
    assert ran.out
    assert PACKED.startswith(ran.out)
    assert "gzip data ends too early" in ran.err


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [("bodiless", 1, "not recorded"), ("lossy", 2, "application/json"), ("refused", 1, "no response")],
)
def test_sse_of_what_is_no_stream(wiretape: Command, ids: Ids, name: str, code: int, said: str) -> None:
    ran = wiretape("export", "sse", ids["stream"], ids[name])
    assert (ran.code, ran.out) == (code, b"")
    assert said in ran.err


def test_sse_into_a_file_of_ones_own(wiretape: Command, ids: Ids, tmp_path: Path) -> None:
    file = tmp_path / "stream.sse"
    ran = wiretape("export", "sse", ids["packed"], "--output", file)
    assert (ran.code, ran.out) == (0, b"")
    assert file.read_bytes() == PACKED
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_written(wiretape: Command, ids: Ids, tmp_path: Path) -> None:
    for kind in ("sse", "jsonl"):
        ran = wiretape("export", kind, ids["packed"], "--output", tmp_path)
        assert ran.code == 2
        assert "--output" in ran.err


def test_sse_on_a_terminal_is_made_visible(terminal: Command, ids: Ids) -> None:
    ran = terminal("export", "sse", ids["hostile"])
    assert tame(ran.out)
    assert "\\x1b[31mred" in ran.text


def test_jsonl_has_what_show_has_the_oldest_first(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("export", "jsonl")
    assert [each["id"] for each in objects(ran)] == oldest_first(ids)
    assert tame(ran.out)
    for line, name in zip(ran.out.splitlines(keepends=True), ids, strict=True):
        shown = wiretape("show", ids[name], "--format", "json").json
        here = {each: shown.pop(each) for each in ("origin", "counted", "journal", "price")}
        assert (msgspec.json.decode(line), here["origin"]) == (shown, "live")


@pytest.mark.parametrize("page", [1, 2, 3, 8])
def test_jsonl_over_many_pages(wiretape: Command, ids: Ids, page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.cli.filters.PAGE", page)
    assert [each["id"] for each in objects(wiretape("export", "jsonl"))] == oldest_first(ids)
    some = objects(wiretape("export", "jsonl", "--limit", 3))
    assert [each["id"] for each in some] == newest_first(ids)[:3][::-1]


def test_jsonl_of_some(wiretape: Command, ids: Ids, tmp_path: Path) -> None:
    assert [each["id"] for each in objects(wiretape("export", "jsonl", "--status", "4xx"))] == oldest_first(
        ids, ("hostile", "lossy")
    )
    named = objects(wiretape("export", "jsonl", "last", ids["packed"], ids["running"]))
    assert [each["id"] for each in named] == oldest_first(ids, ("packed", "running"))
    assert objects(wiretape("export", "jsonl", "--status", "555")) == []
    wiretape("export", "jsonl", "last", "--output", tmp_path / "x")
    assert msgspec.json.decode((tmp_path / "x").read_bytes())["id"] == str(ids["running"])


def test_jsonl_takes_ids_or_filters(wiretape: Command) -> None:
    ran = wiretape("export", "jsonl", "last", "--limit", "2")
    assert (ran.code, ran.out) == (2, b"")
