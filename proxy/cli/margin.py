"""Text as it came, with the time of each line in its margin: `    0.350 s | Once upon a`.

The mark says what it is: `|` the answer, `:` reasoning, `>` a tool call, `!` an error.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from proxy.cli import render

if TYPE_CHECKING:
    from proxy.interpret.spoken import Piece

_MARKS = {"text": "|", "reasoning": ":", "call": ">", "error": "!"}
_LEAST = 20  # columns of text, however narrow the terminal is


class Margin:
    """Writes to standard output, each piece at once. A line that is full goes on in the next."""

    def __init__(self) -> None:
        self._room = max(render.width() - len(_place(0, "text")), _LEAST)
        self._kind = "text"
        self._used: int | None = None  # columns of the line; None: it has not begun
        self._encoding = sys.stdout.encoding or "utf-8"

    def write(self, piece: Piece) -> None:
        """Print what is not printed yet."""
        if piece.kind != self._kind and self._used is not None:
            self._put("\n")
            self._used = None
        self._kind = piece.kind
        for number, line in enumerate(piece.text.split("\n")):
            if number:
                self._put("\n")
                self._used = None
            self._line(piece, render.safe(line))
        sys.stdout.flush()

    def close(self) -> None:
        """End the last line."""
        if self._used is not None:
            self._put("\n")
        sys.stdout.flush()

    def _line(self, piece: Piece, text: str) -> None:
        from rich.cells import cell_len, chop_cells

        while text:
            if self._used is None:
                self._put(_place(piece.at_us, piece.kind))
                self._used = 0
            taken = text
            if self._used + cell_len(text) > self._room:
                taken = chop_cells(text, self._room - self._used)[0] if self._used < self._room else ""
                if self._used + cell_len(taken) > self._room:  # the next character is wider than what is left
                    taken = ""
            self._put(taken)
            self._used += cell_len(taken)
            text = text[len(taken) :]
            if text:
                self._put("\n")
                self._used = None

    def _put(self, text: str) -> None:
        sys.stdout.write(text.encode(self._encoding, "backslashreplace").decode(self._encoding))


def _place(at_us: int, kind: str) -> str:
    return f"{at_us / 1_000_000:9.3f} s {_MARKS[kind]} "
