"""Extractive answers and refusals on SQuAD 2 and XQuAD, over the product's own retrieval.

    python -m eval.benchmarks.squad DATA_DIR [--sets squad xquad-de ...] [--step N] [--fit]

Answers: how often a gold answer stands in the first, the first two and the first three sentences
of `rank_sentences`, over all answerable questions, and in those that are shown. Refusals: the same
questions once more with their whole article held out (the topic is absent) and with only their
paragraph held out. `--fit` fits the weights and the threshold of rag/abstain.py on every other
article of the sets together; figures of refusals are always those of the other half, which the fit
has not seen, and those of answers are given for that half as well (`unseen`).

All sentences are embedded once beforehand; the vectors are those that `rag ask` computes.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.benchmarks.retrieval import SETS
from eval.calibrate import Example, fitted
from eval.command import cache_folder
from eval.metrics import contains
from eval.statistics import auroc, class_interval, expected_calibration_error, mean_interval
from ingest.records import Matrix
from ingest.sentences import sentence_spans
from ingest.sync import SyncSettings, sync
from rag.abstain import Calibration, Signals, calibration_json, judge, shipped
from rag.app import App, open_app
from rag.context import term_weights
from rag.extractive.asked import analyse
from rag.extractive.extract import MOST_SHOWN, ScoredSentence, extract, rank_sentences
from rag.retrieval.retrieve import renumber
from rag.settings.config import Settings

_SHOWN = 8
_RETRIEVED = 60  # enough that eight are left once an article is held out
_NO_PRIOR = 1e-3
_ABSENT = ("article", "paragraph")
# The sets whose documents are paragraphs of articles, and the folders of their questions.
_ARTICLES = {"squad": "squad2_dev"} | {
    f"xquad-{code}": f"xquad/{code}" for code in ("en", "de", "zh", "ar")
}


@dataclass(frozen=True, slots=True)
class Row:
    """One question: its article, hits in the first sentences, and the signals of each case.

    `answered` are the signals with everything, `held_out` those without the gold paragraph and
    without its whole article, by `_ABSENT`; `shipped` judges them. `shown` counts the sentences
    that are shown.
    """

    id: str
    article: str
    hits: tuple[bool, ...]
    shown: int
    answered: Signals
    held_out: Mapping[str, Signals]
    shipped: Calibration


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print one JSON object for each set."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="the folder that holds squad2_dev and xquad")
    parser.add_argument("--sets", nargs="+", choices=_ARTICLES, default=["squad"])
    parser.add_argument("--step", type=int, default=1, help="only every N-th question")
    parser.add_argument("--fit", action="store_true", help="fit rag/abstain.py's weights anew")
    options = parser.parse_args(arguments)
    taught: list[Row] = []
    for name in options.sets:
        rows = measure(options.data, name, options.step)
        seen = set(sorted({row.article for row in rows})[::2])
        unseen = [row for row in rows if row.article not in seen]
        taught += [row for row in rows if row.article in seen]
        figures = {**answers(rows), "unseen": answers(unseen), **refusals(unseen)}
        print(json.dumps({name: figures}, indent=1))
    if options.fit:
        print(json.dumps(calibration_json(fitted(examples(taught), _NO_PRIOR)), indent=1))
    return 0


def measure(data: Path, name: str, step: int) -> list[Row]:
    """Ask every answerable question three times: as it is, and twice with its answer held out."""
    folder = SETS[name](data, cache_folder() / "benchmarks")
    store = cache_folder() / f"benchmarks-{name}"
    sync(store, [folder / "corpus.jsonl"], SyncSettings())
    lines = (data / _ARTICLES[name] / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [q for q in map(json.loads, lines) if q["answerable"]][::step]
    with open_app(Settings(), store) as app:
        embed = _embedded_sentences(app)
        return [_row(app, question, embed) for question in questions]


def answers(rows: Sequence[Row]) -> dict[str, Any]:
    """How often the first k sentences hold a gold answer, with intervals; how many are shown."""
    measured: dict[str, Any] = {"questions": len(rows)}
    for k in range(1, MOST_SHOWN + 1):
        measured[f"sentence@{k}"] = _mean([any(row.hits[:k]) for row in rows])
    measured["shown"] = _mean([any(row.hits[: row.shown]) for row in rows])
    measured["sentences_shown"] = round(float(np.mean([row.shown for row in rows])), 2)
    return measured


def refusals(rows: Sequence[Row]) -> dict[str, Any]:
    """How well confidence tells the held-out questions, and what the default threshold does."""
    given = [row.shipped.confidence(row.answered) for row in rows]
    low, caution = rows[0].shipped.low, rows[0].shipped.caution
    measured: dict[str, Any] = {
        "questions_in_unseen_articles": len(rows),
        "false_refusal_rate": _mean([score < low for score in given]),
        "cautious_rate": _mean([low <= score < caution for score in given]),
    }
    labels = [True] * len(rows) + [False] * len(rows)
    for name in _ABSENT:
        scores = [row.shipped.confidence(row.held_out[name]) for row in rows]
        interval = class_interval([*given, *scores], labels, auroc) or ()
        value = auroc([*given, *scores], labels) or 0.0
        measured[f"auroc_{name}_held_out"] = [round(v, 4) for v in (value, *interval)]
        measured[f"refused_{name}_held_out"] = _mean([score < low for score in scores])
    # The fit takes both kinds of absence to be as likely, and together as likely as an answer.
    mixed = [r.shipped.confidence(r.held_out[_ABSENT[n % 2]]) for n, r in enumerate(rows)]
    error = expected_calibration_error([*given, *mixed], labels) or 0.0
    return measured | {"expected_calibration_error": round(error, 4)}


def examples(rows: Sequence[Row]) -> list[Example]:
    """What the regression is fitted to."""
    answered = [Example(row.id, row.answered, True, row.shipped) for row in rows]
    absent = [
        Example(row.id, row.held_out[name], False, row.shipped) for row in rows for name in _ABSENT
    ]
    return answered + absent


def _mean(values: Sequence[bool]) -> list[float]:
    """A share with its 95 % interval."""
    interval = mean_interval([float(value) for value in values])
    return [round(value, 4) for value in (float(np.mean(values)), *interval)]


def _row(app: App, question: Mapping[str, Any], embed: Callable[[Sequence[str]], Matrix]) -> Row:
    text = question["question"]
    gold = str(question["evidence"][0]["doc"])
    article = gold.rpartition("#")[0]
    found = app.search(text, k=_RETRIEVED)
    asked, model = analyse(text, term_weights(app.store)), app.resources.embedder.name

    def ranked(keep: Callable[[str], bool]) -> tuple[list[ScoredSentence], Signals]:
        kept = renumber([p for p in found.passages if keep(p.chunk.source)][:_SHOWN])
        sentences = rank_sentences(asked, found.query_vector, kept, embed, model)
        return sentences, judge(asked, sentences, kept).signals

    everything, signals = ranked(lambda source: True)
    return Row(
        question["id"],
        article,
        tuple(bool(contains(s.text, question["answers"])) for s in everything[:MOST_SHOWN]),
        len(extract(everything)),
        signals,
        {
            "article": ranked(lambda source: source.rpartition("#")[0] != article)[1],
            "paragraph": ranked(lambda source: source != gold)[1],
        },
        shipped(found.passages, model),
    )


def _embedded_sentences(app: App) -> Callable[[Sequence[str]], Matrix]:
    """Vectors of every sentence of the store, made in bulk and looked up afterwards."""
    documents = [app.store.document(s.source) for s in app.store.sources()]
    sentences = {
        chunk.text[start:end]
        for document in documents
        for chunk in document.chunks
        for start, end in sentence_spans(chunk.text)
    }
    ordered = sorted(sentences)
    embedder = app.resources.embedder
    known = dict(zip(ordered, embedder.embed_documents(ordered), strict=True))

    def embed(texts: Sequence[str]) -> Matrix:
        for text in texts:
            if text not in known:  # a sentence with the list that it announces
                known[text] = embedder.embed_query(text)
        return np.array([known[text] for text in texts], np.float32)

    return embed


if __name__ == "__main__":
    sys.exit(main())
