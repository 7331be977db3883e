"""WebSocket frames out of recorded bytes, held against a library that writes them."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import CloseCode, Opcode
from websockets.frames import Frame as Written
from websockets.protocol import CLIENT, SERVER, Protocol, State

from proxy.interpret.websocket import MAX_MESSAGE, FrameParser, Message
from tests.support.websocket import Frame, Op, deflated

DEFLATE = "permessage-deflate"


def read(data: bytes, extensions: str | None = None, *, client: bool = False, step: int = 10**9) -> list[Message]:
    parser = FrameParser(extensions, client=client)
    return [each for at in range(0, len(data), step) for each in parser.feed(data[at : at + step])]


def written(messages: list[bytes], *, client: bool, deflate: bool, forgets: bool, fragments: int) -> bytes:
    """As the library `websockets` puts them on the wire."""
    protocol = Protocol(CLIENT if client else SERVER, state=State.OPEN)
    if deflate:
        protocol.extensions = [PerMessageDeflate(forgets, forgets, 15, 15)]
    for message in messages:
        if fragments > 1 and len(message) >= fragments:
            size = -(-len(message) // fragments)
            parts = [message[at : at + size] for at in range(0, len(message), size)]
            protocol.send_text(parts[0], fin=len(parts) == 1)
            for number, part in enumerate(parts[1:], 2):
                protocol.send_ping(b"between")
                protocol.send_continuation(part, fin=number == len(parts))
        else:
            protocol.send_text(message)
    return b"".join(protocol.data_to_send())


@given(
    messages=st.lists(st.text(max_size=400).map(str.encode), max_size=6),
    client=st.booleans(),
    deflate=st.booleans(),
    forgets=st.booleans(),
    fragments=st.integers(1, 4),
    step=st.integers(1, 500),
)
def test_reads_what_a_library_writes(
    messages: list[bytes], client: bool, deflate: bool, forgets: bool, fragments: int, step: int
) -> None:
    data = written(messages, client=client, deflate=deflate, forgets=forgets, fragments=fragments)
    said = "; ".join([DEFLATE, *(["client_no_context_takeover", "server_no_context_takeover"] if forgets else [])])
    found = read(data, said if deflate else None, client=client, step=step)
    assert [each.data for each in found] == messages


@given(data=st.binary(max_size=400), deflate=st.booleans(), places=st.lists(st.integers(0, 400), max_size=5))
def test_anything_is_read_alike_however_it_is_cut(data: bytes, deflate: bool, places: list[int]) -> None:
    parser = FrameParser(DEFLATE if deflate else None)
    at = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    found = [each for start, end in pairwise(at) for each in parser.feed(data[start:end])]
    assert found == read(data, DEFLATE if deflate else None)


def test_binary_control_and_close() -> None:
    data = b"".join(
        Written(opcode, payload).serialize(mask=False)
        for opcode, payload in (
            (Opcode.BINARY, b"\0\1"),
            (Opcode.PING, b"p"),
            (Opcode.PONG, b"p"),
            (Opcode.CLOSE, int(CloseCode.GOING_AWAY).to_bytes(2, "big") + b"bye"),
        )
    )
    assert read(data) == [Message(b"\0\1", binary=True), Message(b"bye", close=1001)]
    assert read(Frame(Op.CLOSE, b"").encode()) == [Message(b"", close=1005)]


def test_a_broken_deflated_message_ends_the_reading() -> None:
    parser = FrameParser(DEFLATE)
    good, bad = Frame(Op.TEXT, deflated(b"fine"), packed=True), Frame(Op.TEXT, b"\xff\xff\xff\xff", packed=True)
    assert parser.feed(good.encode() + bad.encode() + good.encode()) == [Message(b"fine")]
    assert parser.problem == "a deflated WebSocket message is broken; what follows was not read"


def test_what_is_too_large_is_left_out() -> None:
    parser = FrameParser(DEFLATE)
    assert parser.feed(b"\x81\x7f" + (MAX_MESSAGE + 1).to_bytes(8, "big") + bytes(100)) == []
    assert "says that it has" in str(parser.problem)
    bomb = FrameParser(DEFLATE)
    assert bomb.feed(Frame(Op.TEXT, deflated(bytes(MAX_MESSAGE + 1)), packed=True).encode()) == []
    assert "more than 64 MiB" in str(bomb.problem)


def test_a_kind_that_is_not_known_ends_the_reading() -> None:
    parser = FrameParser()
    assert parser.feed(b"\x83\x00" + Frame(Op.TEXT, b"x").encode()) == []
    assert "of no known kind" in str(parser.problem)


def test_a_large_message_of_a_client_takes_little_memory() -> None:
    size = 8 * 2**20
    data = Frame(Op.TEXT, b"0123456" * (size // 7), masked=True).encode(b"mask")
    parser = FrameParser(client=True)
    tracemalloc.start()
    try:
        found = [each for at in range(0, len(data), 65536) for each in parser.feed(data[at : at + 65536])]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [each.data for each in found] == [b"0123456" * (size // 7)]
    assert peak < 2.3 * size
