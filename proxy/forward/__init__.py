"""THE HOT PATH: routes a request, relays it, journals every byte before it is passed on.

Carries bytes and understands none. Knows ASGI, wire, journal.writer; must not know database, SSE, models, prices.
"""
