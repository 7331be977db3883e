"""The database: tables, the one writer of recorded rows, readers. The only room that imports sqlalchemy.

Knows exchanges, errors and plain rows; must not know the journal, HTTP, settings, or what the stored bytes mean.
"""

from sqlalchemy import Connection, Engine

__all__ = ["Connection", "Engine"]  # for the types of those who may not import sqlalchemy themselves
