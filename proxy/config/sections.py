"""The sections of the configuration that stand once, each with its keys, defaults and rules. What their values are:
`values.py`.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)
from pydantic_core import PydanticCustomError

from proxy.config.values import (
    Duration,
    DurationOrNever,
    Host,
    HostNames,
    Names,
    OptionalCount,
    OptionalDuration,
    OptionalFile,
    OptionalRate,
    OptionalSize,
    PageOrigins,
    Size,
    Speed,
    Tag,
    loopback,
    whole,
)

Port = Annotated[int, whole(0, 65535)]


def _token(value: object) -> object:
    # It travels in a header, and a blank one would let everybody in.
    if isinstance(value, str) and not (value.isascii() and value.isprintable() and value.strip() == value != ""):
        raise ValueError("must be printable ASCII without blanks at its ends, and not empty")
    return value


class Section(BaseModel):
    """What all have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ForwardSettings(Section):
    host: Host = Field(default="127.0.0.1", description="Address of the data port.")
    port: Port = Field(default=8800, description="Data port; 0 takes any free one.")
    workers: Annotated[int, whole(1, 256)] = Field(default=1, description="Processes that serve the data port.")
    expose_id: bool = Field(default=True, description="Add `x-wiretape-exchange: <id>` to each response.")
    shutdown_grace: Duration = Field(default=30.0, description="How long streams may go on once a stop was asked for.")
    max_request_body: OptionalSize = Field(default=None, description="Longer request bodies are refused with 413.")
    max_head: Size = Field(default=256 * 2**10, description="Longer request heads are refused with 431.")
    max_headers: Annotated[int, whole(1, 100_000)] = Field(
        default=1000, description="Requests with more headers are refused with 431."
    )
    max_connections: OptionalCount = Field(
        default=None, description="More client connections of one worker are refused with 503."
    )
    head_timeout: Duration = Field(default=60.0, description="Longest wait for a whole request head (408).")
    body_timeout: Duration = Field(
        default=60.0, description="Longest silence within a request body that nothing was answered to yet (408)."
    )
    transform_limit: Size = Field(
        default=8 * 2**20,
        description="Longer request bodies are refused with 413 where they are looked into; see `stream_usage`.",
    )
    on_journal_failure: Literal["refuse", "pass"] = Field(
        default="refuse",
        description="When the journal cannot be written: refuse requests with 503, or pass them unrecorded.",
    )
    fsync: DurationOrNever = Field(
        default=1.0, description="How often the journal is synced to disk: the most that a power loss costs."
    )
    allow_anonymous: bool = Field(
        default=False, description="Let the data port listen beyond this machine, for whoever reaches it."
    )
    hosts: HostNames = Field(
        default=(),
        description="Names besides localhost by which the data port may be asked for upstreams with a `key_env` or "
        "`credentials`.",
    )
    cors_origins: PageOrigins = Field(
        default=(),
        description="Origins whose pages may ask the data port, such as http://localhost:3000, or `*` for all; others "
        "are refused then.",
    )
    strip_attribution: bool = Field(
        default=False,
        description="Take other gateways' attribution headers off; they are recorded as tags either way.",
    )
    cert: OptionalFile = Field(
        default=None,
        description="PEM file of the data port's certificate, with those between it and its authority: it speaks TLS.",
    )
    key: OptionalFile = Field(default=None, description="PEM file of its key, where `cert` does not hold that too.")

    @property
    def tls(self) -> bool:
        """Whether the data port speaks TLS."""
        return self.cert is not None

    @model_validator(mode="after")
    def _guarded(self) -> ForwardSettings:
        if self.key is not None and self.cert is None:
            raise PydanticCustomError("key", "belongs to a certificate; set forward.cert too")
        if not loopback(self.host) and not self.allow_anonymous:
            raise PydanticCustomError(
                "host",
                "reaches beyond this machine; set forward.allow_anonymous (--allow-anonymous) if all there may use it",
            )
        return self


class ConsoleSettings(Section):
    host: Host = Field(default="127.0.0.1", description="Address of the console.")
    port: Port = Field(default=8801, description="Port of the console; 0 takes any free one.")
    token: Annotated[SecretStr, BeforeValidator(_token)] | None = Field(
        default=None, description="What a reader must present; required when the console listens beyond this machine."
    )

    @model_validator(mode="after")
    def _guarded(self) -> ConsoleSettings:
        if not loopback(self.host) and self.token is None:
            raise PydanticCustomError(
                "host", "reaches beyond this machine; set console.token (WIRETAPE_CONSOLE__TOKEN) to guard it"
            )
        return self


class RecordSettings(Section):
    redact_headers: Names = Field(
        default=(), description="More headers whose values are recorded as fingerprints only."
    )
    redact_query: Names = Field(
        default=(), description="More query parameters whose values are recorded as fingerprints only."
    )
    bodies: bool = Field(default=True, description="Keep bodies; false: they are interpreted, then not stored.")
    max_recorded_body: OptionalSize = Field(
        default=None, description="Bytes of each body that are recorded; all of it passes."
    )
    max_journal: OptionalSize = Field(
        default=10 * 2**30,
        description="Room for journals that wait to be stored; when it is used up the journal has failed.",
    )


class PlaybackSettings(Section):
    """What answers for upstreams in the mode `playback`."""

    host: Host = Field(default="127.0.0.1", description="Address of playback.")
    port: Port = Field(default=8802, description="Port of playback; 0 takes any free one.")
    speed: Speed = Field(
        default=None, validate_default=True, description="So many times as fast as it came, or `instant`."
    )
    order: Literal["sequence", "repeat_last", "any"] = Field(
        default="sequence",
        description="Of equal requests: each recording once, then the last again and again, or each in its turn.",
    )
    cassette: OptionalFile = Field(default=None, description="Play this cassette, in place of the database.")
    session: str | None = Field(default=None, description="Only what was recorded in this session is played.")
    tag: Tag = Field(default=None, description="Only what was recorded with this tag, NAME=VALUE, is played.")
    fault: str | None = Field(default=None, description="A fault that is played with, such as status=529 times=1.")
    ignore_json: Names = Field(default=(), description="Places in JSON bodies that do not count, such as **.id.")
    ignore_headers: Names = Field(default=(), description="Headers that do not count.")
    match_headers: Names = Field(default=(), description="More headers that count.")
    normalise: tuple[tuple[str, str], ...] = Field(
        default=(), description="Pairs of a regular expression and what stands for it, for times and ids in any text."
    )

    @model_validator(mode="after")
    def _guarded(self) -> PlaybackSettings:
        if not loopback(self.host):
            raise PydanticCustomError("host", "reaches beyond this machine; playback is for this machine alone")
        return self


class PriceSettings(Section):
    input: OptionalRate = Field(default=None, description="USD for a million tokens of input.")
    cache_read: OptionalRate = Field(default=None, description="The same, for what the cache had; else as `input`.")
    cache_write: OptionalRate = Field(default=None, description="The same, for what was put into the cache.")
    cache_write_1h: OptionalRate = Field(default=None, description="The same, where it was put there for an hour.")
    input_audio: OptionalRate = Field(default=None, description="The same, for audio.")
    input_image: OptionalRate = Field(default=None, description="The same, for images.")
    output: OptionalRate = Field(default=None, description="USD for a million tokens of output.")
    reasoning: OptionalRate = Field(default=None, description="The same, for reasoning; else as `output`.")
    output_audio: OptionalRate = Field(default=None, description="The same, for audio.")
    output_image: OptionalRate = Field(default=None, description="The same, for images.")
    web_search: OptionalRate = Field(default=None, description="USD for a thousand searches.")
    file_search: OptionalRate = Field(default=None, description="The same, for searches in stored files.")
    search_unit: OptionalRate = Field(default=None, description="USD for a thousand of Cohere's units of ranking.")
    classification: OptionalRate = Field(default=None, description="USD for a thousand classifications.")
    request: OptionalRate = Field(default=None, description="USD for a thousand requests.")
    image: OptionalRate = Field(default=None, description="USD for a thousand pictures of a model without tokens.")
    page: OptionalRate = Field(default=None, description="USD for a thousand pages.")
    character: OptionalRate = Field(default=None, description="USD for a million characters that are spoken.")
    audio_hour: OptionalRate = Field(default=None, description="USD for an hour of sound that is heard.")
    since: date | None = Field(default=None, description="The day (UTC) from which on this price holds.")

    def rates(self) -> dict[str, Decimal]:
        """The rates that were set, by kind."""
        found = {name: getattr(self, name) for name in type(self).model_fields if name != "since"}
        return {name: rate for name, rate in found.items() if rate is not None}

    @model_validator(mode="after")
    def _useful(self) -> PriceSettings:
        if not self.rates():
            raise PydanticCustomError("input", "is missing; set at least one rate of this price")
        return self


class RetentionSettings(Section):
    """How long what is kept. None is for good."""

    pack_after: DurationOrNever = Field(
        default=7 * 86400.0,
        validate_default=True,
        description="When the chunks of an exchange that ended are packed: the same bytes in a tenth of the room.",
    )
    chunks: OptionalDuration = Field(
        default=None, description="How long bodies are kept as the chunks that crossed the wire."
    )
    bodies: OptionalDuration = Field(
        default=None, description="How long all text is kept: chunks, prompts, answers, usage objects."
    )
    exchanges: OptionalDuration = Field(
        default=None, description="How long exchanges are kept at all; what was spent on them stays."
    )
    max_store: OptionalSize = Field(
        default=None, description="Room for the database; beyond it the oldest bodies go, then the oldest exchanges."
    )
