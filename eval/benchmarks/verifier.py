"""The verifier against labels by people, beside what most tools use: the embedding's cosine.

    python -m eval.benchmarks.verifier DATA_DIR [--sets scifact wice] [--step N]

DATA_DIR holds grounding_scifact and grounding_wice, each with claims.jsonl. Printed for each set:
AUROC of supported against all other labels, macro-F1 at the fixed cut .60, how often a flagged
number is rightly flagged, and how many supported claims it flags. The cosine, the best sentence's
with the claim, has its cut chosen on the very labels it is scored on: its F1 is an upper bound.
Term weights come from the set's own sentences.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.statistics import auroc
from ingest.embed import DefaultEmbedder
from ingest.words import terms
from rag.numbers import missing_number
from rag.verify import CoverageVerifier, Idf, inverse_frequency

_SETS = ("scifact", "wice")
_CUT = 0.60
_CUTS_TRIED = np.linspace(0.02, 0.98, 49)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="the folder that holds the grounding_* folders")
    parser.add_argument("--sets", nargs="+", choices=_SETS, default=_SETS)
    parser.add_argument("--step", type=int, default=1, help="only every N-th claim")
    options = parser.parse_args(arguments)
    figures = {
        name: measure(options.data / f"grounding_{name}", options.step) for name in options.sets
    }
    print(json.dumps(figures, indent=1))
    return 0


def measure(folder: Path, step: int) -> dict[str, float]:
    """The figures of one set, over every `step`-th claim."""
    lines = (folder / "claims.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines][::step]
    labels = [row["label"] == "supported" for row in rows]
    texts = ["\n\n".join(row["context"]) for row in rows]
    verifier = CoverageVerifier(_weights(rows))
    begun = time.process_time()
    scores = [verifier.score(row["claim"], [text]) for row, text in zip(rows, texts, strict=True)]
    seconds = time.process_time() - begun
    cosines = best_cosines(rows)
    best_cut = max(macro_f1(labels, cosines, cut) for cut in np.quantile(cosines, _CUTS_TRIED))
    flagged = [
        missing_number(row["claim"], [text]) is not None
        for row, text in zip(rows, texts, strict=True)
    ]
    figures = {
        "auroc": auroc(scores, labels) or 0.0,
        "macro_f1": macro_f1(labels, scores, _CUT),
        "cosine_auroc": auroc(cosines, labels) or 0.0,
        "cosine_macro_f1_best_cut": best_cut,
        "number_flags_right": float(np.mean(~np.array(labels)[flagged])),
        "number_false_alarms": float(np.mean(np.array(flagged)[labels])),
        "milliseconds_per_claim": 1000 * seconds / len(rows),
    }
    return {"claims": len(rows), **{name: round(value, 3) for name, value in figures.items()}}


def macro_f1(labels: Sequence[bool], scores: Sequence[float], cut: float) -> float:
    """The mean of both classes' F1 when a score at or above the cut means supported."""
    actual = np.array(labels)
    given = np.array(scores) >= cut
    shares = []
    for kind in (True, False):
        right = np.sum((actual == kind) & (given == kind))
        shares.append(2 * right / max(1, np.sum(actual == kind) + np.sum(given == kind)))
    return float(np.mean(shares))


def best_cosines(rows: Sequence[dict[str, Any]]) -> list[float]:
    """Each claim's cosine with the closest sentence of its context."""
    sentences = sorted({sentence for row in rows for sentence in row["context"]})
    embedder = DefaultEmbedder()
    vectors = embedder.embed_documents([*sentences, *(row["claim"] for row in rows)])
    places = {sentence: place for place, sentence in enumerate(sentences)}
    claims = vectors[len(sentences) :]
    return [
        float((vectors[[places[s] for s in row["context"]]] @ claim).max())
        for row, claim in zip(rows, claims, strict=True)
    ]


def _weights(rows: Sequence[dict[str, Any]]) -> Idf:
    counts = Counter(term for row in rows for s in row["context"] for term in set(terms(s)))
    return inverse_frequency(counts, sum(len(row["context"]) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
