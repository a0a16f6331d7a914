"""A look into the store, and mending it: status, list, show, remove, rebuild."""

from dataclasses import asdict
from typing import Annotated

import typer

from rag import render
from rag.commands.console import asked_range
from rag.commands.options import Common
from rag.settings.config import find_store


def status(common: Common) -> None:
    """What the store holds."""
    with common.open_store() as opened:
        current = opened.status()
    common.output.result(asdict(current), render.status_text(current))


def list_sources(common: Common) -> None:
    """The documents in the store, one a line."""
    with common.open_store() as opened:
        sources = opened.sources()
    common.output.result(render.sources_json(sources), render.sources_text(sources))


def show(
    common: Common,
    source: Annotated[str, typer.Argument(help="A source as `rag list` names it.")],
    page: Annotated[int | None, typer.Option(min=1, help="Only this page.")] = None,
    span: Annotated[
        str | None, typer.Option(metavar="START:END", help="Only these characters.")
    ] = None,
) -> None:
    """The stored text of a document: what every offset counts in."""
    with common.open_store() as opened:
        stored = opened.document(source)
    document = stored.document
    start, end = asked_range(document.text, document.page_starts, page, span)
    data = render.document_json(stored) | {"text": document.text[start:end]}
    if page or span:
        data |= {"start": start, "end": end}
    text = "\n".join(map(render.printable, document.text[start:end].split("\n")))
    common.output.result(data, text)


def remove(
    common: Common,
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE…", help="As in `rag list`.")],
) -> None:
    """Take documents out of the store; their files stay."""
    from ingest.sync import remove as remove_sources

    removed = remove_sources(find_store(common.settings()), sources)
    text = "\n".join(f"removed {name}" for name in removed)
    common.output.result({"removed": list(removed)}, text)


def rebuild(common: Common) -> None:
    """Make the store anew from what it holds; nothing is embedded again."""
    from ingest.rebuild import rebuild as rebuild_store

    rebuilt = rebuild_store(find_store(common.settings()))
    common.output.result(asdict(rebuilt), render.rebuilt_text(rebuilt))
