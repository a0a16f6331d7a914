"""Ranked passages to what is shown of them, where the budget does not hold them all.

The budget is spent step by step, where a token buys most. A sentence is worth the chance that it
is the one that answers, guessed from the share of the question's words in it and from its
passage's score. Of each passage one run of neighbouring sentences is shown: a slice of the
document like the passage itself, so that it is read, checked and cited in the same way, and
nothing is cited that was not shown.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from operator import itemgetter

from ingest.types import Span, StoredChunk
from ingest.words import terms
from rag.grounding.verify import Claim, Idf, prepared_passage
from rag.types import Passage

Cost = Callable[[Passage], int]
"""The tokens that a passage takes in a prompt, its heading path and table header included."""

# A conditional logit's weights of a sentence's coverage of the question and of its passage's score,
# fitted on the SQuAD questions with an even crc32; eval/benchmarks/packing.py asks the others.
_COVERAGE, _SCORE = 8.0, 9.4

_SHORTEST_REPEATED = 4  # words; shorter sentences may well be said twice ("Yes.", "```")
_WORD = re.compile(r"\w+")
# Neighbouring lines with bars, as all loaders write tables; the first is the header, with the
# dashes that Markdown has below it.
_TABLE = re.compile(r"^(?:(?:\|.*|.+ \| .*)(?:\n|\Z)){2,}", re.MULTILINE)
_HEADER_ROWS = re.compile(r".*(?:\n[ \t|:]*-[ \t|:-]*$)?", re.MULTILINE)


def pack(
    question: str, passages: Sequence[Passage], idf: Idf, room: int, cost: Cost
) -> tuple[Passage, ...]:
    """The passages, given best first, cut to fit a room in tokens; whole where all of them fit.

    One of which nothing fits is left out. A run that begins inside a table has its header above.
    """
    if sum(map(cost, passages)) <= room:
        return tuple(passages)
    worths = _worths(question, passages, idf)
    runs: dict[int, Span] = {}

    @cache
    def price(index: int, run: Span) -> int:
        return cost(_cut(passages[index], run))

    while step := max(_steps(worths, runs, price, room), key=itemgetter(0), default=None):
        _, index, runs[index], tokens = step
        room -= tokens
    return tuple(_cut(passages[index], runs[index]) for index in sorted(runs))


def _worths(question: str, passages: Sequence[Passage], idf: Idf) -> list[list[float]]:
    """What each sentence of each passage is worth; nothing where it was said before.

    Its heading stands above a passage already. What a better passage says in the same words counts
    below the same headings only: below others, as of another version, it says something else.
    """
    asked = Claim(question, {term: idf(term) for term in dict.fromkeys(terms(question))})
    said: set[tuple[str, ...]] = set()
    worths = []
    for passage in passages:
        evidence = prepared_passage(passage)
        keys = [_key(passage, evidence.text[start:end]) for start, end in evidence.spans]
        odds = [
            _COVERAGE * asked.coverage(held) + _SCORE * passage.score for held in evidence.terms
        ]
        said.add(_key(passage, passage.chunk.section.rpartition(" > ")[2]))
        worths.append([math.exp(o) * (key not in said) for o, key in zip(odds, keys, strict=True)])
        said.update(key for key in keys if len(key) > _SHORTEST_REPEATED)
    return worths


def _key(passage: Passage, sentence: str) -> tuple[str, ...]:
    """What two sentences that say the same have in common: their headings and their words."""
    return (passage.chunk.context, *_WORD.findall(sentence.casefold()))


def _steps(
    worths: Sequence[Sequence[float]],
    runs: Mapping[int, Span],
    price: Callable[[int, Span], int],
    room: int,
) -> Iterator[tuple[float, int, Span, int]]:
    """What could be shown next: the worth of a token of it, its passage, its run, its tokens."""
    for index, worth in enumerate(worths):
        run = runs.get(index, (0, 0))
        spent = price(index, run) if index in runs else 0
        for longer in _longer(run, len(worth)):
            gain = math.fsum(worth[slice(*longer)]) - math.fsum(worth[slice(*run)])
            tokens = price(index, longer) - spent
            if gain > 0 and tokens <= room:
                yield gain / max(tokens, 1), index, longer, tokens


def _longer(run: Span, count: int) -> Iterator[Span]:
    """The runs that one more of `count` sentences makes of a run, with all that lies between."""
    first, last = run
    if first == last:
        yield from ((at, at + 1) for at in range(count))
    else:
        yield from ((at, last) for at in range(first))
        yield from ((first, at) for at in range(last + 1, count + 1))


def _cut(passage: Passage, run: Span) -> Passage:
    """A passage cut to a run of its sentences."""
    chunk, spans = passage.chunk, prepared_passage(passage).spans
    if run == (0, len(spans)):
        return passage
    start, end = spans[run[0]][0], spans[run[1] - 1][1]
    shown = replace(
        chunk,
        start=chunk.start + start,
        end=chunk.start + end,
        text=chunk.text[start:end],
        header=_header_above(chunk, start),
    )
    return replace(passage, chunk=shown)


def _header_above(chunk: StoredChunk, start: int) -> str:
    """The header of the table that the text from `start` goes on with, if it does."""
    for table in _TABLE.finditer(chunk.text):
        # At the chunk's begin a table may be the rest of one, whose header the chunk carries.
        if table.start() < start < table.end() and (table.start() or not chunk.header):
            header = _HEADER_ROWS.match(table.group())
            return header[0] if header else ""
    return chunk.header
