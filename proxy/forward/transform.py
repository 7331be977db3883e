"""The only place of forward that looks into a body, of upstreams whose configuration asks for it (`stream_usage`,
`keep_alive`).

A request for a stream is made to ask for its usage; the event that this adds to the stream is found again. Where events
end is where a comment may stand. Bytes in, decisions out: pure. Must not know sockets, records or who asks.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from proxy import jsontext
from proxy.jsontext import Splice

LONGEST_EVENT = 64 * 1024  # bytes; one that is longer carries more than usage
LONGEST_ERROR = 64 * 1024  # bytes; a longer answer to a request is no complaint about a field of it

_ASK = '{"include_usage":true}'
_FIELDS = (b"stream_options", b"include_usage")


class _Request(msgspec.Struct):
    stream: Any = None
    stream_options: Any = None


class _Event(msgspec.Struct):
    choices: list[Any] | None = None
    usage: dict[str, Any] | None = None


_request = msgspec.json.Decoder(_Request)
_event = msgspec.json.Decoder(_Event)


# The request


def ask(body: bytes) -> Splice | None:
    """What makes a request ask for its stream's usage, in bytes of the body; None for one that asks for no stream, that
    says itself whether it wants usage, or that two readers could understand in two ways."""
    try:
        asked = _request.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    options = asked.stream_options
    if asked.stream is not True or not (options is None or isinstance(options, dict)):
        return None
    if options and options.get("include_usage") is not None:
        return None
    text = body.decode("utf-8", "surrogateescape")
    try:
        outer = jsontext.members(text, jsontext.gap(text, 0))
        if outer.doubled:
            return None
        if options is None:
            found = jsontext.splice(text, ("stream_options",), _ASK)
        elif jsontext.members(text, outer.spans["stream_options"][0]).doubled:
            return None
        else:
            found = jsontext.splice(text, ("stream_options", "include_usage"), "true")
    except (ValueError, RecursionError):
        return None
    return Splice(_size(text[: found.at]), _size(text[found.at : found.at + found.taken]), found.put)


def spliced(body: bytes, change: Splice) -> bytes:
    """The body with what `ask` found."""
    return b"%b%b%b" % (body[: change.at], change.put.encode(), body[change.at + change.taken :])


def complains(error: bytes, body: bytes) -> bool:
    """Whether the answer to a request that was made to ask names the field. `body` is the request as it came: where it
    had options of its own, they may be what is meant."""
    try:
        error.decode()
    except UnicodeDecodeError:
        return False
    named = [field for field in _FIELDS if field in error]
    return bool(named) and (b"include_usage" in named or b'"stream_options"' not in body)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


# The response

_EMPTY_LINES = (b"\n\n", b"\r\r", b"\n\r\n", b"\r\r\n")


class Boundary:
    """Whether what has passed of a stream of server-sent events is whole events: nothing, or an empty line is its end.

    A CR at the end may be half of a line's end. It is taken for a whole one only where the line before ended with a CR
    alone, as all lines of such a stream do.
    """

    def __init__(self) -> None:
        self.passed = 0  # bytes
        self._tail = b"\n\n"  # as if an empty line stood before the first

    def feed(self, data: bytes) -> None:
        self.passed += len(data)
        self._tail = data[-3:] if len(data) > 2 else (self._tail + data)[-3:]

    @property
    def here(self) -> bool:
        return self._tail.endswith(_EMPTY_LINES)


_LINE = re.compile(rb"([^\r\n]*)(\r\n|\r|\n|)")
_NEAR = 64  # bytes that what _CHOSEN finds has at most
_TOLD = re.compile(rb'"usage"(?!:null)')  # is in each event that is looked for
# Neither can be in one, so that what has them need not be held any longer.
_CHOSEN = re.compile(rb'"choices"[ \t\r\n]{0,16}:[ \t\r\n]{0,16}\[[ \t\r\n]{0,16}[^\] \t\r\n]')
_NO_OBJECT = re.compile(rb"data: ?[^ \t\r\n{]")


class UsageSieve:
    """Takes the events that say nothing but the usage out of a stream of server-sent events: `choices` is empty in them
    and `usage` is not. However the stream is cut, the same bytes pass.

    Held back is only the beginning of an event that may be one, until that is known. `withheld` has (where it began in
    what came, how many bytes) of each piece that was taken out since it was last emptied.
    """

    def __init__(self) -> None:
        self.withheld: list[tuple[int, int]] = []
        self._came = 0
        self._held = bytearray()  # of an event, from its first line on
        self._looked = 0  # bytes of it that are known to hold no choice
        self._holding = False
        self._passing = False  # an event that is none, or a comment between two
        self._comment = False
        self._in_line = False  # the line has begun
        self._carriage = False  # the last byte was a CR: a LF would belong to it
        self._swallow = False  # that LF goes where its event went

    def feed(self, data: bytes) -> bytes:
        """What of it, and of what was held, passes now."""
        if not self._holding and not self._in_line and not self._carriage and _plain(data):
            self._came += len(data)
            self._passing = False
            return data
        out: list[bytes] = []
        at = 0
        if self._carriage:
            at = self._after_carriage(data, out)
        while at < len(data):
            line = _LINE.match(data, at)
            assert line is not None, "it matches anything"
            self._take(line[1], line[2], out)
            at = line.end()
        self._carriage = data.endswith(b"\r")
        if self._holding and self._is_none():
            self._let_go(out)
            self._passing = True
        return b"".join(out)

    def finish(self) -> bytes:
        """The stream is over, however: what of it is still held and passes."""
        out: list[bytes] = []
        if self._holding:
            self._judge(out)
        return b"".join(out)

    def _after_carriage(self, data: bytes, out: list[bytes]) -> int:
        """How many bytes of `data` belong to the line's end before."""
        if not data.startswith(b"\n"):
            self._swallow = False
            return 0
        self._came += 1
        if self._holding:
            self._held += b"\n"
        elif self._swallow:
            self.withheld.append((self._came - 1, 1))
        else:
            out.append(b"\n")
        self._swallow = False
        return 1

    def _take(self, text: bytes, end: bytes, out: list[bytes]) -> None:
        self._came += len(text) + len(end)
        self._swallow = False
        blank = bool(end) and not text and not self._in_line
        if not self._holding and not self._passing and not self._comment and not blank:
            self._comment = text.startswith(b":")
            self._holding = not self._comment
        self._in_line = not end
        if not self._holding:
            out.append(text + end)
            if self._comment:
                self._comment = self._in_line
            elif blank:
                self._passing = False
            return
        self._held += text + end
        if blank:
            self._judge(out)
            self._swallow &= end == b"\r"

    def _judge(self, out: list[bytes]) -> None:
        """The event is complete."""
        if self._is_none() or not _is_usage(bytes(self._held)):
            self._let_go(out)
            return
        self.withheld.append((self._came - len(self._held), len(self._held)))
        self._swallow = True
        self._forget()

    def _is_none(self) -> bool:
        """Whether what is held can be no beginning of such an event. What this says once it says of all that begins so:
        else it would matter how the stream is cut."""
        held = self._held
        if len(held) > LONGEST_EVENT or _NO_OBJECT.match(held):
            return True
        begin = max(0, self._looked - _NEAR)
        self._looked = len(held)
        return _CHOSEN.search(held, begin) is not None

    def _let_go(self, out: list[bytes]) -> None:
        out.append(bytes(self._held))
        self._forget()

    def _forget(self) -> None:
        self._held.clear()
        self._looked = 0
        self._holding = False


def _plain(data: bytes) -> bool:
    """Whether it is whole events of which none can say the usage: the most there is."""
    return data.endswith(b"\n\n") and _TOLD.search(data) is None


def _is_usage(event: bytes) -> bool:
    if _TOLD.search(event) is None:
        return False
    lines = [line[1] for line in _LINE.finditer(event)]
    values = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
    try:
        found = _event.decode(b"\n".join(values))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return False
    return found.choices == [] and found.usage is not None
