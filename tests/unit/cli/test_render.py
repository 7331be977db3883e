"""Formatting: what nothing recorded can get past, and numbers as people read them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cli import render
from tests.unit.cli.conftest import CONTROLS, ROOT, tame


@given(st.text())
def test_safe_text_is_one_tame_line(text: str) -> None:
    assert tame(render.safe(text))
    assert len(render.safe(text).splitlines()) <= 1
    assert (
        render.safe(text) == text
        or CONTROLS.search(text)
        or {"\n", "\t"} & set(text)
        or set(text) & set("\u061c\u200e\u200f")
    )


@given(st.text())
def test_safe_lines_keep_newlines_and_tabs(text: str) -> None:
    shown = render.safe_lines(text)
    assert tame(shown)
    assert [shown.count(kept) for kept in "\n\t"] == [text.count(kept) for kept in "\n\t"]


@given(st.recursive(st.text() | st.integers(0, 9), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_is_tame_and_means_the_same(value: object) -> None:
    encoded = render.json_bytes(value)
    assert tame(encoded)
    assert b"\n" not in encoded
    assert msgspec.json.decode(encoded) == value


@given(st.binary(), st.integers(1, 60))
def test_a_preview_fits(data: bytes, room: int) -> None:
    shown = render.preview(data, room)
    assert tame(shown)
    assert len(shown) <= 4 * room + 1


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (10 * 1024, "10 KiB"),
        (1023 * 1024 + 600, "1.0 MiB"),
        (2**50 * 3, "3,072 TiB"),
    ],
)
def test_sizes(number: int, shown: str) -> None:
    assert render.size(number) == shown


@pytest.mark.parametrize(
    ("us", "shown"),
    [
        (None, "-"),
        (0, "0 µs"),
        (999, "999 µs"),
        (1000, "1.0 ms"),
        (999_949, "999.9 ms"),
        (999_950, "1.00 s"),
        (59_994_999, "59.99 s"),
        (59_995_000, "1 m 00 s"),
        (3_599_400_000, "59 m 59 s"),
        (3_599_600_000, "1 h 00 m"),
        (90_000_000_000, "25 h 00 m"),
    ],
)
def test_durations(us: int | None, shown: str) -> None:
    assert render.duration(us) == shown


@pytest.mark.parametrize("us", [-(2**63), -1, 0, 1_790_000_000_123_456, 2**63 - 1])
def test_any_time_can_be_shown(us: int) -> None:
    assert render.utc(us).endswith("Z")
    assert render.local(us).tzinfo is not None


def test_times_keep_their_microseconds() -> None:
    assert render.utc(1_790_000_000_123_457) == "2026-09-21T14:13:20.123457Z"


def test_a_terminal_that_lacks_characters_gets_them_spelled_out(database: object, home: Path) -> None:
    ascii_only = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    call = [sys.executable, "-m", "proxy", "--home", str(home), "ls", "--limit", "1"]
    shown = subprocess.run(call, env=ascii_only, capture_output=True, check=True).stdout
    assert b"\t\\u2026\t" in shown
    data = subprocess.run([*call, "--format", "json"], env=ascii_only, capture_output=True, check=True).stdout
    assert msgspec.json.decode(data)[0]["outcome"] is None
