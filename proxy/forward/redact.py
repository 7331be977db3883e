"""The one choke point where credentials are taken out of what is recorded, before the journal sees it.

What authenticates a request becomes `redacted:<fingerprint>`; key shapes in bodies are masked by mask.py.
Never touches what is passed on. Must not know journal or database.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from operator import itemgetter
from urllib.parse import unquote_to_bytes

from proxy.exchange import REDACTED
from proxy.mask import KEY_SHAPE
from proxy.wire.fields import ByName
from proxy.wire.interface import RawHeaders

_REDACTED = REDACTED.encode()

SECRET_HEADERS = frozenset(
    (
        b"api-key",
        b"authentication",
        b"authorization",
        b"cf-access-client-secret",
        b"cf-aig-authorization",
        b"cookie",
        b"helicone-auth",
        b"ocp-apim-subscription-key",
        b"proxy-authorization",
        b"set-cookie",
        b"x-amz-security-token",
        b"x-api-key",
        b"x-auth-token",
        b"x-functions-key",
        b"x-goog-api-key",
        b"x-goog-iam-authorization-token",
        b"x-guploader-uploadid",
        b"x-litellm-api-key",
        b"x-litellm-key",
        b"x-portkey-api-key",
        b"x-portkey-config",
        b"x-portkey-virtual-key",
        b"x-rapidapi-key",
    )
)
SECRET_QUERY = frozenset(
    (
        b"access_token",
        b"api-key",
        b"api_key",
        b"apikey",
        b"auth",
        b"auth_token",
        b"authorization",
        b"client_secret",
        b"id_token",
        b"jwt",
        b"key",
        b"password",
        b"refresh_token",
        b"secret",
        b"sig",
        b"signature",
        b"subscription-key",
        b"token",
        b"upload_id",
        b"x-amz-credential",
        b"x-amz-security-token",
        b"x-amz-signature",
        b"x-goog-signature",
    )
)
# No list holds every gateway's and tool's own header or parameter, but they are named for what they are.
_SPEAKING = re.compile(
    rb"(?:^|[-_.])(?:api[-_]?key|(?<!page[-_])token|secret|password|passwd|authorization|jwt)$", re.DOTALL
)
# Headers whose value is a URL that may carry a credential in its query, however it is written.
URL_HEADERS = frozenset(
    (b"content-location", b"location", b"referer", b"x-goog-upload-control-url", b"x-goog-upload-url")
)
# Where the credential that a request is billed to stands, the most telling first.
CREDENTIAL_HEADERS = (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"ocp-apim-subscription-key")
SCHEMES = frozenset((b"aws4-hmac-sha256", b"basic", b"bearer", b"digest", b"negotiate", b"token"))
SUBPROTOCOL_SECRET = re.compile(rb"openai-insecure-api-key\.", re.IGNORECASE)
# What signs AWS requests never crosses the wire; who signed does, and that is what they are billed to.
_AWS_HEADER = re.compile(rb"Credential=([^/,\s]+)")
_AWS_QUERY = b"x-amz-credential"
_USER_INFO = re.compile(rb"(\A//|[A-Za-z][A-Za-z0-9+.-]{0,15}://)([^/?#]+)@")
# A parameter begins behind `&`; behind `;`, and a second `?` where somebody put a query behind a query, it may.
_PARAMETER = re.compile(rb"(?:^|[&;?])([^&;?=]+)=(?=.)", re.DOTALL)
_NAME = re.compile(rb"[^\s+\[\]]+")  # `key`, also in ` key`, `key[]` and `x[key]`
CACHED = 1024
LONGEST_NAME = 64  # of a header, to be remembered
LONGEST_VALUE = 1024
# 0 for a header that holds no credential, else its rank from 1.
_CREDENTIALS = ByName(lambda name: CREDENTIAL_HEADERS.index(name) + 1 if name in CREDENTIAL_HEADERS else 0)
_rank = itemgetter(0)


class Redactor:
    """Fingerprints are HMAC-SHA-256 with `key`, cut to 64 bits: equal credentials look equal, none can be guessed."""

    def __init__(self, key: bytes, headers: tuple[str, ...] = (), query: tuple[str, ...] = ()) -> None:
        self._key = key
        self._headers = SECRET_HEADERS | {name.lower().encode() for name in headers}
        self._query = SECRET_QUERY | {name.lower().encode() for name in query}
        self._known: dict[bytes, bytes] = {}
        self._recorded: dict[tuple[bytes, bytes], tuple[str, str]] = {}
        self._targets: dict[bytes, bytes] = {}
        self._readers: dict[bytes, Callable[[bytes], bytes]] = {}

    def fingerprint(self, secret: bytes) -> bytes:
        found = self._known.get(secret)
        if found is None:
            if len(self._known) >= CACHED:
                self._known.clear()
            found = self._known[secret] = hmac.new(self._key, secret, hashlib.sha256).hexdigest()[:16].encode()
        return found

    def headers(self, headers: RawHeaders) -> list[tuple[str, str]]:
        """Headers as they are recorded: in order, as latin-1 text."""
        get, read = self._recorded.get, self._read
        return [get(header) or read(header) for header in headers]

    def target(self, target: bytes) -> bytes:
        """A request target, or a URL, without the credentials in it and without key shapes in its path."""
        recorded = self._targets.get(target)
        if recorded is None:
            recorded = self._target(target)
            if len(target) <= LONGEST_VALUE:
                if len(self._targets) >= CACHED:
                    self._targets.clear()
                self._targets[target] = recorded
        return recorded

    def _target(self, target: bytes) -> bytes:
        path, mark, query = target.partition(b"?")
        if b"#" in target:  # never in a request's target
            before, hash_, fragment = target.partition(b"#")
            return (self.target(before) if before else b"") + hash_ + self._parameters(fragment)
        return self._path(path) + mark + self._parameters(query)

    def text(self, text: str) -> str:
        """Other text that is recorded, such as a tag's value, without key shapes."""
        return self._shapes(text.encode()).decode() if len(text) > 16 else text

    def credential(self, headers: RawHeaders, target: bytes) -> str | None:
        """The fingerprint of the credential that a request is billed to; None where it carries none."""
        given = [(_CREDENTIALS[header[0]], header[1]) for header in headers if _CREDENTIALS[header[0]]]
        for _, value in sorted(given, key=_rank):
            if secret := _bare(value)[1]:
                return self.fingerprint(secret).decode()
        for name, value in headers:
            if name.lower() == b"sec-websocket-protocol" and (key := SUBPROTOCOL_SECRET.search(value)):
                return self.fingerprint(value[key.end() :].partition(b",")[0].strip()).decode()
        for item in target.partition(b"?")[2].split(b"&"):
            asked = self._secret(item)
            if asked is not None:
                return self.fingerprint(asked[1]).decode()
        return None

    def _read(self, header: tuple[bytes, bytes]) -> tuple[str, str]:
        """One header as it is recorded; programs send the same ones again and again, so that is remembered."""
        name, value = header
        lower = name.lower()
        read = self._readers.get(lower) or self._reader(lower)
        recorded = (name.decode("latin-1"), read(value).decode("latin-1"))
        if len(value) <= LONGEST_VALUE:
            if len(self._recorded) >= CACHED:
                self._recorded.clear()
            self._recorded[header] = recorded
        return recorded

    def _credential(self, value: bytes) -> bytes:
        scheme, secret = _bare(value)
        return scheme + _REDACTED + self.fingerprint(secret) if secret else value

    def _reader(self, name: bytes) -> Callable[[bytes], bytes]:
        """What makes a header's value fit to be recorded, by its name in lower case."""
        if name in self._headers or _SPEAKING.search(name) is not None:
            found: Callable[[bytes], bytes] = self._credential
        elif name == b"sec-websocket-protocol":
            found = self._subprotocols
        else:
            found = self.target if name in URL_HEADERS else self._ordinary
        if len(name) <= LONGEST_NAME:
            if len(self._readers) >= CACHED:
                self._readers.clear()
            self._readers[name] = found
        return found

    def _ordinary(self, value: bytes) -> bytes:
        if len(value) <= 16:
            return value
        return self.target(value) if b"?" in value or b"://" in value else self._shapes(value)

    def _path(self, path: bytes) -> bytes:
        shown = self._shapes(path)
        if b"%" not in shown or not _holds_key(shown):
            return shown
        return b"/".join([self._marked(part) if _holds_key(part) else part for part in shown.split(b"/")])

    def _parameters(self, query: bytes) -> bytes:
        return b"&".join([self._parameter(item) for item in query.split(b"&")]) if query else query

    def _parameter(self, item: bytes) -> bytes:
        secret = self._secret(item)
        if secret is not None:
            begin, value = secret
            return self._shapes(item[:begin]) + _REDACTED + self.fingerprint(value)
        shown = self._shapes(item)
        if b"%" in shown and (_holds_key(shown) or self._secret(unquote_to_bytes(shown)) is not None):
            name, equals, value = shown.partition(b"=")
            return name + equals + self._marked(value) if equals else self._marked(shown)
        return shown

    def _secret(self, item: bytes) -> tuple[int, bytes] | None:
        """Where in a `name=value` the value of a secret begins, and the secret, decoded; None where it holds none."""
        for named in _PARAMETER.finditer(item):
            for name in _NAME.findall(unquote_to_bytes(named[1]).lower()):
                if name in self._query or _SPEAKING.search(name) is not None:
                    secret = unquote_to_bytes(item[named.end() :])
                    return named.end(), secret.partition(b"/")[0] if name == _AWS_QUERY else secret
        return None

    def _subprotocols(self, value: bytes) -> bytes:
        parts = []
        scheme = False
        for item in value.split(b","):
            plain = item.strip()
            found = SUBPROTOCOL_SECRET.search(item)
            begin = found.end() if found is not None else item.find(plain)
            if plain and item[begin:].strip() and (scheme or found is not None):
                parts.append(item[:begin] + _REDACTED + self.fingerprint(item[begin:].strip()))
            else:
                parts.append(self._shapes(item))
            scheme = plain.lower() in SCHEMES  # `bearer, <token>`
        return b",".join(parts)

    def _marked(self, text: bytes) -> bytes:
        """What stands for text that holds a credential somewhere in an encoding."""
        return _REDACTED + self.fingerprint(unquote_to_bytes(text))

    def _shapes(self, text: bytes) -> bytes:
        text = KEY_SHAPE.sub(lambda match: _REDACTED + self.fingerprint(match[0]), text)
        if b"@" not in text:
            return text
        return _USER_INFO.sub(lambda match: match[1] + _REDACTED + self.fingerprint(match[2]) + b"@", text)


def _holds_key(text: bytes) -> bool:
    return KEY_SHAPE.search(unquote_to_bytes(text)) is not None


def _bare(value: bytes) -> tuple[bytes, bytes]:
    """(`Bearer `, the secret): the same key has one fingerprint however it is presented."""
    scheme, space, secret = value.partition(b" ")
    known = scheme.lower()
    if known not in SCHEMES:
        return b"", value
    if known == b"aws4-hmac-sha256":
        signer = _AWS_HEADER.search(secret)
        secret = signer[1] if signer is not None else secret
    return scheme + space, secret.strip()
