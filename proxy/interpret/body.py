"""Undoes Content-Encoding (RFC 9110, 8.4) as a stream: coded bytes in, decoded bytes out, however they are cut.

What is truncated or broken gives what could be decoded before it and a sentence about it, never an exception. Memory
and output are bounded, whatever the bytes promise. Pure; must not know what the bytes mean.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import brotli  # type: ignore[import-untyped]  # it ships no types
import zstandard

MAX_OUTPUT = 256 * 2**20
"""Most bytes that one body decodes to."""

MAX_RATIO = 200
"""Most decoded bytes for each coded one, over the whole body."""

FREE_OUTPUT = 2**20
"""So many bytes are decoded at any ratio: a short answer that repeats itself is no attack."""

MAX_CODINGS = 8

STEP = 64 * 1024  # decoded at a time
_PIECE = 512  # coded at a time: the zstd library gives all that one call decodes, at most 16 MiB for so many bytes


class Decoder:
    """Decodes one body. `problem` says, once it is known, why what came out is not all of the body."""

    def __init__(self, layers: list[_Layer], problem: str | None = None) -> None:
        self.problem = problem
        self._layers = layers  # in the order of decoding: the coding that was applied last comes first
        self._fed = 0
        self._extra = 0

    def feed(self, data: bytes) -> bytes:
        """What the bytes decode to; all of it at once, so at most MAX_OUTPUT (but for a body that is not coded)."""
        return b"".join(self.steps(data)) if self._layers or self.problem else data

    def finish(self) -> bytes:
        """To be called when the body is at its end, for the last bytes and the last word on `problem`."""
        rest = b"".join(self.steps(b""))
        if self._fed and self.problem is None:
            allowance = self._allowance()
            self._extra = 1  # one byte more shows whether the bound left something out
            if self._layers:
                self._pull(len(self._layers) - 1)
            self.problem = next((said for layer in self._layers if (said := layer.last_word(allowance))), None)
        return rest

    def steps(self, data: bytes) -> Iterator[bytes]:
        """As `feed`, but in pieces of at most STEP bytes: constant memory. It must be read to its end."""
        if not self._layers:
            if data and self.problem is None:
                yield data
            return
        if self.problem is None:
            self._fed += len(data)
            self._layers[0].push(data)
        while piece := self._pull(len(self._layers) - 1):
            yield piece

    def _allowance(self) -> int:
        """How much each layer may give for what was fed so far. What is beyond waits: more may be fed."""
        return min(MAX_OUTPUT + 1, FREE_OUTPUT + MAX_RATIO * self._fed + self._extra)

    def _pull(self, index: int) -> bytes:
        """Up to STEP bytes of a layer's output; nothing when the layers before it have no more to give either."""
        layer, allowance = self._layers[index], self._allowance()
        while not (piece := layer.pull(allowance)):
            self.problem = self.problem or layer.problem
            if layer.problem or index == 0 or layer.produced >= allowance:
                return b""
            below = self._pull(index - 1)
            if not below:
                return b""
            layer.push(below)
        if layer.produced > MAX_OUTPUT:
            self.problem = self.problem or _too_much(layer.coding)
            return piece[:-1]
        return piece


def decoder(encodings: str | None) -> Decoder:
    """A decoder for the value of a Content-Encoding header; several headers are joined with commas.

    A coding that is not known decodes to nothing, and `problem` says so at once.
    """
    names = [name.strip().lower() for name in (encodings or "").split(",")]
    codings = [name for name in names if name not in ("", "identity")]
    if len(codings) > MAX_CODINGS:
        return Decoder([], f"the body is coded {len(codings)} times over, more than {MAX_CODINGS}")
    unknown = next((name for name in codings if name not in _CODINGS), None)
    if unknown is not None:
        return Decoder([], f"the content-encoding {unknown!r} is not known (known: {', '.join(_CODINGS)})")
    return Decoder([_Layer(name, _CODINGS[name]) for name in reversed(codings)])


class _Garbage(Exception):
    """The text ends a sentence that begins with the coding's name."""


class _Codec(Protocol):
    """One coding's library. `ended`: all that was pushed is used up, and the coded data is complete."""

    ended: bool

    def push(self, data: bytes) -> None:
        """Hand over coded bytes; only after `pull` had nothing more to give."""

    def pull(self) -> bytes:
        """Some decoded bytes, nothing when more are needed to go on. Raises _Garbage, and may lose what it decoded."""


class _Layer:
    """One coding, with all that it decoded kept when its bytes turn out to be broken.

    The libraries raise and drop what the same call had decoded. So a second codec follows one piece behind; it takes
    over where the first one failed and is fed that piece byte by byte. This also makes the result independent of cuts.
    """

    def __init__(self, coding: str, make: Callable[[], _Codec]) -> None:
        self.coding = coding
        self.problem: str | None = None
        self.produced = 0
        self._codec, self._shadow = make(), make()
        self._slow = False  # the shadow has taken over
        self._waiting = bytearray()  # not yet pushed
        self._piece = b""  # pushed to the codec, not yet to the shadow
        self._of_piece = 0  # how much of the piece's output there was
        self._skip = 0  # output of the shadow that the codec gave before it failed
        self._ready = memoryview(b"")
        self._started = False

    def push(self, data: bytes) -> None:
        if self.problem is None:
            self._waiting += data
            self._started = self._started or bool(data)

    def pull(self, allowance: int) -> bytes:
        """Up to STEP decoded bytes, as long as all of them together are at most `allowance`."""
        room = min(STEP, allowance - self.produced)
        if room <= 0:
            return b""
        if not self._ready:
            self._ready = memoryview(self._decode())
        taken, self._ready = bytes(self._ready[:room]), self._ready[room:]
        self.produced += len(taken)
        return taken

    def last_word(self, allowance: int) -> str | None:
        """What is wrong with the coded data, once its end is known and a byte beyond `allowance` was asked for."""
        if self.produced > allowance:
            return _too_much(self.coding)
        if self.problem is None and self._started and not self._codec.ended:
            return f"the {self.coding} data ends too early"
        return self.problem

    def _decode(self) -> bytes:
        while self.problem is None:
            try:
                data = self._codec.pull()
                if not data and not self._next_piece():
                    break
            except _Garbage as garbage:
                self._take_over(garbage)
                continue
            self._of_piece += len(data)
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            if skipped < len(data):
                return data[skipped:]
        return b""

    def _next_piece(self) -> bool:
        if not self._slow:
            self._follow()
        if not self._waiting:
            return False
        size = 1 if self._slow else _PIECE
        self._piece = bytes(self._waiting[:size])
        del self._waiting[:size]
        self._codec.push(self._piece)
        return True

    def _follow(self) -> None:
        if self._piece:
            self._shadow.push(self._piece)
            while self._shadow.pull():
                pass
        self._piece, self._of_piece = b"", 0

    def _take_over(self, garbage: _Garbage) -> None:
        if self._slow:
            self.problem = f"the {self.coding} data {garbage}"
            self._waiting.clear()
            return
        self._slow, self._codec, self._skip = True, self._shadow, self._of_piece
        self._waiting[:0] = self._piece


def _too_much(coding: str) -> str:
    bounds = f"{MAX_RATIO} times its size or {MAX_OUTPUT >> 20} MiB"
    return f"the {coding} data decodes to more than {bounds}; the rest is left out"


_BROKEN = "is broken"
_GOES_ON = "goes on behind its end"


class _Gzip:
    """Members one after another (RFC 1952, 2.2); zeros behind a member are padding, as for gzip itself."""

    def __init__(self) -> None:
        self.ended = False
        self._inflate = zlib.decompressobj(31)
        self._input = b""

    def push(self, data: bytes) -> None:
        self._input = data

    def pull(self) -> bytes:
        while True:
            if self.ended:
                self._input = self._input.lstrip(b"\0")
                if not self._input:
                    return b""
                self._inflate = zlib.decompressobj(31)
                self.ended = False
            data = _inflated(self._inflate, self._input)
            self._input = self._inflate.unconsumed_tail
            if self._inflate.eof:
                self.ended = True
                self._input = self._inflate.unused_data
            if data or not self._input:
                return data


class _Deflate:
    """The zlib format (RFC 1950) as the standard wants it, or the bare data that some servers send (RFC 1951)."""

    def __init__(self) -> None:
        self.ended = False
        self._inflate: zlib._Decompress | None = None
        self._input = b""

    def push(self, data: bytes) -> None:
        if self.ended:
            raise _Garbage(_GOES_ON)
        self._input += data

    def pull(self) -> bytes:
        if self._inflate is None:
            if len(self._input) < 2:
                return b""
            # A zlib header: method 8, and a check that makes both bytes together a multiple of 31.
            head = int.from_bytes(self._input[:2], "big")
            self._inflate = zlib.decompressobj(15 if head & 0x8F00 == 0x0800 and head % 31 == 0 else -15)
        if self.ended:
            return b""
        data = _inflated(self._inflate, self._input)
        self._input = self._inflate.unconsumed_tail
        if self._inflate.eof:
            self.ended = True
            if self._inflate.unused_data:
                raise _Garbage(_GOES_ON)
        return data


def _inflated(inflate: zlib._Decompress, data: bytes) -> bytes:
    try:
        return inflate.decompress(data, STEP)
    except zlib.error as error:
        raise _Garbage(_BROKEN) from error


class _Brotli:
    """RFC 7932: one stream."""

    def __init__(self) -> None:
        self.ended = False
        self._brotli = brotli.Decompressor()
        self._input = b""

    def push(self, data: bytes) -> None:
        if self.ended:
            raise _Garbage(_GOES_ON)
        self._input = data

    def pull(self) -> bytes:
        if self.ended:
            return b""
        try:
            data: bytes = self._brotli.process(self._input, output_buffer_limit=STEP)
        except brotli.error as error:
            raise _Garbage(_BROKEN) from error
        self._input = b""
        self.ended = self._brotli.is_finished()
        return data


class _Zstd:
    """RFC 8878: frames one after another."""

    def __init__(self) -> None:
        self.ended = False
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._input = b""

    def push(self, data: bytes) -> None:
        self._input = data

    def pull(self) -> bytes:
        while self._input:
            if self.ended:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
                self.ended = False
            try:
                data = self._frame.decompress(self._input)
            except zstandard.ZstdError as error:
                raise _Garbage(_BROKEN) from error
            self.ended = self._frame.eof
            self._input = self._frame.unused_data if self.ended else b""
            if data:
                return data
        return b""


_CODINGS: dict[str, Callable[[], _Codec]] = {
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
}
