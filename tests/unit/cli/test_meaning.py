"""What exchanges meant and cost, as `show`, `explain`, `ls`, `spend` and `credentials` tell it."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from proxy.cli import money
from proxy.cli.times import day_or_moment, moment
from proxy.errors import UsageError
from tests.support.databases import SqliteDatabase
from tests.unit.cli.conftest import Command, tame
from tests.unit.cli.meanings import LINES, understand

Ids = dict[str, UUID]


@pytest.fixture(autouse=True)
def _understood(database: SqliteDatabase, ids: Ids) -> None:
    understand(database.url, ids)


# show, explain


def test_show_tells_programs_by_the_fixtures_names(wiretape: Command, ids: Ids) -> None:
    shown = wiretape("show", ids["stream"], "--format", "json").json
    expected = {
        "response_model": "gpt-4o-mini-2024-07-18",
        "uncached_input_tokens": 84,
        "cost_usd": "0.0001326",
        "cost_reported_usd": None,
        "text": "sunny today",
        "reasoning": "",
        "tool_calls": [{"id": "c", "name": "get_weather", "arguments": '{"city": "Paris"}'}],
        "error": None,
        "wire_error": None,
        "events": 3,
        "complete": True,
        "rate_limits": [{"kind": "requests", "limit": 100, "remaining": 99, "reset_us": 2000}],
        "usage_raw": {"prompt_tokens": 1364},
    }
    assert {name: shown[name] for name in expected} == expected
    assert wiretape("show", ids["lossy"], "--format", "json").json["cost_reported_usd"] == 0.2


def test_show_tells_people(wiretape: Command, ids: Ids) -> None:
    text = wiretape("show", ids["stream"]).text
    for said in (
        "gpt-4o-mini → gpt-4o-mini-2024-07-18",
        "1,364 in (1,280 from the cache), 40 out",
        "$0.0001326 by our prices (exact)",
        "99 of 100 left, full again after 2.0 ms",
        "sunny today",
        'get_weather({"city": "Paris"})',
    ):
        assert said in text
    assert "$0.20 by the provider; $0.00015 by our prices (estimated)" in wiretape("show", ids["lossy"]).text
    assert "unpriced; no prices of the upstream local are known" in wiretape("show", ids["packed"]).text


def test_show_tells_units_media_and_what_only_some_say(wiretape: Command, ids: Ids) -> None:
    text = wiretape("show", ids["lossy"]).text
    for said in (
        "9.5 s heard, 2 web searches",
        "image/png in the request (chunk 1)",
        "upstream provider Groq, timings s (queue 0.5), counted input tokens 1,400",
    ):
        assert said in text
    shown = wiretape("show", ids["lossy"], "--format", "json").json
    assert (shown["upstream_provider"], shown["units"]) == ("Groq", {"audio_ms": 9500, "web_searches": 2})
    assert shown["media"] == [{"side": "request", "kind": "image/png", "first": 1, "last": 1, "size": 10}]


def test_an_estimate_is_marked_and_stands_apart(wiretape: Command, ids: Ids) -> None:
    assert "unknown (missing); estimated from the texts: 40 in, 7 out" in wiretape("show", ids["hostile"]).text
    shown = wiretape("show", ids["hostile"], "--format", "json").json
    assert (shown["estimated_input_tokens"], shown["estimated_output_tokens"]) == (40, 7)
    assert (shown["input_tokens"], shown["output_tokens"]) == (None, None)
    assert wiretape("spend", "--format", "json").json["total"]["input_tokens"] == 1364 + 10 + 1000
    (listed,) = [row for row in wiretape("ls", "--format", "json").json if row["id"] == str(ids["hostile"])]
    assert listed["estimated_output_tokens"] == 7


@pytest.mark.parametrize(
    "command", [("show", "hostile"), ("explain", "hostile"), ("ls",), ("spend",), ("credentials",)]
)
def test_hostile_words_are_shown_not_obeyed(
    wiretape: Command, terminal: Command, ids: Ids, command: tuple[str, ...]
) -> None:
    given = [ids.get(word, word) for word in command]
    assert tame(wiretape(*given).text)
    assert tame(wiretape(*given, "--format", "json").text)
    assert tame(terminal(*given, columns=300).text)
    if command[0] == "show":
        assert "\\x1b]0;owned\\x07" in wiretape(*given).text


def test_explain_shows_the_arithmetic(wiretape: Command, terminal: Command, ids: Ids) -> None:
    facts = wiretape("explain", ids["stream"], "--format", "json").json
    assert facts["lines"] == LINES
    assert sum(line["pico"] for line in facts["lines"]) == facts["cost_pico"] == 132_600_000
    assert facts["price"]["source"] == "genai-prices 0.2.3"
    text = terminal("explain", ids["stream"], columns=120).text
    for said in (
        "exact",
        "genai-prices 0.2.3 openai gpt-4o-mini",
        "$0.075 / million",
        "1,280",
        "$0.000096",
        "$0.0001326",
    ):
        assert said in text
    assert "unpriced: no prices of the upstream local are known" in wiretape("explain", ids["packed"]).text
    assert "the tokens are not known" in wiretape("explain", ids["hostile"]).text
    assert "not interpreted yet" in wiretape("explain", ids["running"]).text


# ls


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["--model", "gpt-4o-mini-2024-07-18"], ["lossy", "stream"]),
        (["--model", "gpt-4o-mini"], ["stream"]),
        (["--model", "gpt*"], ["lossy", "stream"]),
        (["--model", "nobody"], []),
        (["--credential", "0123456789abcdef"], ["stream"]),
        (["--credential", "0123"], ["stream"]),
        (["--search", "weather PARIS"], ["stream"]),
        (["--search", "sunny"], ["stream"]),
        (["--search", "paris OR nothing"], []),
        (["--search", '"paris'], ["stream"]),
        (["--min-cost", "0.0001"], ["lossy", "stream"]),
        (["--min-cost", "$0.15"], ["lossy"]),
        (["--errors"], ["hostile"]),
        (["--errors", "--model", "gpt*"], []),
    ],
)
def test_filters(wiretape: Command, ids: Ids, filters: list[str], names: list[str]) -> None:
    found = wiretape("ls", *filters, "--format", "json").json
    assert [each["id"] for each in found] == [str(ids[name]) for name in names]


def test_a_line_has_tokens_and_money(wiretape: Command, terminal: Command) -> None:
    cells = wiretape("ls", "--search", "sunny").lines[0].split("\t")
    assert cells[-6:] == ["gpt-4o-mini-2024-07-18", "1364", "40", "0.0001326", "0.200000", "stop"]
    assert "$0.0001326" in terminal("ls", columns=140).text
    assert "unpriced" in terminal("ls", columns=140).text


def test_a_search_says_what_it_cannot_see(wiretape: Command, database: SqliteDatabase) -> None:
    assert wiretape("ls", "--search", "sunny").err == ""
    database.execute("INSERT INTO texts (exchange_id, seq, data) SELECT exchange_id, 99 + seq, 'new' FROM texts")
    assert "not indexed yet" in wiretape("ls", "--search", "sunny").err
    Path("wiretape.toml").write_text("search = false\n")
    assert "search is false in the configuration" in wiretape("ls", "--search", "sunny").err


# spend


def test_spend_in_json(wiretape: Command) -> None:
    facts = wiretape("spend", "--by", "model", "--format", "json").json
    rows = {row["model"]: row for row in facts["rows"]}
    mini = rows["gpt-4o-mini-2024-07-18"]
    assert (mini["requests"], mini["input_tokens"], mini["uncached_input_tokens"], mini["cache_read_tokens"]) == (
        2,
        2364,
        1084,
        1280,
    )
    assert (mini["cost_pico"], mini["cost_usd"]) == (200_132_600_000, "0.2001326")
    assert (rows["local"]["cost_usd"], rows["local"]["unpriced"]) == (None, 1)
    total = facts["total"]
    assert (total["requests"], total["errors"], total["unpriced"], total["unknown"]) == (4, 1, 1, 1)
    assert facts["time_zone"] == "UTC"
    assert facts["rows"][0]["model"] == "gpt-4o-mini-2024-07-18"


def test_spend_for_a_spreadsheet(wiretape: Command) -> None:
    text = wiretape("spend", "--by", "model,upstream", "--format", "csv").text
    assert tame(text)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows[0]["cost_usd"] == "0.2001326"
    assert any(row["model"].startswith("'=cmd(") for row in rows), "it must not be taken for a formula"
    assert {row["cost_usd"] for row in rows if row["model"] == "local"} == {""}


def test_spend_for_people(terminal: Command, wiretape: Command) -> None:
    text = terminal("spend", "--by", "day", columns=140).text
    assert "$0.2001" in text
    assert "1 request without a price are not in the cost" in text or "without a price" in text
    assert "nobody told the tokens" in text
    assert "days and hours are those of UTC" in text
    assert (
        wiretape("spend", "--until", "2020-01-01").err.strip().endswith("nothing was spent since 30d until 2020-01-01")
    )


@pytest.mark.parametrize(
    ("arguments", "valid"),
    [
        (["--by", "week"], "model, day, hour, upstream, credential, session, status and tag:NAME"),
        (["--by", "model,"], "there are model, day"),
        (["--by", "tag:"], "tag:NAME"),
        (["--by", "day,day"], "names something twice"),
        (["--by", "tag:a,tag:b"], "one tag at a time"),
        (["--since", "whenever"], '"7d"'),
        (["--status", "4xx"], "such as 429"),
        (["--credential", "zz"], "there are 0123456789abcdef"),
        (["--upstream", "nobody"], "configured are openai"),
        (["--format", "xml"], "'csv'"),
    ],
)
def test_a_bad_value_is_answered_with_good_ones(wiretape: Command, arguments: list[str], valid: str) -> None:
    ran = wiretape("spend", *arguments)
    assert (ran.code, ran.out) == (2, b"")
    assert valid in ran.err
    assert ran.err.count("\n") == 1


# credentials


def test_credentials_have_names(wiretape: Command) -> None:
    (known,) = wiretape("credentials", "--format", "json").json
    assert (known["fingerprint"], known["name"], known["requests"], known["cost_usd"]) == (
        "0123456789abcdef",
        None,
        1,
        "0.0001326",
    )
    assert wiretape("credentials", "name", "0123", "CI").text == "0123456789abcdef is called CI\n"
    rows = wiretape("spend", "--by", "credential", "--format", "json").json["rows"]
    assert {row["credential"] for row in rows} == {"CI", None}
    assert len(wiretape("ls", "--credential", "CI").lines) == 1
    assert wiretape("credentials", "name", "CI", "").text == "0123456789abcdef has no name any more\n"
    assert wiretape("credentials", "name", "ffff", "x").code == 2


# times and money


@pytest.mark.parametrize(
    ("pico", "exact", "short"),
    [
        (0, "$0.00", "$0.00"),
        (1, "$0.000000000001", "$0.000000000001"),
        (132_600_000, "$0.0001326", "$0.0001326"),
        (10**12, "$1.00", "$1.000"),
        (1234567 * 10**9, "$1234.567", "$1,234.57"),
        (None, "-", "-"),
    ],
)
def test_money(pico: int | None, exact: str, short: str) -> None:
    assert (money.usd(pico), money.short_usd(pico)) == (exact, short)


def _us(year: int, month: int, day: int, hour: int = 0, minute: int = 0, *, zone: Any = UTC) -> int:
    return round(datetime(year, month, day, hour, minute, tzinfo=zone).timestamp()) * 1_000_000


def test_times() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert moment("--since", "2026-01-31", berlin) == _us(2026, 1, 31, zone=berlin)
    assert moment("--since", "2026-01-31T14:30+02:00", berlin) == _us(2026, 1, 31, 12, 30)
    assert moment("--since", None) is None
    today = datetime.now(berlin).replace(hour=0, minute=0, second=0, microsecond=0)
    assert day_or_moment("--since", "today", berlin) == round(today.timestamp()) * 1_000_000
    week = (today - timedelta(days=7)).date()
    assert day_or_moment("--since", "7d", berlin) == _us(week.year, week.month, week.day, zone=berlin)
    assert day_or_moment("--since", "1w", berlin) == day_or_moment("--since", "7d", berlin)
    for bad in ("", "tomorrow", "99999999999d", "2026-13-01", "7 days"):
        with pytest.raises(UsageError, match="is no time"):
            day_or_moment("--since", bad, berlin)
