"""What HAR 1.2 asks of an archive: http://www.softwareishard.com/blog/har-12-spec/."""

from __future__ import annotations

import base64
import re
from typing import Any

Fields = dict[str, type | tuple[type, ...]]

NUMBER = (int, float)
ENTRY: Fields = {
    "startedDateTime": str,
    "time": NUMBER,
    "request": dict,
    "response": dict,
    "cache": dict,
    "timings": dict,
}
MESSAGE: Fields = {"httpVersion": str, "cookies": list, "headers": list, "headersSize": int, "bodySize": int}
REQUEST: Fields = {**MESSAGE, "method": str, "url": str, "queryString": list}
RESPONSE: Fields = {**MESSAGE, "status": int, "statusText": str, "content": dict, "redirectURL": str}
CONTENT: Fields = {"size": int, "mimeType": str}
TIMINGS: Fields = dict.fromkeys(("blocked", "dns", "connect", "ssl", "send", "wait", "receive"), NUMBER)


def validate(archive: Any) -> list[dict[str, Any]]:
    """The entries of an archive, once all that must be there is, and is of the right kind."""
    assert set(archive) == {"log"}
    log = archive["log"]
    assert log["version"] == "1.2"
    _has(log["creator"], {"name": str, "version": str})
    _has(log, {"entries": list})
    for entry in log["entries"]:
        _entry(entry)
    found: list[dict[str, Any]] = log["entries"]
    return found


def _entry(entry: dict[str, Any]) -> None:
    _has(entry, ENTRY)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["startedDateTime"])
    _has(entry["request"], REQUEST)
    _has(entry["response"], RESPONSE)
    _has(entry["response"]["content"], CONTENT)
    assert re.match(r"https?://[^/]+/", entry["request"]["url"])
    if "postData" in entry["request"]:
        _has(entry["request"]["postData"], {"mimeType": str, "text": str})
    for message in (entry["request"], entry["response"]):
        for pair in (*message["headers"], *message.get("queryString", ())):
            _has(pair, {"name": str, "value": str})
    timings = entry["timings"]
    _has(timings, TIMINGS)
    assert all(timings[each] >= 0 for each in ("send", "wait", "receive"))
    assert abs(entry["time"] - sum(each for each in timings.values() if each > 0)) < 0.01


def _has(found: Any, fields: Fields) -> None:
    for name, kind in fields.items():
        assert isinstance(found.get(name), kind), f"{name} in {sorted(found)}"
        assert not isinstance(found[name], bool), name


def body_of(content: dict[str, Any]) -> bytes:
    """The bytes that a content, or posted data, stands for."""
    text: str = content["text"]
    coded = content.get("encoding") or content.get("_encoding")
    return base64.b64decode(text) if coded == "base64" else text.encode()
