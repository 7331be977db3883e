"""Key shapes in bodies: masked for any cutting of the body, and nothing else harmed but at a chunk's end."""

from __future__ import annotations

import base64
import json
import random
import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.mask import KEEP, KEY_SHAPE, BodyMask

ALNUM = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
TAIL = ALNUM * 3
JWT_HEAD = "eyJhbGciOiJSUzI1NiJ9"
KEYS = {
    "openai": "sk-" + TAIL[:48],
    "openai project": "sk-proj-" + TAIL[:100] + "_-T3BlbkFJ" + TAIL[:40],
    "anthropic": "sk-ant-api03-" + TAIL[:90] + "-AA",
    "anthropic oauth": "sk-ant-oat01-" + TAIL[:60],
    "openrouter": "sk-or-v1-" + "0123456789abcdef" * 4,
    "shortest": "sk-" + TAIL[:17],
    "cerebras": "csk-" + TAIL[:48],
    "groq": "gsk_" + TAIL[:52],
    "xai": "xai-" + TAIL[:80],
    "perplexity": "pplx-" + TAIL[:48],
    "nvidia": "nvapi-" + TAIL[:64],
    "hugging face": "hf_" + TAIL[:34],
    "fireworks": "fw_" + TAIL[:24],
    "ephemeral": "ek_" + "68af296e8e408191a1120ab6383263c2",
    "google": "AIzaSy" + TAIL[:33],
    "google oauth": "ya29.a0Af_" + TAIL[:60] + "-x.y",
    "aws": "AKIAIOSFODNN7EXAMPLE",
    "aws temporary": "ASIAIOSFODNN7EXAMPLE",
    "bedrock": "ABSK" + base64.b64encode(TAIL[:90].encode()).decode(),
    "bedrock short": "bedrock-api-key-" + base64.b64encode(TAIL[:90].encode()).decode(),
}
PREFIXES = ("bedrock-api-key-", "nvapi-", "pplx-", "ya29.")
MAX_KEEP = len("bedrock-api-key-")
every_key = pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)

# Text in which no shape can begin, so that every change in it is one too many.
plain = st.text(alphabet=' ,:;"{}[]\n\u00e9\u6f22QZ0', max_size=40).map(lambda text: text.encode())
keys = st.sampled_from(sorted(KEYS.values())).map(str.encode)


def masked(key: bytes | str) -> bytes:
    """A key as it is recorded."""
    data = key.encode() if isinstance(key, str) else key
    keep = max([KEEP, *(len(prefix) for prefix in PREFIXES if data.startswith(prefix.encode()))])
    return data[:keep] + b"*" * (len(data) - keep)


def feed(*chunks: bytes) -> bytes:
    mask = BodyMask()
    out = [mask.feed(chunk) for chunk in chunks]
    assert [len(chunk) for chunk in out] == [len(chunk) for chunk in chunks]
    assert mask.masked == (b"".join(out) != b"".join(chunks))
    return b"".join(out)


def cut(body: bytes, *places: int) -> list[bytes]:
    inside = sorted({place % (len(body) + 1) for place in places})
    return [body[begin:end] for begin, end in zip([0, *inside], [*inside, len(body)], strict=True) if begin < end]


@every_key
def test_a_key_in_one_chunk(key: str) -> None:
    body = json.dumps({"api_key": key, "next": 1}).encode()
    assert feed(body) == body.replace(key.encode(), masked(key))


@every_key
def test_a_key_at_every_cut(key: str) -> None:
    body = f'{{"a": "{key}"}}'.encode()
    expected = body.replace(key.encode(), masked(key))
    for place in range(1, len(body)):
        assert feed(body[:place], body[place:]) == expected, place


@every_key
def test_a_key_in_chunks_of_one_byte(key: str) -> None:
    body = f"Authorization: Bearer {key}\r\nnext".encode()
    assert feed(*cut(body, *range(len(body)))) == body.replace(key.encode(), masked(key))


@every_key
def test_a_key_that_is_all_there_is(key: str) -> None:
    data = key.encode()
    assert feed(data) == masked(key)
    assert feed(*cut(data, *range(len(data)))) == masked(key)


@every_key
@pytest.mark.parametrize(
    "before", ["\\n", "\\t", "\\r", "\\u0022", "\\\\n", "%20", "%3D", "=", ":", "'", "`", "(", "/", ".", "\u00e9", "\n"]
)
def test_a_key_begins_behind_an_escape_too(key: str, before: str) -> None:
    body = f"text{before}{key} text".encode()
    expected = body.replace(key.encode(), masked(key))
    assert feed(body) == expected
    assert feed(*cut(body, *range(len(body)))) == expected
    assert KEY_SHAPE.search(f"text{before}{key}".encode())


@given(st.lists(st.tuples(plain, keys), max_size=4), plain, st.lists(st.integers(0, 1 << 16), max_size=12))
def test_any_keys_in_any_cutting(parts: list[tuple[bytes, bytes]], end: bytes, places: list[int]) -> None:
    body = b"".join(b"%b %b " % part for part in parts) + end
    expected = b"".join(b"%b %b " % (text, masked(key)) for text, key in parts) + end
    assert feed(*cut(body, *places)) == expected


@given(plain, keys, st.lists(st.integers(0, 1 << 16), max_size=12))
@example(b"", b"bedrock-api-key-" + b"a" * 40, [15])
def test_a_key_at_the_very_end(text: bytes, key: bytes, places: list[int]) -> None:
    assert feed(*cut(text + b'"' + key, *places)) == text + b'"' + masked(key)


@given(st.lists(keys, min_size=2, max_size=5), st.lists(st.integers(0, 1 << 16), max_size=12))
def test_keys_side_by_side(several: list[bytes], places: list[int]) -> None:
    body = b",".join(several)
    assert feed(*cut(body, *places)) == b",".join(map(masked, several))


@given(st.binary(max_size=300), keys, st.binary(max_size=300), st.lists(st.integers(0, 1 << 16), max_size=12))
def test_among_any_bytes_no_key_survives(before: bytes, key: bytes, behind: bytes, places: list[int]) -> None:
    at = len(before) + 1
    out = feed(*cut(before + b" " + key + b" " + behind, *places))
    assert set(out[at + MAX_KEEP : at + len(key)]) <= set(b"*")
    assert out[at : at + KEEP] == key[:KEEP]


def test_a_web_token_keeps_how_it_is_signed() -> None:
    claims, signature = "eyJzdWIiOiIxMjM0NTY3ODkwIn0", "abc_DEF-123" * 4
    body = f'"id_token": "{JWT_HEAD}.{claims}.{signature}"'.encode()
    expected = f'"id_token": "{JWT_HEAD}.{claims[:5]}{"*" * (len(claims) - 5 + 1 + len(signature))}"'.encode()
    assert feed(body) == expected
    for place in range(1, len(body)):
        assert feed(body[:place], body[place:]) == expected, place
    assert feed(*cut(body, *range(len(body)))) == expected


def test_the_head_of_a_token_alone_is_no_secret() -> None:
    assert feed(f'"{JWT_HEAD}"'.encode()) == f'"{JWT_HEAD}"'.encode()


HARMLESS = [
    b"from huggingface_hub import hf_hub_download\n",
    b"pip install sk-learn, sk-image and ask-sdk; risk-adjusted desk-research, task-1234567890abcdefghij",
    b'{"ek_x": 1, "fw_": 2, "sk-": 3, "xai-": 4, "hf_transfer": true, "gsk_": 5, "pplx-api": 6}',
    b"ASIA PACIFIC, AKIAble, AIzable, ABSKurd, ya29. end",
    b"see bedrock-api-key-... or sk-\xe2\x80\xa6 for the format; mask_1234567890abcdefghijklmn_hf_x",
    b'{"model":"gpt-4o-mini","choices":[{"delta":{"content":" a joke"},"finish_reason":null}]}\n\n',
    b"www.eyJ.example and a.eyJ",
    b"sk-\nsk-\nsk-short sk-abcdefghijklmnop",  # the last is one character too short
]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_alike_is_the_same_object(text: bytes) -> None:
    mask = BodyMask()
    chunk = text + b" ."
    assert mask.feed(chunk) is chunk
    assert mask.feed(chunk) is chunk
    assert mask.masked is False


@given(st.lists(plain.filter(bool), max_size=6))
def test_text_without_shapes_is_handed_back_as_it_is(chunks: list[bytes]) -> None:
    mask = BodyMask()
    assert all(mask.feed(chunk) is chunk for chunk in chunks)
    assert mask.masked is False


def test_a_picture_is_unharmed() -> None:
    picture = base64.b64encode(random.Random(4).randbytes(3_000_000))
    body = b'{"type":"input_image","image_url":"data:image/png;base64,' + picture + b'"}'
    assert not re.search(rb"(?<![A-Za-z0-9])(?:AKIA|ASIA|ABSK|AIza)", picture), "a seed that means nothing"
    mask = BodyMask()
    chunks = [body[at : at + 65536] for at in range(0, len(body), 65536)]
    assert all(mask.feed(chunk) is chunk for chunk in chunks)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_a_cut_inside_a_look_alike_may_cost(text: bytes) -> None:
    """A chunk goes to disk before the next is there, so a word that may become a key is masked from its seventh
    character on, up to its own end and no further."""
    body = text + b" ."
    words = [match.span() for match in re.finditer(rb"[A-Za-z0-9._+/=-]+", body)]
    for place in range(1, len(body)):
        out = feed(body[:place], body[place:])
        if out == body:
            continue
        harmed = [at for at in range(len(body)) if out[at] != body[at]]
        begin, end = next(span for span in words if span[0] <= harmed[0] < span[1])
        assert harmed[-1] < end, "it reached another word"
        assert harmed[0] >= begin + KEEP
        assert begin < place <= end, "the word was not cut"


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ((b"use sk-le", b"arn now"), b"use sk-lea** now"),
        ((b"use sk-", b"learn now"), b"use sk-lea** now"),
        ((b"use s", b"k-learn now"), b"use sk-learn now"),
        ((b"use sk-learn", b" now"), b"use sk-lea** now"),
        ((b"import hf_hub", b"_download"), b"import hf_hub_download"),
    ],
)
def test_the_cost_of_a_cut_by_example(chunks: tuple[bytes, ...], expected: bytes) -> None:
    assert feed(*chunks) == expected


def test_an_empty_chunk_changes_nothing() -> None:
    key = KEYS["openai"].encode()
    assert feed(b"", b'"', key[:10], b"", key[10:], b"", b'"', b"") == b'"' + masked(key) + b'"'


def test_look_back_is_constant() -> None:
    mask = BodyMask()
    for _ in range(100):
        mask.feed(b"x" * 10_000 + KEYS["openai"].encode())
        assert len(mask._tail) < 64


@pytest.mark.parametrize(
    "unit", [b"ya29.", b"a.eyJ", b".eyJ", b"ABSK+", b"bedrock-api-key-+", b"sk-", b" sk-", b"-", b"AIza", b"eyJ.eyJ."]
)
def test_no_text_makes_it_slow(unit: bytes) -> None:
    """Each byte is looked at a bounded number of times. Looking again from each prefix would take minutes here."""
    chunk = (unit * 262_144)[:262_144] + b"\n"
    begun = time.process_time()
    BodyMask().feed(chunk)
    assert time.process_time() - begun < 2.0


def test_a_longer_key_inside_another_is_masked_to_its_end() -> None:
    inner = "ABSK" + "abc+def/" * 8
    body = f'"ya29.aaaaaaaaaaaaaaaaaaaaaaaa.{inner}" end'.encode()
    out = feed(body)
    assert out == body[: 1 + KEEP] + b"*" * (body.index(b'" end') - 1 - KEEP) + b'" end'
