"""Which dialect reads which exchange: by the path, whatever the upstream is called; else by what the response is like.

A new dialect is one file and one line here.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import unquote

from proxy.interpret.dialects.anthropic import Anthropic
from proxy.interpret.dialects.base import Dialect, Route
from proxy.interpret.dialects.gemini import Gemini
from proxy.interpret.dialects.openai_chat import OpenAIChat
from proxy.interpret.dialects.openai_responses import OpenAIResponses

DIALECTS: tuple[type[Dialect], ...] = (OpenAIChat, OpenAIResponses, Anthropic, Gemini)

MAX_PATH = 2048
"""Characters of a path that are looked at: the patterns take time by the square of it where somebody means harm."""

_ANY = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
_COUNT = r".*(?:/messages/count_tokens|/responses/input_tokens|:countTokens|/count-tokens(?::rawPredict)?)/?"
_COUNTING = (Route(re.compile(_COUNT), "count", billed=False),)
_FREE = (
    Route(re.compile(r".*/(?:messages/)?batches(?:/.*)?"), "batch", _ANY, billed=False),
    Route(re.compile(r".*:batchGenerateContent"), "batch", billed=False),
    Route(re.compile(r".*/(?:models|files|uploads|cachedContents|tunedModels)(?:/[^:]*)?"), "metadata", _ANY, False),
    Route(re.compile(r".*/responses/[^/]+/input_items/?"), "metadata", _ANY, billed=False),
    # What is stored at OpenAI is changed and deleted there: the answer has the usage of long ago, or none.
    Route(re.compile(r".*/(?:chat/completions|responses)/[^/]+/?"), "metadata", ("POST", "PATCH", "DELETE"), False),
    Route(re.compile(r".*/chat/completions(?:/[^/]+/messages)?/?"), "metadata", ("GET",), False),
    Route(re.compile(r".*/moderations/?"), "moderation", billed=False),
)
"""What costs nothing: of these only errors are read."""


class Found(NamedTuple):
    """`dialect` is None where the path says nothing; `route` as well."""

    dialect: type[Dialect] | None
    route: Route | None
    model: str | None


def find(method: str, path: str) -> Found:
    """The dialect of a request by its method and raw path. Only the end of a path tells; a longer one is cut."""
    return _find(method, path[-MAX_PATH:])


@lru_cache(2048)
def _find(method: str, path: str) -> Found:
    path = unquote(path)
    # A dialect's before the free ones: Azure has `/models/chat/completions`.
    read = ((dialect, dialect.ROUTES) for dialect in DIALECTS)
    for dialect, routes in ((Dialect, _COUNTING), *read, (Dialect, _FREE)):
        for route in routes:
            if method in route.methods and (match := route.pattern.fullmatch(path)):
                return Found(dialect, route, match.groupdict().get("model"))
    return Found(None, None, None)


def recognised(body: Any) -> type[Dialect] | None:
    """The dialect of a response's object, or first event, whose path says nothing."""
    if type(body) is not dict:
        return None
    return next((dialect for dialect in DIALECTS if dialect.knows(body)), None)
