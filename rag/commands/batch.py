"""`rag batch`."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rag.commands.ask import note_answerer
from rag.commands.console import Output, progress_bar
from rag.commands.options import Asking, Common
from rag.settings.config import Settings

if TYPE_CHECKING:
    from rag.batch.provider import Work
    from rag.batch.report import BatchReport

SOME_QUESTIONS_FAILED = 7

Action = Literal["submit", "status", "collect"]


def batch(
    common: Common,
    asking: Asking,
    questions: Annotated[
        str, typer.Argument(metavar="QUESTIONS", help="Lines of JSON; `-` reads standard input.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="ANSWERS", help="A row for each.")],
    jobs: Annotated[int | None, typer.Option("-j", min=1, help="Questions at once.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with ANSWERS.")] = False,
    max_cost: Annotated[
        float | None, typer.Option("--max-cost", min=0.0, help="Stop at so many US dollars.")
    ] = None,
    provider: Annotated[
        Action | None, typer.Option("--provider", help="Use the API's own batch endpoint.")
    ] = None,
) -> None:
    """Answer many questions into a file of JSON lines, resumable whenever it is stopped."""
    from rag.batch.provider import Work
    from rag.batch.questions import read_questions

    settings = common.settings({**asking.flags, "chat.concurrency": jobs})
    like = replace(asking.question("", settings), batch=True)
    _check(settings, max_cost, provider, extractive=like.extractive)
    work = Work(settings, read_questions(questions, like), out, resume)
    note_answerer(settings, common.output, extractive=asking.extractive)
    try:
        if provider is None:
            _finish(common.output, _run(common, work, max_cost))
        else:
            _provide(common.output, work, provider)
    except KeyboardInterrupt:
        common.output.note(f"what was answered stands in {out}: go on with --resume")
        raise


def _run(common: Common, work: "Work", max_cost: float | None) -> "BatchReport":
    from rag.batch.answers import open_answers
    from rag.batch.run import run_batch

    with (
        common.open_app(work.settings) as app,
        open_answers(work.out, work.asked, resume=work.resume) as file,
        progress_bar(common.output) as on_progress,
    ):
        return run_batch(app, work.asked, file, max_cost, on_progress)


def _provide(output: Output, work: "Work", action: Action) -> None:
    from rag.batch.provider import collect, look_up, submit

    if action == "collect":
        with progress_bar(output) as on_progress:
            report = collect(work, on_progress)
        _finish(output, report)
        return
    if action == "submit":
        with progress_bar(output) as on_progress:
            job = submit(work, on_progress)
    else:
        job = look_up(work)
    if job is None:
        output.result({}, "nothing is left to send")
    else:
        text = f"{job.id}: {job.status}, {job.done} of {job.total} replies {job.problem}"
        output.result(asdict(job) | {"files": list(job.files)}, text.rstrip())


def _finish(output: Output, report: "BatchReport") -> None:
    """Say what was done, and by the exit code whether it was all."""
    from rag.batch.report import report_text

    output.result(asdict(report), report_text(report))
    if not report.is_whole:
        output.note("ask what is left, and what failed, with --resume")
        raise typer.Exit(SOME_QUESTIONS_FAILED)


def _check(
    settings: Settings, max_cost: float | None, provider: Action | None, *, extractive: bool
) -> None:
    """Refuse what cannot be kept to. Raises UsageError."""
    from ingest.errors import UsageError
    from rag.chat.models import model_facts

    if provider and extractive:
        message = "there is no chat API whose batch endpoint could be used"
        raise UsageError(message, "set OPENAI_API_KEY or OPENAI_BASE_URL")
    if provider and max_cost is not None:
        raise UsageError("--max-cost does not reach a batch at the provider", "leave one out")
    if max_cost is not None and not extractive and model_facts(settings.chat).cost(1, 1) is None:
        raise UsageError(
            f"the price of {settings.chat.model} is unknown: --max-cost cannot be kept",
            "set chat.price_in and chat.price_out (US dollars per million tokens)",
        )
