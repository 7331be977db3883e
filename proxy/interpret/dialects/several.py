"""Several answers in one exchange: each is read by a dialect of its own, and added to what the exchange meant."""

from __future__ import annotations

from proxy.interpret.dialects.base import Dialect
from proxy.interpret.meaning import Meaning
from proxy.interpret.usage import added, summed


class Several:
    """Adds up answers. What each said is told to `dialect`, whose meaning is the exchange's."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.read = 0  # answers

    def add(self, answer: Meaning, at_us: int) -> None:
        """Take in one whole answer, which was finished at `at_us`."""
        dialect, meaning = self._dialect, self._dialect.meaning
        self.read += 1
        dialect.say(answer.text, at_us, self.read)
        dialect.think(answer.reasoning, at_us)
        for number, call in enumerate(answer.tool_calls):
            dialect.call((self.read, number), call.id, call.name, call.arguments)
        meaning.usage = summed(meaning.usage, answer.usage)
        meaning.parts += answer.parts
        meaning.error = answer.error or meaning.error
        for name in ("response_id", "response_model", "service_tier", "finish_reason", "finish_reason_norm"):
            setattr(meaning, name, getattr(answer, name) or getattr(meaning, name))
        for name in ("first_visible_us", "first_reasoning_us"):
            marks = [mark for each in (meaning, answer) if (mark := getattr(each, name)) is not None]
            setattr(meaning, name, min(marks, default=None))
        meaning.cost_reported_pico = added(meaning.cost_reported_pico, answer.cost_reported_pico)
