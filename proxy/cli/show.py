"""`show`: all that is recorded of one exchange, for people and, with the bytes, as JSON."""

from __future__ import annotations

import itertools
import sys
from contextlib import closing
from dataclasses import fields
from enum import IntEnum
from typing import IO, TYPE_CHECKING, Annotated, Any
from uuid import UUID

import msgspec
import typer

from proxy.cli import render
from proxy.cli.door import ConfigFlag, DatabaseFlag, HomeFlag, door, settings, store
from proxy.cli.meaning import answer_lines, limit_pairs, meaning_facts, meaning_pairs
from proxy.errors import UsageError
from proxy.exchange import Change, Side

if TYPE_CHECKING:
    from proxy.store import Connection
    from proxy.store.rows import ChangeRow, ChunkRow, Exchange, HeadRow

ID_HELP = "The id, its first or last digits (4 or more), the id of its response, or `last`."
CHUNKS = 20
"""Chunks that are shown to a person who did not say how many."""

_HASHES = ("request_hash", "request_out_hash", "response_hash", "response_out_hash")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(show)


def show(
    ctx: typer.Context,
    exchange: Annotated[str, typer.Argument(metavar="ID", help=ID_HELP)],
    chunks: Annotated[
        int | None, typer.Option("--chunks", metavar="N", min=0, help=f"So many chunks; else {CHUNKS}, in JSON all.")
    ] = None,
    output: render.FormatFlag = render.Format.TABLE,
    config: ConfigFlag = None,
    home: HomeFlag = None,
    database: DatabaseFlag = None,
) -> None:
    """Show everything about one exchange."""
    door(ctx).say(config, home, database, None)
    engine = store(settings(ctx))
    from proxy.store import read
    from proxy.store.engine import reading

    try:
        with render.spool() as spool:
            with reading(engine) as connection:
                found = read.get_exchange(connection, read.find_exchange(connection, exchange))
                if found is None:
                    raise UsageError(f"the exchange {exchange} was deleted just now")
                if output is render.Format.JSON:
                    write_json(spool, connection, found, chunks)
                else:
                    _print(connection, found, CHUNKS if chunks is None else chunks)
            sys.stdout.flush()
            render.pour(spool, sys.stdout.buffer)
    finally:
        engine.dispose()


# --- JSON ---


def identical(exchange: Exchange) -> bool | None:
    """Whether both bodies were passed on as they came; None where that is not known."""
    sides = ((exchange.request_hash, exchange.request_out_hash), (exchange.response_hash, exchange.response_out_hash))
    if any(came is None for came, _ in sides):
        return None
    return all(went is None or went == came for came, went in sides)


def facts(exchange: Exchange) -> dict[str, Any]:
    """What the row of an exchange says, as JSON has it: hashes in hex, enumerations by name, times as `_us`.

    An out-hash is null where what went out is what came in.
    """
    found: dict[str, Any] = {"id": str(exchange.id), "started": render.utc(exchange.started_us)}
    for each in fields(exchange):
        value = getattr(exchange, each.name)
        if isinstance(value, IntEnum):
            value = value.name.lower()
        elif isinstance(value, bytes):
            value = value.hex()
        elif isinstance(value, UUID):
            value = str(value)
        found[each.name] = value
    found["wire_error"] = found.pop("error")  # `error` is the provider's
    found["record"] = "meta" if exchange.record else "all"
    found["identical"] = identical(exchange)
    return found


def side_name(side: int) -> str:
    """`request`, `response`, …; a number that a later version wrote stays one."""
    return Side(side).name.lower() if side in set(Side) else str(side)


_HERE = ("origin", "counted", "journal", "price")
"""What only holds in this database: another that takes the exchange in imports it, counts it nowhere, and has numbers
of its own for rows."""


def write_json(
    out: IO[bytes], connection: Connection, exchange: Exchange, limit: int | None = None, *, movable: bool = False
) -> None:
    """Write one line of JSON with everything about an exchange, its chunks one by one. `limit`: of the chunks;
    `movable`: only what would hold in another database too."""
    from proxy.store import read
    from proxy.store.meant import meant

    known = facts(exchange) | meaning_facts(exchange, meant(connection, exchange.id))
    if movable:
        known = {name: value for name, value in known.items() if name not in _HERE}
    known["heads"] = [
        {
            "side": side_name(head.side),
            "seq": head.seq,
            "at_us": head.at_us,
            "status": head.status,
            "reason": head.reason,
            "headers": head.headers,
        }
        for head in read.headers(connection, exchange.id)
    ]
    known["changes"] = [
        {"seq": each.seq, "at_us": each.at_us, "change": _decoded(each.data)}
        for each in read.changes(connection, exchange.id)
    ]
    known["gaps"] = [
        {"side": side_name(gap.side), "seq": gap.seq, "at_us": gap.at_us, "bytes": gap.bytes, "reason": gap.reason}
        for gap in read.gaps(connection, exchange.id)
    ]
    out.write(render.json_bytes(known)[:-1] + b',"chunks":[')
    # Closed here: left to the garbage collector, it would find its connection closed already when the reader hangs up.
    with closing(read.chunks(connection, exchange.id)) as chunks:
        for number, chunk in enumerate(itertools.islice(chunks, limit)):
            out.write((b"," if number else b"") + render.json_bytes(_chunk(chunk)))
    out.write(b"]}\n")


def _chunk(chunk: ChunkRow) -> dict[str, Any]:
    known = {"side": side_name(chunk.side), "seq": chunk.seq, "at_us": chunk.at_us, "size": len(chunk.data)}
    try:
        return {**known, "text": chunk.data.decode()}
    except UnicodeDecodeError:
        return {**known, "base64": chunk.data}


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


# --- for people ---


def _print(connection: Connection, exchange: Exchange, limit: int) -> None:
    from proxy.store import read
    from proxy.store.meant import meant

    render.pairs(_summary(exchange))
    _section("marks", _marks(exchange))
    found = meant(connection, exchange.id)
    _section("meaning", meaning_pairs(exchange, found))
    _section("limits", limit_pairs(found))
    _section("tags", list(exchange.tags))
    for head in read.headers(connection, exchange.id):
        _section(_title(head), list(head.headers))
    _section("changes", [_change(each) for each in read.changes(connection, exchange.id)])
    gaps = read.gaps(connection, exchange.id)
    missing = [f"{render.size(gap.bytes)} not recorded ({gap.reason or 'for an unknown reason'})" for gap in gaps]
    _section("gaps", [(side_name(gap.side), said) for gap, said in zip(gaps, missing, strict=True)])
    _section("hashes", _hashes(exchange))
    answer_lines(found)
    _print_chunks(connection, exchange, limit)


def _section(title: str, rows: list[tuple[str, str]]) -> None:
    if rows:
        render.say(f"\n{render.safe(title)}")
        render.pairs(rows, "  ")


def _summary(exchange: Exchange) -> list[tuple[str, str]]:
    began = render.local(exchange.started_us)
    via = " ".join(filter(None, (exchange.method, exchange.target)))
    answer = " ".join(filter(None, ("" if exchange.status is None else str(exchange.status), exchange.reason)))
    outcome = "… (still running)" if exchange.outcome is None else exchange.outcome.name.lower()
    end = "" if exchange.wire_end is None else f" ({exchange.wire_end.name.lower()})"
    notes = {
        "bodies are not kept": exchange.record != 0,
        "keys in the bodies are masked": exchange.masked != 0,
        f"{render.size(exchange.unrecorded_bytes)} were not recorded": exchange.unrecorded_bytes != 0,
        f"{render.count(exchange.lost_records, 'record')} could not be read": exchange.lost_records != 0,
    }
    rows = [
        ("exchange", str(exchange.id)),
        ("started", began.isoformat(sep=" ", timespec="milliseconds")),
        ("origin", exchange.origin.name.lower()),
        ("sends again", str(exchange.replay_of or "")),
        ("upstream", f"{exchange.upstream or '-'} (dialect {exchange.dialect or '-'})"),
        ("request", f"{via} HTTP/{exchange.http_version}" if exchange.http_version else via),
        ("response", answer),
        ("tunnel", "after the switch, its bytes are the chunks of both sides" if exchange.status == 101 else ""),
        ("outcome", outcome + end),
        ("error", exchange.error),
        ("duration", render.duration(exchange.end_us)),
        ("sent", _amount(exchange.request_bytes, exchange.request_chunks)),
        ("received", _amount(exchange.response_bytes, exchange.response_chunks)),
        ("recorded", "; ".join(said for said, holds in notes.items() if holds) or "everything"),
        ("client", " ".join(filter(None, (exchange.client, exchange.client_kind)))),
        ("credential", exchange.credential),
        ("session", exchange.session),
        ("node", exchange.node),
    ]
    return [(name, value) for name, value in rows if value]


def _amount(size: int, chunks: int) -> str:
    return f"{render.size(size)} in {render.count(chunks, 'chunk')}"


def _marks(exchange: Exchange) -> list[tuple[str, str]]:
    names = [each.name for each in fields(exchange) if each.name.endswith("_us") and each.name != "started_us"]
    known = [(name.removesuffix("_us").replace("_", " "), getattr(exchange, name)) for name in names]
    return [(name, render.duration(at)) for name, at in known if at is not None]


def _title(head: HeadRow) -> str:
    name = side_name(head.side).replace("_", " ")
    if "trailers" in name:
        return f"{name}, after {render.duration(head.at_us)}"
    status = "" if head.status is None else f" {head.status} {head.reason or ''}".rstrip()
    return f"{name} headers{status}"


def _change(row: ChangeRow) -> tuple[str, str]:
    try:
        change = msgspec.json.decode(row.data, type=Change)
    except msgspec.DecodeError:
        return "unknown", row.data
    said = [] if change.status is None else [f"status {change.status}"]
    said += [f"{name}: {value}" for name, value in change.headers]
    said += [f"without {name}" for name in change.removed]
    said += [] if change.target is None else [f"target {change.target}"]
    said += [] if change.body is None else [change.body]
    if change.side is not None:
        taken = f"{change.taken} bytes taken out" if change.taken else ""
        put = f"{change.put} put in" if change.put else ""
        said.append(f"at byte {change.at} {' and '.join(filter(None, (taken, put)))}")
    return change.kind.replace("_", " "), "; ".join(said)


def _hashes(exchange: Exchange) -> list[tuple[str, str]]:
    rows = []
    for side in ("request", "response"):
        came, went = getattr(exchange, f"{side}_hash"), getattr(exchange, f"{side}_out_hash")
        if came is not None:
            rows += [(f"{side} in", came.hex()), (f"{side} out", (went or came).hex())]
    same = identical(exchange)
    return [*rows, ("identical", "unknown" if same is None else "yes" if same else "no")]


def _print_chunks(connection: Connection, exchange: Exchange, limit: int) -> None:
    from proxy.store import read

    with closing(read.chunks(connection, exchange.id)) as chunks:
        shown = list(itertools.islice(chunks, limit))
        more = next(chunks, None) is not None
    if shown:
        render.say("\nchunks")
    for chunk in shown:
        place = f"  {side_name(chunk.side):8}  {render.duration(chunk.at_us):>9}  {render.size(len(chunk.data)):>8}  "
        render.say(place + render.preview(chunk.data, max(render.width() - len(place), 20)))
    if more:
        render.say(f"  more chunks follow: --chunks {max(2 * len(shown), CHUNKS)} shows more, --format json all")
