"""What wiretape itself has to say reaches a program as its SDK's own error, with wiretape's sentence."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from google.genai import errors as gemini

from tests.flow.sdk.calls import PLAIN, STREAMS, Call
from tests.flow.sdk.conftest import DIALECTS, flags, printed_bases
from tests.flow.sdk.provider import Provider
from tests.support.running import serving

every_call = pytest.mark.parametrize("call", [*PLAIN, *STREAMS], ids=lambda call: call.name)


@pytest.fixture(scope="module")
def dead_port() -> Iterator[int]:
    """Bound and not listened on: a connection to it is refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory, dead_port: int) -> Iterator[dict[str, str]]:
    """Base URLs of a data port, also for upstreams (`dead-…`) that nobody answers for."""
    dead = [f'[upstreams.dead-{each}]\nurl = "http://127.0.0.1:{dead_port}"\ndialect = "{each}"' for each in DIALECTS]
    with serving(tmp_path_factory.mktemp("errors"), command="forward", config="\n".join(dead)) as wiretape:
        yield printed_bases(wiretape)


@pytest.fixture(scope="module")
def unable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Provider, dict[str, str]]]:
    """A data port that has no room to record, and the provider behind it."""
    with Provider() as provider:
        folder = tmp_path_factory.mktemp("unable")
        with serving(folder, *flags(provider), command="forward", config="record.max_journal = '1KiB'") as wiretape:
            yield provider, printed_bases(wiretape)


@every_call
def test_an_upstream_that_cannot_be_reached_is_a_502(bases: dict[str, str], call: Call, dead_port: int) -> None:
    error = _refused(call, bases[f"dead-{call.provider}"])
    said = f"dead-{call.provider}: cannot connect to 127.0.0.1:{dead_port}: Connection refused"
    assert error == (502, "wiretape_upstream_unreachable", said)


@every_call
def test_an_unknown_upstream_is_a_404_that_names_the_known(bases: dict[str, str], call: Call) -> None:
    base_url = bases[call.provider].replace(f"/{call.provider}", f"/{call.provider}x")
    status, kind, said = _refused(call, base_url)
    assert (status, kind) == (404, "wiretape_unknown_upstream")
    assert said.startswith(f"no upstream is named '{call.provider}x', did you mean '{call.provider}'?")
    assert all(name in said for name in bases)


@every_call
def test_what_cannot_be_recorded_is_a_503_and_reaches_nobody(
    unable: tuple[Provider, dict[str, str]], call: Call
) -> None:
    provider, bases = unable
    status, kind, said = _refused(call, bases[call.provider])
    assert (status, kind) == (503, "wiretape_cannot_record")
    assert said.startswith("not sent to the upstream, because it could not be recorded: ")
    assert "max_journal" in said
    assert not provider.seen


@pytest.mark.parametrize("call", [call for call in [*PLAIN, *STREAMS] if call.suffix], ids=lambda call: call.name)
def test_a_base_url_with_v1_twice_is_a_404_that_says_so(bases: dict[str, str], call: Call) -> None:
    status, kind, said = _refused(call, f"{bases[call.provider]}/v1")
    assert (status, kind) == (404, "wiretape_doubled_segment")
    assert "one /v1 too long" in said


def _refused(call: Call, base_url: str) -> tuple[int, str, str]:
    """What the SDK raises: status, error type, sentence."""
    with pytest.raises((openai.APIStatusError, anthropic.APIStatusError, gemini.APIError)) as caught:
        call.ask(base_url, "answers")
    error: Any = caught.value
    if isinstance(error, gemini.APIError):
        assert isinstance(error, gemini.ClientError if error.code < 500 else gemini.ServerError)
        return error.code, error.details["error"]["type"], str(error.message)
    # openai gives what is in `error`, anthropic the whole body.
    body = error.body.get("error", error.body)
    assert body["message"] in str(error)
    return error.status_code, body["type"], body["message"]
