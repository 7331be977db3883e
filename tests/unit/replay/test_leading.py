"""What playback answers leads back to whoever asked it, by the name and the tags that it was asked with."""

from __future__ import annotations

import pytest

from proxy.replay.leading import way_of
from proxy.upload_urls import address
from proxy.wire.interface import ClientRequest

TARGET = b"/~session=a/gemini/upload/v1beta/files?x"
ASKED = ClientRequest(b"POST", TARGET, "1.1", [(b"Host", b"127.0.0.1:8802")])
BACK = b"http://127.0.0.1:8802/~session=a/gemini/upload/v1beta/files?upload_id=x"
DATA_PORT = address("https", "127.0.0.1")


@pytest.mark.parametrize("there", [b"https://google.example", b"http://corp.example:8080/base/v2"])
def test_from_anywhere(there: bytes) -> None:
    way = way_of(ASKED)
    assert way is not None
    assert way.turned(there + b"/upload/v1beta/files?upload_id=x") == BACK


@pytest.mark.parametrize(
    ("url", "back"),
    [
        (b"https://127.0.0.1/~session=a/gemini/upload/v1beta/files?upload_id=x", BACK),
        (b"https://127.0.0.1/~session=b/gemini/upload/v1beta/files?upload_id=x", None),
        (b"https://127.0.0.1/~session=a/openai/upload/v1beta/files?upload_id=x", None),
        (b"http://127.0.0.1/~session=a/gemini/upload/v1beta/files?upload_id=x", None),
        (b"https://google.example/~session=a/gemini/upload", None),
    ],
)
def test_from_a_data_port_that_was_asked_the_same(url: bytes, back: bytes | None) -> None:
    way = way_of(ASKED, DATA_PORT)
    assert way is not None
    assert way.turned(url) == back


def test_nowhere_without_a_name() -> None:
    assert way_of(ClientRequest(b"POST", TARGET, "1.0", [])) is None
