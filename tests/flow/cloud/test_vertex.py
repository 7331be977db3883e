"""An upstream that is asked with Google's access tokens: they are had by a service account's key, once for all who
wait, and had anew before they end; Google's SDK and Anthropic's for Vertex work without a change."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from anthropic import AnthropicVertex
from cryptography.hazmat.primitives.asymmetric import rsa
from google import genai
from google.genai.types import HttpOptions
from google.oauth2.credentials import Credentials

from tests.flow.cloud.bedrock import CLAUDE
from tests.flow.wire.stage import Recorded, Slot, Stage, request, response
from tests.support.rawhttp import DEADLINE, Ended, Message, Peer, RawUpstream, until
from tests.support.running import Running, files_of, serving, starting
from tests.support.streams import streams
from tests.support.tokens import EMAIL, Tokens

IDLE = 40 * DEADLINE
GENERATE = "/v1/projects/p/locations/us-central1/publishers/google/models/gemini-2.5-flash:generateContent"
ANSWERED = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "Bonjour"}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
    "modelVersion": "gemini-2.5-flash",
}


class Vertex:
    """A script that takes nothing but a token that was given and has not been `revoked`."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.revoked: set[str] = set()
        self.forbidden = False
        self.answer = b""
        self.taken: list[Message] = []

    def __call__(self, peer: Peer) -> None:
        try:
            while True:
                message = peer.read_message()
                self.taken.append(message)
                token = (message.one("authorization") or b"").decode().removeprefix("Bearer ")
                if token not in self.tokens.given or token in self.revoked:
                    peer.send(_error(401, "UNAUTHENTICATED"))
                else:
                    peer.send(_error(403, "PERMISSION_DENIED") if self.forbidden else self.answer)
        except Ended:
            return

    @property
    def used(self) -> list[str]:
        """The numbers of the tokens that requests came with."""
        return [(message.one("authorization") or b"").decode().split("-")[1] for message in self.taken]


def _error(status: int, word: str) -> bytes:
    body = json.dumps({"error": {"code": status, "message": "no", "status": word}}).encode()
    return response(body, b"Content-Type: application/json", status=f"{status} X".encode())


class Cloud:
    def __init__(self, wiretape: Running, vertex: Vertex, tokens: Tokens) -> None:
        self.wiretape, self.vertex, self.tokens = wiretape, vertex, tokens
        self.stage = Stage(wiretape, {})
        self._begun = 0

    def fresh(self) -> None:
        """A worker that has no token."""
        self.wiretape.kill("forward")
        self.wiretape.successor("forward", 0)

    def begin(self) -> None:
        """What is recorded from here on is asked for."""
        self._begun = time.time_ns() // 1000

    def ask(self, path: str = GENERATE, upstream: str = "vertex") -> httpx.Response:
        self.begin()
        return self.wiretape.client.post(f"{self.wiretape.url}/{upstream}{path}", json={"contents": []})

    def recorded(self, count: int = 1) -> list[Recorded]:
        return self.stage.recorded(Slot("vertex", 0, self._begun), count)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    folder = tmp_path_factory.mktemp("cloud")
    tokens = Tokens()
    vertex = Vertex(tokens)
    with RawUpstream(vertex, deadline=IDLE) as origin, RawUpstream(tokens, deadline=IDLE) as giver:
        account = tokens.account(folder, giver.url)
        more = f"url = '{origin.url}'\ncredentials = 'google'\n"
        config = f"[upstreams.vertex]\ndialect = 'gemini'\n{more}google_file = '{account}'\n"
        config += f"[upstreams.found]\ndialect = 'openai'\n{more}stream_usage = 'ask'\n"
        variables = {"GOOGLE_APPLICATION_CREDENTIALS": str(account), "NO_GCE_CHECK": "true"}
        with serving(folder, config=config, variables=variables) as wiretape:
            yield Cloud(wiretape, vertex, tokens)


@pytest.fixture
def cloud(running: Cloud) -> Cloud:
    running.tokens.lasting, running.tokens.ahead = 3600, 0.0
    running.tokens.refusal = ""
    running.tokens.open.set()
    running.tokens.asked.clear()
    running.vertex.answer = response(json.dumps(ANSWERED).encode(), b"Content-Type: application/json")
    running.vertex.forbidden = False
    running.vertex.taken.clear()
    return running


def test_googles_sdk(cloud: Cloud) -> None:
    given: Any = Credentials(token="unused")  # type: ignore[no-untyped-call]  # it has no types
    options = HttpOptions(base_url=f"{cloud.wiretape.url}/vertex")
    cloud.begin()
    with genai.Client(
        vertexai=True, project="p", location="us-central1", credentials=given, http_options=options
    ) as client:
        answer = client.models.generate_content(model="gemini-2.5-flash", contents="hello")
    assert answer.text == "Bonjour"
    (credential,) = cloud.vertex.taken[0].all("authorization")
    assert credential.decode().removeprefix("Bearer ") in cloud.tokens.given
    recorded = cloud.recorded()[0]
    assert (recorded.facts["input_tokens"], recorded.facts["output_tokens"]) == (3, 2)
    assert recorded.request == cloud.vertex.taken[0].body
    taken_off, put = [each for each in recorded.changes if each["kind"] == "request_header_added"]
    assert taken_off["removed"] == ["authorization"]
    assert [name for name, _ in put["headers"]] == ["Authorization"]
    assert put["headers"][0][1].startswith("Bearer redacted:")


def test_anthropics_sdk_for_it(cloud: Cloud) -> None:
    cloud.vertex.answer = response(json.dumps(CLAUDE).encode(), b"Content-Type: application/json")
    with AnthropicVertex(
        access_token="unused",
        project_id="p",
        region="us-east5",
        base_url=f"{cloud.wiretape.url}/vertex/v1",
        max_retries=0,
        http_client=httpx.Client(trust_env=False),
    ) as client:
        found = client.messages.create(
            model="claude-sonnet-4@1", max_tokens=10, messages=[{"role": "user", "content": "hello"}]
        )
    assert found.model_dump()["content"][0]["text"] == "Bonjour"
    assert cloud.vertex.taken[-1].target.endswith(b"/publishers/anthropic/models/claude-sonnet-4@1:rawPredict")


def test_all_who_wait_get_one_token(cloud: Cloud) -> None:
    cloud.fresh()
    before = len(cloud.tokens.given)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: cloud.stage.exchange(_request()).status, range(8)))
    assert found == [200] * 8
    assert len(cloud.tokens.given) == before + 1
    assert cloud.vertex.used == [str(before)] * 8


def test_a_body_that_comes_while_there_is_no_token_yet(cloud: Cloud) -> None:
    cloud.fresh()
    cloud.tokens.open.clear()
    head = _request(None, b"Transfer-Encoding: chunked")
    with cloud.stage.client() as client:
        client.send(head, b"10000\r\n%b\r\n" % (b"x" * 65536) * 3)
        assert cloud.tokens.asked.wait(DEADLINE)
        cloud.tokens.open.set()
        client.send(b"1\r\ny\r\n0\r\n\r\n")
        assert client.read_message().status == 200
    assert cloud.vertex.taken[-1].body == b"x" * 3 * 65536 + b"y"


def test_a_client_that_leaves_while_there_is_no_token_yet(cloud: Cloud) -> None:
    cloud.fresh()
    cloud.tokens.open.clear()
    cloud.begin()
    with cloud.stage.client() as client:
        client.send(_request())
        assert cloud.tokens.asked.wait(DEADLINE)
    recorded = cloud.recorded()[0]
    cloud.tokens.open.set()
    assert (recorded.outcome, recorded.request) == ("client_left", b"{}")
    assert cloud.ask().is_success
    assert len(cloud.vertex.taken) == 1


def test_a_token_is_had_anew_before_it_ends(cloud: Cloud) -> None:
    cloud.fresh()
    cloud.tokens.lasting = 60  # it is good, and almost over
    before = len(cloud.tokens.given)
    assert cloud.ask().is_success
    cloud.tokens.lasting = 3600
    until(lambda: cloud.ask().is_success and cloud.vertex.used[-1] == str(before + 1), "the new one is used")
    assert len(cloud.tokens.given) == before + 2


def test_a_token_that_is_refused_is_not_used_again(cloud: Cloud) -> None:
    assert cloud.ask().is_success
    cloud.vertex.revoked.add(cloud.tokens.given[int(cloud.vertex.used[-1])])
    found = cloud.ask()
    assert (found.status_code, found.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
    fault = found.headers["x-wiretape-credentials"]
    assert fault.startswith(
        "Google's credentials of account.json, with which vertex is asked, gave a token that was re"
    )
    assert cloud.ask().is_success


def test_what_the_account_may_not_do(cloud: Cloud) -> None:
    cloud.vertex.forbidden = True
    found = cloud.ask()
    assert found.status_code == 403
    assert "may not do what was asked (403): Google refused it" in found.headers["x-wiretape-credentials"]


@pytest.mark.parametrize("clock", [7200.0, -7200.0])
def test_a_wrong_clock(cloud: Cloud, clock: float) -> None:
    cloud.fresh()
    cloud.tokens.ahead = clock
    found = cloud.ask()
    assert found.status_code == 502
    assert found.json()["error"]["message"].startswith(
        "vertex: Google's credentials of account.json could not be had: invalid_grant: Invalid JWT: Token must be"
    )
    assert "this machine's clock is wrong, set it" in found.json()["error"]["message"]


def test_a_key_that_was_deleted(cloud: Cloud) -> None:
    cloud.fresh()
    cloud.tokens.refusal = "Invalid grant: account not found"
    found = cloud.ask()
    assert (found.status_code, found.json()["error"]["status"]) == (502, "UNAVAILABLE")
    assert "invalid_grant: Invalid grant: account not found" in found.json()["error"]["message"]
    recorded = cloud.recorded()[0]
    assert recorded.facts["error"].startswith("credentials: Google's credentials of account.json")
    assert recorded.outcome == "upstream_failed"
    assert not cloud.vertex.taken
    cloud.tokens.refusal = ""
    assert cloud.ask().is_success
    assert "Google's credentials of account.json were had" in cloud.wiretape.log


def test_asked_for_usage_as_well_and_found_as_googles_tools_do(cloud: Cloud) -> None:
    """Of a stream in OpenAI's manner, whose request is changed, and goes with a token."""
    stream = streams()["openai-chat-basic-usage"].body
    cloud.vertex.answer = response(stream, b"Content-Type: text/event-stream")
    body = b'{"model": "m", "stream": true, "messages": []}'
    target = b"/found/v1/projects/p/locations/l/endpoints/openapi/chat/completions"
    asked = request(target, body, b"Content-Type: application/json").replace(b"wiretape.test", b"localhost")
    answer = cloud.stage.exchange(asked)
    assert answer.status == 200
    assert b'"choices":[]' not in answer.body
    taken = cloud.vertex.taken[-1]
    assert b"include_usage" in taken.body
    assert len(taken.all("authorization")) == 1


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text('{"private_key": "leaked"}')
    for name, words in (("key.json", "is no file of Google credentials"), ("away.json", "away.json")):
        config = "[upstreams.vertex]\nurl = 'https://x.invalid'\ndialect = 'gemini'\ncredentials = 'google'\n"
        with starting(tmp_path, "serve", config=f"{config}google_file = '{tmp_path / name}'\n") as wiretape:
            assert wiretape.wait() != 0
            assert words in wiretape.log
            assert "leaked" not in wiretape.log
            assert "Traceback" not in wiretape.log


def test_another_accounts_key(cloud: Cloud, tmp_path: Path) -> None:
    """Signed with a key that Google does not know of."""
    url = json.loads((cloud.wiretape.home.parent / "account.json").read_text())["token_uri"].removesuffix("/token")
    account = cloud.tokens.account(tmp_path, url, rsa.generate_private_key(65537, 2048))
    config = f"[upstreams.vertex]\nurl = 'http://127.0.0.1:9'\ncredentials = 'google'\ngoogle_file = '{account}'\n"
    with serving(tmp_path, config=config) as wiretape:
        found = wiretape.client.post(f"{wiretape.url}/vertex/v1/x", json={})
        assert "Invalid JWT Signature." in found.text


def test_nothing_secret_is_kept(cloud: Cloud) -> None:
    assert cloud.ask().is_success
    cloud.recorded()
    private = json.loads((cloud.wiretape.home.parent / "account.json").read_text())["private_key"].splitlines()[1]
    secrets = [private, *cloud.tokens.given]
    kept = [data for path, data in files_of(cloud.wiretape.home.parent).items() if path.name != "account.json"]
    assert not [secret for secret in secrets for data in kept if secret.encode() in data]
    assert not [data for data in kept if EMAIL.encode() in data]


def _request(body: bytes | None = b"{}", *headers: bytes) -> bytes:
    return request(f"/vertex{GENERATE}".encode(), body, *headers).replace(b"wiretape.test", b"localhost")


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("google").setLevel(logging.ERROR)
