"""Recorded requests sent again over real sockets: the bytes, whose keys, what is known of it afterwards."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.here import Ran, run_here
from tests.support.rawhttp import IDLE, Ended, Message, Peer, RawUpstream, connect
from tests.support.running import Running, files_of, serving

OLD, NEW, OTHER = "sk-old-0123456789abcdefghijk", "sk-new-0123456789abcdefghijk", "sk-other-0123456789abcdefghi"
BODY = b'{ "model":"gpt-4o-mini",\t"messages" : [{"role":"user","content":"gr\\u00fc\xc3\x9f dich"}], "n":1.0 }'
USAGE = {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}
FAST = "[forward]\nshutdown_grace = '1s'\n"


def _answer(number: int, model: str) -> bytes:
    events: list[Any] = [{"choices": [{"index": 0, "delta": {"content": f"Hello {number}!"}}]}]
    events += [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, {"choices": [], "usage": USAGE}]
    known = {"id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "model": model, "created": 1}
    data = b"".join(b"data: %b\n\n" % json.dumps({**known, **each}).encode() for each in events) + b"data: [DONE]\n\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
    return head % len(data) + data


class Upstream:
    """A provider that answers each request with a stream of its own number."""

    def __init__(self) -> None:
        self.requests: list[Message] = []

    def __call__(self, peer: Peer) -> None:
        try:
            while True:
                asked = peer.read_message()
                self.requests.append(asked)
                model = json.loads(asked.body).get("model", "?") if asked.body else "?"
                peer.send(_answer(len(self.requests), model))
        except Ended:
            return


class Place(NamedTuple):
    """A wiretape that runs, its upstream, and one exchange that it recorded."""

    wiretape: Running
    folder: Path
    upstream: Upstream
    original: str

    def resend(self, *arguments: str, **variables: str) -> Ran:
        ports = {"WIRETAPE_FORWARD__PORT": self.wiretape.url.rpartition(":")[2]}
        given = {**ports, "OPENAI_API_KEY": NEW, "OTHER_API_KEY": OTHER, **variables}
        home = str(self.wiretape.home)
        return run_here(self.folder, "resend", *arguments, "--home", home, variables=given)

    def sent(self, *arguments: str) -> tuple[Any, list[Message]]:
        """What it says of the requests that it sends, and these as they came to the upstream."""
        before = len(self.upstream.requests)
        ran = self.resend(*arguments, "--format", "json")
        assert ran.code == 0, ran.err
        return json.loads(ran.out), self.upstream.requests[before:]

    def rows(self, *ids: str) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(f"file:{self.wiretape.home / 'wiretape.db'}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            sql = "SELECT * FROM exchange_list WHERE id = ?"
            return [dict(connection.execute(sql, (each,)).fetchone()) for each in ids]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("resend")
    script = Upstream()
    with RawUpstream(script, deadline=IDLE) as origin:
        config = FAST + "".join(
            f"[upstreams.{name}]\nurl = '{origin.url}{path}'\ndialect = '{dialect}'\n"
            for name, path, dialect in (
                ("openai", "", "openai"),
                ("other", "/base/v1", "openai"),
                ("claude", "", "anthropic"),
            )
        )
        with serving(folder, config=config) as wiretape:
            yield Place(wiretape, folder, script, _recorded(wiretape, script))


def _recorded(wiretape: Running, script: Upstream, headers: bytes = b"", body: bytes = BODY) -> str:
    """The id of an exchange that is stored."""
    with connect(int(wiretape.url.rpartition(":")[2])) as client:
        client.send(
            b"POST /~project=search/openai/v1/chat/completions?a=%2f&b HTTP/1.1\r\nHost: wiretape.test\r\n",
            b"X-B: 1\r\nAuthorization: Bearer %b\r\nx-a: \xfc\r\nX-B: 2\r\nX-Wiretape-Session: s\r\n" % OLD.encode(),
            b"Cookie: a=b\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n%b\r\n" % headers,
            b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body),
        )
        found = client.read_message().one("x-wiretape-exchange")
    assert found is not None
    wiretape.wait_stored(len(script.requests))
    return found.decode()


def test_the_same_bytes_with_a_key_of_today(place: Place) -> None:
    said, (came,) = place.sent(place.original)
    assert (came.method, came.target, came.body) == (b"POST", b"/v1/chat/completions?a=%2f&b", BODY)
    sent = [(name, value) for name, value in came.headers if name.lower() not in (b"host", b"content-length")]
    assert sent == [
        (b"X-B", b"1"),
        (b"Authorization", b"Bearer " + NEW.encode()),
        (b"x-a", b"\xfc"),
        (b"X-B", b"2"),
        (b"Content-Type", b"application/json"),
    ]
    wanted = {"replay_of": place.original, "upstream": "openai", "status": 200, "outcome": "completed"}
    wanted |= {"model": "gpt-4o-mini", "input_tokens": 11, "output_tokens": 4, "usage_state": "complete"}
    assert said[0].items() >= wanted.items()
    assert said[0]["cost_pico"] > 0


def test_what_is_kept_of_it(place: Place) -> None:
    said, _ = place.sent(place.original)
    (row,) = place.rows(said[0]["id"])
    assert (row["origin"], row["replay_of"], row["session"]) == ("resend", place.original, None)
    (first,) = place.rows(place.original)
    assert (first["origin"], first["replay_of"], first["credential"] != row["credential"]) == ("live", None, True)
    shown = run_here(place.folder, "show", said[0]["id"], "--home", str(place.wiretape.home))
    assert f"sends again  {place.original}".encode() in b" ".join(shown.out.split(b"\n")).replace(b"   ", b"  ")
    found = run_here(place.folder, "spend", "--by", "session", "--format", "json", "--home", str(place.wiretape.home))
    assert json.loads(found.out)["total"]["requests"] == len(place.upstream.requests), "each counts, live or sent again"


def test_no_key_is_kept_anywhere(place: Place) -> None:
    place.sent(place.original)
    place.wiretape.wait_stored(len(place.upstream.requests))
    for path, data in files_of(place.folder).items():
        assert not any(key.encode() in data for key in (OLD, NEW, OTHER)), path


def test_to_another_upstream_with_other_words(place: Place) -> None:
    changes = ["--model", "gpt-4o", "--set", "messages[0].content=hi", "--set", "temperature=0"]
    said, (came,) = place.sent(place.original, "--to", "other", *changes)
    assert came.target == b"/base/v1/chat/completions?a=%2f&b"
    assert came.one("authorization") == b"Bearer " + OTHER.encode()
    expected = BODY.replace(b"gpt-4o-mini", b"gpt-4o").replace(b'"gr\\u00fc\xc3\x9f dich"', b'"hi"')
    assert came.body == expected.replace(b"1.0 }", b'1.0,"temperature":0 }')
    assert (said[0]["upstream"], said[0]["model"]) == ("other", "gpt-4o")


def test_several_so_many_times(place: Place) -> None:
    again, _ = place.sent(place.original)
    said, came = place.sent(place.original, again[0]["id"], "--times", "2")
    assert [each["replay_of"] for each in said] == [place.original, again[0]["id"]] * 2
    assert len({each["id"] for each in said}) == len(came) == 4


def test_lines_to_read(place: Place) -> None:
    ran = place.resend(place.original, "--times", "2")
    lines = [line.split("\t") for line in ran.out.decode().splitlines()]
    assert [line[1:5] for line in lines] == [["200", "completed", "11 in", "4 out"]] * 2


def test_a_budget_ends_it(place: Place) -> None:
    said, _ = place.sent(place.original)
    amount = said[0]["cost_pico"] * 1.5 / 10**12
    before = len(place.upstream.requests)
    ran = place.resend(place.original, "--times", "5", "--budget", f"{amount:.12f}")
    assert (ran.code, len(place.upstream.requests) - before) == (1, 2)
    assert "are spent; 2 of 5 were sent" in ran.err


def test_a_budget_cannot_be_kept_without_prices(place: Place) -> None:
    before = len(place.upstream.requests)
    ran = place.resend(place.original, "--times", "3", "--budget", "1", "--model", "nobodys-model")
    assert (ran.code, len(place.upstream.requests) - before) == (1, 1)
    assert "so --budget cannot be kept; 1 of 3 were sent" in ran.err
    ran = place.resend(place.original, "--times", "2", "--model", "nobodys-model")
    assert (ran.code, len(place.upstream.requests) - before, ran.err.count("not known what")) == (0, 3, 2)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--to", "claude"], 2, "speaks anthropic"),
        (["--to", "nobody"], 2, "is no upstream"),
        (["--set", "a.b=1"], 2, "the body has no a:"),
        (["--set", "a"], 2, "PATH=VALUE"),
        (["--budget", "much"], 2, "no amount"),
        (["ffff0000ffff"], 2, "there is no exchange"),
    ],
)
def test_what_is_refused_before_anything_is_sent(place: Place, arguments: list[str], code: int, said: str) -> None:
    before = len(place.upstream.requests)
    ran = place.resend(place.original, *arguments)
    assert (ran.code, len(place.upstream.requests)) == (code, before)
    assert said in ran.err


def test_a_key_that_is_not_there(place: Place) -> None:
    ran = place.resend(place.original, OPENAI_API_KEY=" ")
    assert (ran.code, ran.err) == (2, "wiretape: the key for openai is not recorded: set OPENAI_API_KEY\n")


def test_beside_one_another(place: Place) -> None:
    """An original of its own, so that it is known how often it was sent again."""
    original = _recorded(place.wiretape, place.upstream)
    place.sent(original, "--set", "temperature=0", "--times", "2")
    home = ["--home", str(place.wiretape.home)]
    ran = run_here(place.folder, "diff", original, "--resends", "--format", "json", *home)
    said = json.loads(ran.out)
    assert [each["replay_of"] for each in said["exchanges"]] == [None, original, original]
    assert said["request"] == [{"path": "temperature", "values": [None, 0, 0], "missing": [0]}]
    assert said["spread"]["output_tokens"] == {"least": 4, "median": 4, "most": 4, "known": 3}
    first, second = said["exchanges"][:2]
    assert second["text_diff"] == [f"Hello [-{first['text'][6:]}-]{{+{second['text'][6:]}+}}"]
    ran = run_here(place.folder, "diff", original, "--resends", *home)
    assert b"temperature  (none) \xe2\x86\x92 0" in ran.out
    ran = run_here(place.folder, "diff", original, *home)
    assert (ran.code, "one exchange alone" in ran.err) == (2, True)


def test_masked_keys_cannot_be_sent(place: Place) -> None:
    masked = _recorded(place.wiretape, place.upstream, body=BODY.replace(b"dich", OLD.encode()))
    ran = place.resend(masked)
    assert (ran.code, "the keys in it were masked" in ran.err) == (1, True)


def test_without_a_body(place: Place) -> None:
    bare = _recorded(place.wiretape, place.upstream, b"x-wiretape-record: meta\r\n")
    ran = place.resend(bare)
    assert (ran.code, "bodies of it are not kept" in ran.err) == (1, True)


def test_where_no_data_port_answers(place: Place) -> None:
    with RawUpstream(Upstream()) as gone:
        port = gone.port
    elsewhere = [
        "--home",
        str(place.folder / "elsewhere"),
        "--database",
        f"sqlite:///{place.wiretape.home}/wiretape.db",
    ]
    variables = {"WIRETAPE_FORWARD__PORT": str(port), "OPENAI_API_KEY": NEW}
    ran = run_here(place.folder, "resend", place.original, *elsewhere, variables=variables)
    said = ran.err.splitlines()[-1]
    assert said == f"wiretape: no data port answers at http://127.0.0.1:{port}: start `wiretape serve`"
    assert (ran.code, ran.out) == (1, b"")
