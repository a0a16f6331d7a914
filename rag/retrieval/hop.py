"""A second search, for questions that one passage cannot answer: with what the first one names.

"In which country was the founder of Acme born?" finds Acme; who founded it stands there, and the
rest in a document about that person. So the names in the best passage are searched together with
the words of the question that it does not hold (after Qi et al. 2019, whose model writes such
queries), and what is found counts if its document bears one of the names as its title. The
constants were chosen on questions of MuSiQue and HotpotQA.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ingest.types import Hit, StoredChunk
from ingest.words import terms
from rag.retrieval.fuse import Candidate, ranked, relative_bm25
from rag.retrieval.query import Query

COVERED = 0.8
"""A first passage that holds so much of the question needs no second search."""
KEPT = 3
"""The first passages stay where they are; what the second search finds comes after them."""
ADDED = 2
"""So many passages come from the second search."""

_GAIN = 2.0
_MOST_NAMES = 24
_NAME = re.compile(
    r"\b[^\W\d_a-z][\w'\u2019-]+(?:\s+(?:(?:of|the|and|de|von|van|der)\s+)?[^\W\d_a-z][\w'\u2019-]+)*"
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


@dataclass(frozen=True, slots=True)
class FollowUp:
    """What to search for next: terms that the first passage leaves open, and those of its names."""

    first: Candidate
    held: frozenset[str]
    names: frozenset[str]
    terms: tuple[str, ...]

    def speaks_of(self, title: Sequence[str]) -> bool:
        """Whether the first passage names what a document's title names."""
        return self.held.issuperset(title) and not self.names.isdisjoint(title)


def follow_up(query: Query, first: Candidate, chunk: StoredChunk) -> FollowUp | None:
    """The second search that a best passage calls for; None where it holds the question."""
    held = frozenset(terms(f"{chunk.context}\n{chunk.text}", chunk.language))
    left = [word for word in query.words if held.isdisjoint(word.terms)]
    if sum(word.weight for word in left) < (1 - COVERED) * query.weight:
        return None
    asked = frozenset(query.terms)
    names = [term for term in dict.fromkeys(_name_terms(chunk)) if term not in asked][:_MOST_NAMES]
    left_terms = dict.fromkeys(term for word in left for term in word.terms)
    return FollowUp(first, held, frozenset(names), (*left_terms, *names))


def linked(
    follow: FollowUp,
    candidates: Sequence[Candidate],
    hits: Sequence[Hit],
    weight: float,
    titles: Mapping[int, tuple[str, ...]],
) -> list[Candidate]:
    """What the second search found in documents that the first passage speaks of, best first.

    `candidates` holds one for each of `hits`; `weight` is the sum of the idf of the searched
    terms, `titles` the terms of the titles of the hits' documents.
    """
    bm25 = {hit.chunk_id: hit.score for hit in hits if follow.speaks_of(titles[hit.chunk_id])}
    return ranked(
        [
            replace(c, score=c.score + _GAIN * follow.first.score * share)
            for c in candidates
            if c.chunk_id != follow.first.chunk_id
            and (share := relative_bm25(bm25.get(c.chunk_id, 0.0), weight))
        ]
    )


def placed(candidates: Sequence[Candidate], found: Sequence[Candidate]) -> list[Candidate]:
    """The ranking with what the second search found behind the first few."""
    first = candidates[:KEPT]
    taken = {candidate.chunk_id for candidate in first}
    added = [c for c in found if c.chunk_id not in taken][:ADDED]
    taken |= {candidate.chunk_id for candidate in added}
    return [*first, *added, *(c for c in candidates if c.chunk_id not in taken)]


def _name_terms(chunk: StoredChunk) -> Iterator[str]:
    """The terms of what is written like a name inside a sentence, then of the title."""
    for sentence in _SENTENCE_END.split(chunk.text):
        for match in _NAME.finditer(sentence):
            if match.start() or " " in match.group():  # a lone first word is no name
                yield from terms(match.group(), chunk.language)
    yield from terms(chunk.title, chunk.language)
