"""How a body is packed is between upstream and client: its bytes, its encoding and its length are what they were."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass

import brotli  # type: ignore[import-untyped]  # it ships no types
import pytest
import zstandard

from tests.flow.wire.differential import Run, answering, assert_same_responses, twice
from tests.flow.wire.stage import LAST_CHUNK, STREAM, Stage, chunk, request, response
from tests.support.rawhttp import Peer

TEXT = b"".join(b'data: {"n": %d, "delta": "and so on"}\n\n' % number for number in range(300))
_GZIP = gzip.compress(TEXT, mtime=0)


@dataclass(frozen=True)
class Packed:
    """A body, and what its headers say of it."""

    body: bytes
    said: tuple[bytes, ...]


PACKED: dict[str, Packed] = {
    "gzip": Packed(_GZIP, (b"gzip",)),
    "another case": Packed(_GZIP, (b"GZip",)),
    "deflate": Packed(zlib.compress(TEXT), (b"deflate",)),
    "br": Packed(brotli.compress(TEXT), (b"br",)),
    "zstd": Packed(zstandard.compress(TEXT), (b"zstd",)),
    "twice": Packed(brotli.compress(_GZIP), (b"gzip, br",)),
    "twice, said on two lines": Packed(brotli.compress(_GZIP), (b"gzip", b"br")),
    "identity": Packed(TEXT, (b"identity",)),
    "an unknown one": Packed(TEXT[::-1], (b"x-own",)),
    "an empty one": Packed(TEXT, (b"",)),
    "a lie": Packed(TEXT, (b"br",)),
    "another lie": Packed(_GZIP, (b"zstd",)),
    "cut off": Packed(_GZIP[:-20], (b"gzip",)),
    "damaged": Packed(_GZIP[:100] + b"\0" * 20 + _GZIP[120:], (b"gzip",)),
    "with something behind": Packed(_GZIP + b"and more", (b"gzip",)),
    "two members": Packed(_GZIP + _GZIP, (b"gzip",)),
    "nothing": Packed(b"", (b"gzip",)),
    "a bomb": Packed(gzip.compress(bytes(20_000_000), mtime=0), (b"gzip",)),
}


@pytest.mark.parametrize("accept", [[], [b"Accept-Encoding: identity"]], ids=["silent", "identity"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("name", PACKED)
def test_a_packed_body_passes_as_it_is(stage: Stage, name: str, framing: str, accept: list[bytes]) -> None:
    """Also to a client that asked for none, or for nothing: the upstream has decided."""
    case = PACKED[name]
    said = [b"Content-Encoding: " + each for each in case.said]
    if framing == "length":
        answer = response(case.body, *said, b"Vary: Accept-Encoding", b'ETag: "x"')
    else:
        pieces = [chunk(case.body[at : at + 997]) for at in range(0, len(case.body), 997)]
        answer = STREAM.replace(b"\r\n\r\n", b"".join([b"\r\n", *[each + b"\r\n" for each in said], b"\r\n"]))
        answer += b"".join(pieces) + LAST_CHUNK

    def client(peer: Peer, run: Run) -> None:
        peer.send(request(run.at(), b"{}", *accept)).read_message()

    both = twice(stage, client, answering(answer))
    assert_same_responses(both, but={b"transfer-encoding"})
    assert both.proxied.responses[0].body == case.body
    assert both.proxied.responses[0].all("transfer-encoding") == ([b"chunked"] if framing == "chunks" else [])
    recorded = stage.only(both.origin)
    assert (recorded.outcome, recorded.response) == ("completed", case.body)
    assert recorded.facts["response_out_hash"] is None
