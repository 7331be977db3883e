"""Alembic's entry: runs the revisions on the connection that proxy.store.migrate hands over, in its transaction."""

from __future__ import annotations

from alembic import context

if context.is_offline_mode():
    raise SystemExit("revisions run on a connection only: use `wiretape db upgrade`")

# The caller began the transaction and commits it: all revisions take effect, or none. Alembic would take SQLite for a
# database without transactional DDL; it has it as long as nobody lets the driver begin transactions.
connection = context.config.attributes["connection"]
# In the schema in use: one further down the search path may have the table of another program.
postgres = connection.dialect.name == "postgresql"
schema = connection.exec_driver_sql("SELECT current_schema()::text").scalar() if postgres else None
context.configure(connection=connection, transactional_ddl=True, version_table_schema=schema)
with context.begin_transaction():
    context.run_migrations()
