"""The results of a batch: lines with a whole answer each, of one form or the other, as Anthropic and OpenAI write them.

The forms: https://docs.anthropic.com/en/api/retrieving-message-batch-results and
https://platform.openai.com/docs/api-reference/batch. The tokens of all lines are summed; they count once, however often
the results are fetched.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, ClassVar

from proxy.interpret.dialects.anthropic import Anthropic
from proxy.interpret.dialects.base import Dialect, Route
from proxy.interpret.dialects.openai_chat import OpenAIChat
from proxy.interpret.dialects.openai_responses import OpenAIResponses
from proxy.interpret.dialects.several import Shares, share
from proxy.interpret.meaning import Meaning
from proxy.interpret.values import mapping

_READ = (Anthropic, OpenAIChat, OpenAIResponses)
_MOST_RESULTS = 16  # kinds of them; there are four


class Batches(Dialect):
    """Answers are counted, not kept: their texts are in the recorded bytes."""

    ROUTES: ClassVar[tuple[Route, ...]] = (
        Route(re.compile(r".*/messages/batches/(?P<source>[^/]+)/results/?"), "batch.results", ("GET",), billed=False),
        Route(re.compile(r".*/files/(?P<source>[^/]+)/content/?"), "batch.results", ("GET",), billed=False),
    )
    ENDS_BY_EVENT: ClassVar[bool] = False

    def __init__(self, meaning: Meaning) -> None:
        super().__init__(meaning)
        self._results: Counter[str] = Counter()
        self._shares, self._beside = Shares(), Shares()

    @classmethod
    def knows(cls, body: dict[str, Any]) -> bool:
        return "custom_id" in body and ("result" in body or "response" in body)

    def read_event(self, name: str, data: Any, at_us: int) -> None:
        line = mapping(data)
        result, response = mapping(line.get("result")), mapping(line.get("response"))
        if result:  # Anthropic
            self._count(str(result.get("type"))[:64])
            answer = result.get("message")
        elif response:  # OpenAI
            self._count("succeeded" if response.get("status_code") == 200 else "errored")
            answer = response.get("body")
        else:
            return
        if type(answer) is dict:
            self._answer(answer, at_us)

    def _count(self, result: str) -> None:
        self._results[result if result in self._results or len(self._results) < _MOST_RESULTS else "others"] += 1

    def read_body(self, body: Any, at_us: int) -> None:
        self.meaning.streaming = True
        self.meaning.events = 1  # a file of one line looks like one JSON
        self.read_event("message", body, at_us)

    def _answer(self, answer: dict[str, Any], at_us: int) -> None:
        kind = next((each for each in _READ if each.knows(answer)), None)
        if kind is None and "usage" in answer and "object" in answer:
            kind = OpenAIChat  # embeddings
        if kind is None:
            return
        inner = kind(Meaning())
        inner.read_body(answer, at_us)
        inner.finish()
        if inner.meaning.usage is None:
            return
        self._shares.add("batch", inner.meaning.response_model, inner.meaning.usage)
        for part in inner.meaning.parts:
            self._beside.add(part.kind, part.model or inner.meaning.response_model, part.usage)

    def finish(self) -> None:
        meaning = self.meaning
        if self._results:
            self.fact("results", dict(sorted(self._results.items())))
        share(meaning, self._shares)
        meaning.parts = self._beside.parts()
        if meaning.usage is not None:
            meaning.service_tier = "batch"  # whatever the lines say
        models = {part.model for part in meaning.shares}
        if len(models) == 1:
            meaning.model_asked = models.pop()
        super().finish()
