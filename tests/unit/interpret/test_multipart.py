"""Forms: fields, and where the files are."""

from __future__ import annotations

import httpx2
from hypothesis import given
from hypothesis import strategies as st

from proxy.interpret.multipart import MAX_FIELD, MAX_PARTS, Form
from tests.unit.interpret.reading import read


def form(step: int = 10**9) -> tuple[Form, int]:
    """A form as HTTPX writes one, fed in chunks of so many bytes."""
    files = {"file": ("a.mp3", b"\xff\xfb" * 5000, "audio/mpeg")}
    request = httpx2.Request("POST", "http://h/", data={"model": "whisper-1", "x": "grüße"}, files=files)
    body = request.read()
    made = Form(request.headers["content-type"])
    chunks = [body[at : at + step] for at in range(0, len(body), step)]
    for number, chunk in enumerate(chunks):
        made.feed(number, chunk)
    return made, len(chunks)


@given(step=st.integers(1, 11_000))
def test_fields_and_files(step: int) -> None:
    made, chunks = form(step)
    assert made.fields == {"model": "whisper-1", "x": "grüße"}
    (file,) = made.files
    assert (file.kind, file.size) == ("audio/mpeg", 10_000)
    assert 0 <= file.first <= file.last < chunks
    assert (file.last - file.first + 1) * step >= 10_000
    assert made.problem is None


def test_what_is_no_form() -> None:
    for kind in ("multipart/form-data", "multipart/form-data; boundary=", ""):
        assert "cannot be read" in str(Form(kind).problem)
    broken = Form("multipart/form-data; boundary=b")
    broken.feed(0, b"not a boundary\r\n")
    assert "cannot be read" in str(broken.problem)
    broken.feed(1, b"--b\r\n")


def test_a_field_may_be_called_as_it_likes() -> None:
    made = Form("multipart/form-data; boundary=b")
    made.feed(0, b'--b\r\nContent-Disposition: form-data; name="filename"\r\n\r\nx\r\n--b--\r\n')
    assert (made.fields, made.files, made.problem) == ({"filename": "x"}, [], None)


def test_bounds() -> None:
    many = Form("multipart/form-data; boundary=b")
    part = b'--b\r\nContent-Disposition: form-data; name="n"\r\n\r\nv\r\n'
    many.feed(0, part * (MAX_PARTS + 1))
    assert f"more than {MAX_PARTS} parts" in str(many.problem)
    large = Form("multipart/form-data; boundary=b")
    large.feed(0, b'--b\r\nContent-Disposition: form-data; name="n"\r\n\r\n' + bytes(MAX_FIELD + 1) + b"\r\n--b--\r\n")
    assert large.fields == {}


@given(data=st.binary(max_size=200))
def test_anything_is_survived(data: bytes) -> None:
    made = Form('multipart/form-data; boundary="b"')
    made.feed(0, b"--b\r\nContent-Disposition: form-data" + data)


def test_the_file_of_a_transcription_is_not_copied() -> None:
    request = httpx2.Request(
        "POST", "http://h/", data={"model": "whisper-1"}, files={"file": ("a.wav", bytes(1000), "audio/wav")}
    )
    meaning = read(
        b'{"text":"hello","usage":{"type":"duration","seconds":9.5}}',
        "/v1/audio/transcriptions",
        "application/json",
        request=request.read(),
        asked=[("Content-Type", request.headers["content-type"])],
    )
    assert (meaning.model_asked, meaning.operation, meaning.text) == ("whisper-1", "transcription", "hello")
    assert [tuple(each) for each in meaning.media] == [("request", "audio/wav", 0, 0, 1000)]
    assert meaning.facts["audio_seconds"] == 9.5
    assert (meaning.usage_state, meaning.usage and meaning.usage.others) == ("non_token", {"audio_ms": 9500})
