"""Upstreams: presets, templates, one's own; their addresses, names and base URLs."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from proxy.config import Settings, load, parse_upstream
from proxy.errors import UsageError
from proxy.presets import DIALECTS, PRESETS, TEMPLATES, base_url, may_be_asked_for_usage, template_hint

Load = Callable[..., Settings]
Refused = Callable[..., str]


def test_presets_have_what_they_need(read: Load) -> None:
    upstreams = read().upstreams
    for name, preset in PRESETS.items():
        assert (upstreams[name].url, upstreams[name].dialect) == (preset.url, preset.dialect)
        assert preset.dialect in DIALECTS
    assert upstreams["demo"].url == "demo:"
    assert not TEMPLATES.keys() & PRESETS.keys()
    assert not TEMPLATES.keys() & upstreams.keys()


def test_naming_a_preset_replaces_only_what_is_given(read: Load) -> None:
    toml = '[upstreams.anthropic]\nurl = "http://localhost:9000/"\nidle_timeout = "5m"\n'
    upstreams = read(toml, {"WIRETAPE_UPSTREAMS__GEMINI__RECORD": "meta"}).upstreams
    assert (upstreams["anthropic"].url, upstreams["anthropic"].dialect) == ("http://localhost:9000", "anthropic")
    assert upstreams["anthropic"].idle_timeout == 300
    assert (upstreams["gemini"].url, upstreams["gemini"].record) == (PRESETS["gemini"].url, "meta")


def test_templates_need_an_address(read: Load, refused: Refused) -> None:
    text = refused('[upstreams.bedrock]\nidle_timeout = "5m"\n')
    assert text.endswith(
        "upstreams.bedrock.url is missing; "
        "set upstreams.bedrock.url to your own https://bedrock-runtime.REGION.amazonaws.com"
    )
    url = "https://bedrock-runtime.eu-west-1.amazonaws.com"
    settings = read("", None, upstreams__bedrock__url=url)
    assert (settings.upstreams["bedrock"].url, settings.upstreams["bedrock"].dialect) == (url, "bedrock")
    assert template_hint("azure") == "set upstreams.azure.url to your own https://RESOURCE.openai.azure.com"
    assert template_hint("openai") is None


def test_an_upstream_of_ones_own(read: Load, refused: Refused) -> None:
    environ = {"WIRETAPE_UPSTREAMS__MYAPI__RECORD": "none"}
    mine = read('[upstreams.MyApi]\nurl = "https://gw.example:8443/base/"\n', environ).upstreams["MyApi"]
    assert (mine.url, mine.dialect, mine.record) == ("https://gw.example:8443/base", "openai", "none")
    assert refused("[upstreams.mine]\n").endswith("upstreams.mine.url is missing; write where its requests go")
    assert refused('[upstreams.OpenAl]\nrecord = "all"').endswith("is missing; did you mean the preset openai?")
    dotted = load(None, {"WIRETAPE_UPSTREAMS__a__b__URL": "http://x"}, {"upstreams.my.own.url": "http://y"}).upstreams
    assert (dotted["a__b"].url, dotted["my.own"].url) == ("http://x", "http://y")


def test_who_is_asked_for_the_usage_of_streams(read: Load, refused: Refused) -> None:
    assert read().upstreams["openai"].stream_usage == "leave"
    asked = read('[upstreams.groq]\nstream_usage = "ask"\n[forward]\ntransform_limit = "1MiB"\n')
    assert (asked.upstreams["groq"].stream_usage, asked.forward.transform_limit) == ("ask", 2**20)
    text = refused('[upstreams.anthropic]\nstream_usage = "ask"\n')
    assert text.endswith("upstreams.anthropic.stream_usage can be `ask` only where the dialect is openai; leave it out")
    assert "must be 'leave' or 'ask', not \"aks\"; did you mean ask?" in refused(
        '[upstreams.openai]\nstream_usage = "aks"\n'
    )


def test_how_long_a_stream_may_be_silent(read: Load, refused: Refused) -> None:
    assert read().upstreams["openai"].keep_alive is None
    assert read('[upstreams.openai]\nkeep_alive = "15s"\n').upstreams["openai"].keep_alive == 15
    assert read('[upstreams.openai]\nkeep_alive = "none"\n').upstreams["openai"].keep_alive is None
    text = refused('[upstreams.openai]\nkeep_alive = "999ms"\n')
    assert text.endswith('upstreams.openai.keep_alive must be "1s" or longer, or "none", not "999ms"')


def test_whose_urls_for_uploads_lead_back(read: Load, refused: Refused) -> None:
    upstreams = read("[upstreams.gemini]\nrewrite_upload_urls = false\n").upstreams
    assert not upstreams["gemini"].rewrite_upload_urls
    for name in ("gemini", "openai"):
        assert read().upstreams[name].rewrite_upload_urls
    assert not read("[upstreams.openai]\nrewrite_upload_urls = false\n").upstreams["openai"].rewrite_upload_urls
    text = refused("[upstreams.openai]\nrewrite_upload_urls = true\n")
    assert text.endswith("upstreams.openai.rewrite_upload_urls is for the dialect gemini only; leave it out")


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        (PRESETS["openai"].url, True),
        ("http://127.0.0.1:8000/v1", True),
        ("demo:", True),
        ("https://API.groq.com:443/base", False),
        *((PRESETS[name].url, False) for name in ("deepseek", "groq", "mistral", "openrouter", "together")),
    ],
)
def test_addresses_that_need_not_be_asked(url: str, asked: bool) -> None:
    assert may_be_asked_for_usage(url) is asked


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://h/s3cret", "must begin with http:// or https://"),
        ("api.example/s3cret", "must begin with http:// or https://"),
        ("https://me:s3cret@h", "must not hold a user name or password"),
        ("https://s3cret@h", "must not hold a user name or password"),
        ("https://h/?key=s3cret", "must not hold a query or a fragment"),
        ("https://h?", "must not hold a query or a fragment"),
        ("https://h/#", "must not hold a query or a fragment"),
        ("https://", "must name a host"),
        ("https:///path", "must name a host"),
        ("https://:80", "must name a host"),
        ("https://a,b/", "must name a host"),
        ("https://h:99999", "must have a valid host, and a port from 1 to 65535 or none"),
        ("https://h:0", "must have a valid host, and a port from 1 to 65535 or none"),
        ("https://[::1", "must have a valid host"),
        ("https://h\\@evil", "must not hold spaces, backslashes"),
        ("https://h/a b", "must not hold spaces"),
        ("https://h\n/", "must not hold spaces"),
        ("https://hé/", "letters outside ASCII"),
    ],
)
def test_addresses_that_are_refused(refused: Refused, url: str, says: str) -> None:
    texts = [refused("", None, upstreams__openai__url=url)]
    with pytest.raises(UsageError) as caught:
        parse_upstream(f"openai={url}")
    texts.append(str(caught.value))
    assert all(says in text and "s3cret" not in text for text in texts)


@pytest.mark.parametrize("name", ["", "-x", "~x", ".x", "_x", "a b", "a/b", "é", "a\n", "-"])
def test_names_that_are_refused(refused: Refused, name: str) -> None:
    assert "is no name for an upstream; use letters, digits, " in refused(
        f'[upstreams.{json.dumps(name)}]\nurl = "http://x"\n'
    )
    with pytest.raises(UsageError, match="is no name for an upstream"):
        parse_upstream(f"{name}=http://x")


def test_upstreams_on_the_command_line() -> None:
    assert parse_upstream("my-api.v2=http://[::1]:8080/v1/") == ("my-api.v2", "http://[::1]:8080/v1")
    assert parse_upstream("x=https://h/a=b") == ("x", "https://h/a=b")
    with pytest.raises(UsageError, match="takes NAME=URL") as caught:
        parse_upstream("https://me:s3cret@h")
    assert "s3cret" not in str(caught.value)


def test_base_urls(read: Load) -> None:
    def default(name: str) -> str:
        return base_url(name, "127.0.0.1", 8800)

    assert default("openai") == "http://127.0.0.1:8800/openai/v1"
    assert default("anthropic") == "http://127.0.0.1:8800/anthropic"
    assert default("gemini") == "http://127.0.0.1:8800/gemini"
    assert default("ollama") == "http://127.0.0.1:8800/ollama"
    assert default("groq") == "http://127.0.0.1:8800/groq/openai/v1"
    assert default("mine") == "http://127.0.0.1:8800/mine/v1"
    assert base_url("openai", "0.0.0.0", 1) == "http://127.0.0.1:1/openai/v1"
    assert base_url("openai", "::", 1) == "http://[::1]:1/openai/v1"
    assert base_url("openai", "::1", 1) == "http://[::1]:1/openai/v1"
    assert base_url("openai", "box", 1, "http://h/v1/") == "http://box:1/openai", "the address has its version"
    toml = '[upstreams.a]\nurl = "http://a"\ndialect = "ollama"\n[upstreams.b]\nurl = "http://b/v1"\n'
    settings = read(toml, None, forward__port=1)
    assert settings.base_url("a") == "http://127.0.0.1:1/a"
    assert settings.base_url("b") == "http://127.0.0.1:1/b"
