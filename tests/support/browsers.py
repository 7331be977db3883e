"""HTTP Archives as browsers write them, with what they leave out and add, and a credential wherever one can stand."""

from __future__ import annotations

import base64
from typing import Any

KEY = "sk-proj-0123456789abcdefghijklmnopqrstuvwxyz"
EVENTS = 'data: {"choices":[{"delta":{"content":"Grüße"}}]}\n\ndata: [DONE]\n\n'


def archive(*entries: dict[str, Any]) -> dict[str, Any]:
    creator = {"name": "WebInspector", "version": "537.36"}
    pages = [{"id": "page_1", "title": 'a "page" [', "pageTimings": {"onLoad": 1.5}}]
    return {"log": {"version": "1.2", "creator": creator, "pages": pages, "entries": list(entries)}}


def headers(**values: str) -> list[dict[str, str]]:
    return [{"name": name.replace("_", "-"), "value": value} for name, value in values.items()]


def of_chrome(url: str = "https://api.openai.com/v1/chat/completions", **response: Any) -> dict[str, Any]:
    """A streamed chat over HTTP/2, whose answer was compressed."""
    sent = [
        {"name": ":authority", "value": "api.openai.com"},
        *headers(authorization=f"Bearer {KEY}", cookie="sid=top-secret-cookie", content_type="application/json"),
    ]
    answered = headers(content_encoding="br", content_type="text/event-stream", content_length="9")
    answered.append({"name": "set-cookie", "value": "a=secret-one\nb=secret-two"})
    return {
        "_initiator": {"type": "script"},
        "_priority": "High",
        "_resourceType": "fetch",
        "cache": {},
        "connection": "443",
        "pageref": "page_1",
        "request": {
            "method": "POST",
            "url": url,
            "httpVersion": "http/2.0",
            "headers": sent,
            "queryString": [],
            "cookies": [{"name": "sid", "value": "top-secret-cookie"}],
            "headersSize": -1,
            "bodySize": 31,
            "postData": {"mimeType": "application/json", "text": f'{{"model":"m","user":"{KEY}"}}'},
        },
        "response": {
            "status": 200,
            "statusText": "",
            "httpVersion": "http/2.0",
            "headers": answered,
            "cookies": [],
            "content": {"size": len(EVENTS.encode()), "mimeType": "text/event-stream", "text": EVENTS},
            "redirectURL": "",
            "headersSize": -1,
            "bodySize": -1,
            "_transferSize": 300,
            "_error": None,
            **response,
        },
        "serverIPAddress": "[2606:4700::1]",
        "startedDateTime": "2026-03-01T12:00:00.123Z",
        "time": 812.5,
        "timings": {"blocked": 2.5, "dns": -1, "ssl": -1, "connect": -1, "send": 0.5, "wait": 500, "receive": 309.5},
    }


def of_firefox(url: str = "https://generativelanguage.googleapis.com/v1beta/models?key=" + KEY) -> dict[str, Any]:
    """A list of models; the body in base64, the time of a zone, and little else."""
    body = b'{"models": []}'
    return {
        "startedDateTime": "2026-03-01T13:00:00.500+01:00",
        "request": {"method": "GET", "url": url, "httpVersion": "HTTP/3", "headers": headers(X_Goog_Api_Key=KEY)},
        "response": {
            "status": 200,
            "statusText": "OK",
            "httpVersion": "HTTP/3",
            "headers": headers(content_type="application/json"),
            "content": {
                "mimeType": "application/json",
                "size": len(body),
                "encoding": "base64",
                "text": base64.b64encode(body).decode(),
            },
        },
        "time": 80,
    }
