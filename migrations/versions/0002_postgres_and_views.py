"""Two more indexes of exchanges; Postgres' views, and for both databases spend by day, texts, slow streams.

Frozen: the views are in the folder `sql`, as they were made with this revision.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_INDEXES = (
    ("exchanges_model_served", "model_served id", "model_served <> coalesce(model_asked, 0)"),
    ("exchanges_origin", "origin id", "origin <> 0"),
)
_VIEWS = Path(__file__).parents[1] / "sql"


def upgrade() -> None:
    for name, columns, condition in _INDEXES:
        where = sa.text(condition)
        op.create_index(name, "exchanges", columns.split(), sqlite_where=where, postgresql_where=where)
    connection = op.get_bind()
    postgres = connection.dialect.name == "postgresql"
    if not postgres:
        connection.exec_driver_sql("DROP VIEW exchange_list")
    script = (_VIEWS / f"0002_views_{'postgres' if postgres else 'sqlite'}.sql").read_text()
    for statement in script.split(";\n"):
        if statement.strip():
            connection.exec_driver_sql(statement.replace("%", "%%") if postgres else statement)


def downgrade() -> None:
    raise NotImplementedError("revisions go forward only: restore a copy of the database")
