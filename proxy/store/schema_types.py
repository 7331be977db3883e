"""The column types of the tables, for SQLite with variants for Postgres, and the one `metadata` they belong to.

Knows sqlalchemy only; must not know any table.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.types import TypeEngine, UserDefinedType


class _Native(UserDefinedType[Any]):
    """A type of Postgres, by its name there, whose values the driver hands over as it is told to (postgres.py)."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return self.name


class UuidBytes(TypeDecorator[UUID]):
    """A UUID as its 16 bytes, which sort by time: 16 bytes in each index where text would take 36."""

    impl = LargeBinary(16)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(_Native("UUID") if dialect.name == "postgresql" else LargeBinary(16))

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> bytes | None:
        return None if value is None else value.bytes

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> UUID | None:
        return None if value is None else UUID(bytes=value)


class JsonText(TypeDecorator[str]):
    """JSON that we write and read ourselves, so it is handed over, and kept, as text: jsonb would lose its order."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(_Native("JSON") if dialect.name == "postgresql" else Text())


metadata = MetaData()


def uuid(name: str, *, null: bool = False) -> Column[UUID]:
    return Column(name, UuidBytes(), nullable=null)


def json(name: str, *, null: bool = False) -> Column[str]:
    return Column(name, JsonText(), nullable=null)


def text(name: str, *, null: bool = True) -> Column[str]:
    return Column(name, Text, nullable=null)


def blob(name: str, *, null: bool = True) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=null)


def ref(name: str, *, null: bool = True) -> Column[int]:
    """An id of `names`, or of another small table."""
    return Column(name, Integer, nullable=null, autoincrement=False)


def small(name: str, *, null: bool = True) -> Column[int]:
    return Column(name, SmallInteger, nullable=null)


def big(name: str, *, null: bool = True) -> Column[int]:
    return Column(name, BigInteger, nullable=null)


def flag(name: str, *, null: bool = True) -> Column[bool]:
    return Column(name, Boolean, nullable=null)


def serial() -> Column[int]:
    return Column("id", Integer, primary_key=True)


def table(name: str, key: str, *columns: Column[Any], rowid: bool = False, by: str | None = None) -> Table:
    """A table whose primary key is `key` (names, blank between).

    With `rowid` it is an ordinary SQLite table: WITHOUT ROWID spills a row of more than about 1 kB to pages of its own.
    `by`: the column with the exchange's id, by which Postgres parts it into ranges of time; `exchange_id` if the key
    begins with it.
    """
    by = "exchange_id" if by is None and key.startswith("exchange_id") else by
    parted: dict[str, Any] = {} if by is None else {"postgresql_partition_by": f"RANGE ({by})"}
    options = {"sqlite_with_rowid": rowid, **parted}
    return Table(name, metadata, *columns, PrimaryKeyConstraint(*key.split()), **options)


_COPIED = (
    (UuidBytes, "uuid"),
    (JsonText, "json"),
    (SmallInteger, "int2"),
    (BigInteger, "int8"),
    (Integer, "int4"),
    (Boolean, "bool"),
    (Float, "float8"),
    (LargeBinary, "bytea"),
    (Text, "text"),
)


def sql_type(column: Column[Any]) -> str:
    """What Postgres calls the type of a column: COPY is told so."""
    return next(name for known, name in _COPIED if isinstance(column.type, known))
