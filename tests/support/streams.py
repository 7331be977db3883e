"""The recorded streams under tests/data/streams: bodies, how they were served, and what they mean."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "data" / "streams"

LATER = frozenset(
    (
        "anthropic-batch-results",
        "anthropic-count-tokens",
        "bedrock-bad-crc",
        "bedrock-converse-text-cache",
        "bedrock-converse-tool-reasoning",
        "bedrock-exception-midstream",
        "bedrock-truncated",
        "cohere-v2-tool",
        "gemini-interactions",
        "groq-xgroq-usage",
        "llamacpp-native-completion",
        "llamacpp-timings",
        "lmstudio-native",
        "ollama-chat",
        "ollama-embed",
        "ollama-midstream-error",
        "ollama-thinking-tool",
        "openai-realtime",
        "openai-speech",
        "openai-transcription-duration",
        "openrouter-processing-cost",
    )
)
"""Streams whose dialects, or what their providers add to one, are not read yet."""


@dataclass(frozen=True)
class Stream:
    """One recorded answer. `cuts`: the offsets at which its writes were cut; `whole`: it came to its end."""

    name: str
    body: bytes
    about: dict[str, Any]

    @property
    def expected(self) -> dict[str, Any]:
        found: dict[str, Any] = self.about["expected"]
        return found

    @property
    def cuts(self) -> list[int]:
        return sorted(set(self.about["write_chunks_at"]))

    @property
    def whole(self) -> bool:
        return not (self.expected["terminator"] is None and not self.expected["complete"])

    @property
    def method(self) -> str:
        return str(self.about["request"]["method"])

    @property
    def target(self) -> str:
        return str(self.about["request"]["path"])

    @property
    def request(self) -> bytes:
        body = self.about["request"]["body"]
        return b"" if body is None else json.dumps(body).encode()

    @property
    def status(self) -> int:
        return int(self.about["http"]["status"])

    @property
    def headers(self) -> list[tuple[str, str]]:
        return list(self.about["http"]["headers"].items())

    @property
    def dialect(self) -> str:
        known = {"google": "gemini", "anthropic": "anthropic", "mistral": "mistral", "cohere": "cohere"}
        return known.get(self.about["provider"], "openai")

    def pieces(self) -> list[bytes]:
        """The body, cut where it was cut."""
        places = [0, *(cut for cut in self.cuts if 0 < cut < len(self.body)), len(self.body)]
        return [self.body[start:end] for start, end in itertools.pairwise(places)]


@cache
def streams() -> dict[str, Stream]:
    """All of them, by name."""
    found = {}
    for path in sorted(FOLDER.glob("*.expected.json")):
        about = json.loads(path.read_text(encoding="utf-8"))
        name = path.name.removesuffix(".expected.json")
        found[name] = Stream(name, (FOLDER / about["file"]).read_bytes(), about)
    return found


def understood() -> list[str]:
    """The names of those that are read."""
    return [name for name in streams() if name not in LATER]
