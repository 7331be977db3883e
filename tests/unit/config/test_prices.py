"""Prices of one's own: exact as they were written, and what is no price is told in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal

import pytest

from tests.unit.config.conftest import Load

Refused = Callable[..., str]


def test_prices_are_what_was_written(read: Load) -> None:
    settings = read(
        '[prices."local/llama-3.3:70b"]\ninput = 0.1\noutput = "0.30000000001"\nsince = 2026-01-31\n'
        '[prices."gpt-4.1*"]\nrequest = 5\n'
    )
    llama, other = settings.prices["local/llama-3.3:70b"], settings.prices["gpt-4.1*"]
    assert llama.rates() == {"input": Decimal("0.1"), "output": Decimal("0.30000000001")}
    assert llama.since == date(2026, 1, 31)
    assert (other.rates(), other.since) == ({"request": Decimal(5)}, None)


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ('[prices."m"]\ninput = -1', 'prices.m.input must be an amount in USD such as 0.15, or "none", not -1'),
        ('[prices."m"]\ninput = "cheap"', "prices.m.input must be an amount in USD"),
        ('[prices."m"]\ninput = nan', "prices.m.input must be an amount in USD"),
        ('[prices."m"]\ninput = true', "prices.m.input must be an amount in USD"),
        ('[prices."m"]\ninputs = 1', "prices.m.inputs is not a setting; did you mean prices.m.input?"),
        ('[prices."m"]\nsince = "soon"\ninput = 1', "prices.m.since must be a day such as 2026-01-31"),
        ('[prices."m"]\nsince = 2026-01-31', "prices.m.input is missing; set at least one rate of this price"),
        ("prices = 3", "prices is a table; set a key of it"),
    ],
)
def test_bad_prices(refused: Refused, toml: str, says: str) -> None:
    assert says in refused(toml)
