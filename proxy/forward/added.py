"""What a response head gets on its way to the client, and the record of it. Must not know sockets."""

from __future__ import annotations

from proxy.exchange import Change
from proxy.forward.policy import Rules
from proxy.forward.recorder import Recorder
from proxy.wire.interface import RawHeaders

ID_HEADER = "x-wiretape-exchange"
_OF_PAGES = b"access-control-"


def add(headers: RawHeaders, recorder: Recorder, rules: Rules) -> None:
    """Add to an upstream's headers, in place. To a page that asks only one can say what it may read: that is us."""
    ours = of_ours(recorder, rules)
    if not ours:
        return
    removed: list[str] = []
    if rules.page:
        removed = sorted({name.lower().decode("latin-1") for name, _ in headers if name.lower().startswith(_OF_PAGES)})
        headers[:] = [header for header in headers if not header[0].lower().startswith(_OF_PAGES)]
    text = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in ours]
    recorder.change(Change("response_header_added", text, removed=removed))
    headers += ours


def of_ours(recorder: Recorder, rules: Rules) -> RawHeaders:
    """The headers that every response of an exchange gets, an error of ours too."""
    known = [(ID_HEADER.encode(), recorder.id.encode())] if rules.expose_id else []
    return [*known, *rules.page] if rules.page else known
