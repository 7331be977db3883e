"""The environment variables by which SDKs and tools are pointed elsewhere: for which upstream each is, who reads it.

Pure: must not know processes or settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from proxy import presets
from proxy.config import upstream_url
from proxy.errors import UsageError


class Variable(NamedTuple):
    """`tail` is what follows the upstream's name in the value, None for what its base URL ends with anyhow."""

    name: str
    upstream: str
    read_by: str
    tail: str | None = None


VARIABLES = (
    Variable("OPENAI_BASE_URL", "openai", "OpenAI SDKs, LiteLLM, llm, Codex CLI (older ones)"),
    Variable("OPENAI_API_BASE", "openai", "LiteLLM, aider"),
    Variable("ANTHROPIC_BASE_URL", "anthropic", "Anthropic SDKs, Claude Code, LiteLLM"),
    Variable("ANTHROPIC_API_BASE", "anthropic", "LiteLLM, aider"),
    Variable("GOOGLE_GEMINI_BASE_URL", "gemini", "Google Gen AI SDKs, Gemini CLI"),
    Variable("GEMINI_API_BASE", "gemini", "LiteLLM, aider"),
    Variable("OLLAMA_HOST", "ollama", "Ollama and its Python and JavaScript SDKs"),
    Variable("OLLAMA_API_BASE", "ollama", "LiteLLM, aider"),
    Variable("AZURE_OPENAI_ENDPOINT", "azure", "OpenAI SDKs (Azure)", ""),
    Variable("AZURE_API_BASE", "azure", "LiteLLM, aider", ""),
    Variable("MISTRAL_API_BASE", "mistral", "LiteLLM, aider"),
    Variable("MISTRAL_BASE_URL", "mistral", "tools that use Mistral's API"),
    Variable("GROQ_BASE_URL", "groq", "Groq SDKs", ""),
    Variable("GROQ_API_BASE", "groq", "LiteLLM, aider"),
    Variable("DEEPSEEK_API_BASE", "deepseek", "LiteLLM, aider"),
    Variable("OPENROUTER_API_BASE", "openrouter", "LiteLLM, aider"),
    Variable("XAI_API_BASE", "xai", "LiteLLM, aider"),
    Variable("TOGETHER_BASE_URL", "together", "Together SDKs"),
    Variable("CEREBRAS_BASE_URL", "cerebras", "Cerebras SDKs", ""),
    Variable("CO_API_URL", "cohere", "Cohere SDKs"),
    Variable("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "bedrock", "AWS SDKs and CLI"),
    Variable("ANTHROPIC_BEDROCK_BASE_URL", "bedrock", "Anthropic SDKs and Claude Code (Bedrock)"),
    Variable("GOOGLE_VERTEX_BASE_URL", "vertex", "Google Gen AI SDKs (Vertex)"),
    Variable("ANTHROPIC_VERTEX_BASE_URL", "vertex", "Anthropic SDKs and Claude Code (Vertex)", "/v1"),
    Variable("DEMO_BASE_URL", "demo", "examples/joke.py"),
)

HINTS = (
    ("Codex CLI", "codex -c openai_base_url={openai}/v1"),
    ("Mistral SDKs", "Mistral(server_url={mistral})"),
)
"""Tools that read no variable, and what to give them; in braces the address of an upstream on the data port."""

NO_PROXY = ("127.0.0.1", "localhost")


class Given(NamedTuple):
    """An address that a variable had already. `bare`: it does not end as such a base URL usually does, and is one."""

    url: str
    bare: bool


def values(address: str, upstreams: Iterable[str], given: Mapping[str, Given], tags: str = "") -> dict[str, str]:
    """Variable -> value, for the upstreams that are named, on the data port at `address` (`http://HOST:PORT`).

    `given` are those whose address was in a variable; `tags` (`project=search,env=ci`) go into the path, where every
    request carries them.
    """
    known = set(upstreams)
    found = {}
    for variable in VARIABLES:
        if variable.upstream in known:
            there = given.get(variable.upstream)
            tail = "" if there is not None and there.bare else _tail(variable)
            prefix = f"/~{tags}" if tags else ""
            found[variable.name] = f"{address}{prefix}/{variable.upstream}{tail}"
    return found


def _tail(variable: Variable) -> str:
    if variable.tail is not None:
        return variable.tail
    known = presets.PRESETS.get(variable.upstream) or presets.TEMPLATES.get(variable.upstream)
    return known.base_url_suffix if known else ""


def already_set(environ: Mapping[str, str]) -> dict[str, Given]:
    """Upstream -> the address that a variable of it has; several of one upstream must agree.

    Raises UsageError for what is no address, or for two that differ.
    """
    found: dict[str, tuple[Given, str]] = {}
    for variable in VARIABLES:
        text = environ.get(variable.name, "").strip()
        if not text or variable.upstream == "demo":
            continue
        address = _address(variable, text)
        known = found.setdefault(variable.upstream, (address, variable.name))
        if known[0] != address:
            raise UsageError(
                f"{known[1]} and {variable.name} name different addresses for {variable.upstream}: unset one of them"
            )
    return {upstream: address for upstream, (address, _) in found.items()}


def _address(variable: Variable, given: str) -> Given:
    text = given if "://" in given else f"http://{given}"  # Ollama's may have no scheme
    try:
        url = upstream_url(text)
    except ValueError as error:
        raise UsageError(
            f"{variable.name} {error}: unset it, or set it to the address of {variable.upstream}"
        ) from None
    tail = _tail(variable)
    return Given(url.removesuffix(tail).rstrip("/"), bare=not url.endswith(tail))


def no_proxy(environ: Mapping[str, str]) -> dict[str, str]:
    """NO_PROXY, in both spellings, with this machine in it."""
    known = [each.strip() for name in ("NO_PROXY", "no_proxy") for each in environ.get(name, "").split(",")]
    listed = ",".join(dict.fromkeys([*(each for each in known if each), *NO_PROXY]))
    return {"NO_PROXY": listed, "no_proxy": listed}


def reader(name: str) -> str:
    """Who reads a variable."""
    return next(each.read_by for each in VARIABLES if each.name == name)
