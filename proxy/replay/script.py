"""A recorded request as a Python script that sends it again with httpx. Pure.

Every recorded text is written by `repr`, so that it is never more than a text to Python, or to a terminal.
"""

from __future__ import annotations

import ast
import json
import pprint
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from proxy.replay.requested import Requested, Variable, Words

_BEYOND = re.compile(r"[^\0-\x7f]")
_WIDTH = 110
_READABLE = 256 * 1024  # bytes of a body that are laid out for a reader
_FORMS = tuple((ascii_only, pair) for ascii_only in (False, True) for pair in ((",", ":"), (", ", ": ")))
_STREAMED = """\
    response = client.send(request, stream=True)
    print(response.status_code, response.reason_phrase, file=sys.stderr)
    for piece in response.iter_bytes():
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
"""
_WHOLE = """\
    response = client.send(request)
    print(response.status_code, response.reason_phrase, file=sys.stderr)
    sys.stdout.buffer.write(response.content)
"""


def python_script(request: Requested) -> str:
    """The script. Its output is the response's body, its status is told on standard error."""
    made = _json(request.body)
    return "".join(
        (
            f'"""Sends the request of {request.exchange} again. Needs httpx: pip install httpx."""\n\n',
            "import json\n" if made is not None else "",
            "import sys\n",
            "from os import environ\n" if request.variables else "",
            "\nimport httpx\n\n",
            *_target(request),
            "headers = [\n",
            *(f"    ({name!r}, {_expression(words)}),\n" for name, words in request.headers),
            "]\n",
            made if made is not None else f"body = {request.body!r}\n",
            "\n# A request of its own, so that no header is added that was not sent.\n",
            f"request = httpx.Request({request.method!r}, url, headers=headers, content=body{_extensions(request)})\n",
            "with httpx.Client(timeout=None) as client:\n",
            _STREAMED if request.streamed else _WHOLE,
        )
    )


def _target(request: Requested) -> Iterator[str]:
    if request.plain:
        yield f"url = {_expression((request.origin, *request.target))}\n"
        return
    yield f"url = {request.origin + '/'!r}\n"
    yield "# As it was sent, and not as a URL would be tidied up.\n"
    # h11, below httpx, sends no byte beyond ASCII there; coded, it means the same.
    coded = [word if isinstance(word, Variable) else _BEYOND.sub(_coded, word) for word in request.target]
    yield f"target = {_expression(tuple(coded), as_bytes=True)}\n"


def _coded(found: re.Match[str]) -> str:
    return f"%{ord(found[0]):02X}"


def _extensions(request: Requested) -> str:
    return "" if request.plain else ', extensions={"target": target}'


def _expression(words: Words, *, as_bytes: bool = False) -> str:
    """Text where it is ASCII, else bytes: httpx would not know how to write it."""
    joined = _merged(words)
    as_bytes = as_bytes or not all(word.isascii() for word in joined if isinstance(word, str))
    said = []
    for word in joined:
        if isinstance(word, Variable):
            said.append(f'environ["{word.name}"]' + (".encode()" if as_bytes else ""))
        else:
            said.append(repr(word.encode("latin-1") if as_bytes else word))
    return " + ".join(said) or '""'


def _merged(words: Words) -> list[str | Variable]:
    """Neighbouring texts as one."""
    merged: list[str | Variable] = []
    for word in words:
        before = merged[-1] if merged else None
        if isinstance(word, str) and isinstance(before, str):
            merged[-1] = before + word
        else:
            merged.append(word)
    return merged


def _json(body: bytes) -> str | None:
    """Lines that make the body of a value that one can read and change; None where that gives other bytes."""
    if not body or len(body) > _READABLE:
        return None
    try:
        value = json.loads(body, parse_constant=_refuse)
        if not isinstance(value, dict | list):
            return None
        literal = pprint.pformat(value, width=_WIDTH, sort_dicts=False)
        same = ast.literal_eval(literal)
        for ascii_only, separators in _FORMS:
            if _dumped(same, ascii_only, separators) == body:
                return (
                    f"body = json.dumps(\n    {literal.replace(chr(10), chr(10) + '    ')},\n"
                    f"    ensure_ascii={ascii_only},\n    separators={separators!r},\n).encode()\n"
                )
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # no JSON, or nested too deeply for Python's parser
        pass
    return None


def _dumped(value: Any, ascii_only: bool, separators: tuple[str, str]) -> bytes | None:
    try:
        return json.dumps(value, ensure_ascii=ascii_only, separators=separators).encode()
    except UnicodeEncodeError:  # half of a character, which only an escape can hold
        return None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no literal of Python")
