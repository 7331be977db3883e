"""The variables that point SDKs and tools here, and what becomes of those that are set already."""

from __future__ import annotations

import shlex

import pytest

from proxy.cli import variables
from proxy.cli.run import tags_of
from proxy.cli.variables import Given
from proxy.errors import UsageError
from proxy.presets import PRESETS, TEMPLATES
from tests.unit.cli.conftest import Command


def test_each_is_of_an_upstream_that_there_is() -> None:
    names = [each.name for each in variables.VARIABLES]
    assert len(set(names)) == len(names)
    assert {each.upstream for each in variables.VARIABLES} <= {*PRESETS, *TEMPLATES}
    assert all(variables.reader(name) for name in names)


def test_values() -> None:
    found = variables.values("http://127.0.0.1:9000", ["openai", "anthropic", "gemini", "ollama", "groq", "mine"], {})
    assert found["OPENAI_BASE_URL"] == found["OPENAI_API_BASE"] == "http://127.0.0.1:9000/openai/v1"
    assert found["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:9000/anthropic"
    assert found["GOOGLE_GEMINI_BASE_URL"] == "http://127.0.0.1:9000/gemini"
    assert found["OLLAMA_HOST"] == "http://127.0.0.1:9000/ollama"
    assert found["GROQ_BASE_URL"] == "http://127.0.0.1:9000/groq"
    assert found["GROQ_API_BASE"] == "http://127.0.0.1:9000/groq/openai/v1"
    cloud = variables.values("http://127.0.0.1:9000", ["bedrock", "vertex"], {})
    assert cloud["AWS_ENDPOINT_URL_BEDROCK_RUNTIME"] == "http://127.0.0.1:9000/bedrock"
    assert cloud["ANTHROPIC_VERTEX_BASE_URL"] == "http://127.0.0.1:9000/vertex/v1"
    assert cloud["GOOGLE_VERTEX_BASE_URL"] == "http://127.0.0.1:9000/vertex"
    assert "AZURE_OPENAI_ENDPOINT" not in found, "it is a template until somebody gives it an address"
    tagged = variables.values("http://127.0.0.1:9000", ["openai"], {}, "session=a%2Fb,env=ci")
    assert tagged["OPENAI_BASE_URL"] == "http://127.0.0.1:9000/~session=a%2Fb,env=ci/openai/v1"


@pytest.mark.parametrize(
    ("name", "value", "upstream", "given"),
    [
        ("OPENAI_BASE_URL", "https://gw.example/v1", "openai", Given("https://gw.example", bare=False)),
        ("OPENAI_BASE_URL", "https://gw.example/v1/", "openai", Given("https://gw.example", bare=False)),
        ("OPENAI_BASE_URL", "https://gw.example/llm", "openai", Given("https://gw.example/llm", bare=True)),
        ("ANTHROPIC_BASE_URL", "https://gw.example/a", "anthropic", Given("https://gw.example/a", bare=False)),
        ("OLLAMA_HOST", "10.0.0.5:11434", "ollama", Given("http://10.0.0.5:11434", bare=False)),
        (
            "AZURE_OPENAI_ENDPOINT",
            "https://r.openai.azure.com/",
            "azure",
            Given("https://r.openai.azure.com", bare=False),
        ),
    ],
)
def test_one_that_is_set_already_is_the_upstreams_address(name: str, value: str, upstream: str, given: Given) -> None:
    assert variables.already_set({name: value}) == {upstream: given}
    # What the command asks for is asked of the address that it had.
    asked = variables.values("http://127.0.0.1:1", [upstream], {upstream: given})[name] + "/chat"
    assert (
        given.url + asked.removeprefix(f"http://127.0.0.1:1/{upstream}")
        == value.rstrip("/").replace("10.0", "http://10.0", name == "OLLAMA_HOST") + "/chat"
    )


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"OPENAI_BASE_URL": "not an address"}, "OPENAI_BASE_URL must not hold spaces"),
        ({"OPENAI_BASE_URL": "ftp://x"}, "OPENAI_BASE_URL must begin with http"),
        ({"ANTHROPIC_BASE_URL": "http://user:secret@h"}, "ANTHROPIC_BASE_URL must not hold a user name"),
        (
            {"OPENAI_BASE_URL": "http://a/v1", "OPENAI_API_BASE": "http://b/v1"},
            "OPENAI_BASE_URL and OPENAI_API_BASE name different addresses for openai",
        ),
    ],
)
def test_one_that_is_no_address(environ: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        variables.already_set(environ)
    assert "secret" not in str(caught.value)


def test_no_proxy_gets_longer() -> None:
    assert variables.no_proxy({})["NO_PROXY"] == "127.0.0.1,localhost"
    both = variables.no_proxy({"NO_PROXY": "a, b", "no_proxy": "b,127.0.0.1"})
    assert both == {"NO_PROXY": "a,b,127.0.0.1,localhost", "no_proxy": "a,b,127.0.0.1,localhost"}


def test_tags_of_a_run() -> None:
    assert tags_of(None, None) == ""
    assert tags_of("a b", ["x=1,2", "y=/"]) == "session=a%20b,x=1%2C2,y=%2F"
    with pytest.raises(UsageError, match="NAME=VALUE"):
        tags_of(None, ["x"])


@pytest.mark.parametrize("form", ["shell", "fish", "powershell", "dotenv", "json"])
def test_env_for_every_shell(wiretape: Command, form: str) -> None:
    ran = wiretape("env", "openai", "--format", form)
    assert "http://127.0.0.1:8800/openai/v1" in ran.text
    if form == "shell":
        words = [shlex.split(line, comments=True) for line in ran.lines]
        assert words[0] == ["export", "OPENAI_BASE_URL=http://127.0.0.1:8800/openai/v1"]
    if form == "json":
        assert ran.json["OPENAI_API_BASE"] == "http://127.0.0.1:8800/openai/v1"


def test_env_names_tools_that_read_no_variable(wiretape: Command) -> None:
    lines = wiretape("env").lines
    assert "# Codex CLI: codex -c openai_base_url=http://127.0.0.1:8800/openai/v1" in lines
    assert wiretape("env", "nobody").code == 2
    assert "there are openai" in wiretape("env", "nobody").err
