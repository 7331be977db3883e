"""Where settings come from: defaults, then the file, then the environment, then flags; the later wins.

Values stay apart by their full key until all are in, so that each problem can be told with its source.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from proxy.config.home import FINGERPRINT_VARIABLE
from proxy.config.settings import KEYS, PRICES, UPSTREAMS, Settings
from proxy.config.values import UPSTREAM_NAME, folder, upstream_url
from proxy.errors import UsageError
from proxy.presets import PRESETS, TEMPLATES, template_hint

Key = tuple[str, ...]

PREFIX = "WIRETAPE_"
CONFIG_VARIABLE = "WIRETAPE_CONFIG"
FILE_NAME = "wiretape.toml"

_NAME_RULE = "is no name for an upstream; use letters, digits, '.', '_' and '-', with a letter or a digit first"
_NAMED = (UPSTREAMS, PRICES)  # tables whose tables have names of the user's own
_RULED = frozenset(
    (
        *("client_cert", "client_key", "forward.cors_origins", "host", "http2", "input", "key", "key_env", "proxy"),
        *("record", "rewrite_upload_urls", "stream_usage"),
        *("credentials", "aws_profile", "aws_region", "aws_service", "google_file"),
    )
)
_SECRET = frozenset(("token", "database", "url", "key_env", "proxy"))  # what such a key holds is never quoted


@dataclass
class _Layers:
    """All that was set, the last word on each key, and whose word that is (a file, a variable, the command line)."""

    values: dict[Key, object] = field(default_factory=dict)
    where: dict[Key, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, key: Key, value: object, where: str) -> None:
        """`value` None says nothing, but its key must be one."""
        fault = _fault(key, value, environment=where.startswith(PREFIX))
        if fault is not None:
            self.problems.append(f"{where}: {fault}")
        elif value is not None:
            self.values[key] = value
            self.where[key] = where

    def source(self, key: Key) -> str:
        """Who set a key, or else something else in its table."""
        near = [where for other, where in self.where.items() if other[: len(key) - 1] == key[:-1]]
        return self.where.get(key) or (near[0] if near and len(key) > 1 else "the defaults")


def load(config_file: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]) -> Settings:
    """The settings that hold for this process.

    `config_file` is what --config named, `overrides` what other flags said, by dotted key; None there says nothing.
    Raises UsageError: the first problem in one sentence, and how many more there are.
    """
    file, tables = _read_file(config_file, environ)
    layers = _Layers()
    for key, value in _leaves(tables):
        layers.add(key, value, str(file))
    configured = [key[1] for key in layers.values if key[0] == UPSTREAMS and len(key) > 1]
    spelled = {name.lower(): name for name in [*PRESETS, *configured]}
    for variable, text in sorted(environ.items()):
        # A blank variable is how compose files and CI write one that is not set.
        if variable.startswith(PREFIX) and variable not in {CONFIG_VARIABLE, FINGERPRINT_VARIABLE}:
            key = _key(variable.removeprefix(PREFIX).lower(), "__")
            named = (key[0], spelled.get(key[1], key[1]), *key[2:]) if key[0] == UPSTREAMS and len(key) > 1 else key
            layers.add(named, text or None, variable)
    for dotted, value in overrides.items():
        layers.add(_key(dotted, "."), value, "the command line")
    settings = _validated(layers, environ, file)
    if settings is None:
        first, *others = layers.problems
        more = f" (and {len(others)} more)" if others else ""
        raise UsageError(first + more)
    return settings


def parse_upstream(text: str) -> tuple[str, str]:
    """NAME=URL, as --upstream takes it. Raises UsageError."""
    name, equals, url = text.partition("=")
    if not equals:
        raise UsageError("--upstream takes NAME=URL, such as openai=https://api.openai.com")
    if not UPSTREAM_NAME.fullmatch(name):
        raise UsageError(f"--upstream: what stands before the = {_NAME_RULE}")
    try:
        return name, upstream_url(url)
    except ValueError as error:
        raise UsageError(f"--upstream: the address of {name} {error}") from None


def _places(environ: Mapping[str, str]) -> list[Path]:
    configuration = environ.get("XDG_CONFIG_HOME", "")
    if not configuration.startswith("/"):  # the XDG specification has a relative one ignored
        configuration = "~/.config"
    with suppress(ValueError):  # without a home folder there is one place less
        return [Path(FILE_NAME), folder(f"{configuration}/wiretape/{FILE_NAME}", environ)]
    return [Path(FILE_NAME)]


def _read_file(config_file: Path | None, environ: Mapping[str, str]) -> tuple[Path | None, dict[str, Any]]:
    """The named file and its tables, else the first of the usual places that has one, else nothing."""
    named = config_file or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    for place in [named] if named else _places(environ):
        try:
            return place, tomllib.loads(place.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{place} is not valid TOML: {str(error)[:1].lower()}{str(error)[1:]}") from None
        except UnicodeDecodeError:
            raise UsageError(f"{place} is not valid TOML: it is not UTF-8 text") from None
        except OSError as error:
            raise UsageError(f"{place} cannot be read ({(error.strerror or str(error)).lower()})") from None
    if named:
        raise UsageError(f"{named} does not exist; {'--config' if config_file else CONFIG_VARIABLE} must name a file")
    return None, {}


def _leaves(table: Mapping[str, Any], path: Key = ()) -> Iterator[tuple[Key, object]]:
    """Every value with its full key; an empty table counts as a value."""
    for name, value in table.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _key(text: str, separator: str) -> Key:
    """A key from its parts; an upstream's or a model's name may hold the separator itself."""
    first, *rest = text.split(separator)
    if first in _NAMED and len(rest) > 2:
        rest = [separator.join(rest[:-1]), rest[-1]]
    return (first, *rest)


def _nested(values: Mapping[Key, object]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for (*path, last), value in values.items():
        table = tree
        for name in path:
            table = table.setdefault(name, {})
        if value == {}:
            table.setdefault(last, {})
        else:
            table[last] = value
    return tree


def _fault(key: Key, value: object, *, environment: bool) -> str | None:
    """What is wrong with a key itself: unknown, a table, no name for an upstream; None when nothing is."""
    keys, dotted = KEYS, ".".join(key)
    if key[0] in _NAMED and len(key) > 1:
        if key[0] == UPSTREAMS and not UPSTREAM_NAME.fullmatch(key[1]):
            return f"{_quoted(key[1])} {_NAME_RULE}"
        keys = tuple((key[0], key[1], *known[2:]) if known[0] == key[0] else known for known in KEYS)
    if key in keys:
        return None
    if children := [known for known in keys if known[: len(key)] == key]:
        example = _spelled(children[0], environment)
        return None if value == {} else f"{dotted} is a table; set a key of it, such as {example}"
    nearest = _nearest(key, keys)
    hint = f"did you mean {_spelled(nearest, environment)}?" if nearest else "remove it"
    return f"{dotted} is not a setting; {hint}"


def _nearest(key: Key, keys: tuple[Key, ...]) -> Key | None:
    """The key that was probably meant: one that looks alike, else one of the same name in another table."""
    dotted = {".".join(known): known for known in keys}
    alike = get_close_matches(".".join(key), dotted, 1, 0.75)
    namesakes = [known for known in keys if known[-1] == key[-1]]
    return dotted[alike[0]] if alike else namesakes[0] if namesakes else None


def _spelled(key: Key, environment: bool) -> str:
    return PREFIX + "__".join(key).upper() if environment else ".".join(key)


def _validated(layers: _Layers, environ: Mapping[str, str], file: Path | None) -> Settings | None:
    """None when there are problems; `layers` has them all then."""
    known: dict[Key, object] = {}
    for name, preset in PRESETS.items():
        known |= {(UPSTREAMS, name, "url"): preset.url, (UPSTREAMS, name, "dialect"): preset.dialect}
    for name, template in TEMPLATES.items():
        if any(key[:2] == (UPSTREAMS, name) for key in layers.values):
            known[UPSTREAMS, name, "dialect"] = template.dialect
    tree = _nested(known | layers.values)
    try:
        settings = Settings.model_validate({**tree, "source": file and file.absolute()}, context=environ)
    except ValidationError as invalid:
        for error in invalid.errors(include_url=False, include_input=False):
            key, clause = _explained(error, layers.values)
            layers.problems.append(f"{layers.source(key)}: {'.'.join(key)} {clause}")
        return None
    return None if layers.problems else settings


def _explained(error: ErrorDetails, values: Mapping[Key, object]) -> tuple[Key, str]:
    """Which key is wrong, and the end of the sentence that begins with it."""
    key = tuple(str(part) for part in error["loc"])
    match error["type"]:
        case "missing":
            return key, _missing(key)
        case "literal_error":
            allowed = str(error["ctx"]["expected"])
            near = get_close_matches(str(values.get(key)), re.findall(r"'([^']*)'", allowed), 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            return key, f"must be {allowed}, not {_quoted(values.get(key))}{hint}"
        case "bool_parsing" | "bool_type":
            clause = "must be true or false"
        case "string_type":
            clause = "must be text"
        case "value_error":
            clause = str(error["ctx"]["error"])
        case name if name in _RULED:  # a rule for a whole table, named for the key to look at
            return (*key, *name.split(".")), error["msg"]
        case kind if kind.startswith("date"):
            clause = "must be a day such as 2026-01-31"
        case _:
            clause = f"is refused: {error['msg']}"
    return key, clause if key[-1] in _SECRET else f"{clause}, not {_quoted(values.get(key))}"


def _missing(key: Key) -> str:
    """A key that has no default: an upstream's address."""
    hint = template_hint(key[1])
    if hint is None:
        near = get_close_matches(key[1].lower(), PRESETS, 1, 0.75)
        hint = f"did you mean the preset {near[0]}?" if near else "write where its requests go"
    return f"is missing; {hint}"


def _quoted(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:56]}..."
