"""No form of target or header reaches a host that is not configured, and no environment variable leads elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.flow.wire.stage import Answering, Origin, Stage, request, response, staged
from tests.support.rawhttp import Message, RawUpstream

TRAP = b"{trap}"  # stands for the address of the host that nobody configured
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")

TARGETS = [
    b"//{trap}/v1/x",
    b"///{trap}/v1/x",
    b"/http://{trap}/v1/x",
    b"/http:/{trap}/v1/x",
    b"/http:%2F%2F{trap}/v1/x",
    b"/%68ttp://{trap}/",
    b"/{trap}/v1/x",
    b"/@{trap}/v1/x",
    b"/user@{trap}/v1/x",
    b"/\\{trap}/v1/x",
    b"/\\\\{trap}\\x",
    b"/%2F{trap}/x",
    b"/%2F%2F{trap}/x",
    b"/%5c%5c{trap}/x",
    b"/..//{trap}/x",
    b"/.;/{trap}/x",
    b"/~a=b//{trap}/x",
    b"/~a=b/http://{trap}/x",
    b"http://{trap}/v1/x",
    b"HTTP://{trap}/v1/x",
    b"https://{trap}/v1/x",
    b"http://user@{trap}/v1/x",
    b"ftp://{trap}/v1/x",
    b"{trap}",
    b"*",
]
BEHIND_THE_NAME = [
    b"//{trap}/x",
    b"@{trap}/x",
    b":80@{trap}/x",
    b"/@{trap}/x",
    b"/..//{trap}/x",
    b"/../../{trap}/x",
    b"\\{trap}/x",
    b"/\\{trap}/x",
    b"/http://{trap}/x",
    b"%2F%2F{trap}/x",
    b"%00.{trap}/x",
    b".{trap}/x",
    b"?@{trap}/x",
    b"?url=http://{trap}/",
]
HEADERS = [
    b"X-Forwarded-Host: {trap}",
    b"X-Forwarded-Server: {trap}",
    b"X-Host: {trap}",
    b"X-Original-URL: http://{trap}/x",
    b"X-Rewrite-URL: http://{trap}/x",
    b"Forwarded: host={trap}",
    b"X-Real-Host: {trap}",
    b"Proxy-Host: {trap}",
    b"x-portkey-custom-host: http://{trap}/v1",
    b"helicone-target-url: http://{trap}",
    b"x-wiretape-upstream: http://{trap}",
    b"Origin: http://{trap}",
    b"Referer: http://{trap}/",
]


@pytest.fixture(scope="module")
def trap() -> Iterator[RawUpstream]:
    """The host that must see nothing."""
    with RawUpstream(Answering(response(b"caught"))) as upstream:
        yield upstream
        assert upstream.peers == []


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory, trap: RawUpstream) -> Iterator[Stage]:
    """A wiretape whose environment names the trap as its proxy."""
    variables = dict.fromkeys(_PROXIES, trap.url)
    with staged(tmp_path_factory.mktemp("relay"), upstreams=8, variables=variables) as stage:
        yield stage


@pytest.fixture(scope="module")
def script() -> Answering:
    return Answering(response(b"configured"))


@pytest.fixture(scope="module")
def origin(relay: Stage, script: Answering) -> Iterator[Origin]:
    with relay.origin(script) as upstream:
        yield upstream


def _aimed(text: bytes, trap: RawUpstream) -> bytes:
    return text.replace(TRAP, b"127.0.0.1:%d" % trap.port)


def _ask(relay: Stage, data: bytes) -> Message:
    with relay.client() as client:
        return client.send(data).read_message()


@pytest.mark.parametrize("host", [b"wiretape.test", TRAP], ids=["Host is ours", "Host is the trap"])
@pytest.mark.parametrize("target", TARGETS, ids=bytes.decode)
def test_a_target_that_names_no_upstream(
    relay: Stage, trap: RawUpstream, origin: Origin, script: Answering, target: bytes, host: bytes
) -> None:
    before = len(script.requests)
    data = request(target, b"{}").replace(b"wiretape.test", host)
    assert _ask(relay, _aimed(data, trap)).status in {400, 404}
    assert len(script.requests) == before
    assert trap.peers == []


@pytest.mark.parametrize("rest", BEHIND_THE_NAME, ids=bytes.decode)
def test_what_stands_behind_an_upstreams_name(
    relay: Stage, trap: RawUpstream, origin: Origin, script: Answering, rest: bytes
) -> None:
    """It reaches that upstream as it is, or nobody."""
    before = len(script.requests)
    answer = _ask(relay, _aimed(request(origin.at(rest), b"{}"), trap))
    if answer.status == 200:
        assert answer.body == b"configured"
        assert script.requests[-1].target.endswith(_aimed(rest, trap))
    else:
        assert answer.status in {400, 404}
        assert len(script.requests) == before
    assert trap.peers == []


@pytest.mark.parametrize("header", HEADERS, ids=bytes.decode)
def test_a_header_that_names_another_host(
    relay: Stage, trap: RawUpstream, origin: Origin, script: Answering, header: bytes
) -> None:
    answer = _ask(relay, _aimed(request(origin.at(), b"{}", header), trap))
    assert (answer.status, answer.body) == (200, b"configured")
    assert script.requests[-1].one("host") == b"127.0.0.1:%d" % origin.port
    assert trap.peers == []


def test_the_host_header(relay: Stage, trap: RawUpstream, origin: Origin, script: Answering) -> None:
    answer = _ask(relay, _aimed(request(origin.at(), b"{}").replace(b"wiretape.test", TRAP), trap))
    assert (answer.status, answer.body) == (200, b"configured")
    assert script.requests[-1].one("host") == b"127.0.0.1:%d" % origin.port
    assert trap.peers == []


@pytest.mark.parametrize("method", [b"CONNECT", b"TRACE"], ids=bytes.decode)
def test_methods_that_are_for_forward_proxies(
    relay: Stage, trap: RawUpstream, origin: Origin, script: Answering, method: bytes
) -> None:
    before = len(script.requests)
    for target in (TRAP, origin.at()):
        answer = _ask(relay, _aimed(request(target, method=method), trap))
        assert answer.status in {400, 501}
    assert len(script.requests) == before
    assert trap.peers == []


@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"303 See Other", b"307 Temporary", b"308 Permanent"])
def test_a_redirect_is_the_clients_to_follow(relay: Stage, trap: RawUpstream, status: bytes) -> None:
    location = b"http://127.0.0.1:%d/x" % trap.port
    with relay.origin(Answering(response(b"", b"Location: " + location, status=status))) as origin:
        answer = _ask(relay, request(origin.at(), b"{}"))
    assert (answer.status, answer.one("location")) == (int(status[:3]), location)
    assert trap.peers == []
