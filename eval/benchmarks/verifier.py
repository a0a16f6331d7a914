"""The verifier against labels by people, beside an embedding's cosine and plain word coverage.

    python -m eval.benchmarks.verifier DATA_DIR [--sets scifact wice] [--step N]

DATA_DIR holds grounding_scifact and grounding_wice, each with claims.jsonl. Three scores are
compared on each set: ours; the claim's cosine with the closest sentence, which is what most tools
call groundedness (windows of three sentences were no closer to the labels); and the rule that
ours began as, the weighted share of a claim's words in the best window of three sentences.
Printed of each: AUROC of supported against all other labels, and macro-F1 with the cut chosen on
the other half of the claims (by the checksum of their ids); then what ours has over the others,
with paired 95 % bootstrap intervals. `false_alarms` is the share of supported claims in which a
number is said to be missing. What an answer costs is measured on answers of three claims with
eight passages. Term weights come from the set's own sentences.

The constants of verify.py and what doubts.py counts (both in rag/grounding/) were chosen on one
half: `chosen_on` is ours there, `held_out` on the other. The pairs of opposites were written down
beforehand.
"""

import argparse
import json
import math
import statistics
import sys
import time
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.statistics import auroc, class_interval
from ingest.embed import DefaultEmbedder
from ingest.types import StoredChunk
from ingest.words import terms
from rag.grounding.ground import Grounder
from rag.grounding.numbers import missing_number
from rag.grounding.verify import WINDOW, CoverageVerifier, Idf, inverse_frequency, prepared_passage
from rag.types import Passage

Rows = Sequence[dict[str, Any]]
Scores = NDArray[np.float64]
Marks = NDArray[np.bool_]

_SETS = ("scifact", "wice")
_CUT = 0.60
_CUTS_TRIED = np.linspace(0.02, 0.98, 97)
_ANSWER_CLAIMS = 3
_ANSWER_PASSAGES = 8
_PASSAGE_CHARACTERS = 1000


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


def measure(folder: Path, step: int) -> dict[str, Any]:
    """The figures of one set, over every `step`-th claim."""
    lines = (folder / "claims.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines][::step]
    labels = np.array([row["label"] == "supported" for row in rows])
    halves = np.array([zlib.crc32(row["id"].encode()) % 2 == 1 for row in rows])
    idf = _weights(rows)
    scores = {
        "ours": _own_scores(rows, idf),
        "cosine": best_cosines(rows),
        "coverage": np.array([best_coverage(row, idf) for row in rows]),
    }
    return {
        "claims": len(rows),
        **compared(scores, labels, halves),
        "numbers": number_check(rows, labels),
        "milliseconds_per_answer": _rounded(milliseconds_per_answer(rows, idf)),
    }


def compared(scores: Mapping[str, Scores], labels: Marks, halves: Marks) -> dict[str, Any]:
    """Each score's AUROC and macro-F1, and what ours has over the others."""
    ours = scores["ours"]
    called = {name: decisions(values, labels, halves) for name, values in scores.items()}
    return {
        "auroc": {name: _rounded(auroc(values, labels)) for name, values in scores.items()},
        "macro_f1": {name: _rounded(macro_f1(marks, labels)) for name, marks in called.items()},
        "macro_f1_at_.60": {
            name: _rounded(macro_f1(scores[name] >= _CUT, labels)) for name in ("ours", "coverage")
        },
        "ours_auroc": {
            "chosen_on": _rounded(auroc(ours[~halves], labels[~halves])),
            "held_out": _rounded(auroc(ours[halves], labels[halves])),
        },
        "ours_over": {
            name: {
                "auroc": difference(ours, scores[name], labels, auroc),
                "macro_f1": difference(called["ours"], called[name], labels, macro_f1),
            }
            for name in ("cosine", "coverage")
        },
    }


def decisions(scores: Scores, labels: Marks, halves: Marks) -> Marks:
    """Which claims are called supported, each half by the cut that is best on the other."""
    called = np.zeros(len(scores), bool)
    for half in (True, False):
        others, own = halves != half, halves == half
        cuts = np.quantile(scores[others], _CUTS_TRIED)
        best = max(cuts, key=lambda cut: macro_f1(scores[others] >= cut, labels[others]))
        called[own] = scores[own] >= best
    return called


def macro_f1(called: Any, labels: Any) -> float:
    """The mean of both classes' F1 when some claims are called supported."""
    shares = []
    for kind in (True, False):
        right = np.sum((labels == kind) & (called == kind))
        shares.append(2 * right / max(1, np.sum(labels == kind) + np.sum(called == kind)))
    return float(np.mean(shares))


def difference(ours: Any, other: Any, labels: Marks, statistic: Any) -> list[float]:
    """A statistic of ours less the other's, and the paired interval of that difference."""
    both = np.column_stack([ours, other])

    def gain(values: Any, marks: Any) -> float:
        return float(statistic(values[:, 0], marks) - statistic(values[:, 1], marks))

    interval = class_interval(both, labels, gain) or ()
    return [_rounded(value) for value in (gain(both.astype(float), labels), *interval)]


def number_check(rows: Rows, labels: Marks) -> Mapping[str, float]:
    """How often a number is said to be missing: rightly, and in supported claims."""
    flagged = np.array(
        [missing_number(row["claim"], ["\n\n".join(row["context"])]) is not None for row in rows]
    )
    return {
        "flags_right": _rounded(np.mean(~labels[flagged])),
        "false_alarms": _rounded(np.mean(flagged[labels])),
    }


def best_coverage(row: Mapping[str, Any], idf: Idf) -> float:
    """The weighted share of a claim's terms in the best window of three sentences."""
    weights = {term: idf(term) for term in terms(row["claim"])}
    context, last = row["context"], max(1, len(row["context"]) - WINDOW + 1)
    windows = [set(terms(" ".join(context[first : first + WINDOW]))) for first in range(last)]
    found = [math.fsum(weights[term] for term in weights.keys() & window) for window in windows]
    return max(found) / (math.fsum(weights.values()) or 1.0)


def best_cosines(rows: Rows) -> Scores:
    """Each claim's cosine with the closest sentence of its context."""
    sentences = sorted({sentence for row in rows for sentence in row["context"]})
    vectors = DefaultEmbedder().embed_documents([*sentences, *(row["claim"] for row in rows)])
    places = {sentence: place for place, sentence in enumerate(sentences)}
    claims = vectors[len(sentences) :]
    closest = [
        (vectors[[places[sentence] for sentence in row["context"]]] @ claim).max()
        for row, claim in zip(rows, claims, strict=True)
    ]
    return np.array(closest, dtype=np.float64)


def milliseconds_per_answer(rows: Rows, idf: Idf) -> float:
    """The median processor time in which an answer's claims are checked and cited.

    Its passages are cut into sentences before, as choosing the best ones for a question does.
    """
    passages = [_passage(number, row) for number, row in enumerate(rows, 1)]
    spent = []
    for first in range(0, len(rows), _ANSWER_PASSAGES):
        shown = passages[first : first + _ANSWER_PASSAGES]
        for passage in shown:
            prepared_passage(passage)
        claims = [row["claim"] for row in rows[first : first + _ANSWER_CLAIMS]]
        begun = time.thread_time()
        grounder = Grounder(shown, CoverageVerifier(idf))
        for claim in claims:
            grounder.add(f" {claim}")
        spent.append(1000 * (time.thread_time() - begun))
    return statistics.median(spent)


def _passage(number: int, row: Mapping[str, Any]) -> Passage:
    text = "\n".join(row["context"])[:_PASSAGE_CHARACTERS].strip()
    chunk = StoredChunk(number, row["id"], row["id"], 0, len(text), text, None, "", number)
    return Passage(number, chunk, 0.5, 0.5, number, number)


def _own_scores(rows: Rows, idf: Idf) -> Scores:
    verifier = CoverageVerifier(idf)
    return np.array([verifier.score(row["claim"], ["\n\n".join(row["context"])]) for row in rows])


def _weights(rows: Rows) -> Idf:
    counts = Counter(term for row in rows for s in row["context"] for term in set(terms(s)))
    return inverse_frequency(counts, sum(len(row["context"]) for row in rows))


def _rounded(value: Any) -> float:
    return round(float(value), 3)


if __name__ == "__main__":
    sys.exit(main())
