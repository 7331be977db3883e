"""The usage object of OpenAI's newer forms: Responses, sounds, pictures, sessions. Chat has other names for the same.

The form: https://platform.openai.com/docs/api-reference/responses/object#usage. Details are subsets.
"""

from __future__ import annotations

from proxy.interpret.meaning import Usage
from proxy.interpret.usage import Counts, added


def openai_usage(counts: Counts) -> Usage:
    """The counts in our words; sounds and sessions have `input_token_details`, the others `input_tokens_details`."""
    get = counts.get
    # Mistral's transcriptions have the names of chat.
    given, made = get("input_tokens", "prompt_tokens"), get("output_tokens", "completion_tokens")
    total = get("total_tokens")

    def of(side: str, kind: str) -> int | None:
        return get(f"{side}_tokens_details.{kind}", f"{side}_token_details.{kind}")

    return Usage(
        input_tokens=given,
        output_tokens=made,
        total_tokens=added(given, made) if total is None else total,
        cache_read_tokens=of("input", "cached_tokens"),
        cache_write_tokens=of("input", "cache_write_tokens"),
        reasoning_tokens=of("output", "reasoning_tokens"),
        input_audio_tokens=of("input", "audio_tokens"),
        input_image_tokens=of("input", "image_tokens"),
        output_audio_tokens=of("output", "audio_tokens"),
        output_image_tokens=of("output", "image_tokens"),
        cache_audio_read_tokens=of("input", "cached_tokens_details.audio_tokens"),
    )
