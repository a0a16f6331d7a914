"""Answers without a language model: the documents' own sentences, best first.

A sentence's score adds how close it and its neighbours are to the question in meaning, how much
of the question's words it holds, whether it has what the question word asks for, and how well
its passage matches. The weights were found on SQuAD (see eval/benchmarks/squad.py).
"""

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.words import terms
from rag.numbers import is_date_word
from rag.types import Passage
from rag.verify import Idf, prepared_passage

Vector = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vector]

CANDIDATES = 16
"""Sentences that are embedded: those best by what costs nothing."""
SECOND_SENTENCE = 0.9
"""The second sentence is shown if its score is at least this share of the first one's."""

_TYPE_WEIGHT = 0.3
_DENSE_WEIGHT = 0.5
_PASSAGE_WEIGHT = 0.5
_BIGRAM_WEIGHT = 0.3

_ASKS_NUMBER = re.compile(
    r"\b(?:how (?:many|much|long|old|far|tall|high|large|big|deep|fast|often|heavy|wide)"
    r"|what (?:percent\w*|number|amount|share|fraction|price|cost)"
    r"|wie ?(?:viele?|lange?|hoch|oft))\b",
    re.IGNORECASE,
)
_ASKS_DATE = re.compile(
    r"\b(?:when|(?:what|which|in what) (?:year|date|day|month|decade|century|time)|wann|"
    r"(?:in )?welche[msr]? (?:jahr|tag|monat))\b",
    re.IGNORECASE,
)
_ASKS_NAME = re.compile(r"\b(?:who|whom|whose|where|wer|wem|wen|wessen|wo)\b", re.IGNORECASE)
_NUMBER = re.compile(
    r"\d|\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|"
    r"hundred|thousand|million|billion|dozen|half|zwei|drei|vier|zehn)\b",
    re.IGNORECASE,
)
_YEAR = re.compile(r"\b(?:1\d|20)\d\ds?\b|\b\d{1,2}(?:st|nd|rd|th) century\b|\b\d{1,2}:\d\d\b")
_WORD = re.compile(r"[^\W\d_][\w'\u2019-]*")
_ANSWERLESS = re.compile(r"\s*(?:#{1,6}\s|```|~~~|[|:\s-]+$)|.*[?\uff1f\u061f]\W*$", re.DOTALL)

_ANNOUNCING = (":", "\uff1a")
# What follows an announcement: fenced code, or lines up to a blank one.
_BLOCK = re.compile(r"\s*(?:(?P<fence>```|~~~).*?\n(?P=fence)|\S(?:(?!\n[ \t]*\n).)*)", re.DOTALL)
_LONGEST_ANNOUNCED = 600
_FIGURE = re.compile(r"\d[\d.,]*")
_MOST_FIGURES = 12


@dataclass(frozen=True, slots=True)
class ScoredSentence:
    """A sentence of a passage; `start` and `end` are offsets in the document.

    `cosine` is its vector's with the question's, `coverage` the weighted share of the
    question's terms that it holds.
    """

    passage: Passage
    start: int
    end: int
    score: float
    cosine: float
    coverage: float

    @property
    def text(self) -> str:
        """The sentence as the document has it."""
        base = self.passage.chunk.start
        return self.passage.chunk.text[self.start - base : self.end - base]


@dataclass(frozen=True, slots=True)
class _Question:
    text: str
    weights: Mapping[str, float]
    pairs: frozenset[tuple[str, str]]

    def coverage(self, found: frozenset[str]) -> float:
        total = math.fsum(self.weights.values())
        held = math.fsum(weight for term, weight in self.weights.items() if term in found)
        return held / total if total else 0.0


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A sentence before it is embedded: `lexical` is the part of its score that is free."""

    passage: Passage
    index: int
    start: int
    end: int
    coverage: float
    lexical: float


def rank_sentences(
    question: str,
    query_vector: Vector,
    passages: Sequence[Passage],
    embed: Embed,
    idf: Idf,
) -> list[ScoredSentence]:
    """The passages' sentences that may answer a question, best first.

    `query_vector` is the question's unit vector; `embed` gives unit vectors of texts. At most
    CANDIDATES sentences are embedded and returned.
    """
    asked = _question(question, idf)
    found = [c for passage in passages for c in _candidates(asked, passage)]
    chosen = sorted(_distinct(found), key=lambda c: (-c.lexical, c.passage.number, c.start))
    chosen = chosen[:CANDIDATES]
    if not chosen:
        return []
    vectors = embed([_text(candidate) for candidate in chosen])
    cosines = (vectors @ query_vector).tolist()
    windows = _window_cosines(chosen, vectors, query_vector)
    ranked = [
        ScoredSentence(
            passage=c.passage,
            start=c.start,
            end=c.end,
            score=c.lexical + cosine + window,
            cosine=cosine,
            coverage=c.coverage,
        )
        for c, cosine, window in zip(chosen, cosines, windows, strict=True)
    ]
    return sorted(ranked, key=lambda s: (-s.score, s.passage.number, s.start))


def extract(ranked: Sequence[ScoredSentence]) -> tuple[ScoredSentence, ...]:
    """The sentences to show: the first, and the next different one if it is nearly as good."""
    if not ranked:
        return ()
    first = ranked[0]
    same = " ".join(first.text.split()).casefold()
    for second in ranked[1:]:
        if second.score < SECOND_SENTENCE * first.score:
            break
        if " ".join(second.text.split()).casefold() != same:
            return first, second
    return (first,)


def _question(text: str, idf: Idf) -> _Question:
    found = terms(text)
    weights = {term: idf(term) for term in dict.fromkeys(found)}
    return _Question(text, weights, frozenset(itertools.pairwise(found)))


def _candidates(asked: _Question, passage: Passage) -> list[_Candidate]:
    """The sentences of a passage that state something, with the free part of their scores."""
    prepared = prepared_passage(passage)
    base = passage.chunk.start
    whole = _PASSAGE_WEIGHT * asked.coverage(prepared.found(0, len(prepared.terms)))
    shared = _DENSE_WEIGHT * passage.cosine + whole
    candidates = []
    label = passage.chunk.section.rpartition(" > ")[2]
    for index, (start, stop) in enumerate(prepared.spans):
        end = _with_announced(prepared.text, start, stop)
        text = prepared.text[start:end]
        if _ANSWERLESS.match(text) or label.endswith(text) or text.endswith(_ANNOUNCING):
            continue
        if len(_FIGURE.findall(text)) > _MOST_FIGURES:  # a table that lost its lines
            continue
        coverage = asked.coverage(prepared.terms[index])
        lexical = (
            shared
            + coverage
            + _TYPE_WEIGHT * _type_match(asked, text)
            + _BIGRAM_WEIGHT * _pair_share(asked, text)
        )
        candidates.append(_Candidate(passage, index, base + start, base + end, coverage, lexical))
    return candidates


def _with_announced(text: str, start: int, end: int) -> int:
    """The end of a sentence, or of the block it announces: "as follows:" alone says nothing."""
    if not text[start:end].endswith(_ANNOUNCING):
        return end
    block = _BLOCK.match(text, end)
    return block.end() if block and block.end() - start <= _LONGEST_ANNOUNCED else end


def _distinct(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """One candidate a place: overlapping chunks give the same sentence twice."""
    best: dict[tuple[str, int, int], _Candidate] = {}
    for candidate in candidates:
        place = (candidate.passage.chunk.source, candidate.start, candidate.end)
        if place not in best or candidate.lexical > best[place].lexical:
            best[place] = candidate
    return list(best.values())


def _text(candidate: _Candidate) -> str:
    chunk = candidate.passage.chunk
    return chunk.text[candidate.start - chunk.start : candidate.end - chunk.start]


def _window_cosines(
    chosen: Sequence[_Candidate], vectors: Vector, query_vector: Vector
) -> list[float]:
    """Cosine of the question with each sentence and its neighbours together.

    The mean of the sentences' vectors stands for the window's own; a neighbour that was not
    embedded is left out.
    """
    rows = {(c.passage.number, c.index): row for row, c in enumerate(chosen)}
    cosines = []
    for candidate in chosen:
        near = [(candidate.passage.number, candidate.index + step) for step in (-1, 0, 1)]
        mean = vectors[[rows[place] for place in near if place in rows]].mean(axis=0)
        cosines.append(float(mean @ query_vector / (np.linalg.norm(mean) or 1.0)))
    return cosines


def _pair_share(asked: _Question, text: str) -> float:
    """The share of the question's neighbouring terms that are neighbours in the sentence too."""
    if not asked.pairs:
        return 0.0
    found = terms(text)
    return len(asked.pairs & set(itertools.pairwise(found))) / len(asked.pairs)


def _type_match(asked: _Question, text: str) -> float:
    """1 if the sentence has what the question word asks for, 0 if not, .5 if that is unknown."""
    if _ASKS_NUMBER.search(asked.text):
        return float(_NUMBER.search(text) is not None)
    if _ASKS_DATE.search(asked.text):
        return float(_YEAR.search(text) is not None or any(map(is_date_word, _words(text))))
    if _ASKS_NAME.search(asked.text):
        return float(_has_new_name(asked, text))
    return 0.5


def _words(text: str) -> list[str]:
    return [match.group() for match in _WORD.finditer(text)]


def _has_new_name(asked: _Question, text: str) -> bool:
    """Whether a word with a capital stands inside the sentence that the question does not have."""
    return any(
        word[0].isupper() and not asked.weights.keys() & set(terms(word)) and terms(word)
        for word in _words(text)[1:]
    )
