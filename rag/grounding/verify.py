"""Whether the passages say what a sentence claims: counted, not judged, and the same every time.

The score is the share of a sentence's content words, weighted by how rare they are in the
collection, that stand together in three neighbouring sentences of a passage. A number that no
passage gives makes the sentence unsupported; a name that none gives, an opposite ("decrease"
where it says "increase") or a denial that its sources do not make lowers it one step. What is
counted, and how much, was chosen on one half of two sets labelled by people and holds on the
other (eval/benchmarks/verifier.py).

It reads no meaning: a changed verb among the same words passes. `Verifier` is the seam for a
model that does better (rag/grounding/judge.py).
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, combinations
from typing import Protocol

from ingest.sentences import sentence_spans
from ingest.words import terms
from rag.grounding.doubts import NEGATING, denies_alone, missing_name, reversed_word
from rag.grounding.numbers import missing_number
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

_WRONG_NUMBER = 0.39  # times the score: always below WEAK
_ONE_STEP_DOWN = 0.6  # times the score: at most weak
_PAIR_CANDIDATES = 24
_JUDGED_PASSAGES = 3  # the best by words: the true source is nearly always among them
_SHORTEST_PART = 4  # letters that a word must share with a compound it is part of

_LIST_MARKER = re.compile(r"^\s*(?:[-*+\u2022]\s+|\(?\d{1,3}[.)]\s+|#{1,6}\s+)+")
_SHOWN = (
    r"\b(?:passages?|documents?|sources?|context|excerpts?|(?:provided|given) (?:text|information)"
    r"|Dokumente?n?|Quellen?|Textstellen?|Kontext)\b"
)
_NOT = r"(?:\b(?:not|no|nothing|cannot|neither|nicht|nichts|keine?[mnrs]?)\b|n['\u2019]t\b)"
_TELLS = (
    r"(?:\b(?:address|answer|clear|contain|describ|detail|determin|discuss|found|g[ia]v|includ"
    r"|indicat|inform|known|mention|provid|sa[iy]|specif|stat|tell|told|enth[aä]lt|erw[aä]hn|genannt"
    r"|nenn|steh)\w*)"
)
_META = re.compile(
    rf"{_SHOWN}[^.]*(?:{_NOT}[^.]*{_TELLS}|{_TELLS}[^.]*{_NOT})"
    rf"|(?:{_NOT}[^.]*{_TELLS}|{_TELLS}[^.]*{_NOT})[^.]*\b(?:in|from|by|aus) (?:the|den|dem) "
    rf"(?:\w+ )?{_SHOWN}"
    r"|^\W*(?:yes|no|correct|right|okay|ja|nein)\W*$"
    r"|^\W*(?:i (?:do not|don't|cannot|can't|could not|couldn't|am not|am sorry)|i'm (?:sorry|not)"
    r"|sorry|unfortunately, i)\b",
    re.IGNORECASE,
)
_META_LONGEST = 240  # characters; a longer one makes a claim besides
# A row with two cells or more, of Markdown or of our loaders; and the rule below a header.
_ROW = re.compile(r"\|.*|.*\S \| .*")
_RULE = re.compile(r"[|:=+\s-]+")


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence as its content terms and their weights."""

    text: str
    weights: Mapping[str, float]

    def coverage(self, held: frozenset[str]) -> float:
        """The weighted share of the claim's terms that are among these, 0 to 1."""
        total = math.fsum(self.weights.values())
        share = math.fsum(map(self.weights.__getitem__, self.weights.keys() & held))
        return share / total if total else 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """A passage made ready: the spans of its sentences, and each one's terms.

    `above` is what stands over it, and `heading` its terms: title, section and table header. What
    a passage is about is often said only there. `headers` has for each sentence that is a row of
    a table the number of the row that names its columns, None for others. `ends` finds a term by
    its first and by its last letters.
    """

    text: str
    above: str
    spans: tuple[tuple[int, int], ...]
    terms: tuple[frozenset[str], ...]
    heading: frozenset[str]
    headers: tuple[int | None, ...]
    ends: Mapping[str, tuple[str, ...]]

    def own(self, number: int) -> frozenset[str]:
        """The terms of one sentence; of a row, also those of the row that names its columns."""
        header = self.headers[number]
        return self.terms[number] if header is None else self.terms[number] | self.terms[header]

    def found(self, first: int, last: int) -> frozenset[str]:
        """The terms of sentences first to last (exclusive), the heading's among them."""
        return self.heading.union(*map(self.own, range(first, min(last, len(self.terms)))))

    def slice(self, first: int, last: int) -> str:
        """The text of sentences first to last (exclusive)."""
        inside = self.spans[first:last]
        return self.text[inside[0][0] : inside[-1][1]] if inside else ""


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
    `judged` says that a model gave the score.
    """

    score: float | None
    support: Support
    reason: str | None = None
    windows: tuple[Window, ...] = ()
    best: tuple[Window, ...] = ()
    judged: bool = False


class Verifier(Protocol):
    """Scores a claim against texts, 0 to 1: the seam for an entailment model or a judge."""

    def score(self, claim: str, evidence: Sequence[str]) -> float | None:
        """How far the texts together support the claim; None where there is no verdict."""


class CoverageVerifier:
    """The verifier described above. `idf` gives a term's weight in the collection.

    A `judge` has the last word on the score where it gives a verdict; what is cited is still
    found by words. A name of the `question` that an answer repeats must stand beside the rest.
    """

    def __init__(self, idf: Idf, judge: Verifier | None = None, question: str = "") -> None:
        self._idf = idf
        self._judge = judge
        self._asked = frozenset(terms(question))

    def score(self, claim: str, evidence: Sequence[str]) -> float:
        """How far the texts together support the claim; 0 for a claim without content words."""
        return self._verdict(claim, [prepared(text) for text in evidence]).score or 0.0

    def check(self, sentence: str, passages: Sequence[Passage]) -> Verdict:
        """The verdict on one sentence of an answer, its citation markers already removed."""
        if claims_nothing(sentence):
            return Verdict(None, "not_checked")
        evidence = [prepared_passage(passage) for passage in passages]
        verdict = self._verdict(sentence, evidence)
        if self._judge is None or verdict.score is None:
            return verdict
        nearest = sorted(verdict.best, key=lambda window: -window.coverage)[:_JUDGED_PASSAGES]
        read = [evidence[window.passage] for window in nearest]
        score = self._judge.score(sentence, [f"{item.above}\n{item.text}".strip() for item in read])
        return verdict if score is None else _judged(verdict, score)

    def claim(self, sentence: str) -> Claim:
        """The sentence's content terms with their weights."""
        text = _LIST_MARKER.sub("", sentence)
        return Claim(text, {term: self._idf(term) for term in dict.fromkeys(terms(text))})

    def _verdict(self, sentence: str, evidence: Sequence[Evidence]) -> Verdict:
        claim = self.claim(sentence)
        if not claim.weights:
            return Verdict(None, "not_checked")
        by_passage = [_windows(claim, index, item) for index, item in enumerate(evidence)]
        best = tuple(max(windows, key=lambda window: window.coverage) for windows in by_passage)
        every = list(chain.from_iterable(by_passage))
        windows = _best_windows(claim, every)
        coverage = claim.coverage(found_in(windows))
        known = found_in(every) - (self._asked - found_in(windows))
        doubts = dict(_doubts(claim, evidence, windows, known))
        score = coverage * math.prod(doubts.values())
        reason = next(iter(doubts), None)
        if score < SUPPORTED and reason is None:
            reason = f"the passages hold {coverage:.0%} of what its words say"
        return Verdict(score, support_of(score), reason, windows, best)


def _judged(verdict: Verdict, score: float) -> Verdict:
    """The verdict with a judge's score in place of the counted one."""
    reason = None if score >= SUPPORTED else f"judged to be supported to {score:.0%}"
    return replace(verdict, score=score, support=support_of(score), reason=reason, judged=True)


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
    if text.startswith(("#", "```", "~~~")) or text.endswith(
        ("?", ":", "\uff1f", "\uff1a", "\u061f")
    ):
        return True
    return len(text) <= _META_LONGEST and _META.search(text) is not None


@lru_cache(maxsize=512)
def prepared(text: str, above: str = "", *, goes_on: bool = False) -> Evidence:
    """A text cut into sentences and terms; cached, for one answer asks again and again.

    `goes_on` says that it begins inside a table, whose header stands above it.
    """
    spans = tuple(sentence_spans(text))
    lines = [text[start:end] for start, end in spans]
    found = tuple(frozenset(terms(line)) for line in lines)
    heading = frozenset(terms(above))
    ends = _by_ends(heading.union(*found))
    return Evidence(text, above, spans, found, heading, _headers(lines, goes_on), ends)


def prepared_passage(passage: Passage) -> Evidence:
    """A passage cut into sentences and terms, below its title, section and table header."""
    chunk = passage.chunk
    return prepared(chunk.text, chunk.context, goes_on=bool(chunk.header))


def tightest_run(claim: Claim, evidence: Evidence, window: Window) -> tuple[int, int, float]:
    """The shortest run of sentences in the window that keeps 95 % of its coverage.

    Returned are the numbers of its first sentence and of the one after its last, and its coverage.
    """
    near = _alike(claim, evidence)
    runs = []
    for first in range(window.first, window.last):
        for last in range(first + 1, window.last + 1):
            coverage = claim.coverage(_held(near, evidence.found(first, last)))
            length = evidence.spans[last - 1][1] - evidence.spans[first][0]
            if coverage >= 0.95 * window.coverage:
                runs.append((length, first, last, coverage))
    _, first, last, coverage = min(runs)
    return first, last, coverage


def _headers(lines: Sequence[str], goes_on: bool) -> tuple[int | None, ...]:
    """For each line that is a row of a table, the number of the row that names its columns.

    That is the first row of a table that begins here, if a rule stands below it, or it has three
    cells or more and no figure.
    """
    headers: list[int | None] = []
    header = None
    rows = [_ROW.fullmatch(line) is not None for line in lines]
    for number, (line, below) in enumerate(zip(lines, [*lines[1:], ""])):
        if rows[number] and number and rows[number - 1]:
            headers.append(header)
            continue
        begins = rows[number] and not (goes_on and number == 0)
        names = line.count(" | ") > 1 and not any(map(str.isdigit, line))
        header = number if begins and (names or _RULE.fullmatch(below)) else None
        headers.append(None)
    return tuple(headers)


def _alike(claim: Claim, evidence: Evidence) -> dict[str, frozenset[str]]:
    """The terms of the evidence that hold terms of the claim, and which.

    They are the same, or one begins or ends with the other: that is for endings and compounds in
    whichever language.
    """
    near: defaultdict[str, frozenset[str]] = defaultdict(frozenset)
    for own in claim.weights:
        near[own] = frozenset({own})
    for own in filter(str.isalpha, claim.weights):
        for other in chain.from_iterable(evidence.ends.get(key, ()) for key in _ends(own)):
            if _is_part(own, other):
                near[other] |= {own}
    return near


def _held(near: Mapping[str, frozenset[str]], found: frozenset[str]) -> frozenset[str]:
    """The claim's terms that these terms of its evidence hold."""
    return frozenset().union(*map(near.__getitem__, found & near.keys()))


def _by_ends(vocabulary: frozenset[str]) -> dict[str, tuple[str, ...]]:
    by_ends: defaultdict[str, tuple[str, ...]] = defaultdict(tuple)
    for term in vocabulary:
        for key in _ends(term):
            by_ends[key] += (term,)
    return dict(by_ends)


def _ends(term: str) -> tuple[str, ...]:
    """The keys under which terms meet that begin or end alike; none for a short one."""
    size = _SHORTEST_PART
    return (term[:size], f"-{term[-size:]}") if len(term) >= size else ()


def _is_part(one: str, other: str) -> bool:
    """Whether one term begins or ends with the other, and no negating prefix makes the rest."""
    part, whole = (one, other) if len(one) < len(other) else (other, one)
    return whole.startswith(part) or (
        whole.endswith(part) and whole.removesuffix(part) not in NEGATING
    )


def found_in(windows: Iterable[Window]) -> frozenset[str]:
    """What several windows hold together."""
    return frozenset[str]().union(*(window.found for window in windows))


def _windows(claim: Claim, index: int, evidence: Evidence) -> list[Window]:
    """Every window of one passage, with what it holds of the claim."""
    near = _alike(claim, evidence)
    heading = _held(near, evidence.heading)
    held = [_held(near, evidence.own(number)) for number in range(len(evidence.spans))]
    windows = []
    for first in range(max(1, len(held) - WINDOW + 1)):
        last = min(first + WINDOW, len(held))
        found = heading.union(*held[first:last])
        windows.append(Window(index, first, last, claim.coverage(found), found))
    return windows


def _best_windows(claim: Claim, every: Sequence[Window]) -> tuple[Window, ...]:
    """The best window; the best two where the second adds enough."""
    distinct = {window.found: window for window in reversed(every)}  # the first of equals
    ranked = sorted(distinct.values(), key=lambda w: (-w.coverage, w.passage, w.first))
    if not ranked:
        return ()
    enough = ranked[0].coverage + SECOND_SOURCE_GAIN
    pairs = [
        (claim.coverage(one.found | other.found), (one, other))
        for one, other in combinations(ranked[:_PAIR_CANDIDATES], 2)
        if one.coverage + other.coverage >= enough
    ]
    coverage, best = max(pairs, key=lambda pair: pair[0], default=(0.0, ()))
    return best if coverage >= enough else (ranked[0],)


def _doubts(
    claim: Claim, evidence: Sequence[Evidence], windows: Sequence[Window], known: frozenset[str]
) -> Iterator[tuple[str, float]]:
    """What speaks against a claim whose words are found: the reason, and a factor of the score.

    `known` are the terms of the claim that stand where they should in the evidence.
    """
    if number := missing_number(claim.text, [f"{item.above}\n{item.text}" for item in evidence]):
        yield f"the number {number} is not in the passages", _WRONG_NUMBER
    if name := missing_name(claim.text, known):
        yield f"the name {name} is not in the passages, or not beside the rest", _ONE_STEP_DOWN
    cited = [(evidence[window.passage], window.first, window.last) for window in windows]
    held = frozenset[str]().union(*(item.found(first, last) for item, first, last in cited))
    if word := reversed_word(claim.text, held):
        yield f"its sources say the opposite of {word!r}", _ONE_STEP_DOWN
    read = [text for item, first, last in cited for text in (item.above, item.slice(first, last))]
    if denies_alone(claim.text, "\n".join(read)):
        yield "it denies what its sources do not", _ONE_STEP_DOWN
