"""The `rag` command: parse, call, print. Results go to standard output, all else to standard error.

Nothing heavy is imported before a command needs it: `rag --help` and `rag ask` must start fast.
"""

import os

# Before numpy is first imported: one question is too small for several BLAS threads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

from ingest.errors import RagError, UsageError
from rag.console import (
    Output,
    Reported,
    asked_range,
    progress_bar,
    read_question,
    report,
    show_answer,
)

if TYPE_CHECKING:
    from ingest.sync import SyncReport
    from rag.app import App
    from rag.config import Settings

INTERRUPTED = 130
SOME_FILES_FAILED = 7
ABSTAINED = 10

app = typer.Typer(
    name="rag",
    help="Ask questions of your own documents and get answers you can check.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Effective settings.", no_args_is_help=True, rich_markup_mode=None)
eval_app = typer.Typer(
    help="Score retrieval and grounding.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(config_app, name="config")
app.add_typer(eval_app, name="eval")

StoreOption = Annotated[
    str | None, typer.Option("--store", metavar="DIR", help="The store; default: nearest .rag/.")
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Read this instead of rag.toml.")
]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Details and tracebacks.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
KOption = Annotated[int | None, typer.Option("-k", min=1, help="How many passages at most.")]
FilterOption = Annotated[
    list[str] | None,
    typer.Option("--filter", metavar="KEY=VALUE", help="Only documents with this; repeatable."),
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as distribution_version

        print(distribution_version("ragcite"))
        raise typer.Exit


@app.command()
def ingest(
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
    store: StoreOption = None,
    config: ConfigOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Bring files and folders into the store: add, update, and remove what vanished.

    Without a PATH, everything ingested before is brought up to date.
    """
    from ingest.sync import roots, sync
    from rag.app import own_embedder, sync_settings
    from rag.config import find_store
    from rag.render import report_json, report_text

    output = Output(as_json, quiet)
    settings = _settings({"store": store, "ingest.jobs": jobs, "ingest.ocr": ocr}, config)
    folder = find_store(settings, create=bool(paths))
    how = sync_settings(settings, dry_run=dry_run, prune=prune)
    embedder = own_embedder(settings)

    def run() -> "SyncReport":
        with progress_bar(output) as on_progress:
            report = sync(folder, paths or [], how, on_progress, embedder)
        for note in report.notes:
            output.note(note)
        output.result(report_json(report), report_text(report, verbose=verbose))
        sys.stdout.flush()
        return report

    report = run()
    if watch and not dry_run:
        _follow(roots(folder, paths or []), run, output)
    if report.failed:
        raise typer.Exit(SOME_FILES_FAILED)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question; `-` reads standard input.")] = "",
    k: KOption = None,
    budget: Annotated[int | None, typer.Option(min=1, help="Tokens of prompt and answer.")] = None,
    filters: FilterOption = None,
    model: Annotated[str | None, typer.Option(help="The chat model.")] = None,
    extractive: Annotated[bool, typer.Option("--extractive", help="Use no chat API.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Drop unsupported sentences.")] = False,
    no_stream: Annotated[bool, typer.Option("--no-stream", help="Print when complete.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show how it was found.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be sent and its cost; send nothing.")
    ] = False,
    fail_on_abstain: Annotated[
        bool, typer.Option("--fail-on-abstain", help="Exit with 10 when there is no answer.")
    ] = False,
    store: StoreOption = None,
    config: ConfigOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Answer a question from the documents, with the exact words each sentence rests on."""
    from ingest.filters import parse_filters
    from rag import render
    from rag.context import Question

    output = Output(as_json, quiet)
    flags = {"retrieval.k": k, "prompt.budget": budget, "chat.model": model, "store": store}
    settings = _settings(flags, config)
    request = Question(
        read_question(question),
        filters=parse_filters(filters or ()),
        extractive=extractive or not settings.chat_configured,
        strict=strict,
        stream=not no_stream,
    )
    with _open_app(settings, output) as opened:
        _note_answerer(settings, output, extractive=extractive)
        if dry_run:
            previewed = opened.preview(request)
            if explain:
                print(render.explain_text(previewed.trace), file=sys.stderr)
            output.result(render.preview_json(previewed), render.preview_text(previewed))
            return
        answer, error = show_answer(opened.ask_stream(request), output, explain=explain)
    if error is not None:
        raise Reported(error)
    if answer.status == "abstained" and fail_on_abstain:
        raise typer.Exit(ABSTAINED)


@app.command()
def search(
    question: Annotated[str, typer.Argument(help="The question; `-` reads standard input.")] = "",
    k: KOption = None,
    filters: FilterOption = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show the passages a question retrieves, without an answer."""
    from time import perf_counter

    from ingest.filters import parse_filters
    from rag.render import passages_json, passages_text

    output = Output(as_json, quiet)
    text = read_question(question)
    with _open_app(_settings({"retrieval.k": k, "store": store}, config), output) as opened:
        start = perf_counter()
        passages = opened.search(text, parse_filters(filters or ())).passages
        milliseconds = round((perf_counter() - start) * 1000, 2)
    data = {
        "question": text,
        "passages": passages_json(passages),
        "timings_ms": {"retrieve": milliseconds, "total": milliseconds},
    }
    output.result(data, passages_text(passages) or "No passage matches.")


@app.command()
def status(
    store: StoreOption = None,
    config: ConfigOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """What the store holds."""
    from rag.render import status_json, status_text

    output = Output(as_json, quiet)
    with _open_store(store, config) as opened:
        current = opened.status()
    output.result(status_json(current), status_text(current))


@app.command("list")
def list_sources(
    store: StoreOption = None,
    config: ConfigOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """The documents in the store, one a line."""
    from rag.render import sources_json, sources_text

    output = Output(as_json, quiet)
    with _open_store(store, config) as opened:
        sources = opened.sources()
    output.result(sources_json(sources), sources_text(sources))


@app.command()
def show(
    source: Annotated[str, typer.Argument(help="A source as `rag list` names it.")],
    page: Annotated[int | None, typer.Option(min=1, help="Only this page.")] = None,
    span: Annotated[
        str | None, typer.Option(metavar="START:END", help="Only these characters.")
    ] = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """The stored text of a document: what every offset counts in."""
    from rag.render import document_json, printable

    output = Output(as_json, quiet)
    with _open_store(store, config) as opened:
        stored = opened.document(source)
    document = stored.document
    start, end = asked_range(document.text, document.page_starts, page, span)
    data = document_json(stored) | {"text": document.text[start:end]}
    if page or span:
        data |= {"start": start, "end": end}
    output.result(data, "\n".join(map(printable, document.text[start:end].split("\n"))))


@app.command()
def remove(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE…", help="As in `rag list`.")],
    store: StoreOption = None,
    config: ConfigOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take documents out of the store; their files stay."""
    from ingest.sync import remove as remove_sources
    from rag.config import find_store

    output = Output(as_json, quiet)
    settings = _settings({"store": store}, config)
    removed = remove_sources(find_store(settings), sources)
    output.result({"removed": list(removed)}, "\n".join(f"removed {name}" for name in removed))


@app.command()
def rebuild(
    store: StoreOption = None,
    config: ConfigOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make the store anew from what it holds; nothing is embedded again."""
    from ingest.rebuild import rebuild as rebuild_store
    from rag.config import find_store
    from rag.render import rebuilt_json, rebuilt_text

    output = Output(as_json, quiet)
    rebuilt = rebuild_store(find_store(_settings({"store": store}, config)))
    output.result(rebuilt_json(rebuilt), rebuilt_text(rebuilt))


@app.command()
def doctor(
    store: StoreOption = None,
    config: ConfigOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check the whole installation: model, store, index and chat API."""
    from rag.doctor import checks

    output = Output(as_json, quiet)
    results = checks(_settings({"store": store}, config))
    lines = []
    for check in results:
        lines.append(f"{'ok  ' if check.passed else 'FAIL'} {check.name}: {check.detail}")
        if check.hint and not check.passed:
            lines.append(f"     {check.hint}")
    data = {
        "checks": [
            {"name": c.name, "ok": c.passed, "detail": c.detail, "hint": c.hint} for c in results
        ]
    }
    output.result(data, "\n".join(lines))
    if not all(check.passed for check in results):
        raise typer.Exit(1)


@config_app.command("show")
def config_show(
    store: StoreOption = None,
    config: ConfigOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """All settings, their values, and where each comes from; a key is never shown."""
    from rag.config import setting_names, setting_value

    settings = _settings({"store": store}, config)
    rows = [
        (name, setting_value(settings, name), settings.origins.get(name, "default"))
        for name in setting_names()
    ]
    width = max(len(name) for name, _, _ in rows)
    Output(as_json, quiet).result(
        {name: {"value": value, "origin": origin} for name, value, origin in rows},
        "\n".join(f"{name:<{width}}  {value!s:<24}  {origin}" for name, value, origin in rows),
    )


@eval_app.command("run")
def eval_run(
    question_set: Annotated[Path, typer.Argument(metavar="SET", help="A folder or a file.")],
    extractive: Annotated[bool, typer.Option("--extractive", help="Use no chat API.")] = False,
    retrieval_only: Annotated[
        bool, typer.Option("--retrieval-only", help="Score the passages alone.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first questions.")] = None,
    k: KOption = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Ask every question of a set and score retrieval, grounding and refusals."""
    from eval.command import RunOptions, run_set
    from eval.report import report_to_json, report_to_text

    output = Output(as_json, quiet)
    settings = _settings({"retrieval.k": k, "store": store}, config)
    options = RunOptions(extractive=extractive, retrieval_only=retrieval_only, limit=limit)
    with progress_bar(output) as on_progress:
        report = run_set(question_set, settings, options, on_progress)
    output.result(report_to_json(report), report_to_text(report))


@eval_app.command("calibrate")
def eval_calibrate(
    question_set: Annotated[Path, typer.Argument(metavar="SET", help="A folder or a file.")],
    k: KOption = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fit when to refuse to your own documents and questions; the store keeps it."""
    from eval.calibrate import calibrate, calibrated_json, calibrated_text

    output = Output(as_json, quiet)
    settings = _settings({"retrieval.k": k, "store": store}, config)
    with progress_bar(output) as on_progress:
        done = calibrate(question_set, settings, on_progress)
    output.result(calibrated_json(done), calibrated_text(done))


def main() -> None:
    """The console script: runs a command and turns every error into its exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except RagError as error:
        code = report(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has what it wanted. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:  # noqa: BLE001  # the outermost border: no traceback without -v
        code = _unexpected(error)
    sys.exit(code or 0)


def _interrupt(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _unexpected(error: Exception) -> int:
    if isinstance(error, typer.Abort):
        return INTERRUPTED
    if isinstance(error, TyperException):
        return _usage(error)
    summary = " ".join(f"{type(error).__name__}: {error}".split())
    unexpected = RagError(f"unexpected error: {summary}", "run again with -v for the traceback")
    unexpected.__cause__ = error
    return report(unexpected)


def _usage(error: TyperException) -> int:
    """A mistake on the command line, in the same two shapes as every other error."""
    context = getattr(error, "ctx", None)
    hint = f"see `{context.command_path} --help`" if context else "see `rag --help`"
    return report(UsageError(error.format_message(), hint))


def _settings(flags: dict[str, Any], config: Path | None) -> "Settings":
    from rag.config import load_settings

    return load_settings(flags, config=config)


@contextmanager
def _open_store(store: str | None, config: Path | None) -> Iterator[Any]:
    from ingest.store import Store
    from rag.config import find_store

    with Store.open(find_store(_settings({"store": store}, config))) as opened:
        yield opened


@contextmanager
def _open_app(settings: "Settings", output: Output) -> Iterator["App"]:
    from rag.app import open_app
    from rag.config import find_store

    with open_app(settings, find_store(settings)) as opened:
        if opened.store.status().documents == 0:
            output.note("the store is empty: run `rag ingest PATH`")
        yield opened


def _follow(roots: Sequence[Path], run: Callable[[], object], output: Output) -> None:
    """Run again after each burst of changes, until an interrupt; a busy store is tried later."""
    from ingest.watch import changes

    output.note(f"watching {', '.join(map(str, roots))}; Ctrl-C ends it")
    for _ in changes(roots):
        try:
            run()
        except RagError as error:
            report(error)


def _note_answerer(settings: "Settings", output: Output, *, extractive: bool) -> None:
    if not extractive and not settings.chat_configured:
        output.note(
            "no chat API configured: answering with the documents' own sentences "
            "(set OPENAI_API_KEY or OPENAI_BASE_URL for written answers)"
        )
    if settings.key_withheld and not extractive:
        output.note(
            f"the key is not sent to {settings.chat.base_url}, which a project file names; "
            "set OPENAI_BASE_URL in the environment to allow it"
        )
