"""How one value is written and read: durations, sizes, ports, hosts, addresses, names.

Each reader raises ValueError with the end of a sentence that begins with the key. Must not know keys.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo

from proxy.mask import KEY_SHAPE
from proxy.presets import BUILT_IN
from proxy.wire.via import parse_via, shown

UPSTREAM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

_QUANTITY = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,9})?) ?([A-Za-z]*)")
_SECONDS = {"": Decimal(1), "ms": Decimal("0.001"), "s": Decimal(1)}
_SECONDS |= {"m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
_BYTES = {"": Decimal(1), "b": Decimal(1)}
_BYTES |= {f"{letter}b": Decimal(1000**power) for power, letter in enumerate("kmgt", 1)}
_BYTES |= {f"{letter}ib": Decimal(1024**power) for power, letter in enumerate("kmgt", 1)}
_LONGEST = Decimal(3650 * 86400)  # what every clock, timer and poll can still hold
_LARGEST = Decimal(2**62)
_RATE = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,12})?(?:e-[0-9])?")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_.])?")
_ORIGIN = re.compile(r"\*|(([a-z][a-z0-9+.-]*)://(?:\[[0-9a-f:.]+\]|[a-z0-9_.-]+))(?::([0-9]{1,5}))?")
_USUAL_PORTS = {"http": "80", "https": "443"}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_SECRET = re.compile("pass|secret|scram", re.IGNORECASE)
_POSTGRES = re.compile(r"postgres(?:ql)?(?:\+[a-z0-9]+)?://", re.IGNORECASE)  # the rest is for the store to understand


def _amount(value: object, units: Mapping[str, Decimal], most: Decimal) -> Decimal | None:
    """A number, alone or with its unit, in seconds or bytes; None where it is neither, or out of range."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    found = _QUANTITY.fullmatch(str(value).strip().lower())
    if found is None or found[2] not in units:
        return None
    amount = Decimal(found[1]) * units[found[2]]
    return amount if amount <= most else None


def _duration(word: str | None) -> Callable[[object], float | None]:
    """`word` is how None is written; without one there is no None, but 0 is a duration too."""
    expected = 'must be a duration such as "500ms", "30s" or "7d"' + (f', or "{word}"' if word else "")

    def read(value: object) -> float | None:
        if word is not None and value == word:
            return None
        amount = _amount(value, _SECONDS, _LONGEST)
        if amount is None or (word is not None and amount == 0):
            raise ValueError(expected)
        return float(amount)

    return read


def _size(word: str | None) -> Callable[[object], int | None]:
    """As `_duration`, in bytes."""
    expected = 'must be a size such as "64KiB", "1MB" or "10GiB"' + (f', or "{word}"' if word else "")

    def read(value: object) -> int | None:
        if word is not None and value == word:
            return None
        amount = _amount(value, _BYTES, _LARGEST)
        if amount is None or amount < 1:
            raise ValueError(expected)
        return int(amount)

    return read


def _written_duration(word: str) -> Callable[[float | None], str]:
    def write(seconds: float | None) -> str:
        if seconds is None:
            return word
        for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
            if seconds >= length and seconds % length == 0:
                return f"{seconds / length:.0f}{unit}"
        return f"{seconds * 1000:.15g}ms" if seconds else "0s"

    return write


def _written_size(size: int | None) -> str:
    if size is None:
        return "none"
    for unit, length in (("TiB", 1024**4), ("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size % length == 0:
            return f"{size // length}{unit}"
    return str(size)


def _zone(value: object) -> object:
    if value == "UTC":
        return value  # known also where no time zones are installed
    try:
        return ZoneInfo(str(value)).key
    except (KeyError, OSError, ValueError):
        names = {name.rpartition("/")[2].lower(): name for name in sorted(available_timezones(), reverse=True)}
        near = get_close_matches(str(value).rpartition("/")[2].lower(), names, 1)
        example = names[near[0]] if near else "Europe/Berlin"
        raise ValueError(f"must be an IANA time zone such as {example}, or UTC") from None


def whole(least: int, most: int) -> BeforeValidator:
    """A whole number, as one or as its digits: `true` and 1.0 are none."""

    def read(value: object) -> int:
        if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value.strip()):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return value

    return BeforeValidator(read)


def _count(value: object) -> int | None:
    if value == "none" or value is None:
        return None
    if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value.strip()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1_000_000:
        raise ValueError('must be a whole number from 1 to 1000000, or "none"')
    return value


def _rate(value: object) -> Decimal | None:
    """A price: what was written is what is meant, so no float is calculated with."""
    if value == "none" or value is None:
        return None
    if isinstance(value, Decimal):
        return value
    text = str(value).strip()
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not _RATE.fullmatch(text):
        raise ValueError('must be an amount in USD such as 0.15, or "none"')
    return Decimal(text)


def _file(value: object, info: ValidationInfo) -> Path | None:
    if value == "none" or value is None:
        return None
    path = folder(value, info.context or {}, what="a file's path")
    if not path.is_file():
        raise ValueError(f"must be a file, and {path} is none")
    return path


def _items(value: object) -> list[str] | None:
    """A list, None where it is none; in the environment its items stand between commas."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    fits = isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
    return [*value] if isinstance(value, list | tuple) and fits else None


def _names(value: object) -> tuple[str, ...]:
    items = _items(value)
    if items is None or not all(re.fullmatch(r"[!-~]+", item) for item in items):
        raise ValueError('must be a list of names such as ["x-my-key", "x-other-key"]')
    return tuple(items)


def _hosts(value: object) -> tuple[str, ...]:
    items = _items(value)
    try:
        return tuple(_host(item) for item in ([""] if items is None else items))
    except ValueError:
        raise ValueError('must be a list of host names without ports, such as ["wiretape.internal"]') from None


def _origins(value: object) -> tuple[str, ...]:
    """As browsers write them: in lower case, without the port that a scheme has anyhow."""
    items = _items(value)
    found = [_ORIGIN.fullmatch(item.lower()) for item in items or ()]
    if items is None or not all(found):
        raise ValueError('must be a list of origins such as ["http://localhost:3000"], each a scheme and a host')
    return tuple(item[1] if _USUAL_PORTS.get(item[2], "") == item[3] else item[0] for item in found if item)


def _variable(value: object) -> str | None:
    """The name of an environment variable. Never quotes what it refuses: it may be the key itself."""
    if value is None or value == "none":
        return None
    if not isinstance(value, str) or not _VARIABLE.fullmatch(value) or KEY_SHAPE.search(value.encode()):
        raise ValueError("must be the name of the environment variable that holds the key, not the key itself")
    return value


def _word(value: object) -> str | None:
    """A name of somebody else's, such as a profile's."""
    if value is None or value == "none":
        return None
    if not isinstance(value, str) or not (value.isascii() and value.isprintable() and value.strip() == value != ""):
        raise ValueError("must be a name in printable ASCII, without blanks at its ends")
    return value


def _speed(value: object) -> float | None:
    """So many times as fast; None: without waiting."""
    if value is None or value == "instant":
        return None
    try:
        speed = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except ValueError:
        speed = math.nan
    if not (math.isfinite(speed) and speed > 0):
        raise ValueError('must be a number above 0, such as 2 or 0.5, or "instant"')
    return speed


def _tag(value: object) -> tuple[str, str] | None:
    """NAME=VALUE as a pair."""
    if value is None or (isinstance(value, tuple) and len(value) == 2):
        return value
    name, equals, text = value.partition("=") if isinstance(value, str) else ("", "", "")
    if not name or not equals:
        raise ValueError('must be a tag, such as "project=search"')
    return name, text


def _host(value: object) -> str:
    if isinstance(value, str):
        text = value.strip().removeprefix("[").removesuffix("]")
        if _address(text) or _HOST.fullmatch(text):
            return text
    raise ValueError('must be an address or a host name such as "127.0.0.1"')


def _address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def loopback(host: str) -> bool:
    """Whether only this machine can reach a port on `host`."""
    return ip_address(host).is_loopback if _address(host) else host.lower().rstrip(".") == "localhost"


def upstream_url(value: object) -> str:
    """An upstream's address, without a slash at its end. Never quotes what it refuses: it may hold a credential."""
    if value == BUILT_IN:
        return BUILT_IN
    if not isinstance(value, str) or not value.lower().startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    if not re.fullmatch(r"[!-~]*", value) or "\\" in value:
        raise ValueError("must not hold spaces, backslashes, control characters or letters outside ASCII")
    parts = _split(value)
    if "@" in parts.netloc:
        raise ValueError("must not hold a user name or password; clients bring their own credentials")
    if "?" in value or "#" in value:
        raise ValueError("must not hold a query or a fragment")
    if not parts.hostname or not (_address(parts.hostname) or _HOST.fullmatch(parts.hostname)):
        raise ValueError('must name a host, such as "https://api.openai.com"')
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _proxy(value: object) -> str | None:
    """As it is written. Never quotes what it refuses: it may hold a credential."""
    if value == "none" or value is None:
        return None
    if isinstance(value, str):
        parse_via(value)
        return value
    raise ValueError('must be the URL of a proxy, or "none"')


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.port != 0:  # urlsplit itself refuses what is no number, or too large
            return parts
    except ValueError:
        pass
    raise ValueError("must have a valid host, and a port from 1 to 65535 or none")


def folder(value: object, environ: Mapping[str, str], what: str = "a folder's path") -> Path:
    """An absolute path; `~` is the home folder that `environ` names."""
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError(f"must be {what}")
    text = str(value)
    if "?" in text or not text.isprintable():
        raise ValueError("must be a path without question marks and control characters")  # it goes into a database URL
    if (text == "~" or text.startswith("~/")) and environ.get("HOME"):
        text = environ["HOME"] + text[1:]
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise ValueError("begins with ~, but whose home folder that is cannot be told; write the whole path") from None


def database_url(value: str, home: Path, environ: Mapping[str, str]) -> str:
    """`<home>` filled in; the path of an SQLite file made absolute."""
    url = value.replace("<home>", str(home))
    if _POSTGRES.match(url):
        return url
    if not url.startswith("sqlite:///"):
        raise ValueError(
            'must name an SQLite file, such as "sqlite:///<home>/wiretape.db", or a Postgres database, such as'
            ' "postgresql://user:password@host/wiretape"'
        )
    path = url.removeprefix("sqlite:///")
    if path in {"", ":memory:"} or "?" in path:
        raise ValueError("must name a file, which several processes share, and nothing else")
    return f"sqlite:///{folder(path, environ)}"


def without_password(url: str) -> str:
    """A database URL as it may be shown, also one that is written wrongly: what may be a secret is starred out.

    The user ends at the first `@` before any `/`, as libpq has it; one behind that is part of a password's, or of none.
    """
    scheme, slashes, rest = url.partition("://")
    if not _POSTGRES.match(url):
        return url
    base, mark, query = rest.partition("?")
    authority, slash, name = base.partition("/")
    user, at, host = authority.rpartition("@")
    if "@" in name or not re.fullmatch(r"[^:]*(?::[0-9,]*)?|\[.*\](?::[0-9,]*)?|[^/@]*", host) or _secret_port(host):
        return f"{scheme}{slashes}***"
    shown = f"{user.partition(':')[0]}{':***' if ':' in user else ''}{at}{host}{slash}{name}"
    pairs = [each.partition("=") for each in query.split("&")]
    if "@" in query:
        pairs = [(name, equals, "***") for name, equals, _ in pairs]
    starred = [name + equals + ("***" if _SECRET.search(name) else value) for name, equals, value in pairs]
    return scheme + slashes + shown + mark + "&".join(starred)


def _secret_port(host: str) -> bool:
    """Whether what stands where a port should be is none: without an `@` a password stands there."""
    return any(
        not port.isdigit() for each in host.split(",") for port in each.rpartition("]")[2].split(":")[1:] if port
    )


Duration = Annotated[float, BeforeValidator(_duration(None)), PlainSerializer(_written_duration(""), when_used="json")]
OptionalDuration = Annotated[
    float | None, BeforeValidator(_duration("none")), PlainSerializer(_written_duration("none"), when_used="json")
]
DurationOrNever = Annotated[
    float | None, BeforeValidator(_duration("never")), PlainSerializer(_written_duration("never"), when_used="json")
]
Size = Annotated[int, BeforeValidator(_size(None)), PlainSerializer(_written_size, when_used="json")]
OptionalSize = Annotated[int | None, BeforeValidator(_size("none")), PlainSerializer(_written_size, when_used="json")]
OptionalCount = Annotated[
    int | None, BeforeValidator(_count), PlainSerializer(lambda count: "none" if count is None else count)
]
OptionalRate = Annotated[
    Decimal | None, BeforeValidator(_rate), PlainSerializer(lambda rate: "none" if rate is None else f"{rate:f}")
]
OptionalFile = Annotated[
    Path | None, BeforeValidator(_file), PlainSerializer(lambda path: "none" if path is None else str(path))
]
OptionalProxy = Annotated[
    str | None,
    BeforeValidator(_proxy),
    PlainSerializer(lambda url: "none" if url is None else shown(url), when_used="json"),
]
Speed = Annotated[
    float | None, BeforeValidator(_speed), PlainSerializer(lambda speed: "instant" if speed is None else speed)
]
Tag = Annotated[
    tuple[str, str] | None,
    BeforeValidator(_tag),
    PlainSerializer(lambda tag: None if tag is None else "=".join(tag), when_used="json"),
]
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
HostNames = Annotated[tuple[str, ...], BeforeValidator(_hosts)]
PageOrigins = Annotated[tuple[str, ...], BeforeValidator(_origins)]
OptionalVariable = Annotated[
    str | None, BeforeValidator(_variable), PlainSerializer(lambda name: "none" if name is None else name)
]
OptionalWord = Annotated[
    str | None, BeforeValidator(_word), PlainSerializer(lambda word: "none" if word is None else word)
]
Host = Annotated[str, BeforeValidator(_host)]
TimeZone = Annotated[str, BeforeValidator(_zone)]
UpstreamUrl = Annotated[str, BeforeValidator(upstream_url)]
