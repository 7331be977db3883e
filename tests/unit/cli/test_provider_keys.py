"""Keys out of the environment: what forward is told of them, and what is said where there is none."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from proxy.cli import values
from proxy.cli.provider_keys import held_key, key_of
from proxy.cli.start import mention_keys
from proxy.config import Settings, load
from proxy.errors import UsageError

KEY = "sk-held-0123456789abcdefghij"


def settings(folder: Path, toml: str) -> Settings:
    file = folder / "given.toml"
    file.write_text(toml)
    (folder / "house").mkdir(exist_ok=True)
    return load(file, {}, {"home": str(folder / "house")})


def keyed(folder: Path, more: str = "") -> Settings:
    return settings(folder, f"[upstreams.openai]\nkey_env = 'MINE'\n{more}")


def test_a_held_key_and_its_place(tmp_path: Path) -> None:
    chosen = keyed(tmp_path)
    assert held_key(chosen, "openai", {"MINE": f" {KEY}\n"}) == ("authorization", "Bearer ", KEY)
    assert held_key(chosen, "groq", {}) is None
    assert held_key(keyed(tmp_path, "mode = 'playback'\n"), "openai", {}) is None


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, "upstreams.openai.key_env names MINE, which is not set: set it to the key"),
        ({"MINE": ""}, "upstreams.openai.key_env names MINE, which is empty: set it to the key"),
        ({"MINE": " \n"}, "upstreams.openai.key_env names MINE, which is empty: set it to the key"),
        ({"MINE": "sk\r\nX: s3cret"}, "MINE is no key: it has characters that no header can have"),
        ({"MINE": "s3cret\x00"}, "MINE is no key: it has characters that no header can have"),
        ({"MINE": "s3crét"}, "MINE is no key: it has characters that no header can have"),
    ],
)
def test_no_key(tmp_path: Path, environ: Mapping[str, str], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        held_key(keyed(tmp_path), "openai", environ)
    assert str(caught.value) == says


def test_keys_of_clients() -> None:
    assert key_of("openai", {"OPENAI_API_KEY": KEY}) == KEY
    assert key_of("ollama", {}) is None
    with pytest.raises(UsageError, match="set GEMINI_API_KEY or GOOGLE_API_KEY"):
        key_of("gemini", {"GEMINI_API_KEY": " "})


def test_what_forward_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", KEY)
    told = msgspec.json.decode(values.forward_values(keyed(tmp_path)))
    keys = {each["name"]: each["key"] for each in told["upstreams"] if each["key"] is not None}
    assert keys == {"openai": ["authorization", "Bearer ", KEY]}
    monkeypatch.delenv("MINE")
    with pytest.raises(UsageError, match="MINE, which is not set"):
        values.forward_values(keyed(tmp_path))


@pytest.mark.parametrize(
    ("host", "hosts"),
    [("127.0.0.1", ["127.0.0.1"]), ("0.0.0.0", []), ("::", []), ("fd00::1", ["fd00::1"]), ("box", ["box"])],
)
def test_where_it_listens_is_a_name_of_its_own(tmp_path: Path, host: str, hosts: list[str]) -> None:
    chosen = settings(tmp_path, f"[forward]\nhost = '{host}'\nallow_anonymous = true\nhosts = ['n']\n")
    assert msgspec.json.decode(values.forward_values(chosen))["hosts"] == ["n", *hosts]


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", 0), ("0.0.0.0", 1)])
def test_whoever_reaches_it_spends(tmp_path: Path, caplog: pytest.LogCaptureFixture, host: str, warned: int) -> None:
    with caplog.at_level(logging.WARNING):
        mention_keys(settings(tmp_path, f"[forward]\nhost = '{host}'\nallow_anonymous = true\n"))
        assert caplog.messages == []
        mention_keys(keyed(tmp_path, f"[forward]\nhost = '{host}'\nallow_anonymous = true\n"))
    assert len(caplog.messages) == warned
    assert all("spends on the key of openai" in message for message in caplog.messages)


def test_beyond_this_machine_only_if_all_there_may(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="allow_anonymous"):
        keyed(tmp_path, "[forward]\nhost = '0.0.0.0'\n")
