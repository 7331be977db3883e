"""Certificates and proxies in the configuration: what goes together, and that no password is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.config import Settings

Load = Callable[..., Settings]
Refused = Callable[..., str]


def test_certificates_go_with_their_keys_and_with_tls(refused: Refused, tmp_path: Path) -> None:
    file = tmp_path / "pem"
    file.touch()
    assert refused(f"forward.key = '{file}'").endswith("forward.key belongs to a certificate; set forward.cert too")
    assert "forward.cert must be a file, and /nowhere is none" in refused("forward.cert = '/nowhere'")
    toml = f"[upstreams.openai]\nclient_key = '{file}'"
    assert refused(toml).endswith("upstreams.openai.client_key belongs to a certificate; set client_cert too")
    toml = f"[upstreams.ollama]\nclient_cert = '{file}'"
    assert refused(toml).endswith("client_cert is shown by TLS only; the url must begin with https://")


def test_base_urls_of_a_data_port_with_tls(read: Load, tmp_path: Path) -> None:
    file = tmp_path / "pem"
    file.touch()
    settings = read(f"forward.cert = '{file}'\nforward.host = 'localhost'")
    assert settings.base_url("openai") == "https://localhost:8800/openai/v1"


URL = "http://me:s3cret@proxy.corp:3128"


@pytest.mark.parametrize("by_variable", [False, True])
def test_a_proxy_is_known_and_its_password_not_shown(read: Load, by_variable: bool) -> None:
    variables = {"WIRETAPE_UPSTREAMS__OPENAI__PROXY": URL} if by_variable else None
    settings = read("" if by_variable else f"upstreams.openai.proxy = '{URL}'", variables)
    assert settings.upstreams["openai"].proxy == URL
    assert settings.upstreams["anthropic"].proxy is None
    assert "s3cret" not in repr(settings) + json.dumps(settings.without_secrets())
    assert settings.without_secrets()["upstreams"]["openai"]["proxy"] == "http://***@proxy.corp:3128"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://me:s3cret@proxy", "must begin with http://, socks5:// or socks5h://"),
        ("http://me:s3cret@proxy:port", "must have a valid host and port"),
        (7, "must be the URL of a proxy, or"),
    ],
)
def test_a_proxy_that_is_none(refused: Refused, url: object, says: str) -> None:
    text = refused("", None, upstreams__openai__proxy=url)
    assert f"upstreams.openai.proxy {says}" in text
    assert "s3cret" not in text


def test_a_proxy_that_is_for_nothing(refused: Refused) -> None:
    assert "upstreams.demo.proxy is for nothing" in refused(f"upstreams.demo.proxy = '{URL}'")


@pytest.mark.parametrize("toml", ["url = 'http://h'", f"proxy = '{URL}'"])
def test_http_2_is_for_upstreams_with_tls_and_no_proxy(read: Load, refused: Refused, toml: str) -> None:
    assert read("[upstreams.openai]\nhttp2 = true").upstreams["openai"].http2
    text = refused(f"[upstreams.openai]\nhttp2 = true\n{toml}")
    assert "upstreams.openai.http2 needs a url that begins with https://, and no proxy on the way" in text
