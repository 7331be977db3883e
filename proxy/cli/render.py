"""How commands print: text that a terminal cannot be made to obey, times, sizes, tables, JSON, bodies.

The one home of formatting; must not know the store. Whatever was recorded is hostile.
"""

from __future__ import annotations

import codecs
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Annotated, Any, BinaryIO, Literal

import msgspec
import typer

from proxy import log
from proxy.errors import UsageError


class Format(StrEnum):
    """How a command prints data."""

    TABLE = "table"
    JSON = "json"


FormatFlag = Annotated[Format, typer.Option("--format", help="A table to read, or JSON for programs.")]
OutputFlag = Annotated[
    Path | None, typer.Option("--output", metavar="FILE", help="Write to this file, which only you may read.")
]

# --- text ---

# They reorder or break the line around them: marks, embeddings, overrides, isolates, line and paragraph separator.
_REORDERING = {
    code: f"\\u{code:04x}" for code in (0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
}


def safe(text: str) -> str:
    """Text on one line that a terminal prints and does not obey: the rest becomes `\\xNN` or `\\uNNNN`."""
    return log.safe(text).translate(_REORDERING)


def safe_lines(text: str) -> str:
    """As `safe`, but newlines and tabs pass."""
    return "\n".join("\t".join(map(safe, line.split("\t"))) for line in text.split("\n"))


def preview(data: bytes, room: int) -> str:
    """The beginning of a chunk in at most `room` columns; what is no UTF-8 is shown as `\\xNN`."""
    from rich.cells import cell_len, set_cell_size

    enough = 4 * room  # bytes: no character has more than four
    text = safe(data[:enough].decode(errors="backslashreplace"))
    if len(data) <= enough and cell_len(text) <= room:
        return text
    return set_cell_size(text, max(room - 1, 0)).rstrip() + "…"


def say(text: str, *, err: bool = False) -> None:
    """Print a line, also where the terminal's encoding lacks a character."""
    encoding = (sys.stderr if err else sys.stdout).encoding or "utf-8"
    typer.echo(text.encode(encoding, "backslashreplace").decode(encoding), err=err)


def note(sentence: str) -> None:
    """Say on standard error what is not data."""
    say(f"wiretape: {safe(sentence)}", err=True)


# --- numbers and times ---


def count(number: int, noun: str) -> str:
    """`1 exchange`, `2 exchanges`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(number: int) -> str:
    """Bytes, in powers of 1024: `999 B`, `1.5 KiB`, `12 MiB`."""
    if number < 1024:
        return f"{number} B"
    amount = float(number)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        amount /= 1024
        if amount < 1023.5 or unit == "TiB":
            return f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:,.0f} {unit}"
    raise AssertionError("the last unit takes all")


def duration(us: int | None) -> str:
    """Microseconds as `350 µs`, `12.3 ms`, `1.23 s`, `4 m 05 s`, `2 h 03 m`; `-` for none."""
    if us is None:
        return "-"
    if us < 1000:
        return f"{us} µs"
    if us < 999_950:
        return f"{us / 1000:.1f} ms"
    if us < 59_995_000:
        return f"{us / 1_000_000:.2f} s"
    minutes, seconds = divmod(round(us / 1_000_000), 60)
    if minutes < 60:
        return f"{minutes} m {seconds:02} s"
    return f"{minutes // 60} h {minutes % 60:02} m"


def local(us: int) -> datetime:
    """A time in microseconds since 1970, on this machine's clock; the nearest that a calendar holds."""
    seconds = min(max(us / 1_000_000, 0), 253_402_000_000)
    return datetime.fromtimestamp(seconds, UTC).astimezone()


def utc(us: int) -> str:
    """A time in microseconds since 1970 as `2026-01-31T12:00:00.000000Z`."""
    return local(us).astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


# --- tables ---


@dataclass(frozen=True, slots=True)
class Column:
    """`drop`: where the terminal is narrow the highest goes first, 0 stays. `least`: columns it may be shortened to."""

    name: str
    right: bool = False
    drop: int = 0
    least: int | None = None


def on_terminal() -> bool:
    return sys.stdout.isatty()


def width() -> int:
    """Columns of the terminal; 100 where there is none."""
    return shutil.get_terminal_size((100, 24)).columns if on_terminal() else 100


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table that fits the terminal; elsewhere a line a row, whole cells between tabs, without a head."""
    rows = [[safe(cell) for cell in row] for row in rows]
    if not on_terminal():
        for row in rows:
            say("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    chosen, widths = _fitted(columns, rows, width())
    drawn = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_edge=False)
    for index, room in zip(chosen, widths, strict=True):
        name, justify = columns[index].name.upper(), _JUSTIFY[columns[index].right]
        drawn.add_column(name, justify=justify, no_wrap=True, width=room, overflow="ellipsis")
    for row in rows:
        drawn.add_row(*(Text(row[index]) for index in chosen))
    # No colours: what a terminal is told must come from here alone, and nothing is told. A line too long is wrapped.
    console = Console(color_system=None, width=max(sum(widths) + _GAP * len(widths), 1), highlight=False)
    with console.capture() as drawing:
        console.print(drawn)
    for line in drawing.get().splitlines():
        say(line.rstrip())


_GAP = 2
_JUSTIFY: tuple[Literal["left"], Literal["right"]] = ("left", "right")


def _fitted(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int) -> tuple[list[int], list[int]]:
    """Which columns are shown, and how wide."""
    from rich.cells import cell_len

    cells = [[column.name, *(row[index] for row in rows)] for index, column in enumerate(columns)]
    widths = [max(map(cell_len, column)) for column in cells]
    least = [wide if each.least is None else min(wide, each.least) for each, wide in zip(columns, widths, strict=True)]
    chosen = list(range(len(columns)))

    def over(taken: Sequence[int]) -> int:
        return sum(taken[index] for index in chosen) + _GAP * (len(chosen) - 1) - room

    while over(least) > 0:
        last = max(chosen, key=lambda index: columns[index].drop)
        if not columns[last].drop:
            break
        chosen.remove(last)
    for index in chosen:
        widths[index] = max(least[index], widths[index] - max(over(widths), 0))
    return chosen, [widths[index] for index in chosen]


def pairs(rows: Iterable[tuple[str, str]], indent: str = "") -> None:
    """Print names and values, the values below each other."""
    listed = [(safe(name), safe(value)) for name, value in rows]
    room = min(max((len(name) for name, _ in listed), default=0), _WIDEST_NAME)
    for name, value in listed:
        say(f"{indent}{name:{room}}  {value}".rstrip())


_WIDEST_NAME = 40


# --- JSON ---

# What JSON lets pass unescaped although a terminal may obey it: DEL, C1, and what `safe` keeps off a line.
_UNESCAPED = re.compile(rb"\x7f|\xc2[\x80-\x9f]|" + "|".join(map(chr, _REORDERING)).encode())


def json_bytes(value: Any) -> bytes:
    """JSON on one line, without a raw control character."""
    return _UNESCAPED.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), msgspec.json.encode(value))


def print_json(value: Any) -> None:
    """One object or array, in UTF-8; an array has a line for each of its items."""
    lines = b",\n".join(map(json_bytes, value)) if isinstance(value, list) else json_bytes(value)
    sys.stdout.flush()
    sys.stdout.buffer.write((b"[%s]\n" if isinstance(value, list) else b"%s\n") % lines)
    sys.stdout.buffer.flush()


# --- bodies ---

_IN_MEMORY = 8 * 2**20


def spool() -> IO[bytes]:
    """A place for bytes on their way from the database to somebody who may take them slowly.

    SQLite's log cannot shrink while a reader is open, so nobody may read it at the pace of a pager.
    """
    return SpooledTemporaryFile(max_size=_IN_MEMORY)


def pour(kept: IO[bytes], out: BinaryIO | BodyWriter) -> None:
    """Write all that a spool holds."""
    kept.seek(0)
    shutil.copyfileobj(kept, out)


class BodyWriter:
    """Passes bytes on at once; to a terminal, unless `raw`, with what it would obey made visible."""

    def __init__(self, stream: BinaryIO, *, visible: bool, encoding: str = "utf-8") -> None:
        self._stream = stream
        self._encoding = encoding
        self._decode = codecs.getincrementaldecoder("utf-8")("backslashreplace") if visible else None

    def write(self, data: bytes, *, final: bool = False) -> None:
        if self._decode is not None:
            data = safe_lines(self._decode.decode(data, final)).encode(self._encoding, "backslashreplace")
        self._stream.write(data)
        self._stream.flush()


@contextmanager
def body_output(path: Path | None = None, *, raw: bool = False) -> Iterator[BodyWriter]:
    """Where recorded bytes go: a file (mode 0600) or standard output. Raises UsageError for a file it cannot write."""
    if path is None:
        sys.stdout.flush()
        visible = on_terminal() and not raw
        writer = BodyWriter(sys.stdout.buffer, visible=visible, encoding=sys.stdout.encoding or "utf-8")
        yield writer
        writer.write(b"", final=True)
        return
    with private_file(path, "give --output another file") as stream:
        yield BodyWriter(stream, visible=False)


@contextmanager
def private_file(path: Path, instead: str) -> Iterator[BinaryIO]:
    """A new file of mode 0600. Raises UsageError if it cannot be written, which says what to do `instead`."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            yield stream
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"{path} cannot be written ({reason}): {instead}") from error
