"""The configuration page lists every key with its default and its meaning, and no other."""

from __future__ import annotations

from pathlib import Path

from proxy.config import documented_keys

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_page_lists_every_key() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert rows == [f"| `{key}` | `{default}` | {meaning} |" for key, default, meaning in documented_keys()]
