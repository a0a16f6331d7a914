"""Whether the documents hold an answer at all, decided before any chat call.

Two numbers of the best sentence are enough: its cosine with the question, and the share of the
question's words it holds. A logistic regression makes one probability of them. It tells a
question whose topic is absent from one that is answered; it does not see a near miss, where the
same words stand in a sentence that answers something else.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rag.extract import ScoredSentence

# Fitted by eval/benchmarks/squad.py --fit on every other article of SQuAD 2 (dev): each
# answerable question with all passages, without its paragraph, and without its article, the
# answered and the unanswered weighing the same.
INTERCEPT = -7.01
COSINE_WEIGHT = 7.69
COVERAGE_WEIGHT = 4.99

LOW = 0.12
"""Below: abstain. It refuses 1.5 % of SQuAD's answerable questions, but far more where questions
avoid the documents' words or are asked in another language: there it has to be fitted anew."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """How likely the documents answer a question, with the best sentence's two numbers."""

    confidence: float
    cosine: float
    coverage: float
    threshold: float = LOW

    @property
    def abstains(self) -> bool:
        """Whether to say that the documents do not hold it."""
        return self.confidence < self.threshold


def judge(ranked: Sequence[ScoredSentence], threshold: float = LOW) -> Judgement:
    """Judge by the first of the ranked sentences; no sentence at all is no confidence."""
    if not ranked:
        return Judgement(0.0, 0.0, 0.0, threshold)
    best = ranked[0]
    return Judgement(confidence(best.cosine, best.coverage), best.cosine, best.coverage, threshold)


def confidence(best_cosine: float, best_coverage: float) -> float:
    """The probability, 0 to 1, that a question with these numbers is answered in the documents."""
    logit = INTERCEPT + COSINE_WEIGHT * best_cosine + COVERAGE_WEIGHT * best_coverage
    return 1.0 / (1.0 + math.exp(-logit))
