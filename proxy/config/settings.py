"""The settings: every key with its default and its meaning. A key that is not here is an error.

Must not know where a value comes from.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    Field,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from proxy import presets
from proxy.config.sections import (
    ConsoleSettings,
    ForwardSettings,
    PlaybackSettings,
    PriceSettings,
    RecordSettings,
    RetentionSettings,
    Section,
)
from proxy.config.values import (
    OptionalDuration,
    OptionalFile,
    OptionalProxy,
    OptionalVariable,
    OptionalWord,
    TimeZone,
    UpstreamUrl,
    database_url,
    folder,
    without_password,
)
from proxy.presets import Dialect

UPSTREAMS = "upstreams"
ANY_UPSTREAM = "NAME"
PRICES = "prices"
ANY_MODEL = "MODEL"


class UpstreamSettings(Section):
    url: UpstreamUrl = Field(description="Where requests go; required unless NAME is a preset.")
    dialect: Dialect = Field(default="openai", description="The wire format; a preset's name brings its own.")
    key_env: OptionalVariable = Field(
        default=None,
        description="The environment variable of the key that its requests get, in the place of what clients send.",
    )
    credentials: Literal["none", "aws", "google"] = Field(
        default="none",
        description="Whose credentials of this machine its requests get, in the place of what clients send: signatures "
        "of `aws`, or access tokens of `google`.",
    )
    aws_profile: OptionalWord = Field(
        default=None, description="The profile in AWS's own files; else as AWS's tools do."
    )
    aws_region: OptionalWord = Field(default=None, description="The region to sign for; else the one in `url`.")
    aws_service: OptionalWord = Field(
        default=None, description="The service to sign for; else the one in `url`, or bedrock."
    )
    google_file: OptionalFile = Field(
        default=None, description="A service account's key, or other credentials; else as Google's tools do."
    )
    connect_timeout: OptionalDuration = Field(default=10.0, description="Longest wait for a connection.")
    first_byte_timeout: OptionalDuration = Field(
        default=None, description="Longest wait for the first byte of the response."
    )
    idle_timeout: OptionalDuration = Field(default=None, description="Longest silence within a response.")
    on_client_leave: Literal["cancel", "drain"] = Field(
        default="cancel",
        description="When the client leaves: cancel the response, or read it to its end for its counts.",
    )
    ca_file: OptionalFile = Field(
        default=None, description="PEM file of the only authorities that its certificate may come from."
    )
    client_cert: OptionalFile = Field(
        default=None, description="PEM file of the certificate that it is shown, with those behind it."
    )
    client_key: OptionalFile = Field(
        default=None, description="PEM file of the key to it, where `client_cert` does not hold that too."
    )
    http2: bool = Field(default=False, description="Ask it over HTTP/2, as far as that goes (see network.md).")
    proxy: OptionalProxy = Field(
        default=None,
        repr=False,  # it may hold a password
        description="The proxy on the way: http://USER:PASSWORD@HOST:PORT, or socks5://, or socks5h://.",
    )
    record: Literal["all", "meta", "none"] = Field(
        default="all", description="What is recorded: all of it, all but bodies, or nothing."
    )
    stream_usage: Literal["leave", "ask"] = Field(
        default="leave",
        description="Make requests for a stream ask for its usage too (`ask`), and keep that from the client.",
    )
    keep_alive: OptionalDuration = Field(
        default=None,
        description="How long a stream of events may be silent before its client gets a comment, again and again.",
    )
    rewrite_upload_urls: bool = Field(
        default=True,
        description="Have the URLs for uploads in its answers lead back through wiretape; of the dialect gemini.",
    )
    mode: Literal["live", "playback", "playback_else_record"] = Field(
        default="live",
        description="Ask the upstream; or (`playback`) what was recorded of it, and nobody else; or "
        "(`playback_else_record`) the upstream for what was not recorded.",
    )

    @field_validator("keep_alive")
    @classmethod
    def _unhurried(cls, value: float | None) -> float | None:
        if value is not None and value < 1:
            raise ValueError('must be "1s" or longer, or "none"')
        return value

    @property
    def held(self) -> bool:
        """Whether its requests get a key that is held here: those that are only played need none."""
        return (self.key_env is not None or self.credentials != "none") and self.mode != "playback"

    @model_validator(mode="after")
    def _keyed(self) -> UpstreamSettings:
        if self.key_env is not None and self.url == presets.BUILT_IN:
            raise PydanticCustomError("key_env", "is of no use: this upstream is part of wiretape, and asks for no key")
        return self

    @model_validator(mode="after")
    def _signed(self) -> UpstreamSettings:
        if self.credentials != "none" and self.key_env is not None:
            raise PydanticCustomError("credentials", "stand in the place of a key; leave key_env or credentials out")
        if self.credentials != "none" and self.url == presets.BUILT_IN:
            raise PydanticCustomError("credentials", "are for nothing: this upstream is part of wiretape itself")
        of = {"aws_profile": "aws", "aws_region": "aws", "aws_service": "aws", "google_file": "google"}
        for name, owner in of.items():
            if getattr(self, name) is not None and self.credentials != owner:
                raise PydanticCustomError(name, 'belongs to credentials = "{owner}"; set that too', {"owner": owner})
        return self

    @model_validator(mode="after")
    def _fitting(self) -> UpstreamSettings:
        if self.client_key is not None and self.client_cert is None:
            raise PydanticCustomError("client_key", "belongs to a certificate; set client_cert too")
        if self.client_cert is not None and not self.url.startswith("https:"):
            raise PydanticCustomError("client_cert", "is shown by TLS only; the url must begin with https://")
        if self.http2 and (self.proxy is not None or not self.url.startswith("https:")):
            raise PydanticCustomError("http2", "needs a url that begins with https://, and no proxy on the way")
        if self.proxy is not None and self.url == presets.BUILT_IN:
            raise PydanticCustomError("proxy", "is for nothing: this upstream is part of wiretape itself")
        if self.mode == "playback_else_record" and self.record != "all":
            raise PydanticCustomError("record", "must be `all` where the mode is playback_else_record")
        return self

    @model_validator(mode="after")
    def _askable(self) -> UpstreamSettings:
        if self.stream_usage == "ask" and self.dialect != "openai":
            raise PydanticCustomError("stream_usage", "can be `ask` only where the dialect is openai; leave it out")
        return self

    @model_validator(mode="after")
    def _uploading(self) -> UpstreamSettings:
        asked_for = self.rewrite_upload_urls and "rewrite_upload_urls" in self.model_fields_set
        if asked_for and self.dialect != "gemini":
            raise PydanticCustomError("rewrite_upload_urls", "is for the dialect gemini only; leave it out")
        return self


class Settings(Section):
    """All of it. `source` is the file that was read; durations are seconds, sizes bytes, None is `none` or `never`."""

    home: Path = Field(
        default=Path("~/.local/share/wiretape"),
        validate_default=True,
        description="The folder of journals, status and the default database, mode 0700.",
    )
    database: str = Field(
        default="sqlite:///<home>/wiretape.db",
        validate_default=True,
        repr=False,  # it may hold a password
        description="Where recordings are stored: sqlite:/// and the path of a file, or postgresql://USER@HOST/NAME.",
    )
    reporting_time_zone: TimeZone = Field(
        default="UTC",
        description="IANA name of the zone whose days spend counts; a database keeps the first that it is told.",
    )
    search: bool = Field(default=True, description="Keep a full-text index of prompts and answers.")
    forward: ForwardSettings = ForwardSettings()
    console: ConsoleSettings = ConsoleSettings()
    record: RecordSettings = RecordSettings()
    retention: RetentionSettings = RetentionSettings()
    playback: PlaybackSettings = PlaybackSettings()
    upstreams: dict[str, UpstreamSettings] = Field(default_factory=dict)
    prices: dict[str, PriceSettings] = Field(default_factory=dict)
    source: Path | None = None

    @field_validator("home", mode="before")
    @classmethod
    def _home(cls, value: object, info: ValidationInfo) -> Path:
        return folder(value, info.context or {})

    @field_validator("database")
    @classmethod
    def _database(cls, value: str, info: ValidationInfo) -> str:
        home = info.data.get("home")
        return value if home is None else database_url(value, home, info.context or {})

    @field_serializer("database", when_used="json")
    def _shown_database(self, value: str) -> str:
        return without_password(value)

    @model_validator(mode="after")
    def _guarded(self) -> Settings:
        if "*" in self.forward.cors_origins and self.held:
            raise PydanticCustomError(
                "forward.cors_origins",
                "must name each origin where an upstream has a key_env or credentials, or any page could use those",
            )
        return self

    @property
    def held(self) -> list[str]:
        """The upstreams whose requests get a key that is held here."""
        return [name for name, upstream in self.upstreams.items() if upstream.held]

    def without_secrets(self) -> dict[str, Any]:
        """Plain data for JSON, each value as it could be written in a file; secrets and passwords are starred out."""
        return self.model_dump(mode="json")

    def base_url(self, upstream: str) -> str:
        """The base URL to give to an SDK for a configured upstream. Raises KeyError."""
        chosen = self.upstreams[upstream]
        here = self.forward
        return presets.base_url(upstream, here.host, here.port, chosen.url, chosen.dialect, tls=here.tls)


_SECTIONS: dict[tuple[str, ...], type[Section]] = {
    (): Settings,
    ("forward",): ForwardSettings,
    ("console",): ConsoleSettings,
    ("record",): RecordSettings,
    ("retention",): RetentionSettings,
    ("playback",): PlaybackSettings,
    (UPSTREAMS, ANY_UPSTREAM): UpstreamSettings,
    (PRICES, ANY_MODEL): PriceSettings,
}
KEYS: tuple[tuple[str, ...], ...] = tuple(
    (*prefix, name)
    for prefix, section in _SECTIONS.items()
    for name, about in section.model_fields.items()
    if about.description is not None  # tables, and `source`, are no keys
)


def documented_keys() -> list[tuple[str, str, str]]:
    """Every key as (dotted key, default as it would be written in TOML, meaning); `required` stands for no default."""
    rows = []
    for key in KEYS:
        section = _SECTIONS[key[:-1]]
        about = section.model_fields[key[-1]]
        defaults = section.model_construct().model_dump(mode="json", include={key[-1]})
        default = "required" if about.is_required() else json.dumps(defaults[key[-1]]).replace("null", "none")
        rows.append((".".join(key), default, about.description or ""))
    return rows
