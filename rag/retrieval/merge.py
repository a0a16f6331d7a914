"""What was found, made fit to be read: copies collapsed, neighbours of one document joined."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ingest.types import StoredChunk
from rag.grounding.numbers import source_numbers
from rag.retrieval.fuse import Candidate

_MOST_JOINED = 3
"""Chunks of one passage at most: more of a document is another passage."""
_MOST_EDITIONS = 2
"""Chunks of a family that differ in their figures and are shown: enough to see that they do."""

Slices = Callable[[Sequence[tuple[int, int, int]]], list[str]]
"""The texts of places: a document's id, start and end."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A chunk left out for one that says the same: the newer, or else the better one."""

    source: str
    of: str


@dataclass(frozen=True, slots=True)
class Found:
    """A passage on its way: the candidate that brought it, and its chunks in reading order."""

    candidate: Candidate
    chunks: tuple[StoredChunk, ...]


def collapse(
    candidates: Sequence[Candidate], chunks: Mapping[int, StoredChunk]
) -> tuple[list[Found], tuple[Duplicate, ...]]:
    """Keep one chunk of those that say the same, at the place of the best ranked; name the others.

    Near-duplicates say the same only where their figures agree: two editions of a rule that differ
    in a value are both shown. Of several the newest by its document's date is kept; without dates
    the shortest.
    """
    families: defaultdict[int, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        if chunk := chunks.get(candidate.chunk_id):
            families[chunk.family or -chunk.id].append(candidate)
    found: dict[Candidate, Found] = {}
    duplicates = []
    for group in (group for family in families.values() for group in _editions(family, chunks)):
        alike = [chunks[candidate.chunk_id] for candidate in group]
        newest = max(chunk.date for chunk in alike)
        kept = min((c for c in alike if c.date == newest), key=lambda c: len(c.text))
        found[group[0]] = Found(replace(group[0], chunk_id=kept.id), (kept,))
        duplicates += [Duplicate(c.source, kept.source) for c in alike if c is not kept]
    return [found[c] for c in candidates if c in found], tuple(duplicates)


def _editions(
    family: Sequence[Candidate], chunks: Mapping[int, StoredChunk]
) -> list[list[Candidate]]:
    """A family by the figures in its texts; what is beyond the editions shown joins the first."""
    if len(family) == 1:
        return [list(family)]
    editions: dict[frozenset[str], list[Candidate]] = {}
    for candidate in family:
        numbers = source_numbers(chunks[candidate.chunk_id].text)
        figures = frozenset(number.text for number in numbers)
        if figures not in editions and len(editions) == _MOST_EDITIONS:
            figures = next(iter(editions))
        editions.setdefault(figures, []).append(candidate)
    return list(editions.values())


def join(found: Iterable[Found], limit: int) -> list[Found]:
    """The first `limit` passages, chunks that follow one another in a section made one of them."""
    passages: list[Found] = []
    for each in found:
        (chunk,) = each.chunks
        place = next((n for n, other in enumerate(passages) if _adjoins(chunk, other.chunks)), None)
        if place is not None:
            chunks = sorted((*passages[place].chunks, chunk), key=lambda c: c.ordinal)
            passages[place] = replace(passages[place], chunks=tuple(chunks))
        elif len(passages) < limit:
            passages.append(each)
    return passages


def read_joined(passages: Sequence[Found], slices: Slices) -> list[StoredChunk]:
    """Each passage as one chunk: its text from the start of the first to the end of the last."""
    spans = [
        (found.chunks[0].document_id, found.chunks[0].start, max(c.end for c in found.chunks))
        for found in passages
    ]
    texts = slices(spans)
    return [
        replace(found.chunks[0], id=found.candidate.chunk_id, end=end, text=text)
        for found, (_, _, end), text in zip(passages, spans, texts, strict=True)
    ]


def _adjoins(chunk: StoredChunk, others: Sequence[StoredChunk]) -> bool:
    """Whether a chunk stands right before or after others of the same section."""
    first, last = others[0], others[-1]
    return (
        len(others) < _MOST_JOINED
        and (chunk.document_id, chunk.section) == (first.document_id, first.section)
        and chunk.ordinal in (first.ordinal - 1, last.ordinal + 1)
    )
