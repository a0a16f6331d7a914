"""Chunks are slices: exact, complete, ordered, and within the model's window."""

import itertools
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.chunk import chunk
from ingest.config import IndexSettings
from ingest.types import Block, BlockKind, Document, embedded_text
from ingest.wordpieces import MODEL_WINDOW, WordPieces

PIECES = WordPieces()
SMALL = IndexSettings(chunk_tokens=64)


def document(*blocks: tuple[BlockKind, str], pages: tuple[int, ...] = ()) -> Document:
    """A document of the given blocks, one blank line between them."""
    text = ""
    made = []
    for kind, content in blocks:
        start = len(text) + 2 if text else 0
        text += ("\n\n" if text else "") + content
        level = len(content) - len(content.lstrip("#")) if kind == "heading" else 0
        label = content.lstrip("# ") if kind == "heading" else ""
        made.append(Block(start, len(text), kind, level, label))
    return Document("a.md", "Guide", "text/markdown", text, tuple(made), pages)


SENTENCE = "The quick brown fox jumps over the lazy dog."
KINDS: list[BlockKind] = ["heading", "prose", "list", "table", "code"]
blocks_strategy = st.lists(
    st.tuples(st.sampled_from(KINDS), st.text(min_size=1, max_size=400).filter(str.strip)),
    min_size=1,
    max_size=8,
)


@given(blocks_strategy)
@settings(max_examples=60, deadline=None)
def test_chunks_are_slices_that_lose_nothing(blocks: list[tuple[BlockKind, str]]) -> None:
    """Every chunk is the text at its offsets, and together they hold every visible character."""
    made = document(*blocks)

    chunks = chunk(made, PIECES, SMALL)

    assert all(made.text[c.start : c.end] == c.text for c in chunks)
    assert [c.ordinal for c in chunks] == list(range(len(chunks)))
    assert all(a.end <= b.start for a, b in itertools.pairwise(chunks))
    assert "".join("".join(c.text.split()) for c in chunks) == "".join(made.text.split())


@given(blocks_strategy)
@settings(max_examples=40, deadline=None)
def test_no_chunk_is_longer_than_the_limit(blocks: list[tuple[BlockKind, str]]) -> None:
    """A chunk counts at most the limit in the model's own tokens."""
    made = document(*blocks)
    starts = PIECES.starts(made.text)

    sizes = [
        sum(c.start <= start < c.end for start in starts)
        for c in chunk(made, PIECES, IndexSettings())
    ]

    assert all(size <= IndexSettings().chunk_tokens for size in sizes)


def test_prose_is_cut_between_sentences() -> None:
    """A long paragraph ends its chunks at full stops."""
    made = document(("prose", " ".join([SENTENCE] * 20)))

    chunks = chunk(made, PIECES, SMALL)

    assert len(chunks) > 1
    assert all(c.text.endswith(".") for c in chunks)


def test_chunks_of_a_section_are_evenly_filled() -> None:
    """Seven sentences of which six fit make a four and a three, not a six and a one."""
    made = document(("prose", " ".join([SENTENCE] * 7)))

    chunks = chunk(made, PIECES, SMALL)

    assert sorted(c.text.count(".") for c in chunks) == [3, 4]


def test_a_chunk_never_crosses_a_heading_and_knows_its_path() -> None:
    """Sections stay apart, and the path names every heading above."""
    made = document(
        ("heading", "# Install"),
        ("prose", "Run it."),
        ("heading", "## Linux"),
        ("prose", "Use apt."),
    )

    chunks = chunk(made, PIECES, IndexSettings())

    assert [(c.section, c.text) for c in chunks] == [
        ("Install", "# Install\n\nRun it."),
        ("Install > Linux", "## Linux\n\nUse apt."),
    ]


def test_a_heading_without_a_body_joins_what_follows() -> None:
    """A title directly above a subtitle makes no chunk of its own."""
    made = document(("heading", "# Install"), ("heading", "## Linux"), ("prose", "Use apt."))

    chunks = chunk(made, PIECES, IndexSettings())

    assert [c.section for c in chunks] == ["Install > Linux"]


def test_a_chunk_never_crosses_a_page() -> None:
    """Pages are exact: a chunk lies on one of them."""
    made = document(("prose", "First page."), ("prose", "Second page."), pages=(0, 13))

    chunks = chunk(made, PIECES, IndexSettings())

    assert [(c.page, c.text) for c in chunks] == [(1, "First page."), (2, "Second page.")]


def test_a_table_that_fits_stays_whole() -> None:
    """A table is moved to the next chunk rather than cut."""
    table = "\n".join(f"| row {i} | {i} |" for i in range(4))
    made = document(("prose", " ".join([SENTENCE] * 3)), ("table", table), ("prose", SENTENCE))

    chunks = chunk(made, PIECES, SMALL)

    assert any(table in c.text for c in chunks)


def test_an_oversized_table_is_cut_between_rows() -> None:
    """No row is ever cut when a row fits a chunk."""
    rows = [f"| item number {i} | {i * 7} euros |" for i in range(30)]
    made = document(("table", "\n".join(rows)))

    chunks = chunk(made, PIECES, SMALL)

    assert len(chunks) > 1
    assert [line for c in chunks for line in c.text.split("\n")] == rows


def test_code_keeps_its_indentation() -> None:
    """The first line of a code chunk keeps the spaces in front of it."""
    code = "    def f():\n        return 1"
    made = document(("prose", "Example."), ("code", code))

    assert code in chunk(made, PIECES, IndexSettings())[0].text


def test_a_word_without_end_is_cut_and_kept() -> None:
    """One enormous line makes many chunks and loses nothing."""
    made = document(("prose", "东京" * 500))

    chunks = chunk(made, PIECES, IndexSettings())

    assert len(chunks) > 1
    assert "".join(c.text for c in chunks) == made.text


def test_chunk_and_heading_together_fit_the_model() -> None:
    """A long heading path leaves less room for the text below it."""
    made = document(
        ("heading", "# " + "Very long heading " * 6), ("prose", " ".join([SENTENCE] * 60))
    )

    for c in chunk(made, PIECES, IndexSettings()):
        encoded = PIECES.count(f"Guide > {c.section}\n{c.text}") + 2
        assert encoded <= 256


def test_a_paragraph_of_a_long_line_is_not_parted_where_it_could_end() -> None:
    """Lines too long to be wrapped are cut between, though no blank line stands there."""
    lines = [" ".join([SENTENCE] * 5), " ".join([SENTENCE] * 5), " ".join([SENTENCE] * 5)]

    chunks = chunk(document(("prose", "\n".join(lines))), PIECES, SMALL)

    assert [c.text for c in chunks] == lines


def test_a_title_as_long_as_a_paragraph_leaves_room_for_the_text() -> None:
    """Only its beginning is context, so that chunks are as large as below a short title."""
    text = " ".join([SENTENCE] * 100)
    long = replace(document(("prose", text)), title="A title that does not end " * 30)

    chunks = chunk(long, PIECES, IndexSettings())

    assert max(c.tokens for c in chunks) > 150
    assert all(PIECES.count(embedded_text(long, c)) <= MODEL_WINDOW - 2 for c in chunks)
