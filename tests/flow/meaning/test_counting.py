"""Over all streams together: what is summed is what providers reported, once, however often history is read again."""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import Any

from tests.flow.meaning.conftest import Sent
from tests.support.streams import Stream, streams

SUMS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "reasoning_tokens": "reasoning_tokens",
}
TABLES = ("exchanges", "meanings", "usage", "usage_raw", "billed", "spend_hours", "spend_keys", "spend_tags", "safety")


def _counting(sent: Sent) -> list[Stream]:
    """All but the copies of responses that were counted already."""
    return [streams()[name] for name in sent.ids if "duplicate_of_billing" not in streams()[name].expected]


def _expected(sent: Sent) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for stream in _counting(sent):
        usage = stream.expected["usage"] or {}
        for name in SUMS:
            sums[name] += usage.get(name) or 0
    return dict(sums)


def _everything(sent: Sent) -> dict[str, list[Any]]:
    connection = sqlite3.connect(sent.home / "wiretape.db")
    try:
        return {each: sorted(connection.execute(f"SELECT * FROM {each}"), key=repr) for each in TABLES}  # noqa: S608 - our tables
    finally:
        connection.close()


def test_sums_are_those_of_the_providers(sent: Sent) -> None:
    total = sent.command("spend", "--by", "model")["total"]
    assert {name: total[ours] for name, ours in SUMS.items()} == _expected(sent)
    states = Counter(stream.expected["usage_state"] for stream in _counting(sent))
    assert total["requests"] == len(_counting(sent))
    assert total["unknown"] == states["missing"]


def test_every_way_to_add_up_comes_to_the_same(sent: Sent) -> None:
    ways = ("model", "day", "hour", "upstream", "credential", "session", "status", "tag:none", "day,model,upstream")
    totals = [sent.command("spend", "--by", way)["total"] for way in ways]
    assert all(total == totals[0] for total in totals)


def test_history_read_again_changes_nothing(sent: Sent) -> None:
    before = _everything(sent)
    for command in ("reinterpret", "reprice", "reinterpret"):
        said = sent.command(command, "--since", "1d")
        assert said["changed"] == 0, said
        assert said["read"] == len(sent.ids)
        assert _everything(sent) == before


def test_a_copy_does_not_count_but_is_understood(sent: Sent) -> None:
    copy = sent.shown("openai-responses-background-resume")
    assert (copy["counted"], copy["usage"]["input_tokens"]) == (False, 1500)
    assert sent.shown("openai-responses-reasoning-text")["counted"] is True
