"""HTTP/1.1 on sockets: the upstream client with its pool, and the protocol class given to uvicorn.

Knows framing; must not know journal, providers, settings.
"""
