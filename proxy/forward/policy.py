"""What the configuration says about requests, as plain values. Must not know where it comes from."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.forward.access import Access
from proxy.forward.uploads import Uploads


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says about relaying. `page`: the headers by which the page that asks may read the
    response, none where no page asks. `uploads`: where URLs for uploads are to lead back through us."""

    expose_id: bool
    max_request_body: int | None
    transform_limit: int = 8 * 2**20  # bytes of a request's body that are held to be looked into
    page: tuple[tuple[bytes, bytes], ...] = ()
    uploads: Uploads | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """What the configuration says about requests. `templates` are upstream names that need a value, with a hint;
    `scheme` is the data port's."""

    rules: Rules
    record_bodies: bool
    strip_attribution: bool
    templates: dict[str, str]
    access: Access = field(default_factory=Access)
    scheme: bytes = b"http"


def stricter(one: str, other: str) -> str:
    """Of two wishes how much to record (`all`, `meta`, `none`) the one that records less."""
    order = ("none", "meta", "all")
    return order[min(order.index(one), order.index(other))]
