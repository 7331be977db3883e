"""The second port: health and metrics, made from status files alone, so that nothing slow can make them slow.

Knows store, interpret, replay and status; must not know journal, forward or ingest.
"""
