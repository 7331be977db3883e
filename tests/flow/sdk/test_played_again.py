"""The providers' SDKs in playback: what they made of an answer they make of it again, with the provider gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flow.sdk.calls import PLAIN, STREAMS, Call
from tests.flow.sdk.conftest import DIALECTS, flags, printed_bases
from tests.flow.sdk.provider import Provider
from tests.support.running import serving

CALLS = (*PLAIN, *STREAMS)
Answers = list[dict[str, Any]]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Answers]]:
    """A folder in whose home every call is recorded, and what the SDK made of each."""
    folder = tmp_path_factory.mktemp("played")
    with Provider() as provider, serving(folder, *flags(provider), upgraded=True) as wiretape:
        bases = printed_bases(wiretape)
        found = {call.name: call.ask(bases[call.provider], "answers") for call in CALLS}
        wiretape.wait_stored(len(found))
        wiretape.stop()
    return folder, found


@pytest.fixture(scope="module")
def bases(recorded: tuple[Path, dict[str, Answers]]) -> Iterator[dict[str, str]]:
    config = "".join(f'[upstreams.{name}]\nurl = "http://127.0.0.1:9"\nmode = "playback"\n' for name in DIALECTS)
    with serving(recorded[0], config=f"{config}[playback]\nport = 0\norder = 'any'\n") as wiretape:
        yield printed_bases(wiretape)
        wiretape.stop()


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_the_sdk_makes_the_same_of_it(
    recorded: tuple[Path, dict[str, Answers]], bases: dict[str, str], call: Call
) -> None:
    assert call.ask(bases[call.provider], "answers") == recorded[1][call.name]
