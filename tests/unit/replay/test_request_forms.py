"""Recorded requests as commands and scripts: run, they send the very request, and never do anything else."""

from __future__ import annotations

import json
import os
import string
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from proxy.errors import UsageError
from proxy.exchange import Side
from proxy.replay.captured import Tape
from proxy.replay.curl import curl_command, quoted
from proxy.replay.requested import Requested, Variable, Words, requested, variable_name
from proxy.replay.script import python_script
from proxy.store.rows import Exchange, Pairs
from tests.conftest import needs
from tests.support.listening import Heard, Listening, listening

KEY = "OPENAI_API_KEY"
FINGERPRINT = "0123456789abcdef"
SECRET = "sk-it's $(secret) `x`"  # a value that a shell would make something of
OWN = {"host", "content-length"}
ATTACKS = (
    "$(touch owned)",
    "`touch owned`",
    "'; touch owned; '",
    '"; touch owned; "',
    "\\'; touch owned #",
    "@/etc/passwd",
    "$HOME ${HOME} !! !touch ~ * [a-z] {1,2}",
    "%{url_effective}",
    "a\n\n'\n",
)


def tape(
    body: bytes = b"",
    headers: Pairs = (),
    method: str = "POST",
    target: str = "/openai/v1/chat",
    credential: str | None = None,
) -> Tape:
    row = Exchange(UUID(int=1), None, 0, upstream="openai", method=method, target=target, credential=credential)
    found = Tape(row, Side.REQUEST, headers, BytesIO())
    if body:
        found.add(0, body)
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[Listening]:
    with listening() as found:
        yield found


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """An empty folder, to be run in, that has to stay so."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


Run = Callable[[Requested], Heard]


def ran(server: Listening, place: Path, command: list[str], text: str) -> Heard:
    """What a server got from a program that is given a file with a text."""
    usual = {"PATH": os.environ["PATH"], "HOME": str(place), KEY: SECRET, "LC_ALL": "C.UTF-8"}
    with tempfile.NamedTemporaryFile() as file:
        file.write(text.encode())
        file.flush()
        done = subprocess.run([*command, file.name], capture_output=True, cwd=place, env=usual, timeout=20, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b"ok"
    assert not list(place.iterdir()), "something recorded was executed"
    return server.request()


@pytest.fixture(params=["bash", "sh", "python"])
def run(request: pytest.FixtureRequest, server: Listening, place: Path) -> Run:
    """Run a request, as a command in a shell, or as a script."""
    if request.param != "python":
        needs("curl")

    def of_python(asked: Requested) -> Heard:
        return ran(server, place, [sys.executable, "-W", "error"], python_script(asked))

    def of_a_shell(asked: Requested) -> Heard:
        command = curl_command(asked)
        # A shell without `$'…'` is asked only where there is none.
        return ran(server, place, [needs(request.param if "$'" not in command else "bash")], command)

    return of_python if request.param == "python" else of_a_shell


def said(words: Words) -> str:
    return "".join(SECRET if isinstance(word, Variable) else word for word in words)


def same(heard: Heard, asked: Requested) -> None:
    assert (heard.method, heard.target) == (asked.method, said(asked.target))
    assert heard.body == asked.body
    recorded = [(name, said(words)) for name, words in asked.headers]
    assert [each for each in heard.headers if each[0].lower() not in OWN] == recorded


def test_a_usual_request(run: Run, server: Listening) -> None:
    headers = [
        ("Host", "api.openai.com"),
        ("Authorization", f"Bearer redacted:{FINGERPRINT}"),
        ("Content-Type", "application/json"),
        ("Accept-Encoding", "gzip, deflate"),
        ("Connection", "keep-alive"),
        ("Content-Length", "2"),
        ("x-wiretape-tags", "a=b"),
        ("X-Twice", "a"),
        ("x-twice", "b"),
        ("X-Empty", ""),
    ]
    body = b'{"model": "m", "messages": [{"role": "user", "content": "it\'s \xc3\xbc!\\n"}], "n": 1.50e3}'
    asked = requested(tape(body, headers, credential=FINGERPRINT), server.url, KEY)
    assert asked.variables == [KEY]
    heard = run(asked)
    same(heard, asked)
    assert [name for name, _ in heard.headers if name.lower() not in OWN] == [
        *("Authorization", "Content-Type", "Accept-Encoding", "X-Twice", "x-twice", "X-Empty")
    ]
    assert ("Authorization", f"Bearer {SECRET}") in heard.headers


BODIES = {
    "none": b"",
    "nul": b"a\0b\xff\r\n",
    "at": b"@/etc/passwd",
    "bytes": bytes(range(1, 256)),
    "large": b"it's large\xff" * 20_000,
    "large and plain": b"it's large\n" * 200_000,
    "lines": b'{\n\t"a": "\xe2\x80\xae \x1b[2J \x7f"\n}\n\n',
    "twice": b'{"a":1,"a":2}',
    "half": b'{"a": "\\ud800"}',
    "not a number": b'{"a": NaN, "b": 1e999}',
    "deep": b"[" * 3000 + b"]" * 3000,
    "deep enough": b"[" * 150 + b"]" * 150,
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies(run: Run, server: Listening, name: str) -> None:
    asked = requested(tape(BODIES[name]), server.url, KEY)
    same(run(asked), asked)


def test_a_body_where_there_is_none_usually(run: Run, server: Listening) -> None:
    asked = requested(tape(b"x", method="GET"), server.url, KEY)
    same(run(asked), asked)


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "$X|`'"])
def test_methods_without_a_body(run: Run, server: Listening, method: str) -> None:
    asked = requested(tape(method=method), server.url, KEY)
    same(run(asked), asked)


@pytest.mark.parametrize(
    "target",
    [
        "/openai",
        "/openai?x=1",
        "/openai/a/../b/./c%2e%2e/%2E%2E/d",
        "/openai/a[1-3]{x,y}?q[]=$(touch%20owned)&r=`touch${IFS}owned`';!!",
        '/openai//a??b=%zz|\\"<>^',
        f"/openai/x?key=redacted:{FINGERPRINT}&b=1",
        f"/~a=b/openai/x;y@z:1*?key=redacted:{FINGERPRINT}[1]",
    ],
)
def test_targets(run: Run, server: Listening, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "SECRET", "sk-plain")  # of a URL, what is no part of one is coded
    asked = requested(tape(method="GET", target=target), f"{server.url}/base", KEY)
    heard = run(asked)
    same(heard, asked)
    behind = target.removeprefix("/~a=b").removeprefix("/openai").replace(f"redacted:{FINGERPRINT}", "sk-plain")
    assert heard.target == f"/base{behind}"


def test_a_target_beyond_ascii(run: Run, server: Listening) -> None:
    heard = run(requested(tape(method="GET", target="/openai/gr\xfc\xdfe?"), server.url, KEY))
    coded = run.__name__ == "of_python"  # h11, below httpx, sends no other
    assert heard.target == ("/gr%FC%DFe?" if coded else "/gr\xfc\xdfe?")


def test_a_target_without_anything(run: Run, server: Listening) -> None:
    asked = requested(tape(method="GET", target="/openai"), server.url, KEY)
    assert run(asked).target == "/"


def test_a_target_beyond_ascii_is_coded_for_httpx(server: Listening, place: Path) -> None:
    asked = requested(tape(method="GET", target="/openai/gr\xfc\xdfe"), server.url, KEY)
    assert ran(server, place, [sys.executable], python_script(asked)).target == "/gr%FC%DFe"


def test_through_the_data_port(run: Run, server: Listening) -> None:
    asked = requested(tape(b"{}", target="/~a=b/openai/v1/x?y"), f"{server.url}/openai/v1", KEY, through=True)
    assert run(asked).target == "/~a=b/openai/v1/x?y"


def test_attacks(run: Run, server: Listening) -> None:
    headers = [("X-A", attack.replace("\n", "\t").strip()) for attack in ATTACKS]
    headers += [("Authorization", f"{value} redacted:{FINGERPRINT}{value}") for _, value in headers]
    for body in ("".join(ATTACKS).encode(), json.dumps(ATTACKS).encode()):
        asked = requested(tape(body, headers, credential=FINGERPRINT), server.url, KEY)
        same(run(asked), asked)


values = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]) | st.just("\t"), max_size=20).map(
    lambda text: text.strip(" \t")
)
hostile = st.text(st.sampled_from("'\"$`\\!@;|&<>(){}[]*?~#%^ \x80\xff" + string.ascii_lowercase), max_size=20).map(
    str.strip
)
names = st.text(st.sampled_from("!#$%&'*+.^_`|~09azAZ-"), min_size=1, max_size=8).map(lambda name: f"X-{name}")
bodies = st.binary(max_size=60) | hostile.map(lambda text: text.encode())


@examples(max_examples=25)
@given(st.lists(st.tuples(names, values | hostile), max_size=4), bodies)
@example([("X-!", "$'\\x41'")], b"\x01\x7f\\\x80'\x1b")
def test_any_request_in_bash(server: Listening, place: Path, headers: list[tuple[str, str]], body: bytes) -> None:
    needs("curl")
    asked = requested(tape(body, headers), server.url, KEY)
    same(ran(server, place, [needs("bash")], curl_command(asked)), asked)


@examples(max_examples=8)
@given(st.lists(st.tuples(names, values | hostile), max_size=4), bodies)
def test_any_request_in_python(server: Listening, place: Path, headers: list[tuple[str, str]], body: bytes) -> None:
    asked = requested(tape(body, headers), server.url, KEY)
    same(ran(server, place, [sys.executable], python_script(asked)), asked)


@examples(max_examples=20)
@given(st.lists(st.binary(min_size=0, max_size=40).map(lambda data: data.replace(b"\0", b"")), min_size=1, max_size=40))
def test_words_of_bash(words: list[bytes]) -> None:
    script = "printf '%s\\0' " + " ".join(map(quoted, words))
    shown = subprocess.run([needs("bash"), "-c", script], capture_output=True, check=True).stdout
    assert shown == b"".join(word + b"\0" for word in words)
    assert all(character.isprintable() or character == "\n" for character in script)


# What is written


def command(**more: object) -> str:
    return curl_command(requested(tape(**more), "https://api.openai.com", KEY))  # type: ignore[arg-type]  # as `tape` takes them


def test_the_form_of_a_command() -> None:
    headers = [("Authorization", f"Bearer redacted:{FINGERPRINT}"), ("Accept-Encoding", "br"), ("Accept", "*/*")]
    assert command(body=b'{"a": 1}', headers=headers) == (
        "curl https://api.openai.com/v1/chat \\\n"
        '  -H "Authorization: Bearer $OPENAI_API_KEY" \\\n'
        "  -H 'Accept-Encoding: br' \\\n"
        "  -H 'Accept: */*' \\\n"
        "  -H User-Agent: \\\n"
        "  -H Content-Type: \\\n"
        "  --compressed \\\n"
        "  --data-binary '{\"a\": 1}'\n"
    )
    assert "--compressed" not in command(headers=[("accept-encoding", "identity")])
    assert command(method="HEAD").startswith("curl --head https://")


def test_which_variable_a_credential_is() -> None:
    headers = [
        ("x-api-key", f"redacted:{'a' * 16}"),
        ("Authorization", f"Bearer redacted:{FINGERPRINT}"),
        ("Cookie", f"redacted:{'b' * 16}"),
        ("api-key", f"redacted:{FINGERPRINT}"),
        ("Referer", f"http://x/?sig=redacted:{'c' * 16}&x"),
    ]
    asked = requested(tape(headers=headers, credential=FINGERPRINT), "https://x", KEY)
    assert [words for _, words in asked.headers] == [
        (Variable(f"{KEY}_2"),),
        ("Bearer ", Variable(KEY)),
        (Variable("OPENAI_COOKIE"),),
        (Variable(KEY),),
        ("http://x/?sig=", Variable("OPENAI_SIG"), "&x"),
    ]
    assert '"Referer: http://x/?sig=$OPENAI_SIG&x"' in curl_command(asked)


@given(st.text(max_size=80), st.text(max_size=80))
def test_a_name_of_a_variable_is_one(upstream: str, what: str) -> None:
    name = variable_name(upstream, what)
    assert name.isascii()
    assert name.isidentifier()


def test_json_is_laid_out_where_it_gives_the_same_bytes() -> None:
    def body(data: bytes) -> str:
        return python_script(requested(tape(data), "https://x", KEY))

    assert "json.dumps(\n    {'a': [1, True, None]}" in body(b'{"a":[1,true,null]}')
    assert "body = b'{\"a\":  1}'" in body(b'{"a":  1}')
    assert "import json" not in body(b'{"a":  1}')


def test_what_cannot_be_sent() -> None:
    for broken in (tape(method="G ET"), tape(method=""), tape(target="/openai/a b"), tape(target="/openai/\x1b")):
        with pytest.raises(UsageError, match="cannot be sent again"):
            requested(broken, "https://x", KEY)
    asked = requested(tape(headers=[("a b", "c"), ("x", "a\nb"), ("y", "z")]), "https://x", KEY)
    assert asked.headers == (("y", ("z",)),)
    assert len(asked.notes) == 2
    signed = requested(tape(headers=[("Authorization", f"AWS4-HMAC-SHA256 redacted:{FINGERPRINT}")]), "https://x", KEY)
    assert "signed" in signed.notes[0]
