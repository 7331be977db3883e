"""When credentials are had: once for all who wait, in a thread, anew before they end, and not for ever."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from proxy.forward import signer
from proxy.forward.redact import Redactor
from proxy.forward.signer import NoCredentials, Signer, State, said
from proxy.wire.interface import UpstreamRequest, UpstreamResponse
from tests.support.rawhttp import DEADLINE
from tests.unit.forward.signing import Scripted

HEAD = b"POST /x?a HTTP/1.1\r\nHost: h\r\nX-Odd: a: b\r\n\r\n"
REQUEST = UpstreamRequest(b"POST", b"/x?a", HEAD, chunked=False)
REFUSED = UpstreamResponse(401, b"", [], bodiless=False)


def fails(error: Exception) -> Callable[[], None]:
    def step() -> None:
        raise error

    return step


def played(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(DEADLINE):
            await story()

    asyncio.run(within())


async def over(source: Scripted) -> None:
    """Until the first fetch is, and its end was heard."""
    await asyncio.to_thread(source.begun.wait, DEADLINE)
    await asyncio.to_thread(source.threads[0].join, DEADLINE)


def test_all_who_wait_get_them_at_once() -> None:
    source = Scripted()

    async def story() -> None:
        held = Signer(source)
        assert not held.ready()
        await asyncio.gather(*[held.prepare() for _ in range(20)])
        assert held.ready()

    played(story)
    assert source.fetched == 1
    assert source.threads[0].daemon
    assert source.threads[0] is not threading.main_thread()


def test_who_waits_may_leave() -> None:
    going = threading.Event()
    source = Scripted(lambda: assert_(going.wait(DEADLINE)))

    async def story() -> None:
        held = Signer(source)
        one = asyncio.create_task(held.prepare())
        two = asyncio.create_task(held.prepare())
        await asyncio.sleep(0)
        one.cancel()
        await asyncio.wait([one])
        going.set()
        await two

    played(story)
    assert source.fetched == 1


def assert_(condition: bool) -> None:
    assert condition


def test_old_ones_are_used_until_there_are_new_ones() -> None:
    going = threading.Event()
    source = Scripted(lambda: assert_(going.wait(DEADLINE)))
    source.now = State.STALE

    async def story() -> None:
        held = Signer(source)
        assert held.ready()
        assert held.ready()
        assert len(source.threads) <= 1
        going.set()
        await over(source)
        assert held.ready()

    played(story)
    assert source.fetched == 1


def test_a_failure_while_old_ones_are_good_is_no_ones(caplog: pytest.LogCaptureFixture) -> None:
    source = Scripted(fails(NoCredentials("the credentials could not be had: x")))
    source.now = State.STALE

    async def story() -> None:
        held = Signer(source)
        assert held.ready()
        await over(source)
        assert held.ready()  # and it is not tried again at once
        assert len(source.threads) == 1

    with caplog.at_level(logging.INFO, "forward"):
        played(story)
    assert caplog.messages == ["the credentials could not be had: x"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NoCredentials("the credentials could not be had: x"), "could not be had: x"),
        (KeyError("secret"), r"could not be had: internal error \(KeyError at test_signer.py:"),
    ],
)
def test_a_failure_is_told_to_all_and_tried_again(
    caplog: pytest.LogCaptureFixture, error: Exception, words: str
) -> None:
    source = Scripted(fails(error), fails(error))

    async def story() -> None:
        held = Signer(source)
        for _ in range(2):
            failures = await asyncio.gather(*[held.prepare() for _ in range(3)], return_exceptions=True)
            assert all(isinstance(each, NoCredentials) for each in failures)
            with pytest.raises(NoCredentials, match=words):
                raise next(each for each in failures if isinstance(each, NoCredentials))
        await held.prepare()

    with caplog.at_level(logging.INFO, "forward"):
        played(story)
    assert len(source.threads) == 3
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]  # what repeats is said once
    assert "secret" not in caplog.text


def test_a_giver_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signer, "LONGEST_WAIT", 0.01)
    going = threading.Event()
    source = Scripted(lambda: assert_(going.wait(DEADLINE)))

    async def story() -> None:
        held = Signer(source)
        with pytest.raises(NoCredentials, match=r"could not be had within 0.01 s: whoever gives them does not answer"):
            await held.prepare()
        going.set()

    played(story)


def test_a_system_that_has_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Scripted()

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def story() -> None:
        held = Signer(source)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            with pytest.raises(NoCredentials, match="could not be had: no thread can be started"):
                await held.prepare()
            source.now = State.STALE
            assert held.ready()
        source.now = State.NONE
        await held.prepare()

    played(story)
    assert source.fetched == 1


def test_a_loop_that_is_gone() -> None:
    going = threading.Event()
    source = Scripted(lambda: assert_(going.wait(DEADLINE)))

    async def story() -> None:
        held = Signer(source)
        waiting = asyncio.create_task(held.prepare())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])

    played(story)
    going.set()
    source.threads[0].join(DEADLINE)
    assert source.fetched == 1


def test_what_goes_on_a_request() -> None:
    source = Scripted()
    source.fetch()
    request, added = Signer(source).sign(REQUEST, b"body")
    assert added == [(b"Authorization", b"token-1")]
    assert request.head == HEAD[:-2] + b"Authorization: token-1\r\n\r\n"
    assert source.signed == (b"POST", b"/x?a", [(b"Host", b"h"), (b"X-Odd", b"a: b")], b"body")
    assert REQUEST.head == HEAD


def test_what_of_the_clients_goes() -> None:
    redactor = Redactor(b"k" * 32)
    headers = [
        (b"Host", b"h"),
        (b"Authorization", b"AWS4-HMAC-SHA256 Credential=AKIA/x"),
        (b"X-Amz-Date", b"1"),
        (b"X-Amz-Security-Token", b"2"),
        (b"X-Amz-Content-SHA256", b"3"),
        (b"X-Amzn-Bedrock-GuardrailIdentifier", b"4"),
    ]
    target = b"/x?a=b&key=k&X-Amz-Signature=1&x-amz-expires=2"
    carried = Signer(Scripted()).put_on(headers, target, b"/o" + target, redactor)
    assert carried.headers == [headers[0], headers[5]]
    assert carried.target == b"/x?a=b"
    assert carried.change.headers == []
    assert carried.change.removed == ["authorization", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"]
    assert carried.change.target == "/o/x?a=b"
    assert carried.credential == redactor.fingerprint(b"scripted:1").decode()


def test_a_refusal_is_logged_once_and_they_are_had_anew(caplog: pytest.LogCaptureFixture) -> None:
    source = Scripted()
    source.fetch()
    held = Signer(source)
    assert held.fault("o", UpstreamResponse(200, b"", [], bodiless=False)) is None
    assert held.ready()
    text = "the credentials, with which o is asked, were refused"
    assert [held.fault("o", REFUSED), held.fault("o", REFUSED)] == [text, text]
    assert not held.ready()
    assert caplog.messages == [text]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines\tand  more", "two lines and more"),
        ("\x1b[31mred\x00", "?[31mred?"),
        ("größe", "gr??e"),
        ("key AKIA0123456789ABCDEF here", "key ... here"),
        ("x" * 400, "x" * 300 + "..."),
    ],
)
def test_what_others_say_is_fit_to_be_told(text: str, shown: str) -> None:
    assert said(text) == shown
