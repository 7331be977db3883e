"""Playback: every recorded stream again, byte for byte, from a machine without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from proxy import passes
from tests.flow.replay.heard import MODE, body_of, config_of, parts
from tests.support.asking import KEY, Heard, ask
from tests.support.here import run_here
from tests.support.rawhttp import Peer, RawUpstream
from tests.support.running import Running, serving
from tests.support.streams import names, serve, streams


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Heard]]:
    """A folder with a home in which all streams are recorded, and what the client got of each."""
    folder = tmp_path_factory.mktemp("playback")
    now = ""

    def script(peer: Peer) -> None:
        serve(peer, streams()[now])

    heard = {}
    with RawUpstream(script) as origin, serving(folder, config=config_of(origin.url)) as wiretape:
        for now in names():
            heard[now] = ask(wiretape.port, streams()[now])
            origin.wait_idle()
        wiretape.wait_stored(len(heard))
        wiretape.stop()
    return folder, heard


@pytest.fixture(scope="module")
def playing(recorded: tuple[Path, dict[str, Heard]]) -> Iterator[Running]:
    """The same home, its upstreams played, and nobody at their address."""
    left: list[Peer] = []
    with RawUpstream(left.append) as nobody:
        with serving(recorded[0], config=config_of(nobody.url, MODE)) as wiretape:
            yield wiretape
            wiretape.stop()
        assert left == [], "a request in playback went to its upstream"


@pytest.fixture(scope="module")
def again(playing: Running) -> dict[str, Heard]:
    """What the client gets when it asks once more, in the same order: some of the requests are equal."""
    return {name: ask(playing.port, streams()[name]) for name in names()}


@pytest.mark.parametrize("name", names())
def test_the_client_gets_the_very_bytes(
    recorded: tuple[Path, dict[str, Heard]], again: dict[str, Heard], name: str
) -> None:
    assert parts(again[name]) == parts(recorded[1][name])


def test_it_is_recorded_as_playback_and_costs_nothing(
    recorded: tuple[Path, dict[str, Heard]], playing: Running, again: dict[str, Heard]
) -> None:
    playing.wait_stored(len(again))

    def said(*words: str) -> Any:
        return json.loads(run_here(recorded[0], *words, "--format", "json", "--home", str(playing.home)).out)

    shown = said("show", again["anthropic-basic-ping-padding"].id, "--chunks", "0")
    assert (shown["origin"], shown["outcome"]) == ("playback", "completed")
    assert len(said("ls", "--limit", "500")) == 2 * len(again)
    first, second = said("spend"), said("spend")
    assert first == second


def test_what_is_used_up_and_what_never_was_recorded(playing: Running, again: dict[str, Heard]) -> None:
    stream = streams()["anthropic-basic-ping-padding"]
    missed = json.loads(body_of(ask(playing.port, stream)))["error"]
    assert missed["type"] == "wiretape_no_recording"
    assert "played as often" in missed["message"]
    fresh = ask(playing.port, stream, "/~session=another")
    assert parts(fresh) == parts(again[stream.name]), "sessions do not see each other's turns"
    answer = playing.client.post(
        f"{playing.base_url('anthropic')}/v1/messages",
        json={"model": "other", "messages": [], "max_tokens": 5},
    )
    assert (answer.status_code, answer.headers["x-should-retry"]) == (404, "false")
    error = answer.json()["error"]
    assert error["rule"] == "body"
    assert "body model" in [each["place"] for each in error["differences"]]
    assert error["nearest"] in error["message"]


# Without a store


def test_from_a_cassette_in_another_place(recorded: tuple[Path, dict[str, Heard]], tmp_path: Path) -> None:
    home, heard = recorded[0] / "home", recorded[1]
    file = tmp_path / "all.cassette"
    ids = [each.id for each in heard.values()]
    ran = run_here(recorded[0], "export", "cassette", *ids, "--output", str(file), "--home", str(home))
    assert (ran.code, ran.err) == (0, "")
    assert KEY not in file.read_bytes()
    left: list[Peer] = []
    with RawUpstream(left.append) as nobody:
        config = config_of(nobody.url, MODE, f'cassette = "{file}"')
        with serving(tmp_path, config=config) as wiretape:
            for name in names():
                assert parts(ask(wiretape.port, streams()[name])) == parts(heard[name])
            wiretape.stop()
    assert left == []


# Sessions over HTTP


def _control(wiretape: Running, method: str, session: str, **more: Any) -> httpx.Response:
    return wiretape.client.request(
        method, f"http://127.0.0.1:{wiretape.port_of('playback')}/-/sessions/{session}", **more
    )


def test_a_session_brings_its_own_cassette(
    recorded: tuple[Path, dict[str, Heard]], playing: Running, again: dict[str, Heard]
) -> None:
    one, other = streams()["openai-chat-basic-usage"], streams()["gemini-error-429"]
    ids = [recorded[1][one.name].id, recorded[1][other.name].id]
    home = str(recorded[0] / "home")
    cassette = run_here(recorded[0], "export", "cassette", *ids, "--home", home).out
    brought = _control(playing, "PUT", "mine", content=cassette)
    assert (brought.status_code, brought.json()["recordings"]) == (201, 2)
    assert parts(ask(playing.port, one, "/~session=mine")) == parts(again[one.name])
    missed = ask(playing.port, streams()["openai-embeddings"], "/~session=mine")
    assert b"wiretape_no_recording" in body_of(missed), "what others have recorded is not its own"
    report = _control(playing, "GET", "mine").json()
    assert [each["id"] for each in report["unused"]] == [ids[1]]
    assert [each["request"] for each in report["unmatched"]] == ["POST /v1/embeddings"]
    assert _control(playing, "DELETE", "mine").json() == report
    assert _control(playing, "GET", "mine").json()["unmatched"] == []
    assert _control(playing, "PUT", "mine?mode=record").json()["error"]["type"] == "wiretape_cannot_record"
    passed = {"x-wiretape-pass": passes.issue(playing.home).decode()}
    refused = playing.client.get(f"{playing.base_url('openai')}/v1/models", headers=passed)
    assert refused.json()["error"]["type"] == "wiretape_only_played"
    torn = _control(playing, "PUT", "mine", content=cassette[:-20])
    assert (torn.status_code, torn.json()["error"]["type"]) == (400, "wiretape_bad_cassette")
    assert "line " in torn.json()["error"]["message"]


@pytest.mark.parametrize("header", [("Host", "evil.example"), ("Origin", "http://evil.example")])
def test_no_page_of_a_browser_may_ask(playing: Running, header: tuple[str, str]) -> None:
    assert _control(playing, "GET", "x", headers=dict([header])).status_code == 403


@pytest.mark.parametrize("header", [("Origin", "http://evil.example"), ("Sec-Fetch-Site", "same-origin")])
def test_no_page_of_a_browser_is_answered(playing: Running, header: tuple[str, str]) -> None:
    answer = playing.client.get(f"{playing.base_url('openai')}/v1/models", headers=dict([header]))
    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "wiretape_forbidden")
    assert "nearest" not in answer.text
