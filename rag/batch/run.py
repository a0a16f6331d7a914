"""Many questions over one App: as many at once as the settings allow, rows as they come."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from itertools import islice
from threading import Thread
from time import perf_counter
from typing import Any, TypeVar

from ingest.errors import EmbeddingError, RagError, StoreError
from ingest.report import OnProgress, Progress
from rag.app import App
from rag.batch.answers import AnswerFile
from rag.batch.questions import Asked, Id
from rag.batch.report import BatchReport, Outcome, progress_text
from rag.context import Question
from rag.errors import ChatAuthError, ChatError
from rag.render import answer_json, error_json
from rag.types import Finished

# What no later question can escape: going on would fill the output with the same line.
_FATAL = (StoreError, EmbeddingError, ChatAuthError)

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Deferred(ChatError):
    """The request has not been sent yet: there is no row for it."""


def run_batch(
    app: App,
    asked: Sequence[Asked],
    file: AnswerFile,
    max_cost: float | None,
    on_progress: OnProgress,
) -> BatchReport:
    """Ask what the file does not answer yet; equal questions once, with a row for each id.

    No question is begun once `max_cost` US dollars are spent. Raises what every question would
    fail by: a store or a model that cannot be used, a key that was refused.
    """
    ids: dict[Question, list[Id]] = {}
    for each in asked:
        if each.id not in file.done:
            ids.setdefault(each.question, []).append(each.id)
    left = sum(map(len, ids.values()))
    report = BatchReport(before=len(asked) - left, left=left)
    begun = perf_counter()

    def affordable() -> Iterator[Question]:
        for question in ids:
            if max_cost is not None and (report.cost_usd or 0.0) >= max_cost:
                return
            yield question

    jobs = app.resources.settings.chat.concurrency
    for question, outcome in in_any_order(lambda q: (q, _outcome(app, q)), affordable(), jobs):
        if isinstance(outcome.error, Deferred):
            continue
        file.write(_rows(question, ids[question], outcome))
        report = report.added(outcome, len(ids[question]))
        report = replace(report, seconds=perf_counter() - begun)
        on_progress(Progress("asking", report.written, left, "questions", progress_text(report)))
    return report


def in_any_order(
    work: Callable[[_Item], _Result], items: Iterable[_Item], jobs: int
) -> Iterator[_Result]:
    """Results as they come, of `jobs` items at a time; an item is taken when its turn has come.

    Its threads keep no process from ending: after an interrupt nobody waits for their replies.
    """
    waiting = iter(items)
    running = {_begun(work, item) for item in islice(waiting, jobs)}
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()
            running |= {_begun(work, item) for item in islice(waiting, 1)}


def _begun(work: Callable[[_Item], _Result], item: _Item) -> "Future[_Result]":
    future: Future[_Result] = Future()

    def run() -> None:
        try:
            future.set_result(work(item))
        except BaseException as error:  # noqa: BLE001  # it is raised where the result is wanted
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future


def _outcome(app: App, question: Question) -> Outcome:
    try:
        for event in app.ask_stream(question):
            if isinstance(event, Finished):
                outcome = Outcome(event.answer, event.error)
    except RagError as error:
        outcome = Outcome(None, error)
    if isinstance(outcome.error, _FATAL):
        raise outcome.error
    return outcome


def _rows(question: Question, ids: Sequence[Id], outcome: Outcome) -> list[dict[str, Any]]:
    """A row for each id; only the first one paid."""
    error = error_json(outcome.error) if outcome.error else {}
    answer = outcome.answer
    if answer is None:
        return [{"id": identity, "question": question.text, **error} for identity in ids]
    free = replace(answer, usage=replace(answer.usage, cost_usd=0.0, cached=True))
    answers = (answer, *[free] * (len(ids) - 1))
    return [
        {"id": identity, **answer_json(each), **error}
        for identity, each in zip(ids, answers, strict=True)
    ]
