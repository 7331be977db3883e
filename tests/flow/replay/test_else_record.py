"""What is not recorded is asked of the upstream, once and recorded; what is, of nobody."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from proxy import passes
from tests.flow.replay.heard import config_of, parts
from tests.support.asking import KEY, Heard, ask
from tests.support.here import run_here
from tests.support.rawhttp import Peer, RawUpstream
from tests.support.running import Running, files_of, serving
from tests.support.streams import names, serve, streams

MODE = 'mode = "playback_else_record"'
RECORDED = re.compile(rb"x-wiretape-recorded: ([0-9a-f-]{36})\r\n")


class Place(NamedTuple):
    """A wiretape that runs, and how often its upstream was asked."""

    wiretape: Running
    folder: Path
    asked: Counter[str]
    heard: dict[str, Heard]  # what clients got the first time


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("else")
    now, asked = "", Counter[str]()

    def script(peer: Peer) -> None:
        asked[now] += 1
        serve(peer, streams()[now])

    with RawUpstream(script) as origin, serving(folder, config=config_of(origin.url, MODE)) as wiretape:
        heard = {}
        for now in names():
            heard[now] = ask(wiretape.port, streams()[now])
            origin.wait_idle()
        yield Place(wiretape, folder, asked, heard)
        wiretape.stop()


def without_mark(heard: Heard) -> Heard:
    return heard._replace(received=RECORDED.sub(b"", heard.received))


@pytest.mark.parametrize("name", names())
def test_asked_once_and_then_played(place: Place, name: str) -> None:
    first = place.heard[name]
    assert RECORDED.search(first.received) is not None
    again = ask(place.wiretape.port, streams()[name], "/~session=again")
    assert RECORDED.search(again.received) is None
    assert parts(again) == parts(without_mark(first))
    assert place.asked[name] == 1


def test_each_counts_once(place: Place) -> None:
    """Both the client's exchange and the one that asked the upstream are kept; what was spent is the second's."""
    place.wiretape.wait_stored(2 * len(place.heard))
    with closing(sqlite3.connect(f"file:{place.wiretape.home / 'wiretape.db'}?mode=ro", uri=True)) as connection:
        found = connection.execute(
            "SELECT origin, sum(counted) FROM exchange_list WHERE coalesce(session, '') != 'again' GROUP BY 1"
        ).fetchall()
    counted = dict(found)
    assert counted["live"] > 0
    assert not counted["playback"]


def test_a_recording_is_as_the_client_asked(place: Place) -> None:
    name = "openai-chat-basic-usage"
    found = RECORDED.search(place.heard[name].received)
    assert found is not None
    ran = run_here(place.folder, "show", found[1].decode(), "--format", "json", "--home", str(place.wiretape.home))
    said: dict[str, Any] = json.loads(ran.out)
    headers = {name.lower(): value for name, value in said["heads"][0]["headers"]}
    assert said["origin"] == "live"
    assert headers["host"] == "127.0.0.1"
    assert not [each for each in headers if each.startswith("x-wiretape")]
    assert headers["authorization"].startswith("Bearer redacted:")


def test_no_key_and_no_pass_is_kept(place: Place) -> None:
    place.wiretape.wait_stored(2 * len(place.heard))
    assert not list((place.wiretape.home / "passes").iterdir())
    assert not [path for path, data in files_of(place.folder).items() if KEY in data]


def test_nobody_else_can_pass(place: Place) -> None:
    url = f"{place.wiretape.base_url('openai')}/v1/models"
    for given in ("", "x", "../" * 9, "a" * 9999):
        answer = place.wiretape.client.get(url, headers={"x-wiretape-pass": given})
        assert (answer.status_code, answer.json()["error"]["type"]) == (403, "wiretape_bad_pass")
    given = passes.issue(place.wiretape.home).decode()
    before = place.asked.total()
    answers = [place.wiretape.client.get(url, headers={"x-wiretape-pass": given}) for _ in range(2)]
    assert [each.status_code == 403 for each in answers] == [False, True]
    assert place.asked.total() == before + 1


def test_what_the_upstream_does_wrong_is_told(tmp_path: Path) -> None:
    with RawUpstream(lambda peer: peer.close()) as gone:
        url = gone.url
    with serving(tmp_path, config=config_of(url, MODE)) as wiretape:
        answer = wiretape.client.get(f"{wiretape.base_url('openai')}/v1/models")
        assert (answer.status_code, answer.json()["error"]["type"]) == (502, "wiretape_upstream_unreachable")
        wiretape.stop()


def test_a_mode_that_would_record_nothing_is_refused(tmp_path: Path) -> None:
    config = config_of("http://127.0.0.1:9", f'{MODE}\nrecord = "meta"')
    (tmp_path / "wiretape.toml").write_text(config)
    ran = run_here(tmp_path, "serve", "--config", str(tmp_path / "wiretape.toml"))
    assert ran.code == 2
    assert "record must be `all` where the mode is playback_else_record" in ran.err
