"""Where the gold evidence stands in a ranking of passages. Pure functions.

Where all gold is whole documents, the ranking is one of documents: each stands where its first
passage stands, as BEIR's figures count. Otherwise it is one of passages, so that a passage is
relevant if it holds enough of a gold text, page or span.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from eval.types import Evidence
from ingest.types import StoredChunk
from rag.types import Passage

_SPACE = re.compile(r"[\s|]+")  # cells of a table are parted by bars, in our text alone


@dataclass(frozen=True, slots=True)
class Ranking:
    """A ranking against its gold, best position first.

    `relevant[i]` says whether position i holds gold. `gains[i]` is the grade of gold found there
    for the first time, else 0. `found` has each gold's position, counted from 1, or None. `ideal`
    are the gains of a perfect ranking, descending; gold first found together counts once, so that
    one passage holding two gold spans does not leave the ideal out of reach.
    """

    relevant: tuple[bool, ...]
    gains: tuple[float, ...]
    found: tuple[int | None, ...]
    ideal: tuple[float, ...]


def rank(evidence: Sequence[Evidence], passages: Sequence[Passage]) -> Ranking:
    """Set a ranking, best first, against its gold evidence."""
    gold = list(dict.fromkeys(evidence))
    chunks = [passage.chunk for passage in passages]
    if all(_whole_document(item) for item in gold):
        gold = list({item.source: item for item in sorted(gold, key=_grade)}.values())
        first_chunks: dict[str, StoredChunk] = {}
        for chunk in chunks:
            first_chunks.setdefault(chunk.source, chunk)
        chunks = list(first_chunks.values())
    matched = [[matches(item, chunk) for item in gold] for chunk in chunks]
    return _ranking(gold, matched)


def _ranking(gold: Sequence[Evidence], matched: Sequence[Sequence[bool]]) -> Ranking:
    found = tuple(
        next((place for place, row in enumerate(matched, start=1) if row[index]), None)
        for index in range(len(gold))
    )
    gains = [0.0] * len(matched)
    missed = []
    for item, place in zip(gold, found):
        if place is None:
            missed.append(item.grade)
        else:
            gains[place - 1] = max(gains[place - 1], item.grade)
    ideal = sorted([*missed, *(gain for gain in gains if gain)], reverse=True)
    return Ranking(tuple(map(any, matched)), tuple(gains), found, tuple(ideal))


def matches(item: Evidence, chunk: StoredChunk) -> bool:
    """Whether a chunk holds a piece of gold, by the most exact thing the gold gives."""
    if item.source and item.source != chunk.source:
        return False
    if item.text:
        return overlaps(item.text, chunk.text)
    if item.start is not None and item.end is not None:
        return chunk.start < item.end and item.start < chunk.end
    return item.page is None or item.page == chunk.page


def overlaps(gold: str, text: str) -> bool:
    """Whether two slices of one document share at least half of the shorter one.

    White space counts as one space. Both being slices, what they share is one of them whole, or an
    end of one that is the beginning of the other. A gold text cut in two by the chunker is thus
    still found in one of its halves.
    """
    first, second = _SPACE.sub(" ", gold).strip(), _SPACE.sub(" ", text).strip()
    if not first or not second:
        return False
    if first in second or second in first:
        return True
    least = (min(len(first), len(second)) + 1) // 2
    return _tail_is_head(first, second, least) or _tail_is_head(second, first, least)


def _tail_is_head(left: str, right: str, least: int) -> bool:
    """Whether an end of `left`, of at least `least` characters, begins `right`."""
    start = max(0, len(left) - len(right))
    head = right[:least]
    while (start := left.find(head, start)) >= 0:
        if right.startswith(left[start:]):
            return True
        start += 1
    return False


def _grade(item: Evidence) -> float:
    return item.grade


def _whole_document(item: Evidence) -> bool:
    return not item.text and item.page is None and item.start is None
