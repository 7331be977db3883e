"""Content-Encoding undone as a stream: any cutting gives the same, broken data gives its prefix, bombs stay small."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from functools import cache
from itertools import pairwise

import brotli  # type: ignore[import-untyped]  # it ships no types
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.interpret import body
from proxy.interpret.body import decoder


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def flushed_gzip(data: bytes) -> bytes:
    """As servers send event streams: one member, a sync flush after each event."""
    packer = zlib.compressobj(wbits=31)
    parts = [packer.compress(data[at : at + 50]) + packer.flush(zlib.Z_SYNC_FLUSH) for at in range(0, len(data), 50)]
    return b"".join(parts) + packer.flush()


def many_gzips(data: bytes) -> bytes:
    return b"".join(gzip.compress(data[at : at + 70], mtime=0) for at in range(0, len(data), 70)) or gzip.compress(b"")


def flushed_brotli(data: bytes) -> bytes:
    packer = brotli.Compressor()
    parts = [packer.process(data[at : at + 50]) + packer.flush() for at in range(0, len(data), 50)]
    return b"".join(parts) + bytes(packer.finish())


def many_zstds(data: bytes) -> bytes:
    parts = [zstandard.compress(data[at : at + 70]) for at in range(0, len(data), 70)]
    return b"".join(parts) or zstandard.compress(b"")


def flushed_zstd(data: bytes) -> bytes:
    packer = zstandard.ZstdCompressor().compressobj()
    flush = zstandard.COMPRESSOBJ_FLUSH_BLOCK
    parts = [packer.compress(data[at : at + 50]) + packer.flush(flush) for at in range(0, len(data), 50)]
    return b"".join(parts) + packer.flush()


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip, other case": ("X-GZip", gzip.compress),
    "gzip, flushed": ("gzip", flushed_gzip),
    "gzip, many members": ("gzip", many_gzips),
    "deflate": ("deflate", zlib.compress),
    "deflate, raw": ("deflate", raw_deflate),
    "br": ("br", brotli.compress),
    "br, flushed": ("br", flushed_brotli),
    "zstd": ("zstd", zstandard.compress),
    "zstd, flushed": ("zstd", flushed_zstd),
    "zstd, many frames": ("zstd", many_zstds),
    "identity": ("identity", bytes),
    "none": ("", bytes),
    "two codings": ("gzip, br", lambda data: bytes(brotli.compress(gzip.compress(data)))),
    "three codings": ("deflate ,identity, zstd,gzip", lambda data: gzip.compress(flushed_zstd(zlib.compress(data)))),
}
packers = pytest.mark.parametrize("packer", PACKERS)
few = settings(max_examples=30)  # for each of so many packers, and each is tried cut in pieces and byte by byte

TEXT = b"".join(b'data: {"choices":[{"delta":{"content":"word %d"}}]}\n\n' % n for n in range(40)) + b"data: [DONE]\n\n"


@cache
def packed(packer: str) -> bytes:
    """The text; to pack it takes longer than all else."""
    return PACKERS[packer][1](TEXT)


def run(encodings: str | None, *pieces: bytes) -> tuple[bytes, str | None]:
    decoding = decoder(encodings)
    decoded = b"".join([decoding.feed(piece) for piece in pieces])
    return decoded + decoding.finish(), decoding.problem


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


def single(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


@packers
@few
@given(data=st.binary(max_size=500) | st.just(TEXT), places=st.lists(st.integers(0, 10**6), max_size=12))
def test_any_cutting_gives_the_body(packer: str, data: bytes, places: list[int]) -> None:
    encodings, pack = PACKERS[packer]
    coded = packed(packer) if data is TEXT else pack(data)
    assert run(encodings, *cut(coded, places)) == (data, None)


@packers
def test_byte_by_byte(packer: str) -> None:
    assert run(PACKERS[packer][0], *single(packed(packer))) == (TEXT, None)


@packers
@given(length=st.integers(0, 10**6), places=st.lists(st.integers(0, 10**6), max_size=12))
def test_truncated_data_gives_a_prefix(packer: str, length: int, places: list[int]) -> None:
    encodings, whole = PACKERS[packer][0], packed(packer)
    data = whole[: length % len(whole)]
    decoded, problem = run(encodings, *cut(data, places))
    assert TEXT.startswith(decoded)
    assert (decoded, problem) == run(encodings, data)
    if problem is None and encodings not in ("", "identity"):
        # A body may end between two members or frames, and none at all is no broken one.
        assert not data or "many" in packer


@packers
@few
@given(place=st.integers(0, 10**6), bits=st.integers(1, 255), places=st.lists(st.integers(0, 10**6), max_size=12))
def test_broken_data_gives_the_same_however_it_is_cut(packer: str, place: int, bits: int, places: list[int]) -> None:
    encodings, data = PACKERS[packer][0], bytearray(packed(packer))
    data[place % len(data)] ^= bits
    whole = run(encodings, bytes(data))
    assert run(encodings, *cut(bytes(data), places)) == whole
    assert run(encodings, *single(bytes(data))) == whole


@given(data=st.binary(max_size=300), places=st.lists(st.integers(0, 10**6), max_size=8))
@pytest.mark.parametrize("encodings", ["gzip", "deflate", "br", "zstd", "br, gzip"])
def test_garbage_is_never_an_exception(encodings: str, data: bytes, places: list[int]) -> None:
    assert run(encodings, *cut(data, places)) == run(encodings, data)


@pytest.mark.parametrize("packer", ["gzip, flushed", "br, flushed", "zstd, flushed"])
def test_an_event_comes_out_as_soon_as_its_bytes_are_in(packer: str) -> None:
    encodings, pack = PACKERS[packer]
    coded, decoding, decoded = pack(TEXT), decoder(encodings), b""
    for piece in single(coded)[:-20]:
        decoded += decoding.feed(piece)
    assert len(decoded) > len(TEXT) - 100
    assert decoding.problem is None


@pytest.mark.parametrize("packer", ["gzip, flushed", "br, flushed", "zstd, flushed"])
def test_what_was_decoded_before_the_damage_is_kept(packer: str) -> None:
    encodings, pack = PACKERS[packer]
    good = TEXT * 4
    packed = pack(good)
    decoded, problem = run(encodings, packed[: len(packed) // 2] + b"\xff" * 400)
    assert decoded.startswith(good[: len(good) // 4])
    assert problem == f"the {encodings} data is broken"


@pytest.mark.parametrize("packer", ["br", "deflate", "deflate, raw", "gzip", "zstd"])
def test_what_follows_the_end_is_said(packer: str) -> None:
    encodings, pack = PACKERS[packer]
    decoded, problem = run(encodings, pack(TEXT) + b"more")
    assert decoded == TEXT
    assert problem is not None
    assert run(encodings, pack(TEXT), b"more") == (decoded, problem)


def test_zeros_behind_a_gzip_member_are_padding() -> None:
    assert run("gzip", gzip.compress(TEXT) + bytes(700) + gzip.compress(b"more") + bytes(3)) == (TEXT + b"more", None)


def test_a_wrong_checksum_keeps_the_text() -> None:
    decoded, problem = run("gzip", gzip.compress(TEXT)[:-8] + bytes(8))
    assert (decoded, problem) == (TEXT, "the gzip data is broken")


def test_plain_text_under_a_lying_header() -> None:
    assert run("gzip", TEXT) == (b"", "the gzip data is broken")


def test_no_body_is_no_problem() -> None:
    assert run("gzip") == run("br", b"") == run(None) == (b"", None)


def test_an_unknown_coding_is_named_at_once() -> None:
    decoding = decoder("gzip, compress")
    assert "'compress'" in (decoding.problem or "")
    assert decoding.feed(TEXT) == decoding.finish() == b""


def test_too_many_codings() -> None:
    assert "9 times" in (decoder(",".join(["gzip"] * 9)).problem or "")


# --- bounds ---


def zeros(size: int) -> bytes:
    return bytes(size)


BOMBS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": lambda data: bytes(brotli.compress(data, quality=2)),  # the best takes a second
    "zstd": zstandard.compress,
}


@pytest.mark.parametrize("coding", BOMBS)
def test_a_bomb_stops_at_its_bound_in_little_memory(coding: str) -> None:
    bomb = BOMBS[coding](zeros(30 * 2**20))
    bound = body.FREE_OUTPUT + body.MAX_RATIO * len(bomb)
    assert bound < 30 * 2**20
    decoding, size = decoder(coding), 0
    tracemalloc.start()
    try:
        for piece in decoding.steps(bomb):
            assert len(piece) <= body.STEP
            size += len(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == bound
    assert decoding.finish() == b""
    assert "200 times" in (decoding.problem or "")
    assert peak < 20 * 2**20


@pytest.mark.parametrize("coding", BOMBS)
@settings(max_examples=10)
@given(places=st.lists(st.integers(0, 10**6), max_size=8))
def test_a_bomb_gives_the_same_however_it_is_cut(coding: str, places: list[int]) -> None:
    bomb = BOMBS[coding](b"a" * (3 * 2**20))
    whole = run(coding, bomb)
    assert run(coding, *cut(bomb, places)) == whole
    assert len(whole[0]) == body.FREE_OUTPUT + body.MAX_RATIO * len(bomb)


def test_a_bomb_in_a_bomb() -> None:
    bomb = gzip.compress(gzip.compress(gzip.compress(zeros(50 * 2**20))))
    decoded, problem = run("gzip, gzip, gzip", bomb)
    assert len(decoded) <= body.FREE_OUTPUT + body.MAX_RATIO * len(bomb)
    assert problem is not None


def test_a_short_body_that_repeats_itself_is_whole() -> None:
    text = b"data: {}\n\n" * 100_000
    assert len(brotli.compress(text)) * body.MAX_RATIO < len(text)
    assert run("br", brotli.compress(text)) == (text, None)


def test_what_the_ratio_held_back_comes_when_more_bytes_allow_it() -> None:
    packer = zlib.compressobj(wbits=31)
    high = packer.compress(zeros(2 * 2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    noise = bytes((n * n * 31 >> 7) & 0xFF for n in range(40_000))
    low = packer.compress(noise) + packer.flush()
    assert len(run("gzip", high)[0]) < 2 * 2**20
    assert run("gzip", high, low) == (zeros(2 * 2**20) + noise, None)


def test_the_total_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "MAX_OUTPUT", 2**20)
    text = bytes((n * n * 31 >> 7) & 0xFF for n in range(2**20))
    assert run("gzip", gzip.compress(text)) == (text, None)
    more = gzip.compress(text + b"!"), gzip.compress(brotli.compress(text + b"!"))
    for encodings, coded in zip(("gzip", "br, gzip"), more, strict=True):
        decoded, problem = run(encodings, coded, *[b"more"] * 3)
        assert decoded == text
        assert "MiB" in (problem or "")
