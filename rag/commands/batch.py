"""`rag batch`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rag.commands.ask import note_answerer
from rag.commands.console import progress_bar
from rag.commands.options import (
    Budget,
    Common,
    Extractive,
    Filters,
    K,
    Model,
    NoCache,
    Strict,
    asking_flags,
)

if TYPE_CHECKING:
    from rag.config import Settings

SOME_QUESTIONS_FAILED = 7


def batch(
    common: Common,
    questions: Annotated[
        str, typer.Argument(metavar="QUESTIONS", help="Lines of JSON; `-` reads standard input.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="ANSWERS", help="A row for each.")],
    jobs: Annotated[int | None, typer.Option("-j", min=1, help="Questions at once.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with ANSWERS.")] = False,
    max_cost: Annotated[
        float | None, typer.Option("--max-cost", min=0.0, help="Stop at so many US dollars.")
    ] = None,
    k: K = None,
    budget: Budget = None,
    filters: Filters = None,
    model: Model = None,
    extractive: Extractive = False,
    strict: Strict = False,
    no_cache: NoCache = False,
) -> None:
    """Answer many questions into a file of JSON lines, resumable whenever it is stopped."""
    from dataclasses import asdict

    from ingest.filters import parse_filters
    from rag.batch.answers import open_answers
    from rag.batch.questions import read_questions
    from rag.batch.report import report_text
    from rag.batch.run import run_batch
    from rag.context import Question

    output = common.output
    flags = {**asking_flags(k, budget, model, no_cache=no_cache), "chat.concurrency": jobs}
    settings = common.settings(flags)
    extractive = extractive or not settings.chat_configured
    if max_cost is not None and not extractive:
        _check_price(settings)
    like = Question(
        "", parse_filters(filters or ()), extractive=extractive, strict=strict, batch=True
    )
    asked = read_questions(questions, like)
    with common.open_app(settings) as app, open_answers(out, asked, resume=resume) as file:
        note_answerer(settings, output, extractive=extractive)
        try:
            with progress_bar(output) as on_progress:
                report = run_batch(app, asked, file, max_cost, on_progress)
        except BaseException:
            output.note(f"what was answered stands in {out}: go on with --resume")
            raise
    output.result(asdict(report), report_text(report))
    if not report.is_whole:
        output.note("ask what is left, and what failed, with --resume")
        raise typer.Exit(SOME_QUESTIONS_FAILED)


def _check_price(settings: "Settings") -> None:
    from ingest.errors import UsageError
    from rag.chat.models import model_facts

    if model_facts(settings.chat).cost(1, 1) is None:
        raise UsageError(
            f"the price of {settings.chat.model} is unknown: --max-cost cannot be kept",
            "set chat.price_in and chat.price_out (US dollars per million tokens)",
        )
