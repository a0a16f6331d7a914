"""`rag ask` and `rag search`."""

import sys
from dataclasses import replace
from typing import Annotated

import typer

from rag import render
from rag.commands.console import Output, Reported, read_question, show_answer
from rag.commands.options import Asking, Common, Filters, K, QuestionText
from rag.settings.config import Settings

ABSTAINED = 10


def ask(
    common: Common,
    asking: Asking,
    question: QuestionText = "",
    no_stream: Annotated[bool, typer.Option("--no-stream", help="Print when complete.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show how it was found.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be sent and its cost; send nothing.")
    ] = False,
    fail_on_abstain: Annotated[
        bool, typer.Option("--fail-on-abstain", help="Exit with 10 when there is no answer.")
    ] = False,
) -> None:
    """Answer a question from the documents, with the exact words each sentence rests on."""
    output = common.output
    settings = common.settings(asking.flags)
    request = replace(asking.question(read_question(question), settings), stream=not no_stream)
    with common.open_app(settings) as opened:
        note_answerer(settings, output, extractive=asking.extractive)
        if dry_run:
            previewed = opened.preview(request)
            if explain:
                print(render.explain_text(previewed.trace), file=sys.stderr)
            output.result(render.preview_json(previewed), render.preview_text(previewed))
            return
        answer, error = show_answer(opened.ask_stream(request), output, explain=explain)
    if error is not None:
        raise Reported(error)
    if answer.status == "abstained":
        if answer.model is None and settings.ground.refusal:
            output.note("refused before anything was asked: --anyway tries nevertheless")
        if fail_on_abstain:
            raise typer.Exit(ABSTAINED)


def search(
    common: Common, question: QuestionText = "", k: K = None, filters: Filters = None
) -> None:
    """Show the passages a question retrieves, without an answer."""
    from time import perf_counter

    from ingest.filters import parse_filters

    text = read_question(question)
    with common.open_app(common.settings({"retrieval.k": k})) as opened:
        start = perf_counter()
        passages = opened.search(text, parse_filters(filters or ())).passages
        milliseconds = round((perf_counter() - start) * 1000, 2)
    data = {
        "question": text,
        "passages": render.passages_json(passages),
        "timings_ms": {"retrieve": milliseconds, "total": milliseconds},
    }
    common.output.result(data, render.passages_text(passages) or "No passage matches.")


def note_answerer(settings: Settings, output: Output, *, extractive: bool) -> None:
    """Say in one line who answers, where that is not what the person may expect."""
    if not extractive and not settings.chat_configured:
        output.note(
            "no chat API configured: answering with the documents' own sentences "
            "(set OPENAI_API_KEY or OPENAI_BASE_URL for written answers)"
        )
    for url in () if extractive else settings.withheld:
        output.note(
            f"the key is not sent to {url}, which a project file names; to allow it, "
            "set OPENAI_BASE_URL in the environment, or name the model in your own rag.toml"
        )
