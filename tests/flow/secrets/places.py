"""Where programs put credentials: a request for each place, whose credentials are a Mint's marks.

Must not know the proxy, but for its own headers and tags.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote

from tests.flow.secrets.marks import SHAPES, Mint

NAMED_HEADER = "x-gatekeeper"
NAMED_QUERY = "pin"
"""Secret only because the configuration says so."""


class Asked(NamedTuple):
    """A request as it stands on the wire, but for its Host and length; `recorded` unless it is turned away."""

    place: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    recorded: bool = True

    def wire(self) -> bytes:
        lines = [f"POST {self.target} HTTP/1.1", "Host: wiretape", f"Content-Length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


def everywhere(mint: Mint) -> list[Asked]:
    """All places, each with marks of its own."""
    plain = (_headers, _urls_in_headers, _queries, _paths, _bodies, _ours)
    return [asked for places in plain for asked in places(mint)] + [_handshake(mint)]


def _handshake(mint: Mint) -> Asked:
    """How a browser, which can set no header, gives its key to a WebSocket."""
    offered = f"realtime, openai-insecure-api-key.{mint.shaped('openai')}"
    upgrade = (("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Protocol", offered))
    return Asked("a subprotocol", "/leaky/v1/realtime", upgrade)


def turned_away(mint: Mint) -> list[Asked]:
    """Requests that are refused before they are exchanges."""
    key, secret, bearer = mint.shaped("openai"), mint.plain("password"), ("Authorization", f"Bearer {mint.plain('a')}")
    return [
        Asked("an unknown upstream with a key", f"/{key}/v1/models", (bearer,), recorded=False),
        Asked("an unknown upstream and a query", f"/nobody/v1?key={secret}", (bearer,), recorded=False),
        Asked("an unknown upstream behind tags", f"/~user={key}/{key}?sig={secret}", (bearer,), recorded=False),
        Asked("a target that is a URL", f"http://user:{secret}@example.com/?token={secret}", (bearer,), recorded=False),
        Asked("tags that are none", "/leaky/v1", (("x-wiretape-tags", f"{key},{secret}"), bearer), recorded=False),
        Asked("how much to record", "/leaky/v1", (("x-wiretape-record", secret), bearer), recorded=False),
        Asked("v1 twice", f"/leaky/v1/v1?key={secret}", (bearer,), recorded=False),
        Asked("two framings", f"/leaky/{key}", (("Transfer-Encoding", "chunked"), bearer), recorded=False),
        Asked("no header", f"/leaky/{key}", ((f"x bad {secret}", secret), bearer), recorded=False),
        Asked("a body that is too long", f"/leaky/{key}", (bearer,), key.encode() * 40_000, recorded=False),
    ]


def _headers(mint: Mint) -> Iterator[Asked]:
    basic = base64.b64encode(f"user:{mint.plain('password')}".encode()).decode()
    signed = f"Credential={mint.shaped('aws')}/20261123/us-east-1/bedrock/aws4_request, Signature={mint.plain('s', 64)}"
    for value in (
        f"Bearer {mint.shaped('openai')}",
        f"bearer   {mint.plain('bearer')}",
        f"Basic {basic}",
        f"Token auth_tokens/{mint.plain('ephemeral', 64)}",
        mint.plain("without a scheme"),
        f"Unheard-Of {mint.plain('scheme')}",
        f"AWS4-HMAC-SHA256 {signed}",
    ):
        yield Asked("authorization", "/leaky/v1", (("AUTHORIZATION", value),))
    for name in (
        "x-api-key",
        "API-Key",
        "X-Goog-Api-Key",
        "Ocp-Apim-Subscription-Key",
        "Proxy-Authorization",
        "X-Amz-Security-Token",
        "x-auth-token",
        "cf-aig-authorization",
        "helicone-auth",
        NAMED_HEADER.title(),
        # Nobody's list holds them all, but their names say what they are.
        "xi-api-key",
        "apikey",
        "X-Other-Api_Key",
        "x-access-token",
        "Private-Token",
        "x-shared-secret",
        "x-user-password",
        "x-forwarded-authorization",
        "x-portkey-virtual-key",
    ):
        yield Asked(f"header {name}", "/leaky/v1", ((name, mint.plain(name)),))
    for shape in SHAPES:
        yield Asked(f"a {shape} key in any header", "/leaky/v1", (("x-note", f"mine is {mint.shaped(shape)}, ok"),))
    cookies = f"theme=dark; session={mint.plain('cookie')}; __Host-id={mint.shaped('jwt')}"
    yield Asked("cookie", "/leaky/v1", (("Cookie", cookies), ("cookie", mint.plain("second cookie"))))
    portkey = json.dumps({"provider": "azure-openai", "api_key": mint.plain("portkey")})
    yield Asked("a gateway's configuration", "/leaky/v1", (("x-portkey-config", portkey),))
    for offered in (
        f"realtime, openai-insecure-api-key.{mint.shaped('openai')}, openai-project.p",
        f"realtime, OpenAI-Insecure-Api-Key.{mint.plain('subprotocol')}",
        f"token, {mint.plain('subprotocol')}",
    ):
        yield Asked("subprotocol", "/leaky/v1", (("Sec-WebSocket-Protocol", offered),))


def _urls_in_headers(mint: Mint) -> Iterator[Asked]:
    for name in ("Referer", "x-original-url", "x-callback"):
        yield Asked(f"a URL in {name}", "/leaky/v1", ((name, f"https://example.com/a?b=c&key={mint.plain('key')}#d"),))
    yield Asked("a user in a URL", "/leaky/v1", (("x-callback", f"https://me:{mint.plain('password')}@example.com/"),))


def _queries(mint: Mint) -> Iterator[Asked]:
    def secret() -> str:
        return mint.plain("query")

    for query in (
        f"key={secret()}",
        f"alt=sse&key={mint.shaped('gemini')}&x=1",
        f"token={secret()}&api-key={secret()}&access_token={secret()}",
        f"se=2027&sp=r&sv=2026&sig={quote(secret() + '/+=', safe='')}",
        f"X-Amz-Credential={mint.shaped('aws')}%2F20261123&X-Amz-Signature={secret()}&X-Amz-Security-Token={secret()}",
        f"KEY={secret()}&k%65y={secret()}&%20key={secret()}&+key={secret()}",
        f"{NAMED_QUERY}={secret()}",
        f"x-api-key={secret()}&my_api_key={secret()}&access-token={secret()}&key[]={secret()}",
        f"a=b;key={secret()}",
        f"alt=sse?key={secret()}",
        f"?key={secret()}",
        f"then=https://example.com/?sig={secret()}",
        f"then={quote('https://example.com/?sig=' + secret(), safe='')}",
        f"note={mint.shaped('openai')}",
        f"note={mint.shaped('openai').replace('-', '%2D')}",
    ):
        yield Asked("query", f"/leaky/v1/models/m:generate?{query}")


def _paths(mint: Mint) -> Iterator[Asked]:
    for shape in SHAPES:
        yield Asked("path", f"/leaky/v1/keys/{mint.shaped(shape)}/models")
    yield Asked("path", f"/leaky/v1/keys/{mint.shaped('openai').replace('-', '%2d')}")
    yield Asked("path", f"/leaky//{mint.shaped('anthropic')}")
    yield Asked("path", f"/leaky/https://me:{mint.plain('password')}@example.com/v1")


def _bodies(mint: Mint) -> Iterator[Asked]:
    for shape in SHAPES:
        said = {"a": mint.shaped(shape), "b": f"first\n{mint.shaped(shape)}\nlast", "c": [f"/{mint.shaped(shape)}/"]}
        yield Asked(f"a {shape} key in a body", "/leaky/v1", body=json.dumps(said).encode())
    form = f"grant_type=x&client_secret={mint.shaped('google oauth')}&x=%20{mint.shaped('huggingface')}"
    yield Asked("a form", "/leaky/token", (("Content-Type", "application/x-www-form-urlencoded"),), form.encode())


def _ours(mint: Mint) -> Iterator[Asked]:
    yield Asked("tags in the path", f"/~user={mint.shaped('openai')},k=v/leaky/v1")
    yield Asked("tags", "/leaky/v1", (("x-wiretape-tags", f"user={mint.shaped('anthropic')}"),))
    yield Asked("session", "/leaky/v1", (("x-wiretape-session", f"of {mint.shaped('groq')}"),))
    yield Asked("another gateway's tags", "/leaky/v1", (("helicone-property-user", mint.shaped("xai")),))
    metadata = json.dumps({"user": mint.shaped("openrouter"), mint.shaped("huggingface"): 1})
    yield Asked("another gateway's metadata", "/leaky/v1", (("x-portkey-metadata", metadata),))
