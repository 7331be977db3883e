"""The URL of a proxy: what it names, and what is refused without being quoted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.via import Via, parse_via, shown


@pytest.mark.parametrize(
    ("url", "via"),
    [
        ("http://proxy.corp:3128", Via("http", "proxy.corp", 3128)),
        ("HTTP://proxy.corp/", Via("http", "proxy.corp", 80)),
        ("http://me:s%40c%3Aret@[::1]:3128", Via("http", "::1", 3128, "me", "s@c:ret")),
        ("http://me@proxy", Via("http", "proxy", 80, "me", "")),
        ("socks5://10.0.0.1", Via("socks5", "10.0.0.1", 1080)),
        ("socks5h://me:secret@proxy:9050", Via("socks5h", "proxy", 9050, "me", "secret")),
    ],
)
def test_what_is_named(url: str, via: Via) -> None:
    assert parse_via(url) == via
    assert "secret" not in repr(parse_via(url)) + str(parse_via(url))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("proxy:3128", "must begin with http://, socks5:// or socks5h://"),
        ("https://proxy", "must begin with http://, socks5:// or socks5h://"),
        ("socks4://proxy", "must begin with http://, socks5:// or socks5h://"),
        ("http://", "must have a valid host and port"),
        ("http://me:s3cret@", "must have a valid host and port"),
        ("http://me:s3c@ret@proxy:x", "must have a valid host and port"),
        ("http://proxy:0", "must have a valid host and port"),
        ("http://proxy:99999", "must have a valid host and port"),
        ("http://me:s3cr#t@proxy", "must "),
        ("http://me:s3c/ret@proxy", "must "),
        ("http://proxy/path", "must end behind its port"),
        ("http://proxy?x", "must end behind its port"),
        ("http://me:s3c ret@proxy", "must not hold spaces"),
        ("http://:s3cret@proxy", "must have a user where it has a password"),
        ("http://m%3Ae:s3cret@proxy", "must have a user without colons"),
        ("http://me:s3%0Acret@proxy", "no control characters in its password"),
        ("socks5://me@proxy", "must have a password where it has a user"),
        ("socks5://me:s3cr%C3%A9t@proxy", "in ASCII, of at most 255"),
        ("socks5://me:" + "s3cret" * 50 + "@proxy", "in ASCII, of at most 255"),
    ],
)
def test_what_is_refused(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=r"^must") as raised:
        parse_via(url)
    assert says in str(raised.value)
    assert "s3c" not in str(raised.value)


@given(st.text(max_size=60))
def test_any_text_is_a_proxy_or_refused_and_shows_no_password(text: str) -> None:
    for url in (text, f"http://{text}", f"socks5h://u:{text}@proxy:1"):
        try:
            found: object = parse_via(url)
        except ValueError as error:
            found = error
        assert isinstance(found, Via) or str(found).startswith("must ")
    assert shown(f"http://me:{text}s3cret@proxy:1") == "http://***@proxy:1"
