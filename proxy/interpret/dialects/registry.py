"""Which dialect reads which exchange: those of the upstream's family first, then by the path; else by the response.

A new dialect is one file and one line here.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import unquote

from proxy.interpret.dialects.anthropic import Anthropic
from proxy.interpret.dialects.base import Dialect, Route
from proxy.interpret.dialects.batches import Batches
from proxy.interpret.dialects.bedrock_converse import BedrockConverse
from proxy.interpret.dialects.bedrock_invoke import BedrockInvoke
from proxy.interpret.dialects.cohere import Cohere
from proxy.interpret.dialects.cohere_v1 import CohereV1
from proxy.interpret.dialects.counting import Counting
from proxy.interpret.dialects.gemini import Gemini
from proxy.interpret.dialects.gemini_interactions import GeminiInteractions
from proxy.interpret.dialects.gemini_live import GeminiLive
from proxy.interpret.dialects.llamacpp import LlamaCpp
from proxy.interpret.dialects.lmstudio import LMStudio
from proxy.interpret.dialects.mistral import MistralConversations, MistralOCR
from proxy.interpret.dialects.ollama import Ollama
from proxy.interpret.dialects.openai_audio import OpenAISpeech, OpenAITranscription
from proxy.interpret.dialects.openai_chat import OpenAIChat
from proxy.interpret.dialects.openai_images import OpenAIImages
from proxy.interpret.dialects.openai_realtime import OpenAIRealtime
from proxy.interpret.dialects.openai_responses import OpenAIResponses
from proxy.interpret.dialects.openai_responses_socket import OpenAIResponsesSocket

DIALECTS: tuple[type[Dialect], ...] = (
    OpenAIChat,
    OpenAIResponses,
    Anthropic,
    Gemini,
    OpenAISpeech,
    OpenAITranscription,
    OpenAIImages,
    OpenAIRealtime,
    OpenAIResponsesSocket,
    Batches,
    GeminiInteractions,
    GeminiLive,
    BedrockConverse,
    BedrockInvoke,
    Ollama,
    LMStudio,
    LlamaCpp,
    MistralConversations,
    MistralOCR,
    Cohere,
    CohereV1,
)
"""In the order in which they are asked: the more particular ones of a path before the others."""

MAX_PATH = 2048
"""Characters of a path that are looked at: the patterns take time by the square of it where somebody means harm."""

_ANY = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
_FREE = (
    Route(re.compile(r".*/(?:messages/)?batches(?:/.*)?"), "batch", _ANY, billed=False),
    Route(re.compile(r".*:batchGenerateContent"), "batch", billed=False),
    Route(re.compile(r".*/(?:models|files|uploads|cachedContents|tunedModels)(?:/[^:]*)?"), "metadata", _ANY, False),
    Route(re.compile(r".*/responses/[^/]+/input_items/?"), "metadata", _ANY, billed=False),
    # What is stored at OpenAI is changed and deleted there: the answer has the usage of long ago, or none.
    Route(re.compile(r".*/(?:chat/completions|responses)/[^/]+/?"), "metadata", ("POST", "PATCH", "DELETE"), False),
    Route(re.compile(r".*/chat/completions(?:/[^/]+/messages)?/?"), "metadata", ("GET",), False),
    Route(re.compile(r".*/interactions/[^/]+(?:/cancel)?/?"), "metadata", ("POST", "DELETE"), billed=False),
    Route(re.compile(r".*/conversations(?:/.*)?"), "metadata", ("GET", "PATCH", "DELETE"), billed=False),
    Route(re.compile(r".*/conversations/[^/]+/items(?:/.*)?"), "metadata", _ANY, billed=False),
    Route(
        re.compile(r".*/realtime/(?:client_secrets|sessions|transcription_sessions|calls(?:/.*)?)/?"),
        "metadata",
        billed=False,
    ),
    Route(
        re.compile(r".*/api/(?:tags|show|ps|version|pull|push|create|copy|delete|blobs/.*)/?"), "metadata", _ANY, False
    ),
    Route(
        re.compile(r".*/(?:health|metrics|props|slots|apply-template|version|ping|detokenize)/?"),
        "metadata",
        _ANY,
        False,
    ),
    Route(re.compile(r".*/moderations/?"), "moderation", billed=False),
    Route(re.compile(r".*/(?:generation|key|credits|auth/key)/?"), "metadata", ("GET",), billed=False),
)
"""What costs nothing: of these only errors are read."""


class Found(NamedTuple):
    """`dialect` is None where the path says nothing; `route` as well. `billed_as`: under which name it is billed, where
    that is in the path."""

    dialect: type[Dialect] | None
    route: Route | None
    model: str | None
    billed_as: str | None = None


def find(method: str, path: str, family: str = "") -> Found:
    """The dialect of a request by its method and raw path, `family` being its upstream's configured dialect. Only the
    end of a path tells; a longer one is cut."""
    return _find(method, path[-MAX_PATH:], family)


@lru_cache(2048)
def _find(method: str, path: str, family: str) -> Found:
    path = unquote(path)
    # A dialect's before the free ones: Azure has `/models/chat/completions`.
    own = sorted(DIALECTS, key=lambda dialect: family not in dialect.FAMILIES)
    read = ((dialect, dialect.ROUTES) for dialect in own)
    for dialect, routes in ((Counting, Counting.ROUTES), *read, (Dialect, _FREE)):
        for route in routes:
            if method in route.methods and (match := route.pattern.fullmatch(path)):
                named = match.groupdict()
                source = named.get("source")
                return Found(dialect, route, named.get("model"), source and f"{route.operation}:{source}")
    return Found(None, None, None)


def recognised(body: Any) -> type[Dialect] | None:
    """The dialect of a response's object, or first event, whose path says nothing."""
    if type(body) is not dict:
        return None
    return next((dialect for dialect in DIALECTS if dialect.knows(body)), None)
