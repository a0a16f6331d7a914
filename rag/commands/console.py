"""How commands speak and listen: results to standard output, all else to standard error."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ingest.errors import RagError, UsageError
from rag import render
from rag.types import Answer, Event, Finished, Retrieved, SentenceDone, Working

if TYPE_CHECKING:
    from rich.status import Status

    from ingest.sync import Progress


@dataclass(frozen=True, slots=True)
class Output:
    """How a command speaks: `as_json` to standard output, notes to standard error unless quiet."""

    as_json: bool = False
    quiet: bool = False

    def note(self, text: str) -> None:
        """One line for the person, not for scripts."""
        if not self.quiet:
            print(text, file=sys.stderr)

    def result(self, data: dict[str, Any], text: str) -> None:
        """The command's result, in the form that was asked for."""
        print(json.dumps(data, ensure_ascii=False) if self.as_json else text)


class Reported(RagError):
    """An error whose message has been shown with the answer already; only its code is left."""

    def __init__(self, error: RagError) -> None:
        super().__init__(error.message, error.hint)
        self.code = error.exit_code


def report(error: RagError) -> int:
    """Show an error in at most two lines, as JSON where that was asked for."""
    if isinstance(error, Reported):
        return error.code
    if "--json" in sys.argv:
        print(json.dumps(render.error_json(error), ensure_ascii=False))
    _print_error(error)
    if "-v" in sys.argv or "--verbose" in sys.argv:
        import traceback

        traceback.print_exception(error)
    return error.exit_code


def _print_error(error: RagError) -> None:
    print(f"rag: {render.printable(error.message)}", file=sys.stderr)
    if error.hint:
        print(f"     {render.printable(error.hint)}", file=sys.stderr)


def read_question(argument: str) -> str:
    """The question from the command line, or from a pipe."""
    piped = argument == "-" or (not argument and not sys.stdin.isatty())
    text = sys.stdin.read() if piped else argument
    if not text.strip():
        raise UsageError("the question is empty", 'ask one: `rag ask "What …?"`')
    return text.strip()


def asked_range(
    text: str, page_starts: tuple[int, ...], page: int | None, span: str | None
) -> tuple[int, int]:
    """The characters that `--page` or `--span` asks for."""
    if span is not None:
        start, colon, end = span.partition(":")
        if not (colon and start.isdigit() and end.isdigit() and int(start) <= int(end)):
            raise UsageError(f"not a span: {span!r}", "write `--span START:END`, as in `0:100`")
        return min(int(start), len(text)), min(int(end), len(text))
    if page is None:
        return 0, len(text)
    if page > len(page_starts):
        count = len(page_starts)
        raise UsageError(f"no page {page}: the document has {count or 'no'} pages", "check --page")
    ends = (*page_starts[1:], len(text))
    return page_starts[page - 1], ends[page - 1]


def show_answer(
    events: Iterator[Event], output: Output, *, explain: bool
) -> tuple[Answer, RagError | None]:
    """Print an answer as it comes, sentence by checked sentence; return it with its failure."""
    finished = _show_events(events, output, explain=explain)
    answer, error = finished.answer, finished.error
    if output.as_json:
        data = render.answer_json(answer) | (render.error_json(error) if error else {})
        print(json.dumps(data, ensure_ascii=False))
    else:
        print(render.ending_text(answer))
    for warning in answer.warnings:
        output.note(f"note: {render.printable(warning)}")
    if error:
        _print_error(error)
    return answer, error


def _show_events(events: Iterator[Event], output: Output, *, explain: bool) -> Finished:
    """Print what there is to see on the way to the last event."""
    shown = 0
    styled = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    with _status_line(output) as say:
        for event in events:
            match event:
                case Working(doing=doing):
                    say(doing)
                case Retrieved(trace=trace) if explain and trace:
                    say("")
                    print(render.explain_text(trace), file=sys.stderr)
                case SentenceDone(sentence=sentence, separator=separator) if not output.as_json:
                    say("")
                    # The separator keeps the answer's paragraphs and list lines as they are.
                    text = render.sentence_text(sentence, styled=styled)
                    print((separator if shown else "") + text, end="")
                    sys.stdout.flush()
                    shown += 1
                case Finished():
                    return event
    raise AssertionError("the stream of events ends with Finished")


@contextmanager
def _status_line(output: Output) -> Iterator[Callable[[str], None]]:
    """A line on a terminal that says what a wait is for, and "" takes away; nothing elsewhere."""
    if output.quiet or not sys.stderr.isatty():
        yield lambda doing: None
        return
    status: Status | None = None

    def say(doing: str) -> None:
        nonlocal status
        if doing:
            from rich.console import Console
            from rich.text import Text

            status = status or Console(stderr=True).status("")
            status.update(Text(doing))
            status.start()
        elif status:
            status.stop()

    try:
        yield say
    finally:
        say("")


@contextmanager
def progress_bar(output: Output) -> Iterator[Any]:
    """A progress bar on a terminal; nothing elsewhere."""
    if output.quiet or not sys.stderr.isatty():
        yield lambda progress: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as ProgressBar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
        TextColumn("{task.fields[detail]}"),
        TimeRemainingColumn(),
    )
    with ProgressBar(*columns, console=Console(stderr=True), transient=True) as bar:
        # Hidden until there is a total to show: a run without work ends before it has one.
        task = bar.add_task("", total=None, visible=False, unit="", detail="")

        def advance(progress: "Progress") -> None:
            bar.update(
                task,
                visible=True,
                description=progress.stage,
                completed=progress.done,
                total=progress.total,
                unit=progress.unit,
                detail=progress.detail,
            )

        yield advance
