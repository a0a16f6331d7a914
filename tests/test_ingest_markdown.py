"""Markdown to blocks, with offsets that are exact in the source."""

import pytest

from ingest.loaders.markdown import load_markdown
from ingest.loaders.options import DEFAULT_OPTIONS
from ingest.types import Document


def read(text: str, source: str = "folder/some-file.md") -> Document:
    (document,) = load_markdown(text.encode(), source, DEFAULT_OPTIONS)
    return document


def shapes(document: Document) -> list[tuple[str, str]]:
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


def test_each_kind_of_block_is_told():
    """Blocks are the source's own lines, markup included."""
    document = read(
        "# Guide\n\nIntro *text*\nin two lines.\n\n- one\n  - nested\n\n  more\n- two\n\n"
        "1. first\n\n```python\n# no heading\n\n- no list\n```\n\n    indented\n      code\n\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n> # quoted\n\n---\n\n<div>\nraw\n</div>\n"
    )

    expected = [
        ("heading", "# Guide"),
        ("prose", "Intro *text*\nin two lines."),
        ("list", "- one\n  - nested\n\n  more\n- two"),
        ("list", "1. first"),
        ("code", "```python\n# no heading\n\n- no list\n```"),
        ("code", "    indented\n      code"),
        ("table", "| a | b |\n|---|---|\n| 1 | 2 |"),
        ("prose", "> # quoted"),
        ("prose", "---"),
        ("prose", "<div>\nraw\n</div>"),
    ]
    assert expected == shapes(document)


@pytest.mark.parametrize(
    ("source", "level", "label"),
    [
        ("## Plain ##", 2, "Plain"),
        ("Setext\nheading\n=======", 1, "Setext heading"),
        ("Second\n------", 2, "Second"),
        (
            "### The `run()` *method* of [Client](x.md) &amp; co",
            3,
            "The run() method of Client & co",
        ),
        ("# ![logo](l.png) Home<br>page", 1, "Homepage"),
        ("## Set {x} up { #set-up .wide }", 2, "Set {x} up"),
        ("###### a\\*b", 6, "a*b"),
        ("#", 1, ""),
    ],
)
def test_a_headings_label_is_its_words(source, level, label):
    """The block keeps the markup, the label does not."""
    document = read(f"text before\n\n{source}\n\ntext after\n")

    heading = document.blocks[1]
    assert ("heading", level, label) == (heading.kind, heading.level, heading.label)
    assert source == document.text[heading.start : heading.end]


def test_front_matter_becomes_metadata():
    """It leaves the text, and the rest begins where it ends."""
    document = read(
        "---\ntitle: 'The \"big\" guide'\n# a comment\nauthors:\n  - Ann Lee\n  - Bo\n"
        'date: 2024-05-01\ntags: [setup, "a b"]\nnested:\n  title: no\ndescription: |\n  long\n'
        "---\n\n# Other\n"
    )

    assert document.title == 'The "big" guide'
    assert dict(document.metadata) == {
        "author": "Ann Lee, Bo",
        "date": "2024-05-01",
        "tags": "setup, a b",
    }
    assert document.text == "\n# Other\n"


def test_front_matter_in_toml():
    """The same between `+++`."""
    document = read('+++\ntitle = "Release 2"\ntags = ["a", "b"]\n+++\nText.\n')

    assert (
        document.title,
        document.metadata["tags"],
        document.text,
    ) == ("Release 2", "a, b", "Text.\n")


@pytest.mark.parametrize(
    "text",
    ["---\n\nA rule opens this.\n\n---\n\nMore.\n", "---\ntitle: unclosed\n", "----\na: b\n----\n"],
)
def test_a_rule_is_no_front_matter(text):
    """Nothing is taken from a text that merely begins with a rule."""
    assert text == read(text).text


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("---\ntitle: Matter\n---\n# Heading\n", "Matter"),
        ("## Second\n\n# First\n\n# Later\n", "First"),
        ("## Only second\n", "some-file"),
    ],
)
def test_the_title(text, title):
    """Front matter, else the first h1, else the file's name."""
    assert title == read(text).shown_title


def test_comments_are_removed_outside_code():
    """A comment is hidden from readers, but code that shows one is text."""
    document = read(
        "a <!-- gone --> b\n\n<!--\n# gone\n\n- gone\n-->\n\n"
        "Write `<!-- kept -->` so.<!-- gone -->\n\n```html\n<!-- kept -->\n```\n\n"
        "    <!-- kept -->\n\n<!-- unclosed\n"
    )

    expected = [
        ("prose", "a  b"),
        ("prose", "Write `<!-- kept -->` so."),
        ("code", "```html\n<!-- kept -->\n```"),
        ("code", "    <!-- kept -->"),
        ("prose", "<!-- unclosed"),
    ]
    assert expected == shapes(document)


def test_what_the_parser_does_not_report_is_kept():
    """Link definitions make no block of CommonMark, but their text is there."""
    document = read("[a]: https://example.org 'A title'\n\nText [a].\n\n[b]: c\n")

    expected = [
        ("prose", "[a]: https://example.org 'A title'"),
        ("prose", "Text [a]."),
        ("prose", "[b]: c"),
    ]
    assert expected == shapes(document)


def test_deep_nesting_is_read():
    """No depth of quotes or lists is an error, and no text of it is lost."""
    text = ">" * 5_000 + " deep quote\n\n" + "".join("  " * n + "- x\n" for n in range(200))
    document = read(text)

    assert "deep quote" in document.text
    assert text.split() == "".join(f"{part}\n" for _, part in shapes(document)).split()
