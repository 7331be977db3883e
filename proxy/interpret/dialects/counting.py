"""What only counts tokens and costs nothing: the numbers are facts, no usage.

Anthropic, OpenAI, Google, AWS, Cohere and the local servers do it, each under another name.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from proxy.interpret.dialects.base import Dialect, Route
from proxy.interpret.values import count, listed, mapping, string

_PATHS = (
    r".*(?:/messages/count_tokens|/responses/input_tokens|/count-tokens(?::rawPredict)?|/tokenize)/?",
    r".*/(?:models|tunedModels|endpoints)/(?P<model>[^/:]+):(?:countTokens|computeTokens)",
)
_BEDROCK = r".*/model/(?P<model>.+)/count-tokens/?"
_NAMES = ("input_tokens", "totalTokens", "inputTokens", "count")


class Counting(Dialect):
    """One JSON that says how many tokens something has."""

    ROUTES: ClassVar[tuple[Route, ...]] = tuple(
        Route(re.compile(path), "count", billed=False) for path in (_BEDROCK, *_PATHS)
    )

    def read_request(self, body: Any) -> None:
        self.meaning.model_asked = string(mapping(body).get("model")) or self.meaning.model_asked

    def read_body(self, body: Any, at_us: int) -> None:
        said = mapping(body)
        known = (found for name in _NAMES if (found := count(said.get(name))) is not None)
        tokens = listed(said.get("tokens"))
        self.fact("counted_input_tokens", next(known, len(tokens) if tokens else None))
