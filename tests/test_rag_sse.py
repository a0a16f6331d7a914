"""Server-sent events: every framing that servers use, cut anywhere."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.chat.sse import EventParser, EventTooLong, ServerEvent


def parse(*pieces: bytes, max_bytes: int = 1 << 20) -> list[ServerEvent]:
    parser = EventParser(max_bytes)
    events = [event for piece in pieces for event in parser.feed(piece)]
    return [*events, *parser.close()]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(b"data: a\n\n", ["a"], id="line feed"),
        pytest.param(b"data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"], id="carriage return line feed"),
        pytest.param(b"data: a\r\rdata: b\r\r", ["a", "b"], id="carriage return"),
        pytest.param(b"data:a\n\n", ["a"], id="no space after the colon"),
        pytest.param(b"data:  a\n\n", [" a"], id="only one space is dropped"),
        pytest.param(b": ping\n\ndata: a\n\n: ping\n", ["a"], id="comments"),
        pytest.param(b"data: a\ndata: b\n\n", ["a\nb"], id="several data lines"),
        pytest.param(b"data\n\n", [""], id="a field without a colon"),
        pytest.param(b"id: 7\nretry: 10\ndata: a\nx: y\n\n", ["a"], id="fields we do not use"),
        pytest.param(b"\xef\xbb\xbfdata: a\n\n", ["a"], id="byte order mark"),
        pytest.param(b"data: a", ["a"], id="the end of input ends an event"),
        pytest.param(b"\n\n\n", [], id="blank lines alone"),
        pytest.param(b"data: \xff\n\n", ["\ufffd"], id="not UTF-8"),
    ],
)
def test_data_of_each_framing(raw: bytes, expected: list[str]) -> None:
    """Each framing that servers use gives the data that was meant."""
    assert expected == [event.data for event in parse(raw)]


def test_name_belongs_to_its_event_alone() -> None:
    """A named event is told from the others, and its name does not stick to the next."""
    events = parse(b"event: error\ndata: a\n\ndata: b\n\n")

    assert [ServerEvent("error", "a"), ServerEvent("message", "b")] == events


LINES = st.sampled_from(
    [
        "data: ",
        "data:é漢",
        "data: [DONE]",
        ": ping",
        "event: error",
        "",
        "",
        "data: 🙂 a",
        "x",
        "id: 1",
    ]
)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


@given(st.lists(st.tuples(LINES, ENDS), max_size=20), st.lists(st.integers(0, 400), max_size=30))
def test_events_do_not_depend_on_how_the_bytes_arrive(
    lines: list[tuple[str, str]], cuts: list[int]
) -> None:
    """Any split of the bytes gives the same events, in the middle of a character or a CRLF too."""
    raw = "".join(line + end for line, end in lines).encode()
    places = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    pieces = [raw[start:end] for start, end in pairwise(places)]

    assert parse(raw) == parse(*pieces)
    assert parse(raw) == parse(*(raw[i : i + 1] for i in range(len(raw))))


@pytest.mark.parametrize(
    "raw",
    [b"data: " + b"a" * 200, b"data: a\n" * 40, b":" + b"a" * 200],
    ids=["line", "lines", "comment"],
)
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_one_event_cannot_grow_without_end(raw: bytes, step: int) -> None:
    """The cap holds however the bytes arrive, and the events before it are still delivered."""
    raw = b"data: first\n\n" + raw
    parser, events = EventParser(max_bytes=100), []
    pieces = [raw[place : place + step] for place in range(0, len(raw), step)]

    with pytest.raises(EventTooLong):
        events.extend(event for piece in pieces for event in parser.feed(piece))

    assert [event.data for event in events] == ["first"]


def test_many_events_pass_a_cap_that_is_for_one() -> None:
    """The cap counts one event, never the stream."""
    assert len(parse(b"data: abc\n\n" * 1000, max_bytes=20)) == 1000
