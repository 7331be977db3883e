"""Exchanges as rows of a Parquet file, a column for each of the view `exchange_list`, written as they come.

Needs pyarrow, which is not installed with all else. Must not know which exchanges they are.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum
from types import TracebackType
from typing import Any, BinaryIO, Self, get_args, get_type_hints
from uuid import UUID

import pyarrow as pa  # type: ignore[import-untyped]  # it comes without types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it comes without types

from proxy import __version__
from proxy.store.rows import Exchange, Pairs

ROWS = 10_000
"""Rows of one group: so many are held in memory."""

_RECORD = {0: "all", 1: "meta"}
_LAST_US = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp()) * 1_000_000
_PICO = pa.decimal128(19, 12)  # as many digits as a BIGINT has


def _type(hint: Any) -> pa.DataType:
    kinds = set(get_args(hint) or (hint,)) - {type(None)}
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int}:
        return pa.int64()
    return pa.string()  # also what the view shows as text: enumerations, ids, hashes


_HINTS = get_type_hints(Exchange)
_TAGS = pa.list_(pa.struct([("name", pa.string()), ("value", pa.string())]))
_OWN = {"record": pa.string(), "tags": _TAGS}
SCHEMA: pa.Schema = pa.schema(
    [
        ("exchange_id", pa.uuid()),
        *((each.name, _OWN.get(each.name) or _type(_HINTS[each.name])) for each in fields(Exchange)),
        ("started", pa.timestamp("us", tz="UTC")),
        ("cost_usd", _PICO),
    ],
    metadata={"wiretape": __version__},
)
"""Money is exact: `*_pico` in 10^-12 USD, `cost_usd` as a decimal number. Unknown is null."""


class Rows:
    """A file that is being written; a context manager that ends it. Raises OSError."""

    def __init__(self, out: BinaryIO) -> None:
        self._writer = pq.ParquetWriter(out, SCHEMA, compression="zstd")
        self._waiting: list[Exchange] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._write()
        self._writer.close()

    def add(self, exchange: Exchange) -> None:
        """Append a row."""
        self._waiting.append(exchange)
        if len(self._waiting) >= ROWS:
            self._write()

    def _write(self) -> None:
        rows, self._waiting = self._waiting, []
        columns = [_column(field, rows) for field in SCHEMA]
        if rows:
            self._writer.write_table(pa.Table.from_arrays(columns, schema=SCHEMA), row_group_size=ROWS)


def _column(field: pa.Field, rows: list[Exchange]) -> pa.Array:
    if field.name == "exchange_id":
        return pa.ExtensionArray.from_storage(field.type, pa.array([each.id.bytes for each in rows], pa.binary(16)))
    if field.name == "started":
        return pa.array([each.started_us if 0 <= each.started_us < _LAST_US else None for each in rows], field.type)
    if field.name == "cost_usd":
        return pa.array([_cost(each) for each in rows], field.type)
    if field.name == "record":
        return pa.array([_RECORD.get(each.record, str(each.record)) for each in rows], field.type)
    if field.name == "tags":
        return pa.array([_tags(each.tags) for each in rows], field.type)
    return pa.array([_plain(getattr(each, field.name)) for each in rows], field.type)


def _cost(exchange: Exchange) -> Decimal | None:
    """What the provider said that it cost, else what our prices say."""
    pico = exchange.cost_pico if exchange.cost_reported_pico is None else exchange.cost_reported_pico
    return None if pico is None else Decimal(pico).scaleb(-12)


def _tags(tags: Pairs) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in tags]


def _plain(value: Any) -> Any:
    if isinstance(value, IntEnum):
        return value.name.lower()
    if isinstance(value, UUID):
        return str(value)
    return value.hex() if isinstance(value, bytes) else value
