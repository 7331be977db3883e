"""`reinterpret` and `reprice`: what they say, in numbers for people and programs, and what they ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.ingest import again
from tests.support.databases import SqliteDatabase
from tests.unit.cli.conftest import Command

BOTH = pytest.mark.parametrize("command", ["reinterpret", "reprice"])


@BOTH
def test_a_time_to_begin_from_is_asked_for(wiretape: Command, command: str) -> None:
    ran = wiretape(command)
    assert (ran.code, ran.out) == (2, b"")
    assert f"say from when on: for example `wiretape {command} --since 7d`" in ran.err
    assert "--since 'soon' is no time: use for example" in wiretape(command, "--since", "soon").err
    assert "--until 'then' is no time" in wiretape(command, "--since", "1d", "--until", "then").err


def test_what_was_done_is_said(wiretape: Command) -> None:
    ran = wiretape("reinterpret", "--since", "2d")
    assert (ran.code, ran.err) == (0, "")
    assert ran.text == "7 exchanges read, 7 changed; tokens 0 → 0, cost $0.000000 → $0.000000\n"
    assert "7 exchanges read, 0 changed" not in wiretape("reinterpret", "--since", "2d").text
    ran = wiretape("reinterpret", "--since", "2d")
    assert "0 changed" in ran.text
    assert "1 exchange left as they are" in ran.err, "its body is not stored"
    assert "0 changed" in wiretape("reprice", "--since", "2d").text


def test_for_programs(wiretape: Command) -> None:
    wiretape("reinterpret", "--since", "2d")
    told = wiretape("reinterpret", "--since", "2d", "--format", "json").json
    assert (told["read"], told["changed"], told["skipped"], told["interrupted"]) == (6, 0, 1, False)
    assert told["before"] == told["after"]
    assert set(told["after"]) >= {"exchanges", "unknown", "unpriced", "input_tokens", "cost_pico"}


def test_nothing_in_that_time(wiretape: Command) -> None:
    ran = wiretape("reinterpret", "--since", "2020-01-01", "--until", "2020-01-02")
    assert (ran.code, ran.text.startswith("0 exchanges read, 0 changed")) == (0, True)


@pytest.mark.parametrize("steps", [0, 1])
def test_interrupted_it_says_how_to_go_on(wiretape: Command, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    monkeypatch.setattr(again, "_BYTES", -1)
    work = again.reinterpret

    def interrupted(*arguments: object) -> object:
        yield from (step for _, step in zip(range(steps), work(*arguments), strict=False))  # type: ignore[arg-type]  # as it was called
        raise KeyboardInterrupt

    monkeypatch.setattr(again, "reinterpret", interrupted)
    ran = wiretape("reinterpret", "--since", "2d")
    assert ran.code == 130
    assert ran.text.startswith(f"{steps} exchange{'' if steps == 1 else 's'} read")
    if steps:
        since = ran.err.partition("--since ")[2].partition("`")[0]
        monkeypatch.setattr(again, "reinterpret", work)
        assert wiretape("reinterpret", "--since", since).text.startswith("7 exchanges read, 6 changed")
    else:
        assert "interrupted before anything was done" in ran.err


def test_another_zone_than_the_databases_is_told(wiretape: Command, database: SqliteDatabase) -> None:
    database.execute("INSERT INTO meta VALUES ('reporting_time_zone', 'Asia/Tokyo')")
    assert "Tokyo" not in wiretape("reprice", "--since", "2d").err, "nobody asked for a zone"
    Path("wiretape.toml").write_text("reporting_time_zone = 'Europe/Berlin'\n")
    ran = wiretape("reprice", "--since", "2d")
    assert ran.code == 0
    assert "reporting_time_zone is Europe/Berlin, but this database counts its days in Asia/Tokyo" in ran.err


def test_a_zone_that_is_none_is_refused(wiretape: Command) -> None:
    Path("wiretape.toml").write_text("reporting_time_zone = 'Mars/Olympus'\n")
    ran = wiretape("reprice", "--since", "2d")
    assert ran.code == 2
    assert "reporting_time_zone must be an IANA time zone such as Europe/Berlin, or UTC" in ran.err
