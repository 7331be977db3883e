"""What was recorded, brought back: streams to read, to serve again, to send again.

Knows the store, the lens and the wire; must not know journals, forward, ingest or settings.
"""

from proxy.replay.captured import Chunk, Tape, tape

__all__ = ["Chunk", "Tape", "tape"]
