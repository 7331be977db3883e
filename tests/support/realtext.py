"""Streams as providers send them, of text that is made up and never repeats: for measuring how well a tape packs.

Words come by Zipf's law from a vocabulary of thousands, in sentences, lists, code and numbers; nothing of the text is a
copy of anything, so that what packs well is the wire format's repetition. The same seed gives the same bytes.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import accumulate

ALPHANUMERIC = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
VOCABULARY = 5000  # words
COMMON = (  # noqa: SIM905 -- a line of words reads better than a list of strings
    "the of and to a in is that it for as with on be are this by or at from an you can not have which your if will "
    "when all one their has but more they was we each other these also use time only so may such into some then them "
    "its our would than no between first two data any new how most over same value where set used there what both "
    "because number many like while system after should example make about using different way before state need "
    "work case order point return without given every result very just often three change name following part does "
    "less must up out being information process model function list type large small problem however level high "
    "important through could memory possible file line within well start still under since key good right called "
    "long note simple water rather per space much long-term several common rate form table above even usually "
    "current code world power during cost means local single access request response error second single another"
).split()

_ONSETS = (  # noqa: SIM905 -- as above
    "b c d f g h l m n p r s t v w br ch cl cr dr fl gr pl pr qu sh sl sp st str th tr"
).split()
_VOWELS = "a e i o u ai ea ee ie oa ou".split()  # noqa: SIM905 -- as above
_CODAS = "b ck ct d ft g l ll m mp n nd ng nt p r rd rt s ss st t th x".split()  # noqa: SIM905 -- as above
_ENDINGS = ("", "", "", "e", "s", "ed", "er", "ing", "ion", "ly", "al", "able", "ment", "ity", "ous", "ive")
_PIECE = re.compile(r" ?[A-Za-z]+| ?[0-9]{1,3}| ?[^\sA-Za-z0-9]+|\n+| +(?= )| ")
_MODELS = {
    "openai": ("gpt-4o-2024-08-06", "gpt-4.1-mini-2025-04-14", "gpt-5-2025-08-07", "gpt-5-nano-2025-08-07"),
    "anthropic": ("claude-sonnet-4-5-20250929", "claude-opus-4-1-20250805", "claude-haiku-4-5-20251001"),
    "gemini": ("gemini-2.5-flash", "gemini-2.5-pro", "gemini-2.0-flash", "gemini-3-pro-preview"),
}


@cache
def vocabulary() -> tuple[list[str], list[float]]:
    """The words, the likeliest first, and the running sums of their weights."""
    rng = random.Random(1_000_003)
    words = dict.fromkeys(COMMON)
    while len(words) < VOCABULARY:
        syllables = rng.choices((1, 2, 3), (3, 5, 2))[0]
        stem = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(syllables)) + rng.choice(_CODAS)
        words[stem + rng.choice(_ENDINGS)] = None
    return list(words), list(accumulate(1 / (rank + 2.7) for rank in range(len(words))))


def text(rng: random.Random, words: int) -> str:
    """About `words` words of an answer: paragraphs, headings, lists, code."""
    parts: list[str] = []
    while words > 0:
        kind = rng.choices((_paragraph, _list, _code, _heading), (12, 4, 2, 2))[0]
        parts.append(kind(rng))
        words -= len(parts[-1].split())
    return "\n\n".join(parts)


def tokens(written: str) -> list[str]:
    """`written` cut about as a tokenizer would: common words whole with their space, rare ones in pieces."""
    common = set(vocabulary()[0][:1500])
    pieces: list[str] = []
    for piece in _PIECE.findall(written):
        word = piece.strip().lower()
        if len(word) <= 5 or word in common:
            pieces.append(piece)
        else:
            pieces.extend((piece[:5], *(piece[at : at + 4] for at in range(5, len(piece), 4))))
    return pieces


def openai_chat(seed: int, *, obfuscation: bool = True, usage: bool = True) -> Iterator[bytes]:
    """Chat completion chunks of one or two tokens each, as one write of the provider each."""
    rng = random.Random(seed)
    head = {
        "id": f"chatcmpl-{_token(rng, 29)}",
        "object": "chat.completion.chunk",
        "created": 1_758_000_000 + rng.randrange(40_000_000),
        "model": rng.choice(_MODELS["openai"]),
        "service_tier": "default",
        "system_fingerprint": f"fp_{rng.getrandbits(40):010x}",
    }

    def event(choices: list[object], used: object = None) -> bytes:
        chunk: dict[str, object] = {**head, "choices": choices}
        if usage:
            chunk["usage"] = used
        if obfuscation:
            chunk["obfuscation"] = _token(rng, rng.randint(1, 12))
        return b"data: %b\n\n" % _compact(chunk)

    def choice(delta: dict[str, object], finish: str | None = None) -> list[object]:
        return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]

    yield event(choice({"role": "assistant", "content": "", "refusal": None}))
    written = 0
    for piece in _said(rng, (1, 2), (9, 1)):
        written += 1
        yield event(choice({"content": piece}))
    yield event(choice({}, "stop"))
    if usage:
        yield event([], _openai_usage(rng.randint(20, 9000), written))
    yield b"data: [DONE]\n\n"


def anthropic_messages(seed: int) -> Iterator[bytes]:
    """Events of the messages API, a few tokens each, with its padding of spaces."""
    rng = random.Random(seed)

    def event(name: str, **rest: object) -> bytes:
        body = _compact({"type": name, **rest})
        return b"event: %b\ndata: %b%b}\n\n" % (name.encode(), body[:-1], b" " * rng.choice((0, 0, 0, *range(1, 16))))

    used = {
        "input_tokens": rng.randint(20, 9000),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": rng.choice((0, rng.randint(1024, 60_000))),
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
    }
    yield event(
        "message_start",
        message={
            "model": rng.choice(_MODELS["anthropic"]),
            "id": f"msg_01{_token(rng, 22)}",
            "type": "message",
            "role": "assistant",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {**used, "output_tokens": rng.randint(1, 8), "service_tier": "standard"},
        },
    )
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    yield b'event: ping\ndata: {"type": "ping"}\n\n'
    written = 0
    for piece in _said(rng, (1, 2, 3, 4, 6), (3, 4, 4, 3, 1)):
        written += len(piece) // 4 + 1
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
    yield event("content_block_stop", index=0)
    del used["cache_creation"]
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    yield event("message_delta", delta=ended, usage={**used, "output_tokens": written})
    yield event("message_stop")


def gemini_sse(seed: int) -> Iterator[bytes]:
    """Events of streamGenerateContent: several words and the usage so far in each; lines end in CRLF."""
    rng = random.Random(seed)
    prompt, written = rng.randint(6, 9000), 0
    thoughts = rng.choice((0, rng.randint(50, 3000)))
    version, response = rng.choice(_MODELS["gemini"]), _token(rng, 23)
    pieces = list(_said(rng, range(6, 40), [1] * 34))
    for number, piece in enumerate(pieces):
        written += len(piece) // 4 + 1
        candidate: dict[str, object] = {"content": {"parts": [{"text": piece}], "role": "model"}}
        if number + 1 == len(pieces):
            candidate["finishReason"] = "STOP"
        usage: dict[str, object] = {
            "promptTokenCount": prompt,
            "candidatesTokenCount": written,
            "totalTokenCount": prompt + written + thoughts,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}],
        }
        if thoughts:
            usage["thoughtsTokenCount"] = thoughts
        event = {
            "candidates": [{**candidate, "index": 0}],
            "usageMetadata": usage,
            "modelVersion": version,
            "responseId": response,
        }
        yield b"data: %b\r\n\r\n" % json.dumps(event, ensure_ascii=False, separators=(",", ": ")).encode()


def recorded(seed: int, pieces: Iterable[bytes]) -> list[tuple[int, int, bytes]]:
    """The chunks with the numbers and times that a recording gives them: (seq, microseconds, data)."""
    rng = random.Random(seed)
    at_us = 1_758_000_000_000_000 + rng.randrange(10**13)
    pace = rng.uniform(8_000, 40_000)
    chunks = []
    for seq, piece in enumerate(pieces, 3):
        at_us += int(pace * rng.lognormvariate(0, 0.6))
        chunks.append((seq, at_us, piece))
    return chunks


def _said(rng: random.Random, sizes: Iterable[int], weights: Iterable[float]) -> Iterator[str]:
    """The text of 300 to 600 chunks, each of as many tokens as drawn from `sizes`."""
    sizes, weights = list(sizes), list(weights)
    drawn = rng.choices(sizes, weights, k=rng.randint(300, 590))
    pieces = iter(tokens(text(rng, sum(drawn))))
    for size in drawn:
        yield "".join(piece for piece, _ in zip(pieces, range(size), strict=False))


def _words(rng: random.Random, count: int) -> list[str]:
    words, weights = vocabulary()
    return rng.choices(words, cum_weights=weights, k=count)


def _sentence(rng: random.Random) -> str:
    words = _words(rng, max(4, int(rng.gauss(15, 6))))
    for place in range(2, len(words) - 2):
        drawn = rng.random()
        if drawn < 0.08:
            words[place] += ","
        elif drawn < 0.10:
            words[place] = rng.choice(
                (f"{rng.randrange(3000)}", f"{rng.uniform(0, 500):.2f}", f"{rng.randrange(101)}%")
            )
        elif drawn < 0.13:
            words[place] = rng.choice(("**{}**", "`{}`", "({})", '"{}"')).format(words[place])
        elif drawn < 0.15:
            words[place] = words[place].capitalize()
    words[0] = words[0].capitalize()
    return " ".join(words) + rng.choices((".", "?", "!", ":"), (30, 2, 1, 2))[0]


def _paragraph(rng: random.Random) -> str:
    return " ".join(_sentence(rng) for _ in range(rng.randint(2, 5)))


def _heading(rng: random.Random) -> str:
    return "#" * rng.randint(2, 3) + " " + " ".join(_words(rng, rng.randint(2, 6))).title()


def _list(rng: random.Random) -> str:
    mark: Callable[[int], str] = "{}. ".format if rng.random() < 0.5 else "- ".format
    return "\n".join(mark(n) + _sentence(rng) for n in range(1, rng.randint(3, 7)))


def _code(rng: random.Random) -> str:
    name, first, second, third = (re.sub("[^a-z]", "_", word) for word in _words(rng, 4))
    lines = [f"def {name}_{first}({second}, {third}={rng.randrange(1000)}):", f'    """{_sentence(rng)}"""']
    for _ in range(rng.randint(2, 6)):
        left, right = (re.sub("[^a-z]", "_", word) for word in _words(rng, 2))
        lines.append(
            rng.choice(
                (
                    f"    {left} = {second}.{right}({third})",
                    f"    for {left} in {right}:\n        {first}.append({left})",
                    f"    if {left} > {rng.randrange(500)}:\n        raise ValueError({right!r})",
                    f"    {left}[{rng.randrange(64)}] += {right} * {rng.uniform(0, 9):.3f}",
                )
            )
        )
    return "\n".join(("```python", *lines, f"    return {first}", "```"))


def _openai_usage(prompt: int, completion: int) -> dict[str, object]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _token(rng: random.Random, length: int) -> str:
    return "".join(rng.choices(ALPHANUMERIC, k=length))


def _compact(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
