"""The providers' SDKs in playback: what they made of an answer they make of it again, with the provider gone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic as anthropic_sdk
import httpx2 as httpx
import openai as openai_sdk
import pytest

from tests.flow.sdk.calls import KEY, MESSAGES, PLAIN, STREAMS, Call
from tests.flow.sdk.conftest import DIALECTS, flags, printed_bases
from tests.flow.sdk.provider import Provider
from tests.support.running import serving

CALLS = (*PLAIN, *STREAMS)
Answers = list[dict[str, Any]]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Answers]]:
    """A folder in whose home every call is recorded, and what the SDK made of each."""
    folder = tmp_path_factory.mktemp("played")
    with Provider() as provider, serving(folder, *flags(provider)) as wiretape:
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


# With faults


def openai(bases: dict[str, str], fault: str, retries: int = 0) -> openai_sdk.OpenAI:
    headers = {"x-wiretape-fault": fault, "x-wiretape-session": fault}
    return openai_sdk.OpenAI(base_url=bases["openai"], api_key=KEY, max_retries=retries, default_headers=headers)


def anthropic(bases: dict[str, str], fault: str, retries: int = 0) -> anthropic_sdk.Anthropic:
    headers = {"x-wiretape-fault": fault, "x-wiretape-session": fault}
    return anthropic_sdk.Anthropic(
        base_url=bases["anthropic"], api_key=KEY, max_retries=retries, default_headers=headers
    )


def test_openai_retries_when_it_is_told_to(recorded: tuple[Path, dict[str, Answers]], bases: dict[str, str]) -> None:
    with openai(bases, "status=429 retry-after=0.8 times=1", 1) as client:
        began = time.monotonic()
        found = client.chat.completions.with_raw_response.create(model="answers", messages=MESSAGES)
    assert found.retries_taken == 1
    assert time.monotonic() - began > 0.75
    assert [found.parse().model_dump()] == recorded[1]["openai chat"]
    with openai(bases, "status=429") as client, pytest.raises(openai_sdk.RateLimitError) as raised:
        client.chat.completions.create(model="answers", messages=MESSAGES)
    assert raised.value.code == "rate_limit_exceeded"


def test_anthropic_retries_when_it_is_told_to(recorded: tuple[Path, dict[str, Answers]], bases: dict[str, str]) -> None:
    with anthropic(bases, "status=529 retry-after=0.8 times=1", 1) as client:
        began = time.monotonic()
        found = client.messages.with_raw_response.create(model="answers", max_tokens=64, messages=MESSAGES)
    assert found.retries_taken == 1
    assert time.monotonic() - began > 0.75
    assert [found.parse().model_dump()] == recorded[1]["anthropic messages"]
    with (
        anthropic(bases, "status=529") as client,
        pytest.raises(anthropic_sdk.APIStatusError, match="overloaded_error") as raised,
    ):
        client.messages.create(model="answers", max_tokens=64, messages=MESSAGES)
    assert raised.value.status_code == 529


def test_a_stream_that_is_cut_is_an_error(bases: dict[str, str]) -> None:
    seen: list[object] = []
    with (
        openai(bases, "split=line cut=6") as client,
        client.chat.completions.create(model="answers", messages=MESSAGES, stream=True) as stream,
        pytest.raises(openai_sdk.APIConnectionError),
    ):
        seen.extend(stream)
    assert 0 < len(seen) < 6


def test_so_it_is_for_anthropic(bases: dict[str, str]) -> None:
    seen: list[object] = []
    with (
        anthropic(bases, "split=line cut=6") as client,
        client.messages.stream(model="answers", max_tokens=64, messages=MESSAGES) as events,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        seen.extend(events)
    assert 0 < len(seen) < 6


@pytest.mark.parametrize("fault", ["split=line", "slow=20000"])
def test_openai_makes_the_same_of_a_stream_that_comes_otherwise(
    recorded: tuple[Path, dict[str, Answers]], bases: dict[str, str], fault: str
) -> None:
    with (
        openai(bases, fault) as client,
        client.chat.completions.create(model="answers", messages=MESSAGES, stream=True) as stream,
    ):
        assert [chunk.model_dump() for chunk in stream] == recorded[1]["openai chat stream"]


@pytest.mark.parametrize("fault", ["split=line", "split=utf8", "slow=20000"])
def test_anthropic_makes_the_same_of_a_stream_that_comes_otherwise(
    recorded: tuple[Path, dict[str, Answers]], bases: dict[str, str], fault: str
) -> None:
    with (
        anthropic(bases, fault) as client,
        client.messages.stream(model="answers", max_tokens=64, messages=MESSAGES) as events,
    ):
        found = [*(event.model_dump() for event in events), events.get_final_message().model_dump()]
        assert found == recorded[1]["anthropic messages stream"]
