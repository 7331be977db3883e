"""Ingest: one synchronous loop that carries journals into the store, and the only writer of recorded rows.

Knows journal and store; must not know ASGI or HTTP.
"""
