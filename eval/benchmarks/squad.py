"""Extractive answers and refusals on SQuAD 2, over the product's own retrieval.

    python -m eval.benchmarks.squad DATA_DIR [--step N] [--fit]

Answers: how often a gold answer stands in the first, the first two and the first three sentences
of `rank_sentences`, over all answerable questions. Refusals: the same questions once more with
their whole article held out (the topic is absent) and with only their paragraph held out. `--fit`
fits the two weights of rag/abstain.py on every other article; figures are always those of the
other half, which the fit has not seen.

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

from eval.benchmarks.retrieval import squad_passages
from eval.command import cache_folder
from eval.metrics import contains
from eval.statistics import auroc
from ingest.embed import Matrix
from ingest.sentences import sentence_spans
from ingest.sync import SyncSettings, sync
from rag import abstain
from rag.answer import term_weights
from rag.app import App, open_app
from rag.config import Settings
from rag.extract import ScoredSentence, rank_sentences
from rag.retrieve import renumber

_SHOWN = 8
_RETRIEVED = 60  # enough that eight are left once an article is held out
_NEWTON_STEPS = 30


@dataclass(frozen=True, slots=True)
class Row:
    """One question: its article, hits in the first sentences, and the two numbers of each case.

    `answered`, `without_paragraph` and `without_article` are the best sentence's cosine and
    coverage with everything, without the gold paragraph, and without its whole article.
    """

    article: str
    hits: tuple[bool, ...]
    answered: tuple[float, float]
    without_paragraph: tuple[float, float]
    without_article: tuple[float, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="the folder that holds squad2_dev")
    parser.add_argument("--step", type=int, default=1, help="only every N-th question")
    parser.add_argument("--fit", action="store_true", help="fit rag/abstain.py's weights anew")
    options = parser.parse_args(arguments)
    rows = measure(options.data, options.step)
    articles = sorted({row.article for row in rows})
    seen = set(articles[::2])
    held_out = [row for row in rows if row.article not in seen]
    if options.fit:
        print("intercept, cosine, coverage:", fit([row for row in rows if row.article in seen]))
    print(json.dumps({**answers(rows), **refusals(held_out)}, indent=1))
    return 0


def measure(data: Path, step: int) -> list[Row]:
    """Ask every answerable question three times: as it is, and twice with its answer held out."""
    folder = squad_passages(data, cache_folder() / "benchmarks")
    store = cache_folder() / "benchmarks-squad"
    sync(store, [folder / "corpus.jsonl"], SyncSettings())
    lines = (data / "squad2_dev" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [q for q in map(json.loads, lines) if q["answerable"]][::step]
    with open_app(Settings(), store) as app:
        embed = _embedded_sentences(app)
        return [_row(app, question, embed) for question in questions]


def answers(rows: Sequence[Row]) -> dict[str, float]:
    """How often the first k sentences hold a gold answer."""
    found = np.array([row.hits for row in rows])
    shares = {f"sentence@{k}": round(float(found[:, :k].any(axis=1).mean()), 4) for k in (1, 2, 3)}
    return {"questions": len(rows), **shares}


def refusals(rows: Sequence[Row]) -> dict[str, float]:
    """How well confidence tells the held-out questions, and what the default threshold does."""
    kinds = ("answered", "without_paragraph", "without_article")
    scores = {k: [abstain.confidence(*getattr(row, k)) for row in rows] for k in kinds}
    refused = {k: float(np.mean([s < abstain.LOW for s in scores[k]])) for k in kinds}

    def separation(kind: str) -> float:
        labels = [True] * len(rows) + [False] * len(rows)
        return auroc([*scores["answered"], *scores[kind]], labels) or 0.0

    return {
        "questions_in_unseen_articles": len(rows),
        "false_refusal_rate": round(refused["answered"], 4),
        "auroc_article_held_out": round(separation("without_article"), 4),
        "auroc_paragraph_held_out": round(separation("without_paragraph"), 4),
        "refused_article_held_out": round(refused["without_article"], 4),
        "refused_paragraph_held_out": round(refused["without_paragraph"], 4),
    }


def fit(rows: Sequence[Row]) -> list[float]:
    """Logistic regression by Newton's method; answered and unanswered weigh the same."""
    answered = [row.answered for row in rows]
    unanswered = [pair for row in rows for pair in (row.without_paragraph, row.without_article)]
    features = np.array([(1.0, *pair) for pair in (*answered, *unanswered)])
    labels = np.array([1.0] * len(answered) + [0.0] * len(unanswered))
    weights = np.where(labels == 1, 0.5 / len(answered), 0.5 / len(unanswered))
    solution = np.zeros(3)
    for _ in range(_NEWTON_STEPS):
        odds = 1 / (1 + np.exp(-features @ solution))
        gradient = features.T @ (weights * (odds - labels))
        curvature = (features * (weights * odds * (1 - odds))[:, None]).T @ features
        solution -= np.linalg.solve(curvature, gradient)
    return [round(float(value), 2) for value in solution]


def _row(app: App, question: Mapping[str, Any], embed: Callable[[Sequence[str]], Matrix]) -> Row:
    text = question["question"]
    gold = str(question["evidence"][0]["doc"])
    article = gold.rpartition("#")[0]
    found = app.search(text, k=_RETRIEVED)
    idf = term_weights(app.store)

    def ranked(keep: Callable[[str], bool]) -> list[ScoredSentence]:
        kept = renumber([p for p in found.passages if keep(p.chunk.source)][:_SHOWN])
        return rank_sentences(text, found.query_vector, kept, embed, idf)

    everything = ranked(lambda source: True)
    return Row(
        article,
        tuple(bool(contains(s.text, question["answers"])) for s in everything[:3]),
        _numbers(everything),
        _numbers(ranked(lambda source: source != gold)),
        _numbers(ranked(lambda source: source.rpartition("#")[0] != article)),
    )


def _numbers(ranked: Sequence[ScoredSentence]) -> tuple[float, float]:
    return (ranked[0].cosine, ranked[0].coverage) if ranked else (0.0, 0.0)


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
