"""Sentence spans: exact, complete, and cut where a reader would."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.sentences import ends_paragraph, sentence_spans

TEXTS = st.text(st.sampled_from('aB1 .!?\n\t-#|*`>:;。？’")(“”\u00a0é東'), max_size=200) | st.text(
    max_size=200
)


@given(TEXTS, st.integers(0, 50), st.integers(0, 200))
def test_spans_hold_every_visible_character(text: str, start: int, length: int) -> None:
    """Spans ascend, are trimmed, and lose nothing of the range they were asked for."""
    start = min(start, len(text))
    end = min(len(text), start + length)

    spans = sentence_spans(text, start, end)

    assert all(start <= a < b <= end for a, b in spans)
    assert all(text[a:b] == text[a:b].strip() for a, b in spans)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))
    joined = "".join("".join(text[a:b].split()) for a, b in spans)
    assert joined == "".join(text[start:end].split())


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in sentence_spans(text)]


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Smith met J. K. Rowling at 3 p.m. in Washington.",
        "The value is 3.14 and the version is 2.0.1 today.",
        "See Fig. 3 and No. 5, e.g. the second one.",
        "Das gilt z. B. bis zum 3. Mai, d. h. für Verträge des 19. Jahrhunderts.",
        "She asked “Why?” and left.",
        "Call the desk (ext. 2222, tel. +44 1555 010 990).",
        "The sentence goes on\nover a line break.",
    ],
)
def test_one_sentence_stays_one(text: str) -> None:
    """Abbreviations, initials, numbers, quotes and wrapped lines end nothing."""
    assert sentences(text) == [text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One ends. Two begins.", ["One ends.", "Two begins."]),
        ("Really? Yes! Good.", ["Really?", "Yes!", "Good."]),
        ("She said no. He left.", ["She said no.", "He left."]),
        ("第一句。第二句！", ["第一句。", "第二句！"]),
        ("A heading\n\nA paragraph", ["A heading", "A paragraph"]),
        ("# Title\nText follows.", ["# Title", "Text follows."]),
        ("- one item\n- another item", ["- one item", "- another item"]),
        ("1. First step.\n2. Second step.", ["1. First step.", "2. Second step."]),
        ("| a | 1 |\n| b | 2 |", ["| a | 1 |", "| b | 2 |"]),
        ("He stopped (for now). Then he ran.", ["He stopped (for now).", "Then he ran."]),
        ("It is so [1]. And this too [2].", ["It is so [1].", "And this too [2]."]),
        ("Never so.[^1]\nAlways thus.[^a-b]", ["Never so.[^1]", "Always thus.[^a-b]"]),
    ],
)
def test_boundaries_are_where_a_reader_sees_them(text: str, expected: list[str]) -> None:
    """Stops, blank lines, headings, list items and table rows end a sentence."""
    assert sentences(text) == expected


@pytest.mark.parametrize(("characters", "expected"), [(90, 1), (400, 2)])
def test_a_line_too_long_to_be_wrapped_is_a_paragraph(characters: int, expected: int) -> None:
    """A title without a stop is not a part of the long line below it, but of a wrapped one."""
    assert len(sentences("A title\n" + "word " * (characters // 5))) == expected


def test_a_long_lines_end_is_a_paragraphs_end() -> None:
    """On either side of a line break one long line is enough; inside a line nothing ends."""
    long, short = "word " * 60 + "ends.", "Short."

    assert ends_paragraph(f"{long}\n{short}", len(long))
    assert ends_paragraph(f"{short} \n{long}", len(short))
    assert not ends_paragraph(f"{short}\n{short}", len(short))
    assert not ends_paragraph(f"{long} {long}", len(long))
