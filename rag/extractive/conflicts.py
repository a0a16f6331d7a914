"""Documents that disagree: nearly the same statement with another value.

Two versions of a policy are the common case. Which is newer is told by the documents' dates, else
by the years and versions in their names. Editions that differ by more than a number in their
titles do not disagree: each is right for its own.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ingest.types import StoredChunk
from ingest.words import terms
from rag.extractive.asked import Asked
from rag.extractive.extract import MOST_SHOWN, ScoredSentence, extract, subject
from rag.grounding.numbers import source_numbers

Reason = Literal["named", "newer", "first"]

_ALIKE = 0.8
"""What two statements share of the shorter one's words."""
_FEWEST = 3
_NUMBER = re.compile(r"\d+(?:\.\d+)*")
_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two statements that give different values; `preferred` is the one to answer with.

    `reason` is why: the question names its version, or it is newer, or only that it ranks first.
    """

    preferred: ScoredSentence
    other: ScoredSentence
    reason: Reason

    @property
    def warning(self) -> str:
        """What a reader has to know of it."""
        one, two = (_named(s.passage.chunk) for s in (self.preferred, self.other))
        newer = ", which is newer" if self.reason == "newer" else ""
        return f"documents disagree: {one}{newer}, and {two}"


def find_conflict(asked: Asked, ranked: Sequence[ScoredSentence]) -> Conflict | None:
    """How the best of the ranked sentences is contradicted by the next one that does so."""
    for other in ranked[1:]:
        if _disagree(ranked[0], other):
            return _settled(asked, ranked[0], other)
    return None


def statements(
    asked: Asked, ranked: Sequence[ScoredSentence], conflict: Conflict | None
) -> Iterator[tuple[ScoredSentence, str]]:
    """The sentences that answer, each as it is shown; of two that disagree the preferred first.

    The other one comes last, and nothing else of its document; not at all where the question
    names the version it asks about.
    """
    most = MOST_SHOWN
    if conflict:
        most -= conflict.reason != "named"
        outdated = conflict.other.passage.chunk.source
        others = [s for s in ranked if s.passage.chunk.source != outdated]
        ranked = (conflict.preferred, *(s for s in others if s != conflict.preferred))
    above = ""
    for sentence in extract(ranked)[:most]:
        heading = subject(asked, sentence)
        prefix = f"{heading}: " if heading and heading != above else ""
        yield sentence, prefix + sentence.shown
        above = heading
    if conflict and conflict.reason != "named":
        which = "An older" if conflict.reason == "newer" else "Another"
        yield conflict.other, f"{which} document says: {conflict.other.shown}"


def _settled(asked: Asked, best: ScoredSentence, other: ScoredSentence) -> Conflict:
    """Which of two sentences to answer with."""
    one, two = best.passage.chunk, other.passage.chunk
    named = _names(asked, one) - _names(asked, two)
    mine, theirs = _age(one, two), _age(two, one)
    newer = (mine > theirs) - (mine < theirs)
    reason: Reason = "named" if named else "newer" if newer else "first"
    return Conflict(other, best, reason) if (named or newer) < 0 else Conflict(best, other, reason)


def _disagree(one: ScoredSentence, other: ScoredSentence) -> bool:
    """Whether two sentences say the same but for a value, in two versions of a document."""
    chunk, another = one.passage.chunk, other.passage.chunk
    return (
        chunk.source != another.source
        and _alike(_words(chunk.title), _words(another.title), 1.0)
        and len(_words(one.shown)) >= _FEWEST <= len(_words(other.shown))
        and _alike(_words(one.shown), _words(other.shown), _ALIKE)
        and _alike(_codes(one.shown), _codes(other.shown), 1.0)
        and bool(_values(one.shown) - _values(other.shown))
        and bool(_values(other.shown) - _values(one.shown))
    )


def _alike(one: frozenset[str], other: frozenset[str], least: float) -> bool:
    """Whether the smaller set has at least this share in common with the other."""
    return len(one & other) >= least * min(len(one), len(other))


def _words(text: str) -> frozenset[str]:
    return frozenset(term for term in terms(text) if not any(map(str.isdigit, term)))


def _codes(text: str) -> frozenset[str]:
    """Names with digits in them, as KL-40: a value is no part of one."""
    return frozenset(t for t in terms(text) if t.isalnum() and not t.isdigit() and not t.isalpha())


def _values(text: str) -> frozenset[float | str]:
    numbers = source_numbers(text)
    return frozenset(n.text if n.value is None else n.value for n in numbers)


def _names(asked: Asked, chunk: StoredChunk) -> bool:
    """Whether the question has a number that is in the document's name or date."""
    about = f"{chunk.source} {chunk.title} {chunk.date}"
    return not set(_NUMBER.findall(asked.text)).isdisjoint(_NUMBER.findall(about))


def _age(chunk: StoredChunk, other: StoredChunk) -> tuple[str, list[float]]:
    """What tells how new a document is; nothing where the other one gives nothing of the kind."""
    mine, theirs = _date(chunk), _date(other)
    versions, others = _versions(chunk), _versions(other)
    return (mine if theirs else "", versions if others else [])


def _date(chunk: StoredChunk) -> str:
    return chunk.date or max(_YEAR.findall(f"{chunk.title} {chunk.source}"), default="")


def _versions(chunk: StoredChunk) -> list[float]:
    return [float(number) for part in _NUMBER.findall(chunk.title) for number in part.split(".")]


def _named(chunk: StoredChunk) -> str:
    return f"{chunk.source} ({date})" if (date := _date(chunk)) else chunk.source
