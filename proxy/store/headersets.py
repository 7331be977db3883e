"""Splitting a head into what repeats from request to request (a *header set*) and what does not.

A set holds names and repeating values in order; the rest goes beside it as a list. A row a header cost seven times the
CPU and six times the space. Must not know the database: whoever interns a set gives it its id.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from operator import itemgetter
from typing import NamedTuple

import msgspec

from proxy.store import clean
from proxy.store.rows import Pairs

LEARNT_AFTER = 8
"""So many values of one name may become parts of sets; the next one makes the name volatile for this process."""

_MAX_SHAPES, _MAX_WATCHED, _MAX_NAME = 512, 4096, 256

_NAMES = """
    age content-length content-md5 cookie date digest etag expires if-modified-since if-none-match last-modified
    idempotency-key retry-after retry-after-ms set-cookie nel report-to
    request-id x-request-id x-correlation-id x-client-request-id x-amzn-requestid apim-request-id x-ms-request-id
    x-ms-client-request-id x-goog-request-id x-generation-id x-trace-id cf-ray x-amz-cf-id x-amz-date
    x-amz-content-sha256 x-amzn-trace-id x-cloud-trace-context b3 x-b3-traceid x-b3-spanid x-b3-parentspanid baggage
    sentry-trace traceparent traceresponse tracestate server-timing x-timer x-served-by x-runtime openai-processing-ms
    x-envoy-upstream-service-time x-response-time x-process-time x-inference-time x-compute-time x-stainless-retry-count
    sec-websocket-key sec-websocket-accept
"""
_VOLATILE = frozenset(_NAMES.split())
_VOLATILE_PREFIXES = ("x-ratelimit-", "ratelimit", "anthropic-ratelimit-", "anthropic-priority-")

_encode = msgspec.json.Encoder().encode


Pick = Callable[[tuple[str, ...]], tuple[str, ...]]


class _Shape(NamedTuple):
    """What is known of one sequence of header names: which positions repeat, which do not."""

    number: int
    steady: tuple[int, ...]
    volatile: tuple[int, ...]
    pick_steady: Pick
    pick_volatile: Pick


class HeaderSets:
    """Splits heads, and learns which names are volatile. Memory is bounded whatever names and values come."""

    def __init__(self) -> None:
        self._shapes: OrderedDict[tuple[str, ...], _Shape] = OrderedDict()
        self._seen: OrderedDict[str, set[int]] = OrderedDict()
        self._learnt: OrderedDict[str, None] = OrderedDict()
        self._numbers = count()

    def split(self, items: Pairs) -> tuple[tuple[int, tuple[str, ...]], str]:
        """Take a head apart: a key by which its set is known again, and the volatile values as JSON.

        Equal keys mean equal names, equal steady values and the same places for the rest.
        """
        names, values = zip(*items, strict=True) if items else ((), ())
        shape = self._shapes.get(names)
        if shape is None:
            shape = self._new_shape(names)
        return (shape.number, shape.pick_steady(values)), _json(shape.pick_volatile(values))

    def contents(self, items: Pairs) -> str:
        """The set of a head as JSON: `[[name, value], ...]`, a volatile value replaced by its place in the list."""
        volatile = self._shape_of(items).volatile
        places = {at: place for place, at in enumerate(volatile)}
        parts = [[clean.text(name), places.get(at, clean.text(value))] for at, (name, value) in enumerate(items)]
        return _encode(parts).decode()

    def learn(self, items: Pairs) -> bool:
        """Note the steady values of a head that made a new set; True if one of its names is volatile from now on."""
        learnt = False
        for at in self._shape_of(items).steady:
            name, value = items[at][0].lower(), items[at][1]
            if len(name) > _MAX_NAME:
                continue
            seen = self._seen.setdefault(name, set())
            seen.add(hash(value))
            if len(seen) > LEARNT_AFTER:
                del self._seen[name]
                self._learnt[name] = None
                learnt = True
        if learnt:
            self._shapes.clear()
        for watched in (self._seen, self._learnt):
            while len(watched) > _MAX_WATCHED:
                watched.popitem(last=False)
        return learnt

    def _shape_of(self, items: Pairs) -> _Shape:
        names = tuple([name for name, _ in items])
        return self._shapes.get(names) or self._new_shape(names)

    def _new_shape(self, names: tuple[str, ...]) -> _Shape:
        volatile = tuple(at for at, name in enumerate(names) if self._is_volatile(name.lower()))
        steady = tuple(at for at in range(len(names)) if at not in volatile)
        shape = _Shape(next(self._numbers), steady, volatile, _picker(steady), _picker(volatile))
        self._shapes[names] = shape
        if len(self._shapes) > _MAX_SHAPES:
            self._shapes.popitem(last=False)
        return shape

    def _is_volatile(self, name: str) -> bool:
        return name in _VOLATILE or name in self._learnt or name.startswith(_VOLATILE_PREFIXES)


def _picker(places: tuple[int, ...]) -> Pick:
    """What takes the values at `places`; `itemgetter` does it at once, but gives no tuple for fewer than two."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda values: tuple(values[at] for at in places)


def _json(values: tuple[str, ...]) -> str:
    try:
        encoded = _encode(values)
    except UnicodeEncodeError:
        encoded = _encode([clean.text(value) for value in values])
    if b"\\u0000" in encoded:
        encoded = _encode([clean.text(value) for value in values])
    return encoded.decode()
