"""`ls`: what is listed, how it is narrowed and paged, and what a terminal gets of hostile text."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import pytest

from proxy.store.engine import open_engine
from proxy.store.rows import ExchangeRow
from proxy.store.write import Writer
from tests.support.databases import SqliteDatabase
from tests.support.recordings import newest_first
from tests.unit.cli.conftest import Command, tame

Ids = dict[str, UUID]


def listed(wiretape: Command, *arguments: object) -> list[str]:
    ran = wiretape("ls", "--format", "json", *arguments)
    assert ran.code == 0, ran.err
    return [each["id"] for each in ran.json]


def test_newest_first(wiretape: Command, ids: Ids) -> None:
    assert listed(wiretape) == newest_first(ids)


def test_a_line_has_everything_between_tabs(wiretape: Command, ids: Ids) -> None:
    ran = wiretape("ls", "--tag", "project=search")
    cells = ran.lines[0].split("\t")
    assert len(ran.lines) == 1
    assert datetime.fromisoformat(cells[0]).utcoffset() == timedelta(hours=5, minutes=30)
    row = [
        str(ids["stream"]),
        "openai",
        "POST",
        "/v1/chat/completions",
        "200",
        "completed",
        "0.612345",
        "13",
        "59",
        "5",
        *["-"] * 6,
    ]
    assert cells[1:] == row


def test_what_runs_has_no_outcome_yet(wiretape: Command, ids: Ids) -> None:
    assert wiretape("ls", "--limit", 1).lines[0].split("\t")[6:8] == ["…", "-"]
    assert wiretape("ls", "--limit", 1, "--format", "json").json[0]["outcome"] is None


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["--upstream", "evil"], ["hostile"]),
        (["--upstream", "groq"], []),
        (["--status", "404"], ["lossy"]),
        (["--status", "4xx"], ["hostile", "lossy"]),
        (["--status", "4XX", "--upstream", "openai"], ["lossy"]),
        (["--status", "5xx"], []),
        (["--outcome", "client_left"], ["broken"]),
        (["--outcome", "REFUSED"], ["refused"]),
        (["--outcome", "open"], ["running"]),
        (["--tag", "project=search"], ["stream"]),
        (["--tag", "project"], ["stream"]),
        (["--tag", "project="], []),
        (["--session", "s1"], ["stream"]),
        (["--session", "other"], []),
        (["--since", "2h"], ["running", "lossy"]),
        (["--since", "90 m"], ["running"]),
        (["--until", "6.0h"], ["hostile", "stream"]),
        (["--since", "4h", "--until", "2h"], ["refused", "bodiless"]),
        (["--since", "2099-01-01"], []),
        (["--until", "1999-12-31T23:59Z"], []),
        (["--until", "2099-01-01 12:00:00+02:00", "--session", "s1"], ["stream"]),
        (["--limit", "2"], ["running", "lossy"]),
    ],
)
def test_filters(wiretape: Command, ids: Ids, filters: list[str], names: list[str]) -> None:
    assert listed(wiretape, *filters) == (newest_first(ids, *names) if names else [])


def test_a_time_without_offset_is_local(wiretape: Command, ids: Ids) -> None:
    began = datetime.fromisoformat(wiretape("ls", "--tag", "project=search").lines[0].split("\t")[0])
    later = (began + timedelta(minutes=1)).replace(tzinfo=None).isoformat()
    assert listed(wiretape, "--until", later) == [str(ids["stream"])]


@pytest.mark.parametrize(
    ("filters", "valid"),
    [
        (["--since", "lately"], '"2h", "7d"'),
        (["--until", "2026-13-01"], '"2026-01-31"'),
        (["--since", "999999999w"], '"7d"'),
        (["--status", "OK"], "404"),
        (["--status", "9"], "4xx"),
        (["--outcome", "failed"], "completed, client_left, upstream_failed, refused, interrupted"),
        (["--tag", "=search"], "NAME=VALUE"),
        (["--upstream", "opena\x1bi"], "openai, anthropic"),
        (["--format", "xml"], "'table', 'json'"),
        (["--before", "ffffffff"], "wiretape ls"),
        (["--credential", "ffff"], "there are 0123456789abcdef"),
        (["--min-cost", "much"], "0.05"),
        (["--min-cost", "-1"], "0.05"),
        (["--search", "-*"], "weather paris"),
        (["--limit", "0"], "1"),
    ],
)
def test_a_bad_value_is_answered_with_good_ones(wiretape: Command, filters: list[str], valid: str) -> None:
    ran = wiretape("ls", *filters)
    assert (ran.code, ran.out) == (2, b"")
    assert valid in ran.err
    assert ran.err.count("\n") == 1
    assert tame(ran.err)


def test_pages(wiretape: Command, ids: Ids) -> None:
    first = listed(wiretape, "--limit", 3)
    second = listed(wiretape, "--limit", 3, "--before", first[-1])
    third = listed(wiretape, "--limit", 3, "--before", second[-1][-12:])
    assert first + second + third == newest_first(ids)


def test_no_exchange_is_no_failure(wiretape: Command) -> None:
    ran = wiretape("ls", "--status", "555")
    assert (ran.code, ran.out) == (0, b"")
    assert "no such exchange" in ran.err
    assert wiretape("ls", "--status", "555", "--format", "json").json == []


def test_hostile_text_is_shown_not_obeyed(wiretape: Command, terminal: Command) -> None:
    assert tame(wiretape("ls").text)
    assert "\\x1b]0;owned\\x07" in wiretape("ls").text
    assert all(len(line.split("\t")) == 17 for line in wiretape("ls").lines)
    assert tame(wiretape("ls", "--format", "json").text)
    assert tame(terminal("ls", columns=200).text)


@pytest.mark.parametrize("columns", [80, 100, 140, 200, 300])
def test_the_table_fits_the_terminal(terminal: Command, ids: Ids, columns: int) -> None:
    ran = terminal("ls", "--limit", 9, columns=columns)
    assert ran.code == 0
    head, *rows = ran.lines
    assert len(rows) == len(ids)
    assert max(map(len, ran.lines)) <= columns
    assert head.startswith("TIME")
    for line, each in zip(rows, newest_first(ids), strict=True):
        assert each in line
    assert ("CHUNKS" in head) == (columns >= 200)
    assert ("COST" in head) == (columns >= 100)
    assert all(word in head for word in ("ID", "STATUS", "OUTCOME"))
    assert ("TARGET" in head) == (columns >= 200)


def test_a_process_that_begins_anew_shows_the_same(terminal: Command, ids: Ids) -> None:
    """All others on a terminal are forked off one that has the modules."""
    began = terminal("ls", columns=140, anew=True)
    assert began == terminal("ls", columns=140)
    assert (began.code, len(began.lines)) == (0, 1 + len(ids))


def test_a_full_page_says_how_the_next_one_is_had(terminal: Command, ids: Ids) -> None:
    assert f"--before {ids['lossy']}" in terminal("ls", "--limit", 2).text


def test_wide_characters_keep_the_columns(database: SqliteDatabase, terminal: Command, wiretape: Command) -> None:
    engine = open_engine(database.url, create=False)
    writer = Writer(engine)
    with writer.transaction():
        wide = UUID("ffffffff-0000-7000-8000-000000000000")
        writer.put_exchanges([ExchangeRow(wide, None, 1, upstream="语言模型", target="/" + "模" * 90)])
    engine.dispose()
    lines = terminal("ls", columns=150).lines
    assert len(lines) == 10
    assert lines[1].startswith("1970-01-01 05:30:00  ffffffff-0000")
    assert "语言模型" in wiretape("ls", "--limit", 1).text


@pytest.mark.engines("sqlite")
def test_without_a_database(wiretape: Command, home: object) -> None:
    ran = wiretape("--home", f"{home}/none", "ls")
    assert ran.code == 2
    assert "wiretape serve" in ran.err
