"""Keys that are held here, the names by which they are asked for, and the pages that may ask."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.config import Settings
from proxy.presets import PRESETS, TEMPLATES, key_place

Load = Callable[..., Settings]
Refused = Callable[..., str]

KEY = "gsk_0123456789abcdefghijklmnop"


def test_whose_keys_are_held(read: Load) -> None:
    toml = """
    [upstreams.openai]
    key_env = "OPENAI_API_KEY"
    [upstreams.groq]
    key_env = "none"
    [upstreams.gemini]
    key_env = "G"
    mode = "playback"
    [upstreams.mistral]
    key_env = "M_2"
    mode = "playback_else_record"
    """
    settings = read(toml, {"WIRETAPE_UPSTREAMS__XAI__KEY_ENV": "_x"})
    assert sorted(settings.held) == ["mistral", "openai", "xai"]
    assert settings.upstreams["xai"].key_env == "_x"
    assert read("").held == []


@pytest.mark.parametrize(
    "name", ["", "A-B", "1A", "A B", "A=B", "$A", "sk-proj-0123456789abcdefghij", KEY, "A" * 200, 3]
)
def test_what_names_no_variable_is_not_quoted(refused: Refused, name: object) -> None:
    text = refused(f"[upstreams.groq]\nkey_env = {name!r}\n")
    assert text.endswith(
        "upstreams.groq.key_env must be the name of the environment variable that holds the key, not the key itself"
    )


def test_the_built_in_upstream_takes_no_key(refused: Refused) -> None:
    text = refused('[upstreams.demo]\nkey_env = "K"\n')
    assert text.endswith("upstreams.demo.key_env is of no use: this upstream is part of wiretape, and asks for no key")


def test_places_of_keys() -> None:
    known = {name: (each.url, each.dialect) for name, each in PRESETS.items()}
    known |= {name: (each.example, each.dialect) for name, each in TEMPLATES.items()}
    places = {name: key_place(name, *about) for name, about in known.items()}
    assert places.pop("anthropic") == ("x-api-key", "")
    assert places.pop("gemini") == ("x-goog-api-key", "")
    assert places.pop("azure") == ("api-key", "")
    assert set(places.values()) == {("authorization", "Bearer ")}
    assert key_place("mine", "https://r.openai.azure.com/x", "openai") == ("api-key", "")
    assert key_place("mine", "https://r.services.ai.azure.com/anthropic", "anthropic") == ("x-api-key", "")
    assert key_place("mine", "https://openai.azure.com.example", "openai")[0] == "authorization"
    assert key_place("mine", "https://eu-aiplatform.googleapis.com", "gemini")[0] == "authorization"
    assert key_place("mine", "http://[::1]:8000", "gemini") == ("x-goog-api-key", "")


def test_hosts(read: Load, refused: Refused) -> None:
    settings = read('[forward]\nhosts = ["wiretape.internal", "10.0.0.7", "[fd00::1]"]\n')
    assert settings.forward.hosts == ("wiretape.internal", "10.0.0.7", "fd00::1")
    assert read("", {"WIRETAPE_FORWARD__HOSTS": "a, b"}).forward.hosts == ("a", "b")
    for wrong in ('"*"', '"a:80"', '"http://a"', '"a/b"', '"a@b"', "3", '"é"'):
        assert "forward.hosts must be a list of host names without ports" in refused(f"[forward]\nhosts = [{wrong}]\n")
    assert "forward.hosts must be a list" in refused("[forward]\nhosts = 3\n")


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("http://localhost:3000", "http://localhost:3000"),
        ("HTTPS://App.Example", "https://app.example"),
        ("https://app.example:443", "https://app.example"),
        ("http://app.example:443", "http://app.example:443"),
        ("http://[::1]:80", "http://[::1]"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ("app://obsidian.md", "app://obsidian.md"),
        ("*", "*"),
    ],
)
def test_origins(read: Load, written: str, read_as: str) -> None:
    assert read(f'[forward]\ncors_origins = ["{written}"]\n').forward.cors_origins == (read_as,)


@pytest.mark.parametrize(
    "wrong",
    [
        '["localhost:3000"]',
        '["http://localhost:3000/"]',
        '["http://localhost/app"]',
        '["http://"]',
        '["http://me@localhost"]',
        '["http://*.example"]',
        '["http://a b"]',
        '["http://a:x"]',
        '["null"]',
        '[""]',
        '["http://a\\n"]',
        "[3]",
        "3",
    ],
)
def test_what_is_no_origin(refused: Refused, wrong: str) -> None:
    assert "forward.cors_origins must be a list of origins such as" in refused(f"[forward]\ncors_origins = {wrong}\n")


def test_all_pages_and_a_key(read: Load, refused: Refused) -> None:
    anybody = '[forward]\ncors_origins = ["http://a", "*"]\n'
    text = refused(anybody + '[upstreams.openai]\nkey_env = "K"\n')
    assert "forward.cors_origins must name each origin where an upstream has a key_env" in text
    assert "given.toml: " in text
    assert read(anybody).forward.cors_origins == ("http://a", "*")
    assert read(anybody + '[upstreams.openai]\nkey_env = "K"\nmode = "playback"\n').held == []
