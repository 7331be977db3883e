"""Credentials of realistic shapes that occur nowhere else, and the search for any piece of one in bytes.

Must not know the proxy.
"""

from __future__ import annotations

import base64
import json
import random
import re
import string
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

_WORD = string.ascii_letters + string.digits
_HEX = "0123456789abcdef"
_PIECE = 8  # characters; enough that no piece is found by chance
_KEPT = 6  # of a key in a body, its first characters stay readable

SHAPES: Mapping[str, tuple[str, int, str]] = {
    "openai": ("sk-proj-", 48, _WORD),
    "anthropic": ("sk-ant-api03-", 93, _WORD),
    "openrouter": ("sk-or-v1-", 64, _HEX),
    "gemini": ("AIzaSy", 33, _WORD),
    "gemini auth": ("AQ.Ab8RN6", 42, _WORD),
    "google oauth": ("ya29.", 120, _WORD),
    "groq": ("gsk_", 52, _WORD),
    "xai": ("xai-", 80, _WORD),
    "perplexity": ("pplx-", 48, _WORD),
    "huggingface": ("hf_", 34, _WORD),
    "together": ("tgp_v1_", 43, _WORD),
    "fireworks": ("fw_", 24, _WORD),
    "cerebras": ("csk-", 48, _HEX),
    "aws": ("AKIA", 16, string.ascii_uppercase),
    "bedrock": ("ABSK", 128, _WORD),
    "ephemeral": ("ek_", 32, _HEX),
    "jwt": ("eyJhbGciOiJIUzI1NiJ9.eyJ", 80, _WORD),
}
"""Keys that are known by their looks: beginning, how many characters follow, which."""


class Mark(NamedTuple):
    """`text` is the credential, `pieces` its parts that nothing kept may hold."""

    name: str
    text: str
    pieces: tuple[str, ...]


class Mint:
    """Makes marks, no two alike; the same ones in every run."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.marks: list[Mark] = []

    def shaped(self, shape: str) -> str:
        """A key that is known by its looks."""
        prefix, more, alphabet = SHAPES[shape]
        return self._made(f"{shape} key", prefix, more, alphabet)

    def plain(self, name: str, length: int = 32) -> str:
        """A secret that only its place tells from other text, as Azure's keys, tokens and passwords are."""
        return self._made(name, "", length, _HEX)

    def _made(self, name: str, prefix: str, more: int, alphabet: str) -> str:
        text = prefix + "".join(self._random.choice(alphabet) for _ in range(more))
        secret = text[max(len(prefix), _KEPT) :]
        pieces = tuple(secret[at : at + _PIECE] for at in range(0, len(secret) - _PIECE + 1, _PIECE))
        self.marks.append(Mark(f"{name} {len(self.marks)}", text, pieces))
        return text


def leaks(data: bytes, marks: Iterable[Mark]) -> list[str]:
    """The names of the marks of which a piece is in `data`, as it stands or in an encoding that anybody can undo."""
    owners = {piece.encode(): mark.name for mark in marks for piece in mark.pieces}
    found = {
        owners[piece]
        for form in _forms(data)
        for piece in owners.keys() & {form[at : at + _PIECE] for at in range(len(form) - _PIECE + 1)}
    }
    return sorted(found)


def _forms(data: bytes) -> Iterator[bytes]:
    yield data
    if b"%" in data:
        yield unquote_to_bytes(data)
    if b"\\" in data:
        yield _unescaped(data)
    yield b"\n".join(_decoded_base64(data))
    yield b"\n".join(bytes.fromhex(run[: len(run) // 2 * 2].decode()) for run in re.findall(rb"[0-9a-fA-F]{32,}", data))


def _unescaped(data: bytes) -> bytes:
    r"""What JSON strings say: `\u0041`, `\n`, `\/`; twice, for JSON within JSON."""
    for _ in range(2):
        data = re.sub(rb'\\(?:u[0-9a-fA-F]{4}|["\\/bfnrt])', _character, data)
    return data


def _character(escape: re.Match[bytes]) -> bytes:
    found: str = json.loads(f'"{escape[0].decode()}"')
    return found.encode("utf-8", "surrogatepass")


def _decoded_base64(data: bytes) -> Iterator[bytes]:
    for run in re.findall(rb"[A-Za-z0-9+/_-]{12,}", data):
        plain = run.replace(b"-", b"+").replace(b"_", b"/")
        for begin in range(4):
            part = plain[begin : begin + (len(plain) - begin) // 4 * 4]
            yield base64.b64decode(part)
