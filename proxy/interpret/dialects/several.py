"""Several answers in one exchange: what each said and used is added to what the exchange meant."""

from __future__ import annotations

from proxy.interpret.dialects.base import MAX_CALLS, Dialect
from proxy.interpret.meaning import Meaning, Part, Usage
from proxy.interpret.usage import added, summed

_SMALL = 32_000  # tokens of input up to which no price depends on its size
_STEP = 1000  # so many tokens of larger inputs are as good as the same size


class Shares:
    """Usages, added up only where one price holds: by kind and model, and by the size of the input, on which prices
    depend. An exchange of many small answers must not cost what one large answer would."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str | None, int], Part] = {}

    def add(self, kind: str, model: str | None, usage: Usage) -> None:
        """What one answer used."""
        size = usage.input_tokens or 0
        key = (kind, model, 0 if size <= _SMALL else -(-size // _STEP))
        if key not in self._found and len(self._found) >= MAX_CALLS:
            key = next(iter(self._found))  # there are more models than anybody has
        before = self._found.get(key)
        if before is None:
            self._found[key] = Part(kind, model, usage, size)
        else:
            both = summed(before.usage, usage) or usage
            self._found[key] = before._replace(usage=both, size=max(before.size or 0, size))

    def parts(self) -> list[Part]:
        """In the order in which they first came."""
        return list(self._found.values())

    def total(self) -> Usage | None:
        """All of them together."""
        return summed(*(part.usage for part in self._found.values()))


class Several:
    """Adds up answers. What each said is told to `dialect`, whose meaning is the exchange's."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._read = 0
        self._shares = Shares()

    def add(self, answer: Meaning, at_us: int) -> None:
        """Take in one whole answer, which was finished at `at_us`."""
        dialect, meaning = self._dialect, self._dialect.meaning
        self._read += 1
        dialect.say(answer.text, at_us, self._read)
        dialect.think(answer.reasoning, at_us)
        for number, call in enumerate(answer.tool_calls):
            dialect.call((self._read, number), call.id, call.name, call.arguments)
        if answer.usage is not None:
            self._shares.add("answer", answer.response_model, answer.usage)
        meaning.media += answer.media[: MAX_CALLS - len(meaning.media)]
        meaning.error = answer.error or meaning.error
        for name in ("response_id", "response_model", "service_tier", "finish_reason", "finish_reason_norm"):
            setattr(meaning, name, getattr(answer, name) or getattr(meaning, name))
        for name in ("first_visible_us", "first_reasoning_us"):
            marks = [mark for each in (meaning, answer) if (mark := getattr(each, name)) is not None]
            setattr(meaning, name, min(marks, default=None))
        meaning.cost_reported_pico = added(meaning.cost_reported_pico, answer.cost_reported_pico)

    def finish(self) -> None:
        """All answers are read."""
        share(self._dialect.meaning, self._shares)


def share(meaning: Meaning, shares: Shares) -> None:
    """Make what answers used the exchange's: their sum, and its shares."""
    meaning.usage, meaning.shares = shares.total(), shares.parts()
