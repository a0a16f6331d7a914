"""Whether the passages say what a sentence claims: counted, not judged, and the same every time.

The score is the share of a sentence's content words, weighted by how rare they are in the
collection, that stand together in three neighbouring sentences of a passage. A number that no
passage gives makes the sentence unsupported; a name that none gives lowers it one step. The
thresholds were chosen on sentences labelled by people.

It reads no meaning: a negation, or a changed verb among the same words, passes. `Verifier` is
the seam for a model that does better.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, combinations
from typing import Protocol

from ingest.sentences import sentence_spans
from ingest.words import terms
from rag.numbers import is_date_word, missing_number
from rag.types import Passage, Support

Idf = Callable[[str], float]

SUPPORTED = 0.75
"""At or above: supported. Human labels' best single cut is .60; below this one a warning pays."""
WEAK = 0.40
"""Below: unsupported."""
SECOND_SOURCE_GAIN = 0.15
"""What a second window must add before a sentence counts as joined from two places."""
WINDOW = 3
"""Sentences in a window: a claim's words must stand near each other, not anywhere."""

_NUMBER_PENALTY = 0.39  # times the score: always below WEAK
_NAME_PENALTY = SUPPORTED - WEAK  # one step down
_PAIR_CANDIDATES = 24

_LIST_MARKER = re.compile(r"^\s*(?:[-*+\u2022]\s+|\(?\d{1,3}[.)]\s+|#{1,6}\s+)+")
_META = re.compile(
    r"\b(?:passages?|documents?|sources?|context|excerpts?|(?:provided|given) (?:text|information))"
    r"\b[^.]*\b(?:not|n't|no|nothing|cannot|neither)\b"
    r"|\b(?:not|n't|no|nothing|cannot)\b[^.]*\b(?:in|from|by) the (?:[a-z]+ )?"
    r"(?:passages?|documents?|sources?|context|excerpts?|text|information)\b"
    r"|^\W*(?:yes|no|correct|right|okay)\W*$"
    r"|^\W*(?:i (?:do not|don't|cannot|can't|could not|couldn't|am not|am sorry)|i'm (?:sorry|not)"
    r"|sorry|unfortunately, i)\b",
    re.IGNORECASE,
)
_META_LONGEST = 30  # words; a longer one makes a claim besides
_NAME = re.compile(r"(?<=[\w,;:)\"'\u2019\u201d] )[^\W\d_a-z][\w\u2019'-]*\w")
_WORD = re.compile(r"[^\W\d_]+")
_MOST_CAPITALS = 0.4  # above: a title, or a language that writes nouns with a capital


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence as its content terms and their weights."""

    text: str
    weights: Mapping[str, float]

    def coverage(self, found: frozenset[str]) -> float:
        """The weighted share of the claim's terms that are among these, 0 to 1."""
        total = math.fsum(self.weights.values())
        held = math.fsum(weight for term, weight in self.weights.items() if term in found)
        return held / total if total else 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """A passage made ready: the spans of its sentences, and each one's terms.

    `heading` holds the terms of its title and section: what a passage is about is often said
    only above it.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    terms: tuple[frozenset[str], ...]
    heading: frozenset[str]

    def found(self, first: int, last: int) -> frozenset[str]:
        """The terms of sentences first to last (exclusive), the heading's among them."""
        return self.heading.union(*self.terms[first:last])


@dataclass(frozen=True, slots=True)
class Window:
    """Neighbouring sentences `first` to `last` (exclusive) of one passage, by its index."""

    passage: int
    first: int
    last: int
    coverage: float
    found: frozenset[str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the passages give for one sentence.

    `score` is None and `windows` empty for a sentence that claims nothing. `windows` holds the
    best one, or the best two where the second adds enough; `best` is each passage's best window.
    """

    score: float | None
    support: Support
    reason: str | None = None
    windows: tuple[Window, ...] = ()
    best: tuple[Window, ...] = ()


class Verifier(Protocol):
    """Scores a claim against texts, 0 to 1: the seam for an entailment model or a judge."""

    def score(self, claim: str, evidence: Sequence[str]) -> float:
        """How far the texts together support the claim."""


class CoverageVerifier:
    """The verifier described above. `idf` gives a term's weight in the collection."""

    def __init__(self, idf: Idf) -> None:
        self._idf = idf

    def score(self, claim: str, evidence: Sequence[str]) -> float:
        """How far the texts together support the claim; 0 for a claim without content words."""
        return self._verdict(claim, [prepared(text) for text in evidence]).score or 0.0

    def check(self, sentence: str, passages: Sequence[Passage]) -> Verdict:
        """The verdict on one sentence of an answer, its citation markers already removed."""
        if claims_nothing(sentence):
            return Verdict(None, "not_checked")
        return self._verdict(sentence, [prepared_passage(passage) for passage in passages])

    def claim(self, sentence: str) -> Claim:
        """The sentence's content terms with their weights."""
        text = _LIST_MARKER.sub("", sentence)
        return Claim(text, {term: self._idf(term) for term in dict.fromkeys(terms(text))})

    def _verdict(self, sentence: str, evidence: Sequence[Evidence]) -> Verdict:
        claim = self.claim(sentence)
        if not claim.weights:
            return Verdict(None, "not_checked")
        every = [_windows(claim, index, item) for index, item in enumerate(evidence)]
        best = tuple(max(windows, key=lambda window: window.coverage) for windows in every)
        windows = _best_windows(claim, list(chain.from_iterable(every)))
        coverage = claim.coverage(frozenset().union(*(window.found for window in windows)))
        score, reason = _with_penalties(claim, coverage, evidence)
        return Verdict(score, support_of(score), reason, windows, best)


def support_of(score: float) -> Support:
    """The state a score stands for."""
    if score >= SUPPORTED:
        return "supported"
    return "weak" if score >= WEAK else "unsupported"


def inverse_frequency(frequencies: Mapping[str, int], total: int) -> Idf:
    """Term weights from document frequencies: ln(1 + (N - n + .5) / (n + .5)), as in BM25.

    A term that is not in the mapping counts as one that no document has.
    """

    def idf(term: str) -> float:
        frequency = min(frequencies.get(term, 0), total)
        return math.log1p((total - frequency + 0.5) / (frequency + 0.5))

    return idf


def claims_nothing(sentence: str) -> bool:
    """Whether a sentence is about the answer, not about the world: nothing to check.

    A heading, a question, a line that announces a list, a remark that the documents do not say.
    """
    text = sentence.strip().strip("*_ ")
    if text.startswith(("#", "```", "~~~")) or text.endswith(("?", ":", "\uff1f", "\uff1a")):
        return True
    return len(text.split()) <= _META_LONGEST and _META.search(text) is not None


@lru_cache(maxsize=512)
def prepared(text: str, heading: str = "") -> Evidence:
    """A text cut into sentences and terms; cached, for one answer asks again and again."""
    spans = tuple(sentence_spans(text))
    sentence_terms = tuple(frozenset(terms(text[start:end])) for start, end in spans)
    return Evidence(text, spans, sentence_terms, frozenset(terms(heading)))


def prepared_passage(passage: Passage) -> Evidence:
    """A passage cut into sentences and terms, its title and section as heading."""
    chunk = passage.chunk
    return prepared(chunk.text, chunk.context)


def tightest_run(claim: Claim, evidence: Evidence, window: Window) -> tuple[int, int, float]:
    """The shortest run of sentences in the window that keeps 95 % of its coverage.

    Returned are its half-open span in the passage's text, and its coverage.
    """
    runs = []
    for first in range(window.first, window.last):
        for last in range(first + 1, window.last + 1):
            coverage = claim.coverage(evidence.found(first, last))
            start, end = evidence.spans[first][0], evidence.spans[last - 1][1]
            if coverage >= 0.95 * window.coverage:
                runs.append((end - start, start, end, coverage))
    _, start, end, coverage = min(runs)
    return start, end, coverage


def _windows(claim: Claim, index: int, evidence: Evidence) -> list[Window]:
    """Every window of one passage, with what it holds of the claim."""
    count = len(evidence.spans)
    windows = []
    for first in range(max(1, count - WINDOW + 1)):
        last = min(first + WINDOW, count)
        found = frozenset(evidence.found(first, last) & claim.weights.keys())
        windows.append(Window(index, first, last, claim.coverage(found), found))
    return windows


def _best_windows(claim: Claim, every: Sequence[Window]) -> tuple[Window, ...]:
    """The best window; the best two where the second adds enough."""
    distinct = {window.found: window for window in reversed(every)}  # the first of equals
    ranked = sorted(distinct.values(), key=lambda w: (-w.coverage, w.passage, w.first))
    if not ranked:
        return ()
    pairs = [
        (claim.coverage(one.found | other.found), (one, other))
        for one, other in combinations(ranked[:_PAIR_CANDIDATES], 2)
    ]
    best = max(pairs, key=lambda pair: pair[0], default=None)
    if best and best[0] >= ranked[0].coverage + SECOND_SOURCE_GAIN:
        return best[1]
    return (ranked[0],)


def _with_penalties(
    claim: Claim, coverage: float, evidence: Sequence[Evidence]
) -> tuple[float, str | None]:
    """The score after the number and name checks, and the reason for what is not supported."""
    if number := missing_number(claim.text, [item.text for item in evidence]):
        return _NUMBER_PENALTY * coverage, f"the number {number} is not in the passages"
    if name := _missing_name(claim.text, evidence):
        return max(0.0, coverage - _NAME_PENALTY), f"the name {name} is not in the passages"
    if coverage >= SUPPORTED:
        return coverage, None
    return coverage, f"the passages hold {coverage:.0%} of what its words say"


def _missing_name(text: str, evidence: Sequence[Evidence]) -> str | None:
    """The first name of a claim that no passage has.

    A word with a capital inside a sentence counts as a name, where capitals are rare in it.
    """
    every = _WORD.findall(text)
    capitals = sum(word[0].isupper() for word in every)
    if not every or capitals > _MOST_CAPITALS * len(every) + 1:
        return None
    known = frozenset().union(*(item.found(0, len(item.terms)) for item in evidence))
    for match in _NAME.finditer(text):
        name_terms = terms(match.group())
        if name_terms and known.isdisjoint(name_terms) and not is_date_word(match.group()):
            return match.group()
    return None
