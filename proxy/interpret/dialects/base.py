"""What every dialect is: one object per exchange that is told what came, in order, and fills in a Meaning.

Must not know framing, content-encodings or any one provider. Whatever a dialect is told is hostile: a value of another
type than expected is as good as none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from proxy.interpret.failures import failure_of
from proxy.interpret.meaning import Meaning, Media, Pairs, Text, ToolCall
from proxy.interpret.usage import Counts, normalised
from proxy.interpret.values import listed, mapping, media_in, string, texts_of, whole_text, written

MAX_TEXT = 8 * 2**20
"""Most characters that are kept of an answer, of its reasoning, and of all prompts together."""

MAX_CALLS = 4096
"""Most tool calls, answers, and prompt messages, that are kept of an exchange."""

MAX_WORD = 512
"""Most characters of what is a name or a kind."""

_FEW = 1000  # pieces are joined at a time: a small str costs ten times its letters


class Route(NamedTuple):
    """Which requests a dialect reads: by method, and by the whole path behind the upstream's name, percent-decoded.

    `billed`: such a request costs, so that one without usage is `missing` rather than `none`. A group named `model` in
    the pattern is the model asked for, one named `source` is what is fetched again and again and counts once.
    """

    pattern: re.Pattern[str]
    operation: str
    methods: tuple[str, ...] = ("POST",)
    billed: bool = True
    streams: bool | None = None  # whether the path itself says so


class _Words:
    """A text that comes in pieces."""

    __slots__ = ("_few", "_many")

    def __init__(self) -> None:
        self._few: list[str] = []
        self._many: list[str] = []

    def add(self, piece: str) -> None:
        few = self._few
        few.append(piece)
        if len(few) >= _FEW:
            self._many.append("".join(few))
            few.clear()

    def joined(self) -> str:
        return "".join((*self._many, *self._few))


class _Call:
    __slots__ = ("arguments", "id", "name")

    def __init__(self, call: str | None, name: str | None) -> None:
        self.id = call
        self.name = name
        self.arguments = _Words()


class Listener(Protocol):
    """Hears an answer as it comes; without one, a dialect only collects it."""

    def said(self, text: str, at_us: int) -> None:
        """A visible piece."""

    def thought(self, text: str, at_us: int) -> None:
        """A piece of reasoning."""

    def called(self, key: object, name: str | None, arguments: str) -> None:
        """A tool call, known by its key, or more of its arguments."""

    def forgotten(self) -> None:
        """What was heard so far comes again, whole."""


class Dialect:
    """Told first the request, then each event of a stream (or the one body), then the end.

    `counts` collects the usage objects; `text`, `reasoning` and `tool_calls` are filled in at the end, from what `say`,
    `think` and `call` collect. `span` is the first and last chunk of what is being read, for media.
    """

    FAMILIES: ClassVar[frozenset[str]] = frozenset()
    """The dialects of upstreams whose requests are looked for here first."""

    ROUTES: ClassVar[tuple[Route, ...]] = ()
    OPERATION: ClassVar[str | None] = None
    """What is done where the path does not tell, but the answer is of this dialect."""

    listener: Listener | None = None

    ENDS_BY_EVENT: ClassVar[bool] = True
    """Whether a whole stream has a terminal event, so that one without it is not complete."""

    def __init__(self, meaning: Meaning) -> None:
        self.meaning = meaning
        self.counts = Counts()
        self.failed = False  # an error came in the midst of a stream
        self.span = (0, 0)
        self._said: dict[int, _Words] = {}
        self._thought = _Words()
        self._calls: dict[object, _Call] = {}
        self._room = MAX_TEXT
        self._thinking_room = MAX_TEXT
        self._prompt_room = MAX_TEXT

    @classmethod
    def knows(cls, body: dict[str, Any]) -> bool:  # noqa: ARG003 - the answer of a dialect that cannot tell
        """Whether a response's object or event is of this dialect, whatever its path was."""
        return False

    # What comes; each may be overridden.

    def read_request(self, body: Any) -> None:
        """The request's JSON; not called if it has none."""

    def read_query(self, query: dict[str, str]) -> None:
        """The parameters of the request's target."""

    def read_form(self, fields: dict[str, str]) -> None:
        """The fields of a request that is a form."""
        self.meaning.model_asked = fields.get("model") or self.meaning.model_asked
        self.meaning.streaming = fields.get("stream") == "true"
        self.prompt("user", fields.get("prompt"))

    def read_headers(self, headers: Pairs) -> None:
        """The response's headers, after its body."""

    def read_event(self, name: str, data: Any, at_us: int) -> None:
        """One event of a stream: its name (`message` if it has none) and its JSON."""

    def read_plain_event(self, name: str, data: str, at_us: int) -> None:
        """One event whose data is no JSON, such as `[DONE]`."""

    def read_message(self, sent: bool, data: Any, at_us: int) -> None:
        """The JSON of one message of a WebSocket; `sent` by the client."""
        if not sent:
            self.read_event("message", data, at_us)

    def read_closed(self) -> None:
        """The connection of a WebSocket, or a tunnel, is at its end."""

    def read_body(self, body: Any, at_us: int) -> None:
        """The whole response's JSON where it is no stream and its status is no error's."""

    def read_plain_body(self, kind: str, text: bytes, at_us: int) -> None:
        """The beginning of a whole response that is text, but no JSON; `kind` is its media type."""

    def read_media(self, kind: str, size: int, at_us: int) -> None:
        """A whole response that is neither JSON nor text came at `at_us` first, and has `size` bytes."""

    def read_refusal(self, body: Any) -> None:
        """The whole response's JSON where its status is an error's; the error itself is read already."""

    def finish(self) -> None:
        """The end. An overrider calls this last."""
        meaning = self.meaning
        meaning.text = whole_text("\n\n".join(self._said[index].joined() for index in sorted(self._said)))
        meaning.reasoning = whole_text(self._thought.joined())
        meaning.tool_calls = [
            ToolCall(each.id, each.name, whole_text(each.arguments.joined())) for each in self._calls.values()
        ]
        if meaning.finish_reason is not None and meaning.finish_reason_norm is None:
            meaning.finish_reason_norm = normalised(meaning.finish_reason)

    # What dialects say.

    def say(self, text: Any, at_us: int, index: int = 0) -> None:
        """A visible piece of the answer number `index`."""
        if type(text) is not str or not text:
            return
        if self.meaning.first_visible_us is None:
            self.meaning.first_visible_us = at_us
        if self.listener is not None:
            self.listener.said(text, at_us)
        self._room -= len(text)
        words = self._said.get(index)
        if words is None and len(self._said) < MAX_CALLS:
            words = self._said[index] = _Words()
        if words is not None and self._room >= 0:
            words.add(text)
        elif words is not None:
            self.meaning.problem = f"more than {MAX_TEXT} characters: the rest of the text was left out"

    def think(self, text: Any, at_us: int) -> None:
        """A piece of reasoning."""
        if type(text) is not str or not text:
            return
        if self.meaning.first_reasoning_us is None:
            self.meaning.first_reasoning_us = at_us
        if self.listener is not None:
            self.listener.thought(text, at_us)
        self._thinking_room -= len(text)
        if self._thinking_room >= 0:
            self._thought.add(text)

    def call(self, key: object, call: Any = None, name: Any = None, arguments: Any = None) -> None:
        """A tool call, or more of the one with this key: what is known of it so far, and a piece of its arguments."""
        if type(key) in (dict, list):
            key = None  # whatever was to be its id is none
        known = self._calls.get(key)
        if known is None:
            if len(self._calls) >= MAX_CALLS:
                return
            known = self._calls[key] = _Call(None, None)
        known.id = known.id or string(call)
        known.name = known.name or string(name)
        piece = arguments if type(arguments) is str else "" if arguments is None else written(arguments)
        if self.listener is not None:
            self.listener.called(key, known.name, piece)
        if not piece:
            return
        self._room -= len(piece)
        if self._room >= 0:
            known.arguments.add(piece)

    def fail(self, body: Any, at_us: int) -> bool:
        """Take the error out of an event, if it holds one; whether it does. It is the stream's last word."""
        failure = failure_of(body)
        if failure is None:
            return False
        failure.midstream = self.failed = True
        if self.meaning.error is None:
            self.meaning.error = failure
        self.terminate("error", at_us)
        return True

    def prompt(self, role: Any, content: Any) -> None:
        """One message of the request."""
        for kind, size in media_in(content):
            self.sent_medium(kind, size)
        text = whole_text(texts_of(content))
        self._prompt_room -= len(text)
        if text and self._prompt_room >= 0 and len(self.meaning.prompts) < MAX_CALLS:
            self.meaning.prompts.append(Text(string(role) or "user", text))

    def prompts(self, messages: Iterable[Any]) -> None:
        """Messages of the request that have a role and a content."""
        for each in messages:
            message = mapping(each)
            self.prompt(message.get("role"), message.get("content"))

    def medium(self, kind: str, size: int) -> None:
        """Something in the response, in what is being read, that is no text."""
        self._add_medium("response", kind, size)

    def sent_medium(self, kind: str, size: int) -> None:
        """The same, in the request or in what is sent through a WebSocket."""
        self._add_medium("request", kind, size)

    def _add_medium(self, side: Literal["request", "response"], kind: str, size: int) -> None:
        media = self.meaning.media
        first, last = self.span
        if size <= 0:
            return
        kind = kind[:MAX_WORD]
        before = media[-1] if media else None
        if before is not None and before[:2] == (side, kind) and before.first <= first <= before.last + 1:
            # Sound comes in a thousand pieces: one after the other they are one.
            media[-1] = Media(side, kind, before.first, max(before.last, last), before.size + size)
        elif len(media) < MAX_CALLS:
            media.append(Media(side, kind, first, last, size))

    def show(self, at_us: int) -> None:
        """Something visible came that is no text: a call, an image, a sound."""
        if self.meaning.first_visible_us is None:
            self.meaning.first_visible_us = at_us

    def fact(self, name: str, value: Any) -> None:
        """Something that has no field; None is unknown."""
        if value is not None:
            self.meaning.facts[name] = value[:MAX_WORD] if type(value) is str else value

    def inputs(self, given: Any, *names: str) -> None:
        """An input that is a text, or items: each has a role or kind, and the first of these names that it has."""
        if type(given) is str:
            self.prompt("user", given)
        for item in listed(given):
            item = mapping(item)
            found = next((item[name] for name in names if item.get(name)), None)
            self.prompt(item.get("role") or item.get("type"), found)

    def forget(self) -> None:
        """Drop what was said, thought and called so far: it comes again, whole."""
        if self.listener is not None:
            self.listener.forgotten()
        self._said, self._thought, self._calls = {}, _Words(), {}
        self._room = self._thinking_room = MAX_TEXT

    def terminate(self, terminator: str, at_us: int) -> None:
        """The dialect's terminal event was seen."""
        meaning = self.meaning
        if not meaning.terminated or meaning.terminator == "error":
            meaning.terminated = True
            meaning.terminator = terminator
            meaning.terminal_event_us = at_us
