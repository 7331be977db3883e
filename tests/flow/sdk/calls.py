"""What programs do with the providers' SDKs: each call as a function of the base URL and the model.

It gives what the SDK made of the answer, as plain data; a stream as the list of its events. Must not know the proxy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from anthropic import Anthropic, AsyncAnthropic
from google import genai
from google.genai.types import HttpOptions
from openai import AsyncOpenAI, OpenAI

KEY = "sk-proj-" + "synthetic" * 4
QUESTION = "Why did the chicken? 🐔 Antworte auf Käse."
MESSAGES: list[Any] = [{"role": "user", "content": QUESTION}]

Ask = Callable[[str, str], list[dict[str, Any]]]


class Call(NamedTuple):
    """`suffix` is what the base URL ends with behind the upstream's name."""

    name: str
    provider: str
    suffix: str
    ask: Ask


def openai_chat(base_url: str, model: str) -> list[dict[str, Any]]:
    with OpenAI(base_url=base_url, api_key=KEY, max_retries=0) as client:
        return [client.chat.completions.create(model=model, messages=MESSAGES).model_dump()]


def openai_chat_stream(base_url: str, model: str) -> list[dict[str, Any]]:
    with (
        OpenAI(base_url=base_url, api_key=KEY, max_retries=0) as client,
        client.chat.completions.create(model=model, messages=MESSAGES, stream=True) as stream,
    ):
        return [chunk.model_dump() for chunk in stream]


async def openai_chat_async(base_url: str, model: str) -> list[dict[str, Any]]:
    async with AsyncOpenAI(base_url=base_url, api_key=KEY, max_retries=0) as client:
        return [(await client.chat.completions.create(model=model, messages=MESSAGES)).model_dump()]


async def openai_chat_stream_async(base_url: str, model: str) -> list[dict[str, Any]]:
    async with (
        AsyncOpenAI(base_url=base_url, api_key=KEY, max_retries=0) as client,
        await client.chat.completions.create(model=model, messages=MESSAGES, stream=True) as stream,
    ):
        return [chunk.model_dump() async for chunk in stream]


def openai_responses(base_url: str, model: str) -> list[dict[str, Any]]:
    with OpenAI(base_url=base_url, api_key=KEY, max_retries=0) as client:
        return [client.responses.create(model=model, input=QUESTION).model_dump()]


def openai_responses_stream(base_url: str, model: str) -> list[dict[str, Any]]:
    with (
        OpenAI(base_url=base_url, api_key=KEY, max_retries=0) as client,
        client.responses.create(model=model, input=QUESTION, stream=True) as stream,
    ):
        return [event.model_dump() for event in stream]


async def openai_responses_async(base_url: str, model: str) -> list[dict[str, Any]]:
    async with AsyncOpenAI(base_url=base_url, api_key=KEY, max_retries=0) as client:
        return [(await client.responses.create(model=model, input=QUESTION)).model_dump()]


async def openai_responses_stream_async(base_url: str, model: str) -> list[dict[str, Any]]:
    async with (
        AsyncOpenAI(base_url=base_url, api_key=KEY, max_retries=0) as client,
        await client.responses.create(model=model, input=QUESTION, stream=True) as stream,
    ):
        return [event.model_dump() async for event in stream]


def anthropic_messages(base_url: str, model: str) -> list[dict[str, Any]]:
    with Anthropic(base_url=base_url, api_key=KEY, max_retries=0) as client:
        return [client.messages.create(model=model, max_tokens=64, messages=MESSAGES).model_dump()]


def anthropic_messages_stream(base_url: str, model: str) -> list[dict[str, Any]]:
    """With the SDK's helper, which puts the message together."""
    with (
        Anthropic(base_url=base_url, api_key=KEY, max_retries=0) as client,
        client.messages.stream(model=model, max_tokens=64, messages=MESSAGES) as stream,
    ):
        return [*(event.model_dump() for event in stream), stream.get_final_message().model_dump()]


async def anthropic_messages_async(base_url: str, model: str) -> list[dict[str, Any]]:
    async with AsyncAnthropic(base_url=base_url, api_key=KEY, max_retries=0) as client:
        return [(await client.messages.create(model=model, max_tokens=64, messages=MESSAGES)).model_dump()]


async def anthropic_messages_stream_async(base_url: str, model: str) -> list[dict[str, Any]]:
    async with (
        AsyncAnthropic(base_url=base_url, api_key=KEY, max_retries=0) as client,
        await client.messages.create(model=model, max_tokens=64, messages=MESSAGES, stream=True) as stream,
    ):
        return [event.model_dump() async for event in stream]


def gemini(base_url: str, model: str) -> list[dict[str, Any]]:
    with genai.Client(api_key=KEY, http_options=HttpOptions(base_url=base_url)) as client:
        return [_plain(client.models.generate_content(model=model, contents=QUESTION))]


def gemini_stream(base_url: str, model: str) -> list[dict[str, Any]]:
    with genai.Client(api_key=KEY, http_options=HttpOptions(base_url=base_url)) as client:
        return [_plain(chunk) for chunk in client.models.generate_content_stream(model=model, contents=QUESTION)]


async def gemini_async(base_url: str, model: str) -> list[dict[str, Any]]:
    with genai.Client(api_key=KEY, http_options=HttpOptions(base_url=base_url)) as client:
        async with client.aio as aio:
            return [_plain(await aio.models.generate_content(model=model, contents=QUESTION))]


async def gemini_stream_async(base_url: str, model: str) -> list[dict[str, Any]]:
    with genai.Client(api_key=KEY, http_options=HttpOptions(base_url=base_url)) as client:
        async with client.aio as aio:
            stream = await aio.models.generate_content_stream(model=model, contents=QUESTION)
            return [_plain(chunk) async for chunk in stream]


def _plain(response: genai.types.GenerateContentResponse) -> dict[str, Any]:
    # The HTTP response's own headers are the carriage, not the answer.
    return response.model_dump(mode="json", exclude={"sdk_http_response"})


def _run(ask: Callable[[str, str], Coroutine[Any, Any, list[dict[str, Any]]]]) -> Ask:
    return lambda base_url, model: asyncio.run(ask(base_url, model))


PLAIN = [
    Call("openai chat", "openai", "/v1", openai_chat),
    Call("openai chat, async", "openai", "/v1", _run(openai_chat_async)),
    Call("openai responses", "openai", "/v1", openai_responses),
    Call("openai responses, async", "openai", "/v1", _run(openai_responses_async)),
    Call("anthropic messages", "anthropic", "", anthropic_messages),
    Call("anthropic messages, async", "anthropic", "", _run(anthropic_messages_async)),
    Call("gemini", "gemini", "", gemini),
    Call("gemini, async", "gemini", "", _run(gemini_async)),
]
STREAMS = [
    Call("openai chat stream", "openai", "/v1", openai_chat_stream),
    Call("openai chat stream, async", "openai", "/v1", _run(openai_chat_stream_async)),
    Call("openai responses stream", "openai", "/v1", openai_responses_stream),
    Call("openai responses stream, async", "openai", "/v1", _run(openai_responses_stream_async)),
    Call("anthropic messages stream", "anthropic", "", anthropic_messages_stream),
    Call("anthropic messages stream, async", "anthropic", "", _run(anthropic_messages_stream_async)),
    Call("gemini stream", "gemini", "", gemini_stream),
    Call("gemini stream, async", "gemini", "", _run(gemini_stream_async)),
]
