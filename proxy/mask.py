"""Masks known shapes of API keys in the recorded copy of a body, as it streams by.

A key keeps its length and its first six characters, the rest becomes `*`. Looks back a constant number of bytes, so
what is undecided at the end of a chunk is masked: the chunk goes to disk before the next one is there.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ahocorasick_rs import BytesAhoCorasick

KEEP = 6


class _Shape(NamedTuple):
    prefix: bytes
    more: bytes  # what may follow, as a character class
    least: int  # length from which on it is taken for a key, prefix included


_WORD = rb"[A-Za-z0-9_-]"
_SHAPES = (
    _Shape(b"sk-", _WORD, 20),  # OpenAI, Anthropic (sk-ant-), OpenRouter (sk-or-), DeepSeek, Moonshot
    _Shape(b"csk-", _WORD, 24),  # Cerebras
    _Shape(b"gsk_", _WORD, 24),  # Groq
    _Shape(b"xai-", _WORD, 24),  # xAI
    _Shape(b"pplx-", _WORD, 24),  # Perplexity
    _Shape(b"nvapi-", _WORD, 24),  # NVIDIA
    _Shape(b"hf_", rb"[A-Za-z0-9]", 24),  # Hugging Face
    _Shape(b"fw_", rb"[A-Za-z0-9]", 20),  # Fireworks
    _Shape(b"ek_", rb"[A-Za-z0-9]", 20),  # OpenAI's ephemeral keys
    _Shape(b"AIza", _WORD, 39),  # Google
    _Shape(b"AQ.Ab", _WORD, 40),  # Google, bound to a service account
    _Shape(b"ya29.", rb"[A-Za-z0-9_.-]", 24),  # Google OAuth
    _Shape(b"tgp_v1_", _WORD, 40),  # Together
    _Shape(b"AKIA", rb"[A-Z0-9]", 20),  # AWS
    _Shape(b"ASIA", rb"[A-Z0-9]", 20),
    _Shape(b"ABSK", rb"[A-Za-z0-9+/=]", 40),  # Bedrock
    _Shape(b"bedrock-api-key-", rb"[A-Za-z0-9+/=_-]", 40),
)
# A JSON Web Token's first part says how it is signed; the claims (`eyJ` again) and the signature are the secret.
_JWT = _Shape(b".eyJ", rb"[A-Za-z0-9_.-]", 20)

_BY_PREFIX = {shape.prefix: shape for shape in (*_SHAPES, _JWT)}
_RUN = {shape.prefix: re.compile(shape.more + rb"*") for shape in _BY_PREFIX.values()}
# A key begins where a word does, also one that follows an escape: in `\nsk-…` and `%20sk-…` a letter or digit precedes.
_WORD_BEGIN = rb"(?:(?<![A-Za-z0-9_-])|(?<=\\[bfnrt])|(?<=\\u[0-9A-Fa-f]{4})|(?<=%[0-9A-Fa-f]{2}))"
_BEGIN = re.compile(
    rb"%b(?:%b)|(?<=[A-Za-z0-9_-])\.eyJ" % (_WORD_BEGIN, b"|".join(re.escape(shape.prefix) for shape in _SHAPES))
)
_LOOK_BACK = max(map(len, _BY_PREFIX)) + len(r"\u0000")


# Whether any prefix is there at all, which is what most chunks are asked: a third of what a regular expression costs.
_hints = BytesAhoCorasick(list(_BY_PREFIX)).find_matches_as_indexes

# The whole key, for text that is at hand in full (a path, a header).
KEY_SHAPE = re.compile(
    b"|".join(
        [
            rb"%b%b%b{%d,}" % (_WORD_BEGIN, re.escape(shape.prefix), shape.more, shape.least - len(shape.prefix))
            for shape in _SHAPES
        ]
        + [rb"%beyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_.-]{16,}" % _WORD_BEGIN]
    )
)


class BodyMask:
    """One body. `feed` takes its chunks in order; `masked` tells whether anything was."""

    def __init__(self) -> None:
        self.masked = False
        self._tail = b""
        self._inside: bytes | None = None  # the prefix of a key that reaches the end of what came so far
        self._seen = 0  # its length so far

    def feed(self, chunk: bytes) -> bytes:
        """The chunk as it is recorded: the same object where nothing is masked, always of the same length."""
        tail = self._tail
        window = tail + chunk
        self._tail = window[-_LOOK_BACK:]
        if self._inside is None and not _hints(window):
            return chunk
        out = bytearray(window)
        end = self._go_on(window, out, len(tail))
        if self._inside is None:
            self._scan(window, out, len(tail), end)
        masked = bytes(out[len(tail) :])
        return chunk if masked == chunk else masked

    def _go_on(self, window: bytes, out: bytearray, begin: int) -> int:
        """Mask the rest of a key that began in an earlier chunk; returns where it ends."""
        if self._inside is None:
            return begin
        end = self._run(self._inside, window, begin)
        self._blank(out, begin + max(0, self._keep(self._inside) - self._seen), end)
        self._seen += end - begin
        if end < len(window):
            self._inside = None
        return end

    def _scan(self, window: bytes, out: bytearray, begin: int, done: int) -> None:
        """Mask the keys whose prefix ends in the chunk (at `begin` in the window) where no key was before `done`."""
        for match in _BEGIN.finditer(window):
            prefix, first = match[0], match.start()
            if match.end() <= begin:
                continue
            # A prefix inside a key that is masked already can only prolong it; nothing is ever looked at twice.
            end = self._run(prefix, window, max(match.end(), done))
            open_ended = end == len(window)
            if open_ended or end - first >= _BY_PREFIX[prefix].least:
                self._blank(out, max(first + self._keep(prefix), begin, done), end)
                done = max(done, end)
            if open_ended:
                self._inside, self._seen = prefix, end - first
                return

    def _run(self, prefix: bytes, window: bytes, begin: int) -> int:
        run = _RUN[prefix].match(window, begin)
        return run.end() if run is not None else begin

    def _keep(self, prefix: bytes) -> int:
        return max(KEEP, len(prefix))

    def _blank(self, out: bytearray, begin: int, end: int) -> None:
        if end > begin:
            out[begin:end] = b"*" * (end - begin)
            self.masked = True
