"""`rag eval`: the harness."""

from typing import Annotated

import typer

from rag.commands.console import progress_bar
from rag.commands.options import Common, Extractive, K, QuestionSet


def eval_run(
    common: Common,
    question_set: QuestionSet,
    extractive: Extractive = False,
    retrieval_only: Annotated[
        bool, typer.Option("--retrieval-only", help="Score the passages alone.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first questions.")] = None,
    k: K = None,
) -> None:
    """Ask every question of a set and score retrieval, grounding and refusals."""
    from eval.command import RunOptions, run_set
    from eval.report import report_to_json, report_to_text

    options = RunOptions(extractive=extractive, retrieval_only=retrieval_only, limit=limit)
    settings = common.settings({"retrieval.k": k})
    with progress_bar(common.output) as on_progress:
        report = run_set(question_set, settings, options, on_progress)
    common.output.result(report_to_json(report), report_to_text(report))


def eval_calibrate(common: Common, question_set: QuestionSet, k: K = None) -> None:
    """Fit when to refuse to your own documents and questions; the store keeps it."""
    from eval.calibrate import calibrate, calibrated_json, calibrated_text

    settings = common.settings({"retrieval.k": k})
    with progress_bar(common.output) as on_progress:
        done = calibrate(question_set, settings, on_progress)
    common.output.result(calibrated_json(done), calibrated_text(done))
