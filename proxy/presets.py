"""The providers that need no configuration: address, dialect, and what an SDK's base URL ends with.

An address is the provider's bare origin, so a base URL changes only in what stands before its path:
`https://api.groq.com/openai/v1` becomes `http://127.0.0.1:8800/groq/openai/v1`. Must not know settings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from types import MappingProxyType
from typing import Literal, NamedTuple, get_args
from urllib.parse import urlsplit

Dialect = Literal["openai", "anthropic", "gemini", "mistral", "cohere", "ollama", "bedrock"]
DIALECTS: tuple[str, ...] = get_args(Dialect)

BUILT_IN = "demo:"
"""The address of the upstream that is part of wiretape itself."""


class Preset(NamedTuple):
    """`base_url_suffix`: what follows `http://HOST:PORT/NAME` in the base URL that an SDK is given."""

    url: str
    dialect: Dialect
    base_url_suffix: str


class Template(NamedTuple):
    """A provider whose address holds a value that only its user knows; `example` shows where."""

    example: str
    dialect: Dialect
    base_url_suffix: str


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "openai": Preset("https://api.openai.com", "openai", "/v1"),
        "anthropic": Preset("https://api.anthropic.com", "anthropic", ""),
        "gemini": Preset("https://generativelanguage.googleapis.com", "gemini", ""),
        "mistral": Preset("https://api.mistral.ai", "mistral", "/v1"),
        "groq": Preset("https://api.groq.com", "openai", "/openai/v1"),
        "deepseek": Preset("https://api.deepseek.com", "openai", ""),
        "openrouter": Preset("https://openrouter.ai", "openai", "/api/v1"),
        "xai": Preset("https://api.x.ai", "openai", "/v1"),
        "together": Preset("https://api.together.xyz", "openai", "/v1"),
        "fireworks": Preset("https://api.fireworks.ai", "openai", "/inference/v1"),
        "cerebras": Preset("https://api.cerebras.ai", "openai", "/v1"),
        "perplexity": Preset("https://api.perplexity.ai", "openai", ""),
        "cohere": Preset("https://api.cohere.com", "cohere", ""),
        "moonshot": Preset("https://api.moonshot.ai", "openai", "/v1"),
        "huggingface": Preset("https://router.huggingface.co", "openai", "/v1"),
        "ollama": Preset("http://127.0.0.1:11434", "ollama", ""),
        "lmstudio": Preset("http://127.0.0.1:1234", "openai", "/v1"),
        "vllm": Preset("http://127.0.0.1:8000", "openai", "/v1"),
        "llamacpp": Preset("http://127.0.0.1:8080", "openai", "/v1"),
        "demo": Preset(BUILT_IN, "openai", "/v1"),
    }
)

TEMPLATES: Mapping[str, Template] = MappingProxyType(
    {
        "azure": Template("https://RESOURCE.openai.azure.com", "openai", "/openai/v1"),
        "bedrock": Template("https://bedrock-runtime.REGION.amazonaws.com", "bedrock", ""),
        "vertex": Template("https://REGION-aiplatform.googleapis.com", "gemini", ""),
    }
)

_KEY_VARIABLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        "huggingface": ("HF_TOKEN", "HUGGINGFACE_API_KEY"),
        "cohere": ("CO_API_KEY", "COHERE_API_KEY"),
        "perplexity": ("PERPLEXITY_API_KEY", "PERPLEXITYAI_API_KEY"),
        "fireworks": ("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY"),
        "azure": ("AZURE_OPENAI_API_KEY", "AZURE_API_KEY"),
        "bedrock": ("AWS_BEARER_TOKEN_BEDROCK",),
        "vertex": ("VERTEX_ACCESS_TOKEN",),
    }
)
_AZURE = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")
_VERTEX = "aiplatform.googleapis.com"
KEYLESS = frozenset(("demo", "ollama", "lmstudio", "vllm", "llamacpp"))
"""Upstreams that usually ask for no key."""

# They tell the usage of their streams to everybody; Mistral refuses to be asked.
_USAGE_TOLD = frozenset(
    urlsplit(PRESETS[name].url).hostname for name in ("deepseek", "groq", "mistral", "openrouter", "together")
)


def may_be_asked_for_usage(url: str) -> bool:
    """Whether it is of any use that requests to an address ask for the usage of their streams, as far as is known."""
    return urlsplit(url).hostname not in _USAGE_TOLD


def key_variables(name: str) -> tuple[str, ...]:
    """The environment variables that SDKs read the key of an upstream from, the first that is set first:
    `OPENAI_API_KEY`; of one that is no preset `NAME_API_KEY`."""
    plain = re.sub(r"[^A-Z0-9]", "_", name.upper())
    return _KEY_VARIABLES.get(name, (f"{plain}_API_KEY",))


def key_place(name: str, url: str, dialect: str) -> tuple[str, str]:
    """The header, in lower case, that an upstream reads its key from, and what stands before the key there."""
    host = urlsplit(url).hostname or ""
    if dialect == "anthropic":
        return "x-api-key", ""
    if name == "azure" or host.endswith(_AZURE):
        return "api-key", ""
    if dialect == "gemini" and name != "vertex" and not host.endswith(_VERTEX):
        return "x-goog-api-key", ""
    return "authorization", "Bearer "


def template_hint(name: str) -> str | None:
    """What to set before the template `name` can be used, as the end of a sentence; None when it is no template."""
    template = TEMPLATES.get(name)
    return template and f"set upstreams.{name}.url to your own {template.example}"


def base_url(name: str, host: str, port: int, url: str = "", dialect: str = "openai", *, tls: bool = False) -> str:
    """The base URL to give to an SDK for the upstream `name` of a data port.

    `url` and `dialect` are those of an upstream that is configured: an address that ends in the version already
    (`http://host/v1`) leaves none to add. A wildcard host becomes the loopback address.
    """
    return f"{address(host, port, tls=tls)}/{name}{base_path(name, url, dialect)}"


def base_path(name: str, url: str = "", dialect: str = "openai") -> str:
    """What follows the upstream's name in its base URL; see `base_url`."""
    known = PRESETS.get(name) or TEMPLATES.get(name)
    suffix = known.base_url_suffix if known else "/v1" if dialect in {"openai", "mistral"} else ""
    version = suffix.rpartition("/")[2]
    return "" if version and urlsplit(url).path.rstrip("/").endswith(f"/{version}") else suffix


def address(host: str, port: int, *, tls: bool = False) -> str:
    """`http://HOST:PORT` of a port that listens on this machine, or `https://`; a wildcard host becomes the loopback
    address."""
    return f"{'https' if tls else 'http'}://{reachable(host)}:{port}"


def reachable(host: str) -> str:
    """A host as this machine finds it: the loopback address for a wildcard, brackets around IPv6."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return f"[{host}]" if address.version == 6 else host
