"""The journal: append-only files that carry what crossed the wire from forward to ingest.

`record.py` is the format, `writer.py` appends, `reader.py` reads. Knows files; must not know HTTP, databases, event
loops.
"""
