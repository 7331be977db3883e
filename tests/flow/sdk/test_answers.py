"""The providers' SDKs by base_url: what they make of an answer is what they make of it without wiretape."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from anthropic import Anthropic
from google import genai
from google.genai.types import HttpOptions
from openai import OpenAI

from tests.flow.sdk.calls import KEY, MESSAGES, PLAIN, QUESTION, STREAMS, Call
from tests.flow.sdk.conftest import Set
from tests.flow.sdk.provider import DATA, events
from tests.support.rawhttp import Message
from tests.support.running import wait_for

every_call = pytest.mark.parametrize("call", [*PLAIN, *STREAMS], ids=lambda call: call.name)


def base_of(call: Call, bases: dict[str, str], name: str) -> str:
    """The base URL of another upstream that speaks the call's dialect."""
    return f"{bases['demo'].partition('/demo')[0]}/{name}{call.suffix}"


@every_call
def test_the_sdk_gets_the_answer_and_the_provider_the_request(sdks: Set, call: Call) -> None:
    direct = call.ask(sdks.provider.url + call.suffix, "answers")
    assert len(direct) == 1 or call in STREAMS
    assert any(word in str(direct) for word in ("chicken", "2 + 2 = 4", "Checking", "library 📚"))
    asked = sdks.provider.seen[-1]
    assert call.ask(sdks.bases[call.provider], "answers") == direct
    relayed = sdks.provider.seen[-1]
    assert relayed is not asked
    assert _as_sent(relayed) == _as_sent(asked)


@pytest.mark.parametrize("call", [call for call in STREAMS if "chat" in call.name], ids=lambda call: call.name)
def test_tool_calls_come_through(sdks: Set, call: Call) -> None:
    direct = call.ask(sdks.provider.url + call.suffix, "tools")
    assert "get_weather" in str(direct)
    assert call.ask(sdks.bases[call.provider], "tools") == direct


def _openai_events(base_url: str) -> Iterator[object]:
    with OpenAI(base_url=base_url, api_key=KEY, max_retries=0) as client:
        yield from client.chat.completions.create(model="answers", messages=MESSAGES, stream=True)


def _anthropic_events(base_url: str) -> Iterator[object]:
    with Anthropic(base_url=base_url, api_key=KEY, max_retries=0) as client:
        yield from client.messages.create(model="answers", max_tokens=64, messages=MESSAGES, stream=True)


def _gemini_events(base_url: str) -> Iterator[object]:
    with genai.Client(api_key=KEY, http_options=HttpOptions(base_url=base_url)) as client:
        yield from client.models.generate_content_stream(model="answers", contents=QUESTION)


@pytest.mark.parametrize(
    ("name", "file", "stream"),
    [
        ("openai", "openai-chat.sse", _openai_events),
        ("anthropic", "anthropic-messages.sse", _anthropic_events),
        ("gemini", "gemini-generate.sse", _gemini_events),
    ],
)
def test_each_event_reaches_the_sdk_before_the_next_is_sent(
    sdks: Set, gate: threading.Semaphore, name: str, file: str, stream: Callable[[str], Iterator[object]]
) -> None:
    gate.release()
    seen = 0
    for _ in stream(sdks.bases[name]):
        seen += 1
        gate.release()
    assert seen >= len(events(DATA / file)) - 1, "pings and [DONE] are no events of the SDK's"


@pytest.fixture
def gate(sdks: Set) -> Iterator[threading.Semaphore]:
    sdks.provider.gate = threading.Semaphore(0)
    yield sdks.provider.gate
    sdks.provider.gate = None


@every_call
def test_a_refusal_of_the_provider_is_the_same_error(sdks: Set, call: Call) -> None:
    direct, relayed = _errors(sdks, call, "refuses")
    status = "529" if call.provider == "anthropic" else "429"
    assert status in str(direct)
    assert (type(relayed), str(relayed)) == (type(direct), str(direct))


@every_call
def test_an_answer_that_breaks_off_is_the_same_error(sdks: Set, call: Call) -> None:
    direct, relayed = _errors(sdks, call, "breaks")
    assert (type(relayed), str(relayed)) == (type(direct), str(direct))


def _errors(sdks: Set, call: Call, model: str) -> tuple[Exception, Exception]:
    found = []
    for base_url in (sdks.provider.url + call.suffix, sdks.bases[call.provider]):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is for the SDK to say
            call.ask(base_url, model)
        found.append(caught.value)
    return found[0], found[1]


def test_the_built_in_upstream_answers_every_sdk(sdks: Set) -> None:
    calls = [call for call in [*PLAIN, *STREAMS] if "responses" not in call.name]
    # It takes its time, as a model does, so they all ask at once.
    with ThreadPoolExecutor(len(calls)) as pool:
        answers = pool.map(lambda call: call.ask(base_of(call, sdks.bases, "demo"), "some-model"), calls)
        for call, heard in zip(calls, answers, strict=True):
            assert len(heard) > 1 if call in STREAMS else len(heard) == 1, call.name
            assert "some-model" in str(heard), call.name


def test_what_sdks_ask_is_stored_with_its_tags_and_under_one_credential(sdks: Set) -> None:
    asked = [call for call in PLAIN if "async" not in call.name]
    for call in asked:
        call.ask(base_of(call, sdks.bases, f"~test=sdk/{call.provider}"), "answers")
    query = (
        "select upstream, outcome, credential, request_out_hash, response_out_hash, origin"
        " from exchange_list join tags using (exchange_id)"
        " where tags.name = 'test' and tags.value = 'sdk' and outcome is not null"
    )
    database = f"file:{sdks.wiretape.home / 'wiretape.db'}?mode=ro"

    def stored() -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(database, uri=True)) as connection:
            rows = connection.execute(query).fetchall()
        return rows if len(rows) == len(asked) else []

    rows = wait_for(stored, "the exchanges")
    credentials = {row[2] for row in rows}
    assert len(credentials) == 1
    assert sorted(rows) == sorted((call.provider, "completed", *credentials, None, None, "live") for call in asked)


def _as_sent(request: Message) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
    """All but what is for one connection: the host, which names where it went, and how long it is kept."""
    return (
        request.start,
        [each for each in request.headers if each[0].lower() not in (b"host", b"connection")],
        request.body,
    )
