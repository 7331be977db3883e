"""The SDKs of Ollama, Mistral, Cohere, AWS, and a library of WebSockets, each reading a stream through wiretape: they
get what they get without it, and what was recorded means what is expected."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, NamedTuple

import cohere
import ollama
import pytest
from botocore.config import Config  # type: ignore[import-untyped]  # it ships no types
from botocore.session import Session  # type: ignore[import-untyped]  # it ships no types
from mistralai.client import Mistral
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_websockets

from tests.support.here import run_here
from tests.support.playing import playing as playback
from tests.support.rawhttp import Ended, Peer, RawUpstream
from tests.support.running import Running, serving
from tests.support.streams import FOLDER, differences, serve, streams

KEY = "sk-synthetic-0123456789"
MESSAGES: list[Any] = [{"role": "user", "content": "hello"}]
DIALECTS = ("ollama", "mistral", "cohere", "bedrock")


class Stage:
    """An upstream that answers with the stream `now`, and wiretape before it."""

    def __init__(self, origin: RawUpstream, wiretape: Running, playing: dict[str, str], playback: str = "") -> None:
        self._playback = playback
        self.origin = origin
        self.wiretape = wiretape
        self._playing = playing
        self.asked = 0

    def play(self, name: str) -> None:
        self._playing["now"] = name

    def base(self, upstream: str) -> str:
        return f"{self.wiretape.url}/{upstream}"

    def shown(self) -> Any:
        """What is stored of the last exchange."""
        self.asked += 1
        self.wiretape.wait_stored(self.asked)
        return json.loads(self._run("show", "last", "--format", "json", "--chunks", "0"))

    def played(self, session: str, exchange: str) -> str:
        """Where nothing but this exchange is played."""
        cassette = self._run("export", "cassette", exchange)
        brought = self.wiretape.client.put(f"{self._playback}/-/sessions/{session}", content=cassette)
        assert brought.status_code == 201, brought.text
        return f"{self._playback}/~session={session}"

    def _run(self, *words: str) -> bytes:
        home = self.wiretape.home
        ran = run_here(home.parent, *words, "--home", str(home))
        assert not ran.code, ran.err
        return ran.out


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    playing = {"now": ""}

    def script(peer: Peer) -> None:
        try:
            serve(peer, streams()[playing["now"]])
        except Ended:
            return

    with RawUpstream(script) as origin:
        flags = [word for name in DIALECTS for word in ("--upstream", f"{name}={origin.url}")]
        with serving(tmp_path_factory.mktemp("sdks"), *flags) as wiretape:
            folder = tmp_path_factory.mktemp("playback")
            with playback(folder, "--database", f"sqlite:///{wiretape.home}/wiretape.db") as address:
                yield Stage(origin, wiretape, playing, address)


def ollama_chat(base: str) -> list[Any]:
    with closing(ollama.Client(host=base, trust_env=False)) as client:
        return [each.model_dump() for each in client.chat("llama3.2", MESSAGES, stream=True)]


def ollama_embed(base: str) -> list[Any]:
    with closing(ollama.Client(host=base, trust_env=False)) as client:
        return [client.embed("nomic", "hello").model_dump()]


def mistral_chat(base: str) -> list[Any]:
    with (
        Mistral(api_key=KEY, server_url=base) as client,
        client.chat.stream(model="magistral-medium-latest", messages=MESSAGES) as stream,
    ):
        return [json.loads(event.model_dump_json()) for event in stream]


def cohere_chat(base: str) -> list[Any]:
    client = cohere.ClientV2(api_key=KEY, base_url=base)
    return [json.loads(event.json()) for event in client.chat_stream(model="command-a-03-2025", messages=MESSAGES)]


def bedrock_converse(base: str) -> list[Any]:
    client = Session().create_client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=base,
        aws_access_key_id="AKIASYNTHETIC0000000",
        aws_secret_access_key="synthetic",
        config=Config(retries={"max_attempts": 0}, proxies={}),
    )
    messages = [{"role": "user", "content": [{"text": "hello"}]}]
    answer = client.converse_stream(modelId="us.anthropic.claude-sonnet-4-5-20250929-v1:0", messages=messages)
    return list(answer["stream"])


class Case(NamedTuple):
    stream: str
    upstream: str
    ask: Callable[[str], list[Any]]
    word: str  # which the SDK made of it


CASES = (
    Case("ollama-chat", "ollama", ollama_chat, "🔵"),
    Case("ollama-thinking-tool", "ollama", ollama_chat, "get_weather"),
    Case("ollama-embed", "ollama", ollama_embed, "nomic"),
    Case("mistral-thinking", "mistral", mistral_chat, "thinking"),
    Case("cohere-v2-tool", "cohere", cohere_chat, "get_weather_abc"),
    Case("bedrock-converse-text-cache", "bedrock", bedrock_converse, "Bonjour"),
    Case("bedrock-converse-tool-reasoning", "bedrock", bedrock_converse, "get_weather"),
)


@pytest.fixture(autouse=True)
def _no_more_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OLLAMA_HOST", "OLLAMA_API_KEY", "CO_API_KEY", "CO_API_URL", "MISTRAL_API_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    logging.getLogger("botocore").setLevel(logging.ERROR)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stream)
def test_the_sdk_reads_the_same_and_the_meaning_is_that_of_the_stream(stage: Stage, case: Case) -> None:
    stage.play(case.stream)
    direct = case.ask(stage.origin.url)
    assert case.word in str(direct)
    assert case.ask(stage.base(case.upstream)) == direct
    shown, expected = stage.shown(), dict(streams()[case.stream].expected)
    expected.pop("requested_model", None)  # the SDK asked for another
    expected.pop("response_id", None)
    assert differences(shown, expected) == {}
    assert (shown["dialect"], shown["outcome"]) == (case.upstream, "completed")
    assert case.ask(f"{stage.played(case.stream, shown['id'])}/{case.upstream}") == direct


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_a_session_of_a_websocket_library(stage: Stage, tmp_path: Any, compression: str | None) -> None:
    """Both ends real, messages deflated or not: the recorded bytes are understood."""
    lines = (FOLDER / "openai-realtime.ndjson").read_text(encoding="utf-8").splitlines()
    said = [json.loads(line) for line in lines]

    def session(connection: ServerConnection) -> None:
        for each in said:
            if each["dir"] == "recv":
                connection.send(json.dumps(each["data"]))
            else:
                assert json.loads(connection.recv()) == each["data"]

    server = serve_websockets(session, "127.0.0.1", 0, compression=compression)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        with serving(tmp_path, "--upstream", f"openai={address}") as wiretape:
            url = f"{wiretape.url.replace('http', 'ws')}/openai/v1/realtime?model=gpt-realtime"
            heard = []
            headers = {"Authorization": f"Bearer {KEY}"}
            with connect(url, additional_headers=headers, compression=compression, proxy=None) as connection:
                for each in said:
                    if each["dir"] == "send":
                        connection.send(json.dumps(each["data"]))
                    else:
                        heard.append(json.loads(connection.recv()))
            wiretape.wait_stored(1)
            assert heard == [each["data"] for each in said if each["dir"] == "recv"]
            shown = Stage(stage.origin, wiretape, {}).shown()
            assert differences(shown, streams()["openai-realtime"].expected) == {}
            assert (shown["operation"], shown["counted"], shown["status"]) == ("realtime", True, 101)
    finally:
        server.shutdown()
        thread.join()
