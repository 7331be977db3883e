"""A recorded request as a command of curl that a POSIX shell, or bash where bytes need it, understands. Pure.

Nothing recorded is ever left to the shell, to curl's own signs (`@`, `;`, `[a-z]`), or to a terminal: it is quoted, or
written as `\\xNN`.
"""

from __future__ import annotations

import base64
import re

from proxy.replay.requested import Requested, Variable, Words

_BARE = re.compile(r"[A-Za-z0-9_./:][A-Za-z0-9_./:,+@%=-]*")
_FOR_DOUBLE = re.compile(r"[A-Za-z0-9_ ./:,;+@%=&?*<>(){}|#~^-]*")
_ENDS_A_NAME = re.compile(r"[ ,;&]|\Z")
_IN_ARGUMENT = 64 * 1024  # Linux takes 128 KiB at most in one
_EXPECT = 2**20  # curl asks before it sends a body that is larger


def curl_command(request: Requested) -> str:
    """The command, on several lines, with a newline at its end."""
    before, body = _body(request)
    parts = [f"{before}curl{_way(request)} {_place(request)}", *_headers(request)]
    coding = (request.header("accept-encoding") or "identity").strip().lower()
    if coding not in ("", "identity"):
        parts.append("--compressed")
    if request.streamed:
        parts.append("--no-buffer")
    return " \\\n  ".join([*parts, *body]) + "\n"


def _way(request: Requested) -> str:
    """How curl is told the method, where it would not choose that by itself."""
    if request.method == "HEAD" and not request.body:
        return " --head"
    chosen = "POST" if request.has_body else "GET"
    return "" if request.method == chosen else f" -X {quoted(request.method.encode())}"


def _place(request: Requested) -> str:
    if request.plain:
        return _words((request.origin, *request.target))
    # As it is, and not as curl would tidy it up.
    return f"--request-target {_words(request.target)} {quoted(f'{request.origin}/'.encode())}"


def _headers(request: Requested) -> list[str]:
    """The recorded ones, and those that curl would add taken out."""
    added = ["User-Agent", "Accept"]
    added += ["Content-Type"] if request.has_body else []
    added += ["Expect"] if len(request.body) > _EXPECT else []
    # `name;` is how curl is given a header without a value.
    given = [_words((f"{name}: ", *words)) if words else quoted(f"{name};".encode()) for name, words in request.headers]
    gone = [quoted(f"{name}:".encode()) for name in added if request.header(name.lower()) is None]
    return [f"-H {each}" for each in (*given, *gone)]


def _body(request: Requested) -> tuple[str, list[str]]:
    """What stands before curl, and curl's options for the body."""
    body = request.body
    if not request.has_body:
        return "", []
    word = quoted(body) if b"\0" not in body and len(body) <= _IN_ARGUMENT else ""
    if not 0 < len(word.encode()) <= _IN_ARGUMENT:  # printf is part of the shell, and takes what no argument can hold
        coded = base64.b64encode(body).decode()
        return f"printf %s '{coded}' | base64 -d | ", ["--data-binary @-"]
    # Of --data-binary, an @ is the beginning of a file's name.
    return "", [f"{'--data-raw' if body.startswith(b'@') else '--data-binary'} {word}"]


def _words(words: Words) -> str:
    """One word of the shell: credentials are its variables, all else stands for itself."""
    texts = [word for word in words if isinstance(word, str)]
    if len(texts) == len(words):
        return quoted("".join(texts).encode("latin-1"))
    if all(_FOR_DOUBLE.fullmatch(text) for text in texts):
        pieces = []
        for place, word in enumerate(words):
            after = words[place + 1] if place + 1 < len(words) else ""
            pieces.append(_variable(word, after) if isinstance(word, Variable) else word)
        return '"' + "".join(pieces) + '"'
    return "".join(
        f'"${word.name}"' if isinstance(word, Variable) else quoted(word.encode("latin-1")) for word in words
    )


def _variable(word: Variable, after: str | Variable) -> str:
    """`$NAME`, in braces where what comes after might be taken for a part of it."""
    alone = isinstance(after, str) and _ENDS_A_NAME.match(after) is not None
    return f"${word.name}" if alone else f"${{{word.name}}}"


def quoted(data: bytes) -> str:
    """One word of a shell that is these bytes, whichever they are but NUL: bare, in `'…'`, or else in bash's `$'…'`."""
    text = data.decode("utf-8", "surrogateescape")
    if _BARE.fullmatch(text):
        return text
    if all(character.isprintable() or character == "\n" for character in text):
        return "'" + text.replace("'", "'\\''") + "'"
    return "$'" + "".join(map(_escaped, text)) + "'"


def _escaped(character: str) -> str:
    # Of an exclamation mark, an interactive shell may make an earlier command even here.
    if character.isprintable() and character not in "'\\!":
        return character
    if character == "\n":
        return "\\n"
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
