"""Cassettes: what goes out comes in the same, and whatever is wrong with one is told with its line."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import UsageError
from proxy.exchange import WireEnd
from proxy.replay.answer import Head
from proxy.replay.cassette import Track, escaped, lines, unescaped
from proxy.replay.cassette_reader import STEPS, BadCassette, NumberedLines, read, read_file
from proxy.replay.match import Rules
from proxy.replay.shelf import exported, put, shelved
from proxy.store.engine import open_engine, reading
from proxy.store.migrate import upgrade
from proxy.store.read import get_exchange
from tests.support.databases import Site, a_database
from tests.support.recordings import EVENTS

LATIN = st.text(st.characters(max_codepoint=255), max_size=12)
NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)
HEADERS = st.lists(st.tuples(NAMES, LATIN.filter(lambda text: text == text.lstrip(" "))), max_size=3)
TEXT = st.text('ab\n\r\t \\"{}<>=~^é€\u202e\u2028\x85', max_size=12).map(str.encode)
TIMES = st.integers(0, 10**9)
CHUNKS = st.lists(st.tuples(TIMES, st.binary(min_size=1, max_size=9) | TEXT.filter(bool)), max_size=4)
WORDS = st.text(min_size=1, max_size=8)
TRACKS = st.builds(
    Track,
    id=st.uuids(),
    upstream=WORDS,
    dialect=WORDS,
    method=WORDS,
    target=WORDS,
    version=st.sampled_from(["1.1", "1.0"]),
    started_us=st.integers(-(10**15), 10**18),
    end_us=st.integers(0, 10**12),
    wire_end=st.sampled_from(WireEnd),
    error=st.none() | WORDS,
    session=st.none() | WORDS,
    tags=st.lists(st.tuples(WORDS, st.text(max_size=8)), max_size=2),
    headers=HEADERS,
    request=CHUNKS,
    request_trailers=HEADERS,
    heads=st.lists(
        st.builds(Head, st.integers(0, 10**9), st.integers(100, 599), LATIN.map(str.strip), HEADERS), max_size=2
    ),
    response=CHUNKS,
    trailers=HEADERS,
    fault=st.none() | st.sampled_from(["cut=5", "status=529 retry-after=3,times=1", " stall=3:2s ;every=2", "none"]),
)


def text_of(found: Sequence[Track]) -> list[str]:
    return list(lines(found))


@given(st.lists(TRACKS, max_size=3))
def test_what_goes_out_comes_in(found: list[Track]) -> None:
    written = text_of(found)
    assert not any("\n" in line for line in written)
    assert read(f"{line}\n" for line in written).tracks == found
    assert text_of(read(written).tracks) == written


RULES = st.builds(
    Rules,
    ignore_json=st.lists(st.sampled_from(["a.b", 'x["c d"]', "**.id", "m[*].n"]), max_size=2, unique=True).map(tuple),
    ignore_headers=st.lists(st.text(min_size=1, max_size=6), max_size=2, unique=True).map(tuple),
    match_headers=st.lists(st.text(min_size=1, max_size=6), max_size=2, unique=True).map(tuple),
    normalise=st.lists(
        st.tuples(st.sampled_from([r"\d+ \w", "a b", "é", r"\\"]), st.text(max_size=4)), max_size=2, unique=True
    ).map(tuple),
)


@given(RULES)
def test_rules_go_out_and_come_in(rules: Rules) -> None:
    written = list(lines([one()], rules))
    assert read(written) == ([one()], rules)


@pytest.mark.parametrize(
    "rule",
    ["rule", "rule ignore_json", "rule ignore_json [", "rule normalise ( x", "rule other x", "rule ignore_json \\q"],
)
def test_a_rule_that_is_none(rule: str) -> None:
    with pytest.raises(BadCassette, match=r"\Aline 2: "):
        read(["wiretape cassette 1", rule, "== times", "== end 0"])


def test_an_earlier_format_is_read_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is none yet: one that was never written stands for it."""
    written = "\n".join(text_of([one()])).replace("upstream openai", "provider openai")
    old = ["wiretape cassette 0 (wiretape 0.0.1)", *written.split("\n")[1:]]
    with pytest.raises(BadCassette, match="no version of wiretape wrote format 0"):
        read(old)

    def step(numbered: NumberedLines) -> NumberedLines:
        return ((number, line.replace("provider ", "upstream ", 1)) for number, line in numbered)

    monkeypatch.setitem(STEPS, 0, step)
    assert read(old).tracks == [one()]
    with pytest.raises(BadCassette, match=r"\Aline 5: "):
        read([*old[:4], "nothing", *old[4:]])


@given(st.text())
def test_escapes(text: str) -> None:
    assert unescaped(escaped(text)) == text
    assert escaped(text).isprintable()


def one(body: bytes = b"data: a\n\ndata: b\n\n", **fields: object) -> Track:
    track = Track(UUID(int=5), "openai", "openai", "POST", "/openai/v1/x", "1.1", 10**15, 99, WireEnd.UPSTREAM_END)
    track.headers = [("Content-Type", "application/json")]
    track.request = [(10, b'{"model":"m"}')]
    track.heads = [Head(20, 200, "OK", [("A", "b")])]
    track.response = [(30, body)]
    for name, value in fields.items():
        setattr(track, name, value)
    return track


def test_it_can_be_read_by_people() -> None:
    told = one(session="s", tags=[("project", "search")], trailers=[("T", "1")], fault="cut=5, times=1")
    assert text_of([told])[1:] == [
        "",
        "== 1 00000000-0000-0000-0000-000000000005",
        "upstream openai openai",
        "session s",
        "tag project=search",
        "fault cut=5, times=1",
        "> POST /openai/v1/x HTTP/1.1",
        "> Content-Type: application/json",
        '>~ {"model":"m"}',
        "< 200 OK",
        "< A: b",
        "<< data: a",
        "<<",
        "<< data: b",
        "<<",
        "<+ T: 1",
        "ended upstream_end",
        "",
        "== times",
        "1 began 2001-09-09T01:46:40.000000Z ended 99",
        "1 > 10:13 crc aaba6c9b",
        "1 < 20 30:18 crc dfc759ba",
        "== end 1",
    ]


@pytest.mark.parametrize(
    ("body", "mark"), [(b"a\r\n", "<^"), (b"\xff", "<="), (b"\x1b[31m", "<="), ("\u202e".encode(), "<="), (b"a", "<~")]
)
def test_base64_only_where_it_must(body: bytes, mark: str) -> None:
    assert any(line.startswith(mark) for line in text_of([one(body)]))


def test_a_stream_that_comes_in_other_chunks_differs_in_its_times_alone() -> None:
    whole = text_of([one()])
    cut = text_of([one(response=[(30, b"data: a\n"), (31, b"\ndata: b\n\n")])])
    place = whole.index("== times")
    assert cut[:place] == whole[:place]


@pytest.mark.parametrize("drop", range(1, 21))
def test_torn_anywhere_it_says_so(drop: int) -> None:
    with pytest.raises(BadCassette, match=r"line \d+: "):
        read(text_of([one()])[:-drop])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "<< data: a",
            "<< data: x",
            "line 10: the response of exchange 1, which begins here, is not",
        ),
        ('>~ {"model":"m"}', '>~ {"model":"mm"}', "line 7: the request of exchange 1"),
        ("<< data: a", "<! data: a", "line 10: no line of a cassette begins so"),
        ("< 200 OK", "< fine", "line 8: a response begins with its status"),
        ("< A: b", "< A", "line 9: a header is written NAME: VALUE"),
        ("upstream openai openai", "upstream openai", "line 4: an upstream is written NAME DIALECT"),
        ("ended upstream_end", "ended well", "line 14: an exchange ends as one of"),
        ("== 1 0", "== 2 0", "line 3: exchange 1 is expected here, not 2"),
        ("== end 1", "== end 2", "line 20: 2 exchanges are said to be there, and there are 1"),
        ("1 began ", "2 began ", "line 17: times begin with the number of their exchange"),
        ("1 > 10:13", "1 > 10:x", "line 18: these times cannot be understood"),
        ("> POST ", "> PO ST ", "line 5: a request begins with its method"),
        ("< A: b", "< A: \\q", "line 9: a backslash"),
        ("< 200 OK", "fault cutt=1", "line 8: 'cutt=1' is no fault (did you mean cut?); the faults are cut=K"),
        ("< 200 OK", "fault", "line 8: '' has no fault in it"),
        ("< 200 OK", "fault cut=1\nfault cut=2", "line 9: an exchange has one fault"),
        ("wiretape cassette 1 (wiretape 0.1.0)", "hello", "line 1: this is no cassette"),
        (
            "wiretape cassette 1 (wiretape 0.1.0)",
            "wiretape cassette 9 (wiretape 7.2.0)",
            "line 1: this is format 9 of cassettes: wiretape 7.2.0 or later reads it",
        ),
    ],
)
def test_an_edited_one_names_the_line(old: str, new: str, says: str) -> None:
    written = "\n".join(text_of([one()]))
    assert old in written
    with pytest.raises(BadCassette) as raised:
        read(written.replace(old, new, 1).split("\n"))
    assert str(raised.value).startswith(says)


@given(st.lists(st.text(max_size=30), max_size=8), st.integers(0, 20))
def test_any_lines_are_refused_in_one_way(more: list[str], at: int) -> None:
    written = text_of([one()])
    written[at:at] = more
    with suppress(BadCassette):
        read(written)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, says in (("binary", "not UTF-8"), ("none", "cannot be read"), ("", "cannot be read")):
        with pytest.raises(UsageError, match=says):
            read_file(tmp_path / name)


# Through a store


def test_out_in_and_out_again(database: Site, ids: dict[str, UUID], kind: str, tmp_path: Path) -> None:
    engine = open_engine(database.url, create=False)
    chosen = [ids[name] for name in ("stream", "packed")]
    found = [track for track in exported(engine, chosen) if track is not None]
    assert b"".join(data for _, data in found[0].response) == b"".join(EVENTS)
    with a_database(kind, tmp_path) as other:
        copy = open_engine(other.url, create=False)
        upgrade(copy)
        assert list(put(copy, map(shelved, read(text_of(found)).tracks))) == [(tuple(chosen), 0)]
        assert list(put(copy, map(shelved, found))) == [((), 2)], "those that are there already stay as they are"
        again = [track for track in exported(copy, chosen) if track is not None]
        with reading(copy) as connection:
            row = get_exchange(connection, ids["stream"])
        copy.dispose()
    engine.dispose()
    assert text_of(again) == text_of(found)
    assert row is not None
    assert (row.origin.name, row.request_bytes, row.response_chunks) == ("IMPORT", 13, len(EVENTS))


def test_what_cannot_be_played_is_left_out(database: Site, ids: dict[str, UUID]) -> None:
    engine = open_engine(database.url, create=False)
    chosen = [*(ids[name] for name in ("bodiless", "refused", "lossy", "running", "broken")), UUID(int=1)]
    assert list(exported(engine, chosen)) == [None] * 6
    engine.dispose()
