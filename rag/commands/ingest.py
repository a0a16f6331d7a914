"""`rag ingest`."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ingest.errors import RagError
from rag.commands.console import Output, progress_bar, report
from rag.commands.options import Common
from rag.render import printable, report_json, report_text
from rag.settings.config import find_store

if TYPE_CHECKING:
    from ingest.report import SyncReport

SOME_FILES_FAILED = 7


def ingest(
    common: Common,
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH…", help="Files and folders.")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Say what would be done, and do nothing.")] = False,
    prune: Annotated[
        bool | None, typer.Option(help="Remove documents whose files are gone (default: yes).")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes that read files.")] = None,
    ocr: Annotated[
        bool | None, typer.Option("--ocr", help="Read scanned pages and pictures (tesseract).")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and follow changes.")] = False,
) -> None:
    """Bring files and folders into the store: add, update, and remove what vanished.

    Without a PATH, everything ingested before is brought up to date.
    """
    from ingest.sync import roots, sync
    from rag.app import own_embedder, sync_settings

    output = common.output
    settings = common.settings({"ingest.jobs": jobs, "ingest.ocr": ocr})
    folder = find_store(settings, create=bool(paths))
    how = sync_settings(settings, dry_run=dry_run, prune=prune)
    embedder = own_embedder(settings)

    def run() -> "SyncReport":
        with progress_bar(output) as on_progress:
            done = sync(folder, paths or [], how, on_progress, embedder)
        for note in done.notes:
            output.note(f"note: {printable(note)}")
        output.result(report_json(done), report_text(done, verbose=common.verbose))
        sys.stdout.flush()
        return done

    done = run()
    if watch and not dry_run:
        _follow(roots(folder, paths or []), run, output)
    if done.failed:
        raise typer.Exit(SOME_FILES_FAILED)


def _follow(roots: Sequence[Path], run: Callable[[], object], output: Output) -> None:
    """Run again after each burst of changes, until an interrupt; a busy store is tried later."""
    from ingest.watch import changes

    output.note(f"watching {', '.join(map(str, roots))}; Ctrl-C ends it")
    for _ in changes(roots):
        try:
            run()
        except RagError as error:
            report(error)
