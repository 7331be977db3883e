"""docs/sizing.md is computed from the figures as they stand, and the sums are right."""

from __future__ import annotations

import re

import pytest

from tests.bench import sizing
from tests.support.running import ROOT

PAGE = (ROOT / "docs" / "sizing.md").read_text(encoding="utf-8")


def test_the_page_is_current() -> None:
    assert sizing.page() == PAGE, "python -m tests.bench.sizing > docs/sizing.md"


def test_every_figure_is_on_the_page_and_says_where_it_comes_from() -> None:
    every = {each for each in vars(sizing).values() if isinstance(each, sizing.Figure)}
    assert every == set(sizing.FIGURES)
    for each in sizing.FIGURES:
        assert each.source
        assert f"| {each.what} |" in PAGE


@pytest.mark.parametrize("postgres", [False, True])
def test_what_is_asked_for_is_in_the_sums(monkeypatch: pytest.MonkeyPatch, postgres: bool) -> None:
    """Each figure has a share in some sum of its engine."""
    before = sizing.need(sizing.CHAT, postgres=postgres)
    for name, figure in [(name, each) for name, each in vars(sizing).items() if isinstance(each, sizing.Figure)]:
        if figure.postgres if postgres else figure.sqlite:
            twice = figure._replace(sqlite=figure.sqlite * 2, postgres=figure.postgres * 2)
            with monkeypatch.context() as patch:
                patch.setattr(sizing, name, twice)
                assert sizing.need(sizing.CHAT, postgres=postgres) != before, name


def test_an_example_by_hand() -> None:
    plain, there = sizing.PLAIN, sizing.need(sizing.PLAIN, postgres=True)
    of_chunks = plain.chunks * sizing.SERVER_CHUNK.postgres
    assert there.server == sizing.SERVER_EXCHANGE.postgres + sizing.SERVER_INDEX.postgres + of_chunks
    assert there.packed < there.room
    (row,) = re.findall(r"^\| 1000 \| (.*) \|$", PAGE.partition("## Without")[2].partition("##")[0], re.MULTILINE)
    assert row.startswith(f"86,400,000 | {there.forward / 1000:.2f} | ")


def test_the_page_says_who_needs_more() -> None:
    assert "`wiretape db distribute`" in PAGE
