"""Answers without a language model: the documents' own sentences, best first.

A sentence's score is a weighted sum of marks: how close it is to the question in meaning, how much
of the question's words stand in it, above it and beside it, whether it has what the question asks
for, and how well its passage matches. A row of a table counts as a sentence, read with the names
of its columns.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingest.config import DEFAULT_MODEL
from ingest.words import terms
from rag.extractive.asked import Asked
from rag.grounding.rows import cells, header_above, is_header, readable
from rag.grounding.verify import prepared_passage
from rag.types import Passage

Vector = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vector]

CANDIDATES = 20
"""Sentences that are embedded: those best by what costs nothing."""
MOST_SHOWN = 3
NEARLY_AS_GOOD = 0.85
"""A further sentence is shown if its score is at least this share of the first one's."""

_READ = frozenset({"", "en"})  # languages of the bundled model; "" where it is not known
_SUBJECT = 0.15  # what a heading must add to what a sentence covers of the question
_ANSWERLESS = re.compile(
    r"\s*(?:#{1,6}\s[^\n]*$|```|~~~|[|:\s-]+$)|.*[?\uff1f\u061f]\W*$", re.DOTALL
)
_ANNOUNCING = (":", "\uff1a")
# What follows an announcement: fenced code, or lines up to a blank one.
_BLOCK = re.compile(r"\s*(?:(?P<fence>```|~~~).*?\n(?P=fence)|\S(?:(?!\n[ \t]*\n).)*)", re.DOTALL)
_LONGEST_ANNOUNCED = 600
_LIST = re.compile(r"\s*\n[ \t]*(?:[-*+\u2022\u2013]|\d{1,2}[.)])[ \t]")
_MARKER = re.compile(r"^(?:#{1,6}|[-*+\u2022\u2013]|\d{1,2}[.)]|\[\^[^\]\s]+\]:)[ \t]+")
_BOLD = re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*")
_CAPITALS = re.compile(r"[^\W\d_a-zß-ÿ]{2,}[\s-]+[^\W\d_a-zß-ÿ]{2,}\b")
_STOP = re.compile(r"[.!\u2026\u3002\uff01]\W*$")
_FIGURE = re.compile(r"\d[\d.,]*")
_MOST_FIGURES = 12


class Marks(NamedTuple):
    """What is measured of a sentence, each about 0 to 1; also the weights of these.

    `context` is the share of the question's terms in the sentence and the headings above it,
    `beside` with its neighbours too, `whole` in its passage. `type` is 1 if it has what the
    question asks for. `dense` is the passage's cosine, `cosine` its own.
    """

    context: float = 0.0
    beside: float = 0.0
    whole: float = 0.0
    type: float = 0.0
    dense: float = 0.0
    cosine: float = 0.0


# Chosen on one half of the questions of SQuAD 2 (dev) and of corpora/halden by the likelihood of a
# sentence that holds the gold answer. Neighbouring pairs of terms and the cosine of a sentence
# with its neighbours add nothing to these.
_WEIGHTS = Marks(context=0.7, beside=1.0, whole=0.9, type=0.4, dense=1.7, cosine=2.0)
# For a language that the bundled model has hardly read: its cosines say little there. Chosen in the
# same way on every other article of XQuAD in German, Chinese and Arabic together.
_FOREIGN_WEIGHTS = Marks(context=1.5, beside=1.0, whole=2.6, type=0.6, dense=0.7, cosine=0.3)


@dataclass(frozen=True, slots=True)
class ScoredSentence:
    """A sentence of a passage; `start` and `end` are offsets in the document.

    `shown` is how it reads alone: a row with the names of its columns, of which `header` has the
    table's. `found` are the terms of the question in it and above it.
    """

    passage: Passage
    start: int
    end: int
    shown: str
    header: str
    found: frozenset[str]
    marks: Marks
    score: float

    @property
    def text(self) -> str:
        """The sentence as the document has it."""
        base = self.passage.chunk.start
        return self.passage.chunk.text[self.start - base : self.end - base]


def is_foreign(passages: Sequence[Passage], model: str) -> bool:
    """Whether the best passage is in a language that the embedding model has hardly read."""
    languages = [passage.chunk.language for passage in passages[:1]]
    return model == DEFAULT_MODEL and not _READ.issuperset(languages)


def rank_sentences(
    asked: Asked,
    query_vector: Vector,
    passages: Sequence[Passage],
    embed: Embed,
    model: str = DEFAULT_MODEL,
) -> list[ScoredSentence]:
    """The passages' sentences that may answer a question, best first; of those that are nearly as
    good as the first, the ones that speak of another year or version than the question come last.

    `query_vector` is the question's unit vector; `embed` gives unit vectors of texts by `model`. At
    most CANDIDATES sentences are embedded and returned.
    """
    weights = _FOREIGN_WEIGHTS if is_foreign(passages, model) else _WEIGHTS
    found = [s for passage in passages for s in _sentences(asked, passage, weights)]
    chosen = sorted(_distinct(found), key=_by_score)[:CANDIDATES]
    if not chosen:
        return []
    vectors = embed([sentence.shown for sentence in chosen])
    ranked = [
        _scored(sentence, sentence.marks._replace(cosine=cosine), weights)
        for sentence, cosine in zip(chosen, (vectors @ query_vector).tolist())
    ]
    ranked.sort(key=_by_score)
    least = NEARLY_AS_GOOD * ranked[0].score
    first = sum(sentence.score >= least for sentence in ranked)
    return [*sorted(ranked[:first], key=lambda s: has_rival(asked, s)), *ranked[first:]]


def has_rival(asked: Asked, sentence: ScoredSentence) -> bool:
    """Whether a sentence speaks of another code, year or version than the question."""
    chunk = sentence.passage.chunk
    above = f"{chunk.source} {chunk.date} {chunk.context} {sentence.header}"
    return asked.has_rival(sentence.shown, above)


def overlap(one: ScoredSentence, other: ScoredSentence) -> bool:
    """Whether two share a place, as a list and one of its items do."""
    is_same = one.passage.chunk.source == other.passage.chunk.source
    return is_same and one.start < other.end and other.start < one.end


def extract(ranked: Sequence[ScoredSentence]) -> tuple[ScoredSentence, ...]:
    """The sentences to show: the first, and up to two more that are nearly as good.

    Of two rows of a table, one that holds less of the question than the other is left out, and so
    is what lies within what is shown.
    """
    chosen: list[ScoredSentence] = []
    for sentence in ranked:
        if len(chosen) == MOST_SHOWN or sentence.score < NEARLY_AS_GOOD * ranked[0].score:
            break
        if not any(_adds_nothing(sentence, other) for other in chosen):
            chosen.append(sentence)
    return tuple(chosen)


def subject(asked: Asked, sentence: ScoredSentence) -> str:
    """The heading that a sentence is shown with: it says what of the question the sentence leaves
    out; "" where there is none."""
    chunk = sentence.passage.chunk
    own = frozenset(terms(sentence.shown))
    enough = asked.coverage(own) + _SUBJECT
    labels = (chunk.section.rpartition(" > ")[2], chunk.title)
    wider = (label for label in labels if asked.coverage(own | set(terms(label))) >= enough)
    return next(wider, "")


def _adds_nothing(sentence: ScoredSentence, other: ScoredSentence) -> bool:
    """Whether a sentence says what another does, or is a worse row of the same table."""
    same = " ".join(sentence.shown.split()).casefold() == " ".join(other.shown.split()).casefold()
    rows = bool(sentence.header) and sentence.header == other.header
    return same or overlap(sentence, other) or (rows and sentence.found < other.found)


def _sentences(asked: Asked, passage: Passage, weights: Marks) -> list[ScoredSentence]:
    """The sentences of a passage that state something, scored by what is free."""
    prepared = prepared_passage(passage)
    base = passage.chunk.start
    everything = asked.coverage(prepared.found(0, len(prepared.terms)))
    sentences = []
    for index, (start, stop) in enumerate(prepared.spans):
        end = _with_announced(passage, start, stop)
        shown, header = _readable(passage, start, end)
        states = _states(prepared.text[start:end], shown, passage)
        if not shown or not states or _is_label(passage, start, end):
            continue
        own = terms(shown) if end > stop else prepared.terms[index]
        context = prepared.heading.union(own, terms(header))
        beside = context | prepared.found(max(0, index - 1), index + 2)
        marks = Marks(
            context=asked.coverage(context),
            beside=asked.coverage(beside),
            whole=everything,
            type=asked.type_match(shown),
            dense=passage.cosine,
        )
        found = context & asked.weights.keys()
        place = (passage, base + start, base + end)
        sentence = ScoredSentence(*place, shown, header, found, marks, 0.0)
        sentences.append(_scored(sentence, marks, weights))
    return sentences


def _readable(passage: Passage, start: int, end: int) -> tuple[str, str]:
    """How a span of a passage's text reads alone, and the header of the table that it is a row of.

    The former is "" for a header or a rule.
    """
    text = passage.chunk.text
    row = cells(text[start:end]) if "\n" not in text[start:end] else [""]
    if len(row) == 1:
        return _BOLD.sub(r"\1", _MARKER.sub("", text[start:end])), ""
    if not row or is_header(text, start, end, passage.chunk.header):
        return "", ""
    names, sure = header_above(text, start, passage.chunk.header)
    return readable(row, names if sure else ()), " | ".join(names)


def _states(text: str, shown: str, passage: Passage) -> bool:
    """Whether a sentence can be an answer: no heading, no question, no announcement of nothing."""
    label = passage.chunk.section.rpartition(" > ")[2]
    if _ANSWERLESS.match(text) or label.endswith(text) or text.endswith(_ANNOUNCING):
        return False
    if _CAPITALS.match(text) and not _STOP.search(text):  # a title of plain text
        return False
    # A table that lost its lines.
    return text != shown or len(_FIGURE.findall(text)) <= _MOST_FIGURES


def _is_label(passage: Passage, start: int, end: int) -> bool:
    """Whether a line without a figure is the title of a plain text, or a caption above a table."""
    text = passage.chunk.text
    line, below = text[start:end], text[end + 1 :].partition("\n")[0]
    if "\n" in line or _STOP.search(line) or len(cells(line)) > 1 or _FIGURE.search(line):
        return False
    is_title = passage.chunk.start + start == 0 and text.startswith("\n\n", end)
    return is_title or (text.startswith("\n", end) and len(cells(below)) > 1)


def _with_announced(passage: Passage, start: int, end: int) -> int:
    """The end of a sentence, or of the block it announces: "as follows:" alone says nothing.

    A heading announces the list below it.
    """
    text, label = passage.chunk.text, passage.chunk.section.rpartition(" > ")[2]
    is_heading = text.startswith("#", start) or text[start:end] == label
    if not text[start:end].endswith(_ANNOUNCING) and not (is_heading and _LIST.match(text, end)):
        return end
    block = _BLOCK.match(text, end)
    return block.end() if block and block.end() - start <= _LONGEST_ANNOUNCED else end


def _scored(sentence: ScoredSentence, marks: Marks, weights: Marks) -> ScoredSentence:
    score = math.fsum(weight * mark for weight, mark in zip(weights, marks))
    return replace(sentence, marks=marks, score=score)


def _by_score(sentence: ScoredSentence) -> tuple[float, int, int]:
    return -sentence.score, sentence.passage.number, sentence.start


def _distinct(sentences: Sequence[ScoredSentence]) -> list[ScoredSentence]:
    """One sentence a place: overlapping chunks give the same one twice."""
    best: dict[tuple[str, int, int], ScoredSentence] = {}
    for sentence in sentences:
        place = (sentence.passage.chunk.source, sentence.start, sentence.end)
        if place not in best or sentence.score > best[place].score:
            best[place] = sentence
    return list(best.values())
