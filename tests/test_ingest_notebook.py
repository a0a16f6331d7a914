"""Jupyter notebooks: cells as Markdown, code and its printed output between fences."""

import json

import pytest
from documents import blocks, read

from ingest.errors import LoadError
from ingest.types import Document


def markdown(source: object) -> dict[str, object]:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def code(source: object, *outputs: dict[str, object]) -> dict[str, object]:
    return {"cell_type": "code", "source": source, "outputs": list(outputs)}


def stream(text: object) -> dict[str, object]:
    return {"output_type": "stream", "name": "stdout", "text": text}


def notebook(*cells: dict[str, object], **metadata: object) -> Document:
    value = {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": list(cells)}
    (document,) = read("a.ipynb", json.dumps(value).encode())
    return document


def test_cells_become_markdown_with_its_structure():
    """Headings are headings; code stands between fences with its language, output without."""
    document = notebook(
        markdown(["# Sales\n", "\n", "By *year*.\n\n- one\n- two"]),
        code("# no heading\nprint(1)\n", stream(["1\n", "2\n"])),
        code(["1 + 1"], {"output_type": "execute_result", "data": {"text/plain": ["2"]}}),
        markdown("## Next"),
        kernelspec={"language": "python"},
    )

    expected = [
        ("heading", "# Sales"),
        ("prose", "By *year*."),
        ("list", "- one\n- two"),
        ("code", "```python\n# no heading\nprint(1)\n```"),
        ("code", "```\n1\n2\n```"),
        ("code", "```python\n1 + 1\n```"),
        ("code", "```\n2\n```"),
        ("heading", "## Next"),
    ]
    assert expected == blocks(document)
    assert (document.title, document.media_type) == ("Sales", "application/x-ipynb+json")


def test_metadata_names_title_and_authors():
    """Where a notebook has them; the language of its code is not that of its prose."""
    document = notebook(
        markdown("# Other\n\nA short introduction to the subject."),
        title="Sales",
        authors=[{"name": "Ann Lee"}, {"name": "Bo"}, {}],
        date="2024-05-01",
        language_info={"name": "R"},
    )

    assert document.title == "Sales"
    assert dict(document.metadata) == {
        "author": "Ann Lee, Bo",
        "date": "2024-05-01",
        "language": "en",
    }


def test_output_is_what_a_terminal_shows():
    """No colours or pictures, of a progress bar its last state, of an error no trace."""
    document = notebook(
        code("", stream("\x1b[31mred\x1b[0m\n 10%\r 20%\r100%\nend\r\n")),
        code("plot()", {"data": {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"}}),
        code("f()", {"output_type": "error", "ename": "E", "evalue": "bad", "traceback": ["x"]}),
    )

    expected = ["```\nred\n100%\nend\n```", "```\nplot()\n```", "```\nf()\n```", "```\nE: bad\n```"]
    assert expected == [text for _, text in blocks(document)]


def test_a_huge_output_is_cut_at_a_line():
    """Its beginning tells what it is."""
    document = notebook(code("run()", stream("0123456789\n" * 5_000)))

    (_, shown) = blocks(document)[1]
    assert 9_900 < len(shown) < 10_100
    assert shown.endswith("0123456789\n```")


def test_fences_are_longer_than_those_in_the_code():
    """A docstring with Markdown in it does not end its cell."""
    document = notebook(code('"""\n```\n# x\n```\n"""'), markdown("after"))

    assert [kind for kind, _ in blocks(document)] == ["code", "prose"]


def test_embedded_pictures_leave_the_text():
    """Their letters mean nothing."""
    document = notebook(
        markdown("See ![plot](data:image/png;base64,iVBORw0KGgoAAAANSUhEUg==) here")
    )

    assert document.text == "See ![plot]() here"


def test_the_third_version_of_the_format_is_read():
    """Its cells lie in worksheets, its code is `input`, and it has cells that are headings."""
    cells = [
        {"cell_type": "heading", "level": 2, "source": ["Old"]},
        {"cell_type": "code", "input": ["x"], "outputs": [{"stream": "stdout", "text": ["y"]}]},
    ]
    value = {"nbformat": 3, "metadata": {"name": ""}, "worksheets": [{"cells": cells}]}
    (document,) = read("a.ipynb", json.dumps(value).encode())

    assert blocks(document) == [
        ("heading", "## Old"),
        ("code", "```\nx\n```"),
        ("code", "```\ny\n```"),
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no text"),
        (b"[]", "no text"),
        (b'{"cells": {"a": 1}, "metadata": []}', "no text"),
        (b'{"cells": [null, 1, {"source": {}}, {"cell_type": "code", "outputs": "x"}]}', "no text"),
        (
            b'{"cells": [{"cell_type": "heading", "level": "1e9", "source": []}]',
            "line 1, column 67",
        ),
        (b"<<<<<<< HEAD\n{}", "not JSON: .*line 1"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_notebook_is_told(data, message):
    """Fields of any type are passed over; a merge conflict is told with its place."""
    with pytest.raises(LoadError, match=message):
        read("a.ipynb", data)
