"""Whether the documents hold an answer at all, decided before any chat call.

A logistic regression makes one probability of a few signals: how close the best sentence is, how
much of the question stands in and around it, whether the names, codes and numbers of the question
are in its passage or its document's name and date, whether it speaks of another one instead, how
far it leads the next one, and whether it lacks the amount that is asked for. It tells a question
whose topic is absent from one that is answered; of near misses, where the same words stand in a
sentence that answers something else, it sees those that ask for a price or a measure, and few
others.
"""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from ingest.errors import StoreMismatch
from ingest.records import seal
from ingest.words import terms, words
from rag.extractive.asked import Asked
from rag.extractive.extract import ScoredSentence, has_rival, is_foreign, overlap
from rag.grounding.verify import prepared_passage
from rag.types import Passage

CALIBRATION = "calibration.json"


class Signals(NamedTuple):
    """What is known before a question is answered, each 0 to 1; also the weights of these.

    `cosine` and `beside` are the best sentence's marks, `named` is the share of the question's
    names, codes and numbers in its passage or its document's name and date, `margin` its lead over
    the next sentence. `rival` is 1 if it speaks of another code, year or version than the question,
    `lacking` if it has no amount in a unit that the question asks for: no price, no weight.
    """

    cosine: float = 0.0
    beside: float = 0.0
    named: float = 0.0
    margin: float = 0.0
    rival: float = 0.0
    lacking: float = 0.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted regression and its thresholds: below `low` abstain, below `caution` say so."""

    intercept: float
    weights: Signals
    low: float
    caution: float

    def confidence(self, signals: Signals) -> float:
        """The probability, 0 to 1, that a question with these signals is answered."""
        terms_of_sum = (weight * signal for weight, signal in zip(self.weights, signals))
        return 1.0 / (1.0 + math.exp(-math.fsum((self.intercept, *terms_of_sum))))

    def refusing(self, readily: float) -> "Calibration":
        """The same with its lower threshold times this; at 0 all is tried that has a sentence."""
        return replace(self, low=self.low * readily)


# Fitted by eval/benchmarks/squad.py --fit on every other article of SQuAD 2 (dev), the threshold to
# refuse 4 % of what is answered there. `lacking` is too rare there to be fitted: its weight refuses
# all but what everything else speaks for. It refuses far more where questions avoid the documents'
# words or are asked in another language: there it has to be fitted anew.
DEFAULT = Calibration(
    intercept=-7.69,
    weights=Signals(cosine=6.92, beside=3.87, named=1.15, margin=1.42, rival=-8.55, lacking=-3.0),
    low=0.22,
    caution=0.4,
)
# Fitted by the same command on XQuAD in German, Chinese and Arabic, for languages that the bundled
# model has hardly read: its cosines say less there, and to refuse as much it refuses more wrongly.
FOREIGN = Calibration(
    intercept=-7.26,
    weights=Signals(cosine=3.61, beside=11.1, named=1.58, margin=0.68, rival=-8.55, lacking=-3.0),
    low=0.26,
    caution=0.4,
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """How likely the documents answer a question, and what of it no passage mentions."""

    confidence: float
    signals: Signals
    calibration: Calibration
    missing: tuple[str, ...]

    @property
    def abstains(self) -> bool:
        """Whether to say that the documents do not hold it; always where there is no sentence."""
        return self.confidence < self.calibration.low or not self.confidence

    @property
    def is_cautious(self) -> bool:
        """Whether an answer needs a word of caution."""
        return self.confidence < self.calibration.caution


def shipped(passages: Sequence[Passage], model: str) -> Calibration:
    """The calibration for passages by the embedding model's name, unless a store has its own."""
    return FOREIGN if is_foreign(passages, model) else DEFAULT


def judge(
    asked: Asked,
    ranked: Sequence[ScoredSentence],
    passages: Sequence[Passage],
    calibration: Calibration = DEFAULT,
) -> Judgement:
    """Judge by the ranked sentences of the passages; no sentence at all is no confidence."""
    found = frozenset[str]().union(*map(terms_of, passages))
    absent = missing(asked, found) if passages else ()
    if not ranked:
        return Judgement(0.0, Signals(), calibration, absent)
    measured = signals(asked, ranked)
    return Judgement(calibration.confidence(measured), measured, calibration, absent)


def signals(asked: Asked, ranked: Sequence[ScoredSentence]) -> Signals:
    """The signals of ranked sentences, of which there is at least one."""
    best, chunk = ranked[0], ranked[0].passage.chunk
    about = f"{chunk.source} {chunk.date}"
    runner_up = next((s for s in ranked if not overlap(s, best)), None)
    return Signals(
        cosine=best.marks.cosine,
        beside=best.marks.beside,
        named=asked.specific_coverage(terms_of(best.passage).union(terms(about))),
        margin=max(0.0, best.score - runner_up.score) if runner_up else 0.0,
        rival=float(has_rival(asked, best)),
        lacking=float(asked.measured and not best.marks.type),
    )


def missing(asked: Asked, found: frozenset[str]) -> tuple[str, ...]:
    """The words of a question of which these terms hold nothing, as the question writes them."""
    written = (asked.text[word.start : word.end] for word in words(asked.text))
    counted = asked.weights.keys()  # without the words that ask, as "how many"
    unknown = (w for w in written if (own := counted & set(terms(w))) and found.isdisjoint(own))
    return tuple(dict.fromkeys(unknown))


def terms_of(passage: Passage) -> frozenset[str]:
    """The terms that a passage holds, its heading and its table's header included."""
    prepared = prepared_passage(passage)
    return prepared.found(0, len(prepared.terms))


def calibration_json(calibration: Calibration) -> dict[str, Any]:
    """A calibration as its file and `rag eval calibrate --json` have it."""
    return asdict(calibration) | {"weights": calibration.weights._asdict()}


def write_calibration(folder: Path, calibration: Calibration) -> Path:
    """Keep a calibration in a store's folder, in one step; where it is kept is returned."""
    path = folder / CALIBRATION
    content = json.dumps(calibration_json(calibration))
    fresh = path.with_name(f"{CALIBRATION}.{os.getpid()}")
    fresh.write_text(json.dumps({"seal": seal(content), "calibration": content}), encoding="utf-8")
    fresh.replace(path)
    return path


def read_calibration(folder: Path) -> Calibration | None:
    """The calibration kept in a store's folder, None where the shipped ones count.

    Raises StoreMismatch for one that has changed on disk, or is not of this version: it holds
    nothing but numbers, and all of them.
    """
    path = folder / CALIBRATION
    if not path.is_file():
        return None
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["seal"] != seal(kept["calibration"]):
            raise ValueError("its seal is broken")
        values = json.loads(kept["calibration"])
        named = values.pop("weights")
        weights = Signals(*(float(named.pop(name)) for name in Signals._fields))
        calibration = Calibration(weights=weights, **{n: float(v) for n, v in values.items()})
        if named or not all(map(math.isfinite, (*weights, calibration.intercept))):
            raise ValueError("its weights are others")
    except (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise StoreMismatch(
            f"{path} is no calibration of this version: {error}",
            "delete it, or run `rag eval calibrate` again",
        ) from error
    return calibration
