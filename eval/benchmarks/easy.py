"""Which questions `chat.model = "auto"` gives to the small model, and whether these are easy.

    python -m eval.benchmarks.easy SET... [--every N]

A SET is a question set with documents of its own. A question is held to be easy in truth where the
first sentence of the documents that ragcite finds holds a gold answer: no model is needed for it.
Printed are the share that rag/choice.py calls easy, of the answerable and of the others, and how
many of either kind are easy in truth, with 95 % intervals. No chat API is asked.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from eval.command import store_of
from eval.dataset import load_set
from eval.metrics import contains
from eval.report import aligned
from eval.statistics import mean_interval
from rag.app import open_app
from rag.choice import is_easy
from rag.context import Question, prepare
from rag.settings.config import load_settings


def main() -> None:
    """Run and print one row a set."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--every", type=int, default=1, help="ask every N-th question only")
    arguments = parser.parse_args()
    rows = [["set", "easy of answerable", "easy of others", "true if easy", "true if not"]]
    print(aligned(rows + [_row(path, arguments.every) for path in arguments.sets]))


def _row(path: Path, every: int) -> list[str]:
    settings = load_settings(environment={})
    eval_set = load_set(path)
    answerable: list[float] = []
    others: list[float] = []
    true: dict[bool, list[float]] = {True: [], False: []}
    with open_app(settings, store_of(eval_set, settings, lambda _: None)) as app:
        for case in eval_set.cases[::every]:
            context = prepare(Question(case.question), app.resources)
            if context.judgement.abstains:
                continue
            easy = is_easy(context)
            (answerable if case.answerable else others).append(float(easy))
            score = contains(context.ranked[0].shown, case.answers) if case.answerable else None
            if score is not None:
                true[easy].append(score)
    return [eval_set.name, *map(_share, (answerable, others, true[True], true[False]))]


def _share(values: Sequence[float]) -> str:
    if not values:
        return "-"
    low, high = mean_interval(values)
    return f"{sum(values) / len(values):.3f} [{low:.3f}, {high:.3f}] of {len(values)}"


if __name__ == "__main__":
    main()
