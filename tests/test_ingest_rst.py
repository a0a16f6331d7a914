"""reStructuredText: structure as docutils sees it, whatever directives and roles it uses."""

import textwrap
from itertools import pairwise

import pytest
from documents import blocks, headers, read, read_all
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import LoadError
from ingest.types import Document


def read_text(text: str) -> Document:
    (document,) = read("a.rst", textwrap.dedent(text).encode())
    return document


def shown(text: str) -> str:
    """All the text that a file shows."""
    documents, problems = read_all("a.rst", textwrap.dedent(text).encode())
    assert all(error.message == "no text" for error in problems.values())
    return "".join(document.text for document in documents)


def test_sections_become_headings():
    """The first one is the title; fields below it are metadata, and stay to be quoted."""
    document = read_text(
        """
        .. _label:

        =======
         Guide
        =======

        :Author: Ann Lee
        :Date: 3 May 2024
        :Tags: a, b
        :orphan:

        Intro in
        two lines.

        First
        -----

        Deeper
        ~~~~~~

        Text.

        Second
        ------

        Text.
        """
    )

    headings = [(b.level, b.label) for b in document.blocks if b.kind == "heading"]
    assert headings == [(1, "Guide"), (2, "First"), (3, "Deeper"), (2, "Second")]
    assert blocks(document)[1:3] == [
        ("list", "Author: Ann Lee\nDate: 3 May 2024\nTags: a, b"),
        ("prose", "Intro in two lines."),
    ]
    assert (document.title, document.media_type) == ("Guide", "text/x-rst")
    assert {"author": "Ann Lee", "date": "2024-05-03", "tags": "a, b"}.items() <= (
        document.metadata.items()
    )


def test_fields_further_down_are_no_metadata():
    """They describe something else."""
    assert read_text("Title\n=====\n\nText.\n\n:Author: Ann\n").metadata.get("author") is None


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (":func:`os.path.join`", "os.path.join"),
        (":func:`~os.path.join`", "join"),
        (":class:`!Plain`", "Plain"),
        (":ref:`the text <label>`", "the text"),
        (":py:meth:`a.b` and `x`:sup:", "a.b and x"),
        (":unknown:`word`", "word"),
        ("``code \\n`` and :code:`a\\b`", "code \\n and a\\b"),
        (":pep:`8` and :math:`x^2`", "PEP 8 and x^2"),
        ("*a* **b** `c` `d <https://x.org>`_ e_", "a b c d e"),
        ("|name| and |other|\n\n.. |name| replace:: *text*", "text and |other|"),
        ("|logo| text\n\n.. |logo| image:: x.png", "text"),
    ],
)
def test_inline_markup_shows_its_text(source, text):
    """Roles of any name keep what a reader would see of them."""
    assert text == shown(source + "\n")


def test_lists_keep_markers_and_nesting():
    """What belongs to an item is indented below it."""
    document = read_text(
        """
        * one
          goes on
        * two

          more of two

          #. first
          #. second

          last of two

        5) five

        term
            meaning
        word : kind
            meaning

        -a, --all=FILE  everything
        """
    )

    assert [text for kind, text in blocks(document) if kind == "list"] == [
        "- one goes on\n- two\n  more of two\n  1. first\n  2. second\n  last of two",
        "5. five",
        "term\n  meaning\nword : kind\n  meaning",
        "-a, --all=FILE: everything",
    ]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (".. note:: Take\n   care.\n\n   Much.", "Note: Take care.\n\nMuch."),
        (".. warning::\n\n   Hot.", "Warning: Hot."),
        (".. admonition:: Custom\n\n   Text.", "Custom: Text."),
        (".. seealso:: :mod:`json`", "See also: json"),
        (".. versionadded:: 3.8\n   The *thing*.", "Added in version 3.8: The thing."),
        (".. versionchanged:: 3.9", "Changed in version 3.9"),
        (
            ".. deprecated-removed:: 3.1 3.9\n   Use x.",
            "Deprecated since version 3.1, removed in version 3.9: Use x.",
        ),
        ("* .. note:: In a list.", "- Note: In a list."),
    ],
)
def test_notes_begin_with_their_word(source, text):
    """A reader of a part of them knows what it is."""
    assert text == shown(source + "\n")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            ".. function:: f(*a)\n              g(**k)\n   :no: x\n\n   Text.",
            "f(*a) g(**k)\n\nText.",
        ),
        (".. py:class:: A\n\n   .. py:method:: b()\n\n      Text.", "A\n\nb()\n\nText."),
        (".. no-such-thing::\n   Text of :role:`it`.", "Text of it."),
        (".. no-such-thing::\n   :option: x\n\n   Text.", "Text."),
        (".. only:: html\n\n   Text.", "Text."),
        (".. tab-item:: Linux\n\n   Text.", "Linux\n\nText."),
        (".. topic:: Title\n\n   Text.", "Title\n\nText."),
        (".. figure:: x.png\n   :alt: no\n\n   Caption.\n\n   Legend.", "Caption.\n\nLegend."),
        (".. rst-class:: wide\n\nText.", "Text."),
        (".. index:: a\n.. toctree::\n   :maxdepth: 2\n\n   a\n   b\n\n.. comment\n   of two", ""),
        (".. image:: x.png\n   :alt: no\n\n.. contents:: C\n\n.. meta::\n   :k: v", ""),
        (".. role:: red(strong)\n.. default-role:: math\n\n:red:`a` `b\\c`", "a bc"),
    ],
)
def test_any_directive_is_read_as_what_it_looks_like(source, text):
    """Sphinx's and those of its extensions too; what shows nothing is left out."""
    assert text == shown(source + "\n")


@pytest.mark.parametrize(
    "source",
    [
        "::\n\n   a\n\n     b",
        "Text::\n\n   a\n\n     b",
        ".. code-block:: python\n   :linenos:\n\n   a\n\n     b",
        ".. code::\n\n   a\n\n     b",
        ".. productionlist:: grammar\n   a\n\n     b",
    ],
)
def test_code_keeps_its_lines(source):
    """By whatever directive."""
    assert ("code", "a\n\n  b") in blocks(read_text(source + "\n"))


@pytest.mark.parametrize(
    "source",
    [
        ".. table:: Caption\n\n   === ===\n   a   b\n   === ===\n   1   2\n   === ===",
        ".. csv-table:: Caption\n   :header: a, b\n\n   1, 2",
        ".. list-table:: Caption\n   :header-rows: 1\n\n   * - a\n     - b\n   * - 1\n     - 2",
    ],
)
def test_tables_have_captions_and_header_rows(source):
    """In each of the forms that reStructuredText has for them."""
    document = read_text(source + "\n")

    assert blocks(document) == [("table", "Caption\na | b\n1 | 2")]
    assert headers(document) == ["Caption\na | b"]


def test_quotes_verses_and_footnotes_are_kept():
    """A footnote has the number that the text refers to it by."""
    text = shown(
        """
        One [#]_ two [#]_ three [CIT]_.

            Quoted.

            -- Ann

        | first line
        |   second line

        .. [#] Note one.
        .. [#] Note two.
        .. [CIT] A book.
        """
    )

    assert text == (
        "One [1] two [2] three [CIT].\n\nQuoted.\n\n— Ann\n\nfirst line\nsecond line\n\n"
        "[1] Note one.\n\n[2] Note two.\n\n[CIT] A book."
    )


@pytest.mark.parametrize(
    "directive",
    [
        ".. include:: {}",
        ".. literalinclude:: {}",
        ".. raw:: html\n   :file: {}",
        ".. csv-table:: T\n   :file: {}",
        ".. csv-table:: T\n   :url: file://{}",
        ".. code::\n   :include: {}",
        ".. |x| include:: {}\n\n|x|",
    ],
)
def test_nothing_that_a_file_names_is_opened(directive, tmp_path):
    """A document must not pull others into the store."""
    (tmp_path / "secret.txt").write_text("TOP SECRET,1\n")

    assert "TOP SECRET" not in shown(directive.format(tmp_path / "secret.txt") + "\n")


def test_raw_markup_is_not_shown():
    """It is meant for a browser."""
    assert shown(".. raw:: html\n\n   <b>x</b>\n") == ""


def test_what_cannot_be_parsed_is_kept_as_code():
    """A malformed table has words too."""
    text = "+---+\n| a b\n+---+"

    assert ("code", text) in blocks(read_text("Before.\n\n" + text))


def test_one_file_does_not_change_how_the_next_is_read():
    """docutils keeps roles and directives for the whole process."""
    source = ":red:`a` `b`\n"
    before = shown(source)

    shown(".. role:: red(raw)\n   :format: html\n\n.. default-role:: literal\n\n:red:`x`\n")

    assert before == shown(source) == "a b"


def test_substitutions_do_not_multiply_without_end():
    """A billion laughs end early."""
    names = "abcdefghij"
    laughs = "".join(f".. |{a}| replace:: {f'|{b}|' * 10}\n" for a, b in pairwise(names))

    assert len(shown(f"{laughs}.. |j| replace:: ha\n\n|a|\n")) < 200_000


def test_deep_nesting_is_read_or_refused():
    """The stack is not exhausted."""
    assert shown("\n\n".join("  " * depth + "- a" for depth in range(30))).count("a") == 30
    with pytest.raises(LoadError, match="nested too deeply"):
        read_text("\n\n".join("  " * depth + "- a" for depth in range(400)))


PIECES = st.sampled_from((
    ".. note::", ".. x:: y", ".. |s| replace:: ", "|s|", ":role:`x`", "`", "``", "*", "**", "_",
    "::", "\n", "\n\n", "\n   ", "\n====\n", "\n----\n", "- ", "1. ", ":f: ", "| ", ">>> ", "[1]_",
    "=== ===\n", "+---+\n", ".. [#] ", ".. _t:", ".. table::", ".. code::", ".. csv-table::", "\0",
    ".. list-table::", ".. figure:: x", ".. class:: y", ".. role:: r(raw)", "-a  b", ".. math::",
    "\\", "[#]_", "[#a]_", "`a`_", "__ x", "'", '"', "\n\n.. ", "<x>", "é",
))  # fmt: skip


@given(pieces=st.lists(PIECES | st.text(max_size=5), max_size=40))
def test_any_text_is_read_or_refused(pieces):
    """Whatever stands in a file, nothing unforeseen is raised."""
    documents, problems = read_all("a.rst", "".join(pieces).encode("utf-8", "surrogatepass"))

    assert bool(documents) != bool(problems)
    assert not any("could not be read" in error.message for error in problems.values())
