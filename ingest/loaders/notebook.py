"""Jupyter notebooks as one Markdown text: code stands between fences, and what it printed too.

Form: https://nbformat.readthedocs.io/en/latest/format_description.html (versions 3 and 4)
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

from ingest.loaders.decode import clean
from ingest.loaders.json import read_json
from ingest.loaders.markdown import load_markdown
from ingest.loaders.metadata import described
from ingest.loaders.options import LoadOptions
from ingest.types import Document

_LONGEST_OUTPUT = 10_000  # characters; of a longer one the lines that fit are kept
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_OVERWRITTEN = re.compile(r"[^\n]*\r(?!\n)")  # as progress bars do with their line
_EMBEDDED = re.compile(r"data:[\w/+.-]+;base64,[\w+/=]+")  # pictures


def load_notebook(data: bytes, source: str, options: LoadOptions) -> tuple[Document, ...]:
    """One document, titled by its metadata, else by its first h1."""
    notebook = read_json(data)
    about = _field(notebook, "metadata")
    language = _text(_field(about, "language_info"), "name")
    language = language or _text(_field(about, "kernelspec"), "language")
    sheets = [notebook, *_list(notebook, "worksheets")]
    cells = chain.from_iterable(_list(sheet, "cells") for sheet in sheets)
    text = "\n\n".join(part for cell in cells for part in _cell(cell, language))
    (document,) = load_markdown(clean(_EMBEDDED.sub("", text)).encode(), source, options)
    authors = (_text(author, "name") for author in _list(about, "authors"))
    values = {"author": ", ".join(filter(None, authors)), "date": _text(about, "date")}
    title = _text(about, "title") or document.title
    metadata = {**document.metadata, **described(values)}
    return (replace(document, title=title, metadata=metadata),)


def _cell(cell: Any, language: str) -> Iterator[str]:
    """The parts of a cell as Markdown."""
    kind, source = _text(cell, "cell_type"), _text(cell, "source") or _text(cell, "input")
    if kind == "code":
        yield from _fenced(source, language)
        for output in _list(cell, "outputs"):
            yield from _fenced(_output(output), "")
    elif kind == "heading":  # of version 3
        level = _text(cell, "level")
        yield f"{'#' * min(int(level), 6) if level.isdecimal() else '#'} {source}"
    else:
        yield source


def _fenced(code: str, language: str) -> Iterator[str]:
    """Code between fences that are longer than any in it; nothing if it is blank."""
    if code.strip():
        longest = max(map(len, re.findall("`+", code)), default=0)
        fence = "`" * max(3, longest + 1)
        yield f"{fence}{language}\n{code.rstrip()}\n{fence}"


def _output(output: Any) -> str:
    """What a terminal shows of an output; "" for a picture."""
    data = _field(output, "data")
    if isinstance(data, dict) and any(str(kind).startswith("image/") for kind in data):
        return ""
    error = ": ".join(filter(None, (_text(output, "ename"), _text(output, "evalue"))))
    text = _text(output, "text") or _text(data, "text/plain") or error
    text = _OVERWRITTEN.sub("", _ANSI.sub("", text))
    return text if len(text) <= _LONGEST_OUTPUT else text[:_LONGEST_OUTPUT].rpartition("\n")[0]


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _list(value: Any, name: str) -> list[Any]:
    found = _field(value, name)
    return found if isinstance(found, list) else []


def _text(value: Any, name: str) -> str:
    """A field's text, which may be a list of lines; "" for anything else."""
    found = _field(value, name)
    pieces = found if isinstance(found, list) else [found]
    return "".join(piece for piece in pieces if isinstance(piece, str))
