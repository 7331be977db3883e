"""One provider and one wiretape before it, for all tests of SDKs; and an environment that no SDK takes hints from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.flow.sdk.provider import Provider
from tests.support.running import Running, serving, wait_for

DIALECTS = ("openai", "anthropic", "gemini")


class Set(NamedTuple):
    """`bases` are the base URLs that `wiretape serve` printed, by the upstream's name."""

    provider: Provider
    wiretape: Running
    bases: dict[str, str]


@pytest.fixture(autouse=True)
def _no_hints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OPENAI", "ANTHROPIC", "GOOGLE", "GEMINI"):
        for key in ("BASE_URL", "API_KEY", "AUTH_TOKEN", "ORG_ID", "PROJECT_ID", "LOG"):
            monkeypatch.delenv(f"{name}_{key}", raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    # Nothing here speaks TLS, and reading the system's certificates takes a client longer than all else.
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))


@pytest.fixture(scope="module")
def sdks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Set]:
    with Provider() as provider, serving(tmp_path_factory.mktemp("sdks"), *flags(provider)) as wiretape:
        yield Set(provider, wiretape, printed_bases(wiretape))
        assert wiretape.stop() == 0


def flags(provider: Provider) -> list[str]:
    """What puts a provider in the place of all three."""
    return [word for name in DIALECTS for word in ("--upstream", f"{name}={provider.url}")]


def printed_bases(wiretape: Running) -> dict[str, str]:
    """What wiretape told its user to give to SDKs."""
    wait_for(lambda: "more: wiretape upstreams" in wiretape.output, "the addresses")
    return dict(re.findall(r"^ +(\S+) +(http://\S+)$", wiretape.output, re.MULTILINE))
