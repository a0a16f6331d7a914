"""What a faster embedding engine costs in ranking: each against the same model in float32.

    python -m eval.benchmarks.engines DATA_DIR [--sets scifact squad] [--engines torch openvino]

Ranked by cosine alone are whole documents, cut at the model's window; questions are embedded by
numpy in float32, as the product does. Printed are nDCG@10, the 95 % interval of its difference on
the same questions, the mean and the least cosine of a document's two vectors, and the seconds that
embedding takes as a share of numpy's.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eval.benchmarks.retrieval import SETS
from eval.command import cache_folder
from eval.dataset import load_set
from eval.report import aligned
from eval.statistics import paired_interval
from ingest.embed import open_embedder
from ingest.minilm import MiniLM
from ingest.records import Matrix

_REFERENCE = "numpy"
_K = 10


class _Set(NamedTuple):
    """Documents, questions, and the place and grade of each question's gold documents."""

    texts: list[str]
    questions: list[str]
    gold: list[dict[int, float]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="the folder that holds the public sets")
    parser.add_argument("--sets", nargs="+", choices=("scifact", "squad"), default=["scifact"])
    parser.add_argument("--engines", nargs="+", default=["torch", "openvino"])
    options = parser.parse_args(arguments)
    header = ("set", "engine", "n", "ndcg@10", "difference", "mean cosine", "least", "time")
    lines: list[tuple[str, ...]] = [header]
    for name in options.sets:
        print(f"{name} ...", file=sys.stderr)
        chosen = read(SETS[name](options.data, cache_folder() / "benchmarks"))
        lines += [(name, *line) for line in compared(chosen, options.engines)]
    print(aligned(lines))


def read(folder: Path) -> _Set:
    """A set's documents and the questions that have gold among them."""
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").open(encoding="utf-8")]
    places = {str(row["_id"]): place for place, row in enumerate(rows)}
    cases = [case for case in load_set(folder).cases if case.evidence]
    gold = [{places[e.source]: e.grade for e in case.evidence} for case in cases]
    texts = [f"{row.get('title', '')}\n{row['text']}".strip() for row in rows]
    return _Set(texts, [case.question for case in cases], gold)


def compared(chosen: _Set, engines: Sequence[str]) -> list[tuple[str, ...]]:
    """A line for each engine, the reference first."""
    questions = MiniLM().embed_documents(chosen.questions)
    reference, seconds = embedded(_REFERENCE, chosen.texts)
    before = scores(questions, reference, chosen.gold)
    lines: list[tuple[str, ...]] = [
        (_REFERENCE, str(len(before)), f"{np.mean(before):.4f}", "", "", "", "")
    ]
    for engine in engines:
        vectors, used = embedded(engine, chosen.texts)
        now = scores(questions, vectors, chosen.gold)
        low, high = paired_interval(before, now)
        cosines = (vectors * reference).sum(axis=1)
        figures = (f"{np.mean(now):.4f}", f"{low:+.4f} to {high:+.4f}")
        alike = (f"{cosines.mean():.5f}", f"{cosines.min():.5f}")
        lines.append((engine, str(len(now)), *figures, *alike, f"{used / seconds:.2f}"))
    return lines


def embedded(engine: str, texts: Sequence[str]) -> tuple[Matrix, float]:
    """Vectors of an engine that was loaded before, and the seconds they took."""
    embedder = MiniLM() if engine == _REFERENCE else open_embedder(MiniLM.name, engine)
    embedder.embed_documents(texts[:1])
    begun = time.perf_counter()
    return embedder.embed_documents(texts), time.perf_counter() - begun


def scores(
    questions: Matrix, documents: Matrix, gold: Sequence[Mapping[int, float]]
) -> list[float]:
    """nDCG@10 of each question's ranking by cosine (Järvelin & Kekäläinen 2002)."""
    discounts = 1 / np.log2(np.arange(2, _K + 2))
    values = []
    for question, grades in zip(questions, gold, strict=True):
        best = np.argsort(-(documents @ question), kind="stable")[:_K]
        gains = np.array([grades.get(int(place), 0.0) for place in best])
        ideal = np.sort(np.array(list(grades.values())))[::-1][:_K]
        values.append(float(gains @ discounts / (ideal @ discounts[: len(ideal)])))
    return values


if __name__ == "__main__":
    main()
