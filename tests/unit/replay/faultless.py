"""Recorded streams as answers, without a fault: of the fixtures, and made up."""

from __future__ import annotations

from typing import Any

from proxy.interpret.body import decoder
from proxy.interpret.headers import joined
from proxy.replay.answer import Answer, Head
from tests.support.streams import Stream, streams


def answer_of(stream: Stream) -> Answer:
    """As it would be loaded: its pieces are the chunks, a millisecond apart; of one piece, 50 bytes."""
    pieces = stream.pieces()
    if len(pieces) == 1:
        pieces = [stream.body[at : at + 50] for at in range(0, len(stream.body), 50)]
    chunks = tuple((2000 + 1000 * number, piece) for number, piece in enumerate(pieces))
    return Answer(
        heads=(Head(1000, stream.status, "OK", stream.headers),),
        chunks=chunks,
        trailers=(),
        broken=not stream.whole,
        end_us=10_000_000,
        sent=((1500, stream.sent),) if stream.sent else (),
        dialect=stream.dialect,
    )


ANSWERS = {name: answer_of(each) for name, each in streams().items()}


def events(*chunks: bytes, **fields: Any) -> Answer:
    """An event stream in these chunks, ten milliseconds apart."""
    usual: dict[str, Any] = {
        "heads": (Head(5_000, 200, "OK", [("Content-Type", "text/event-stream")]),),
        "chunks": tuple((10_000 * (number + 1), data) for number, data in enumerate(chunks)),
        "trailers": [("T", "1")],
        "broken": False,
        "end_us": 10_000 * (len(chunks) + 1),
        "dialect": "openai",
    }
    return Answer(**(usual | fields))


def whole(answer: Answer) -> bytes:
    """All of the body."""
    return b"".join(data for _, data in answer.chunks)


def plain(answer: Answer) -> bytes:
    """All of the body, with its content-encoding undone."""
    coded = decoder(joined(answer.heads[-1].headers, "content-encoding"))
    return coded.feed(whole(answer)) + coded.finish()
