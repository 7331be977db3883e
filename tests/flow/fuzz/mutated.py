"""Messages that are almost right: strategies that flip, cut, repeat, splice and insert bytes of good ones.

Must not know what is asked with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

from hypothesis import strategies as st

PLACE = b"<<a=token=of=16>"
"""Stands in a good message wherever a token shall be; one that a mutation has spoilt is nobody's."""

_PIECES = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"\xff",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"0\r\n",
    b"5\r\nhello\r\n",
    b"ffffffffffffffff\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 99\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: content-length, x\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\nConnection: upgrade\r\n",
    b" folded\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
)


@st.composite
def mutations(draw: st.DrawFn, messages: Sequence[bytes], *, most: int = 3) -> bytes:
    """Up to three of the messages, one behind the other, with up to four mutations."""
    data = b"".join(draw(st.lists(st.sampled_from(messages), min_size=1, max_size=most)))
    for _ in range(draw(st.integers(0, 4))):
        begin = draw(st.integers(0, len(data)))
        end = draw(st.integers(begin, min(len(data), begin + 64)))
        how = draw(st.sampled_from(("flip", "cut", "cut off", "repeat", "splice", "insert")))
        if how == "flip" and begin < len(data):
            byte = draw(st.one_of(st.sampled_from(b"\r\n\0 :0;1a\xff"), st.integers(0, 255)))
            data = data[:begin] + bytes([byte]) + data[begin + 1 :]
        elif how == "cut":
            data = data[:begin] + data[end:]
        elif how == "cut off":
            data = data[:begin]
        elif how == "repeat":
            data = data[:end] + data[begin:]
        elif how == "splice":
            at = draw(st.integers(0, len(data)))
            data = data[:at] + data[begin:end] + data[at:]
        elif how == "insert":
            data = data[:begin] + draw(st.sampled_from(_PIECES)) + data[begin:]
    return data


@st.composite
def segments(draw: st.DrawFn, source: st.SearchStrategy[bytes]) -> list[bytes]:
    """What is sent at once, in order: few segments at any places, or one for each of the first bytes."""
    data = draw(source)
    if draw(st.booleans()):
        places = draw(st.lists(st.integers(0, len(data)), max_size=4))
    else:
        places = list(range(min(len(data), draw(st.integers(0, 200)))))
    cuts = sorted({0, *places, len(data)})
    return [data[begin:end] for begin, end in pairwise(cuts)]


def filled(pieces: list[bytes], token: bytes) -> list[bytes]:
    """The segments with a token in every place, also in those that are cut."""
    assert len(token) == len(PLACE)
    data = b"".join(pieces).replace(PLACE, token)
    ends = list(accumulate(map(len, pieces), initial=0))
    return [data[begin:end] for begin, end in pairwise(ends)]
