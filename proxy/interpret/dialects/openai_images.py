"""OpenAI's pictures: one JSON, or a stream of drafts that ends with the picture and the usage.

The form: https://platform.openai.com/docs/api-reference/images. Models without tokens are billed by the picture.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from proxy.interpret.dialects.base import Dialect, Route
from proxy.interpret.dialects.openai_usage import openai_usage
from proxy.interpret.meaning import Usage
from proxy.interpret.values import listed, mapping, string

_PATH = r"(?:.*/deployments/(?P<model>[^/]+))?.*/images/"
_STREAMED = ("image_generation.", "image_edit.")


class OpenAIImages(Dialect):
    """Pictures stay where they were recorded; only their number, size and place are kept."""

    FAMILIES: ClassVar[frozenset[str]] = frozenset(("openai",))
    ROUTES: ClassVar[tuple[Route, ...]] = (Route(re.compile(_PATH + r"(?:generations|edits|variations)/?"), "images"),)
    OPERATION: ClassVar[str | None] = "images"
    _pictures = 0

    @classmethod
    def knows(cls, body: dict[str, Any]) -> bool:
        return str(body.get("type")).startswith(_STREAMED)

    def read_request(self, body: Any) -> None:
        asked = mapping(body)
        self.meaning.model_asked = string(asked.get("model")) or self.meaning.model_asked
        self.meaning.streaming = asked.get("stream") is True
        self.prompt("user", asked.get("prompt"))

    def read_event(self, name: str, data: Any, at_us: int) -> None:
        if type(data) is not dict or self.fail(data, at_us):
            return
        kind = str(data.get("type") or name)
        self._picture(data, at_us)
        if kind.startswith(_STREAMED) and kind.endswith(".completed"):
            self._pictures += 1
            self.counts.add(data.get("usage"))
            self.terminate(kind, at_us)

    def read_body(self, body: Any, at_us: int) -> None:
        said = mapping(body)
        for each in listed(said.get("data")):
            self._pictures += 1
            self._picture(mapping(each), at_us)
        self.meaning.response_model = string(said.get("model"))
        self.counts.add(said.get("usage"))

    def _picture(self, data: dict[str, Any], at_us: int) -> None:
        if type(data.get("b64_json")) is str:
            self.show(at_us)
            self.medium("image", len(data["b64_json"]))

    def finish(self) -> None:
        if self.counts.seen:
            usage = self.meaning.usage = openai_usage(self.counts)
            if usage.output_image_tokens is None:
                usage.output_image_tokens = usage.output_tokens  # all that they say is a picture
        elif self._pictures:
            self.meaning.usage = Usage(others={"images": self._pictures})
        super().finish()
