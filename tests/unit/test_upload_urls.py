"""URLs for uploads that lead back: those of the very upstream, and every byte of them but what stands before."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upload_urls import Headers, WayBack, address, parse, way_to

GOOGLE = address("https", "generativelanguage.googleapis.com")
HERE = b"http://127.0.0.1:8800/~a=b/gemini"
ASKED = b"/upload/v1beta/files?key=x"
BACK = WayBack(HERE, ASKED, GOOGLE)
BASED = WayBack(HERE, ASKED, address("http", "Corp.Example", 8080), b"/base/v2")
SIX = WayBack(HERE, ASKED, address("http", "0:0:0:0:0:0:0:1", 8080))
ANYWHERE = WayBack(HERE, ASKED, None)
URL = b"https://generativelanguage.googleapis.com/upload/v1beta/files?upload_id=x"
LEFT = [
    b"",
    b"/upload/v1beta/files?upload_id=x",
    b"//generativelanguage.googleapis.com/upload",
    b"http://generativelanguage.googleapis.com/upload",
    b"https://generativelanguage.googleapis.com:80/upload",
    b"https://generativelanguage.googleapis.com:0443443/upload",
    b"https://generativelanguage.googleapis.com:/upload",
    b"https://generativelanguage.googleapis.com./upload",
    b"https://generativelanguage.googleapis.com.evil/upload",
    b"https://generativelanguage.googleapis.comevil/upload",
    b"https://www.googleapis.com/upload",
    b"https://evil.generativelanguage.googleapis.com/upload",
    b"https://user@generativelanguage.googleapis.com/upload",
    b"https://generativelanguage.googleapis.com@evil.example/upload",
    b"https://generativelanguage.googleapis.com:443@evil.example/upload",
    b"https://generativelanguage.googleapis.com\\@evil.example/upload",
    b"https://generativelanguage.googleapis.com/\\evil.example/upload",
    b"https:/generativelanguage.googleapis.com/upload",
    b"https:\\\\generativelanguage.googleapis.com/upload",
    b"https:generativelanguage.googleapis.com/upload",
    b"https:///generativelanguage.googleapis.com/upload",
    b" https://generativelanguage.googleapis.com/upload",
    b"https://generativelanguage.googleapis.com/up load",
    b"https://generativelanguage.googleapis.com/up\tload",
    b"https://generativelanguage.googleapis.com/upl\xe4d",
    b"https://generativelanguage.googleapis.com/upload, https://evil.example/",
    b"https://generativelanguage.googleapis.com/../openai/v1/x",
    b"https://generativelanguage.googleapis.com/%2E%2e/openai/v1/x",
    b"https://generativelanguage.googleapis.com/x/.%2e/../openai",
    b"https://generativelanguage.googleapis.com/./x",
    b"https://generativelanguage.googleapis.com/..",
    b"https://%67enerativelanguage.googleapis.com/upload",
    b"ftp://generativelanguage.googleapis.com/upload",
    b"javascript://generativelanguage.googleapis.com/%0aalert(1)",
    b"https://[::1]/upload",
    b"https://[::ffff:g]/upload",
]


@pytest.mark.parametrize(
    ("url", "back"),
    [
        (URL, HERE + b"/upload/v1beta/files?upload_id=x"),
        (b"HTTPS://GenerativeLanguage.GoogleApis.COM:443/Upload?Q=%2F%zz", HERE + b"/Upload?Q=%2F%zz"),
        (b"https://generativelanguage.googleapis.com", HERE),
        (b"https://generativelanguage.googleapis.com/", HERE + b"/"),
        (b"https://generativelanguage.googleapis.com?a=b", HERE + b"?a=b"),
        (b"https://generativelanguage.googleapis.com/x?u=https://a/../b#f?g", HERE + b"/x?u=https://a/../b#f?g"),
        (b"https://generativelanguage.googleapis.com/x#f", HERE + b"/x#f"),
        (b"https://generativelanguage.googleapis.com//x//y/", HERE + b"//x//y/"),
        (b"https://generativelanguage.googleapis.com/..x/x../...", HERE + b"/..x/x../..."),
        (b"https://generativelanguage.googleapis.com/a@b:c", HERE + b"/a@b:c"),
    ],
)
def test_what_leads_to_the_upstream_leads_back(url: bytes, back: bytes) -> None:
    assert BACK.turned(url) == back


@pytest.mark.parametrize("url", LEFT)
def test_nothing_else_is_touched(url: bytes) -> None:
    assert BACK.turned(url) is None
    headers: Headers = [(b"x-goog-upload-url", url), (b"Location", url)]
    before = list(headers)
    assert (BACK.turn(200, headers), headers) == ([], before)


@pytest.mark.parametrize(
    ("url", "back"),
    [
        (b"http://corp.example:8080/base/v2/upload?x", HERE + b"/upload?x"),
        (b"http://CORP.example:8080/base/v2", HERE),
        (b"http://corp.example:8080/base/v2?x", HERE + b"?x"),
        (b"http://corp.example:8080/base/v2/", HERE + b"/"),
        (b"http://corp.example:8080/base/v22/upload", None),
        (b"http://corp.example:8080/base/V2/upload", None),
        (b"http://corp.example:8080/base/v2%2Fupload", None),
        (b"http://corp.example:8080/upload", None),
        (b"http://corp.example:8080", None),
        (b"http://corp.example:8080/?/base/v2/upload", None),
        (b"http://corp.example/base/v2/upload", None),
        (b"http://corp.example:80/base/v2/upload", None),
    ],
)
def test_only_below_the_path_of_the_upstream(url: bytes, back: bytes | None) -> None:
    assert BASED.turned(url) == back


def test_an_address_may_be_written_in_many_ways() -> None:
    for host in (b"[::1]", b"[0:0:0:0:0:0:0:1]", b"[0::0.0.0.1]"):
        assert SIX.turned(b"http://%b:8080/upload" % host) == HERE + b"/upload"
    for host in (b"[::2]", b"::1", b"[::1", b"localhost"):
        assert SIX.turned(b"http://%b:8080/upload" % host) is None


@pytest.mark.parametrize(
    ("url", "back"),
    [
        (URL, HERE + b"/upload/v1beta/files?upload_id=x"),
        (b"http://corp.example:9/base/v2/upload/v1beta/files?x", HERE + b"/upload/v1beta/files?x"),
        (b"http://corp.example/elsewhere?x", HERE + b"/elsewhere?x"),
        (b"http://corp.example", HERE),
        (b"http://corp.example/../upload", None),
        (b"http://a@corp.example/upload", None),
        (b"/upload", None),
    ],
)
def test_of_an_upstream_that_is_anywhere(url: bytes, back: bytes | None) -> None:
    assert ANYWHERE.turned(url) == back


def test_which_headers() -> None:
    """In their place and their case; all of a name that one of them has."""
    other = b"https://evil.example/x"
    headers: Headers = [
        (b"X-GOOG-Upload-URL", URL),
        (b"Location", other),
        (b"x-a", URL),
        (b"x-goog-upload-url", other),
        (b"X-Goog-Upload-Control-URL", URL),
        (b"Content-Location", URL),
    ]
    back = HERE + b"/upload/v1beta/files?upload_id=x"
    put = [(b"X-GOOG-Upload-URL", back), (b"x-goog-upload-url", other), (b"X-Goog-Upload-Control-URL", back)]
    before = list(headers)
    assert BACK.turn(500, headers) == put
    assert headers == [put[0], *before[1:3], put[1], put[2], before[5]]


@pytest.mark.parametrize("asked", [b"/upload/x?y", b"/upload", b"/upload?x", b"/resumable/upload/v1/x", b"/v1/upload/"])
@pytest.mark.parametrize(("status", "turned"), [(200, 1), (201, 1), (308, 1), (301, 0), (302, 0), (307, 0), (404, 0)])
def test_a_location_where_it_is_an_upload(asked: bytes, status: int, turned: int) -> None:
    headers: Headers = [(b"location", URL)]
    assert len(WayBack(HERE, asked, GOOGLE).turn(status, headers)) == turned
    assert headers[0][1].startswith(HERE if turned else URL)


def test_a_path_of_the_upstream_may_be_that_of_uploads() -> None:
    way = WayBack(HERE, b"/v1beta/files", address("http", "corp.example"), b"/upload")
    headers: Headers = [(b"location", b"http://corp.example/upload/v1beta/files?upload_id=x")]
    assert way.turn(200, headers) == [(b"location", HERE + b"/v1beta/files?upload_id=x")]


@pytest.mark.parametrize("asked", [b"/v1/x", b"", b"?x=/upload/", b"/uploads/x", b"/xupload/x", b"/v1/x?/upload/"])
def test_no_other_location(asked: bytes) -> None:
    headers: Headers = [(b"location", URL)]
    assert WayBack(HERE, asked, GOOGLE).turn(200, headers) == []
    assert headers == [(b"location", URL)]


@pytest.mark.parametrize(
    ("target", "way"),
    [
        (b"/gemini/upload/x?y", b"/gemini"),
        (b"/~a=b,c=%2F/gemini/upload", b"/~a=b,c=%2F/gemini"),
        (b"/~a=b/gemini?x", b"/~a=b/gemini"),
        (b"/gemini//x", b"/gemini"),
        (b"/gemini", b"/gemini"),
        (b"/~a=b", b"/~a=b"),
        (b"/?/~x", b"/"),
        (b"", b""),
        (b"*", b""),
    ],
)
def test_what_of_a_target_is_ours(target: bytes, way: bytes) -> None:
    assert way_to(target) == way


PATHS = st.from_regex(rb"(?:/[!-~]*)?(?:\?[!-~]*)?(?:#[!-~]*)?", fullmatch=True)


@given(PATHS)
def test_every_other_byte_is_kept(rest: bytes) -> None:
    back = BACK.turned(b"https://generativelanguage.googleapis.com" + rest)
    assert back in {HERE + rest, None}


@given(st.binary(max_size=60) | st.builds(lambda text: URL[:41] + text, st.binary(max_size=30)))
def test_what_is_turned_led_to_the_upstream(value: bytes) -> None:
    """As another reader of URLs has it; nothing breaks, whatever it is."""
    back = BACK.turned(value)
    if back is not None:
        there = urlsplit(value.decode("latin-1"))
        assert (there.scheme, there.hostname, there.port or 443) == GOOGLE
        assert there.username is None
        assert urlsplit(back.decode("latin-1")).netloc == "127.0.0.1:8800"
        assert back.startswith(HERE)


@given(st.binary(max_size=60))
def test_any_value_is_read(value: bytes) -> None:
    found = parse(value)
    assert found is None or value.endswith(found.path + found.rest)
