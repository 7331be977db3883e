"""How `wiretape serve` begins, and what it and its console tell of it."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from proxy import __version__
from tests.support.here import run_here
from tests.support.running import PATIENCE, Running, serving, starting, wait_for

TOKEN = "s3cret"
BEARER = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def wiretape(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One for all tests; its client presents the console's token."""
    proxies = {"HTTPS_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    flags = ("--upstream", "mine=https://llm.example.com/base")
    config = f"console.token = '{TOKEN}'"
    with serving(tmp_path_factory.mktemp("start"), *flags, config=config, variables=proxies, fresh=True) as running:
        running.client.headers.update(BEARER)
        yield running
        assert running.stop() == 0


def models(wiretape: Running, times: int = 1) -> None:
    """Requests that succeed, each an exchange."""
    for _ in range(times):
        answer = wiretape.client.get(f"{wiretape.base_url()}/v1/models")
        assert answer.status_code == httpx.codes.OK


def test_the_welcome_names_addresses_and_places(wiretape: Running) -> None:
    wait_for(lambda: "Ctrl-C" in wiretape.output, "the welcome")
    for name, path in (("openai", "/openai/v1"), ("anthropic", "/anthropic"), ("mine", "/mine/v1")):
        assert re.search(rf"^ *{name} +{re.escape(wiretape.url + path)}$", wiretape.output, re.MULTILINE)
    assert f"{wiretape.console}/" in wiretape.output
    assert str(wiretape.home) in wiretape.output
    command = re.findall(r"^command +(.+)$", wiretape.output, re.MULTILINE)
    assert len(command) == 1
    told = subprocess.run([*shlex.split(command[0]), "--version"], capture_output=True, text=True, check=True)
    assert told.stdout == f"wiretape {__version__}\n"
    assert "wiretape upstreams" in wiretape.output
    assert wiretape.log.count("HTTPS_PROXY, http_proxy are set, and ignored") == 1


def test_one_home_has_one_serve(wiretape: Running) -> None:
    second = run_here(wiretape.home.parent, "serve", "--home", str(wiretape.home), "--port", "0")
    assert (second.code, second.out) == (2, b"")
    (sentence,) = second.err.splitlines()
    for words in (str(wiretape.process.pid), str(wiretape.home), "--home"):
        assert words in sentence
    models(wiretape)


def test_metrics_count_what_was_accepted_stored_and_turned_away(wiretape: Running) -> None:
    turned_away = 'wiretape_turned_away_total{reason="unknown_upstream"}'
    now = time.time()
    wait_for(lambda: wiretape.statuses("forward")[0].written > now, "a word of forward that knows of all before")
    before = wiretape.metrics()
    asked = int(before["wiretape_exchanges_accepted_total"]) + 5
    models(wiretape, 5)
    unknown = wiretape.client.get(f"{wiretape.url}/nobody/v1/models")
    assert unknown.status_code == httpx.codes.NOT_FOUND
    wiretape.wait_stored(asked)

    def counted() -> dict[str, float]:
        found = wiretape.metrics()
        return found if found.get(turned_away, 0) == before.get(turned_away, 0) + 1 else {}

    found = wait_for(counted, "the refusal")
    assert found["wiretape_exchanges_accepted_total"] == found["wiretape_exchanges_stored_total"] == asked
    assert found["wiretape_exchanges_waiting"] == found["wiretape_exchanges_missing"] == 0
    assert found["wiretape_exchanges_active"] == 0
    assert found["wiretape_database_up"] == 1
    assert found["wiretape_journal_failures_total"] == found["wiretape_journal_damage_total"] == 0


def test_the_console_asks_for_its_token(wiretape: Running) -> None:
    url = wiretape.console
    with httpx.Client(trust_env=False, timeout=PATIENCE) as stranger:
        assert stranger.get(f"{url}/-/live").status_code == httpx.codes.OK
        assert stranger.get(f"{url}/metrics").status_code == httpx.codes.UNAUTHORIZED
        assert stranger.get(f"{url}/metrics", params={"token": TOKEN}).status_code == httpx.codes.OK
        assert stranger.get(f"{url}/-/ready", headers=BEARER).json() == {"ok": True, "problems": []}
        foreign = stranger.get(f"{url}/metrics", headers={**BEARER, "host": "evil.example"})
        assert foreign.status_code == httpx.codes.FORBIDDEN
    assert TOKEN not in wiretape.log + wiretape.output


def test_a_folder_named_proxy_in_the_working_directory_is_not_taken_for_wiretape(wiretape: Running) -> None:
    folder = wiretape.home.parent / "proxy"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise SystemExit(7)")
    killed = wiretape.kill("forward")
    wiretape.successor("forward", killed)
    models(wiretape)


def test_a_mistake_that_a_role_finds_stops_all(tmp_path: Path) -> None:
    with serving(tmp_path, command="ingest", variables={"WIRETAPE_FINGERPRINT_KEY": "cd" * 32}) as first:
        assert first.stop() == 0
    other_key = {"WIRETAPE_FINGERPRINT_KEY": "ab" * 32}
    with starting(tmp_path, "serve", "--port", "0", "--console-port", "0", variables=other_key) as other:
        assert other.wait() == 2
        assert "WIRETAPE_FINGERPRINT_KEY" in other.log
