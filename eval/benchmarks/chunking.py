"""Chunks against plain windows: how much of the words that answer is in the same number of tokens.

    python -m eval.benchmarks.chunking DATA_DIR [--budgets 400 800 1600]

DATA_DIR holds `chunking_eval/`: long documents, and questions with the words that answer them.
Each way of cutting has a store of its own and is searched by the product's own retrieval; chunks
are taken in rank order until the budget is full, the last one cut. Token recall is the share of the
answering tokens that were taken, token precision the share of the taken tokens that answer (as in
Smith & Troynikov 2024). Differences to ours come with paired 95 % intervals over the questions.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from eval.command import cache_folder
from eval.statistics import paired_interval
from ingest.chunk import chunk
from ingest.config import IndexSettings
from ingest.embed import open_embedder
from ingest.reshape import reshape
from ingest.store import Store
from ingest.sync import SyncSettings, sync
from ingest.types import Chunk, Document
from ingest.wordpieces import WordPieces
from rag.retrieval.retrieve import retrieve
from rag.settings.config import RetrievalSection

Cut = Callable[[Document], tuple[Chunk, ...]]
_CHUNKS = 30
_SEPARATORS = ("\n\n", "\n", ". ", " ")


@dataclass(frozen=True, slots=True)
class Case:
    """A question, and where in which document the words stand that answer it."""

    question: str
    spans: tuple[tuple[str, int, int], ...]


class Ruler:
    """Token positions of the documents: where each wordpiece begins."""

    def __init__(self, documents: Mapping[str, Document]) -> None:
        pieces = WordPieces()
        self._starts = {name: np.array(pieces.starts(d.text)) for name, d in documents.items()}

    def tokens(self, name: str, start: int, end: int) -> list[tuple[str, int]]:
        """The tokens between two offsets of a document, by their places."""
        first, last = np.searchsorted(self._starts[name], (start, end))
        return [(name, place) for place in range(int(first), int(last))]

    def windows(self, document: Document, size: int) -> list[tuple[int, int]]:
        """The document in spans of `size` tokens."""
        stops = self._starts[document.source][size::size].tolist()
        return list(pairwise([0, *stops, len(document.text)]))


def fixed(ruler: Ruler, size: int) -> Cut:
    """Windows of so many tokens, wherever they end."""
    return lambda document: _chunks(document, ruler.windows(document, size))


def recursive(ruler: Ruler, size: int) -> Cut:
    """Cut at blank lines, what is too long at line ends, then sentences, then words; joined again
    while the size allows: the usual recursive splitter."""

    def fits(document: Document, start: int, end: int) -> bool:
        return len(ruler.tokens(document.source, start, end)) <= size

    def split(document: Document, start: int, end: int, level: int) -> Iterator[tuple[int, int]]:
        if fits(document, start, end) or level == len(_SEPARATORS):
            yield start, end
            return
        begun = start
        for stop in _stops(document.text, start, end, _SEPARATORS[level]):
            yield from split(document, begun, stop, level + 1)
            begun = stop

    def cut(document: Document) -> tuple[Chunk, ...]:
        joined: list[tuple[int, int]] = []
        for start, end in split(document, 0, len(document.text), 0):
            if joined and fits(document, joined[-1][0], end):
                joined[-1] = joined[-1][0], end
            else:
                joined.append((start, end))
        return _chunks(document, joined)

    return cut


def _stops(text: str, start: int, end: int, separator: str) -> Iterator[int]:
    """Behind each separator between two offsets, and the end."""
    at = text.find(separator, start, end)
    while at >= 0:
        yield at + len(separator)
        at = text.find(separator, at + len(separator), end)
    yield end


def _chunks(document: Document, spans: Sequence[tuple[int, int]]) -> tuple[Chunk, ...]:
    texts = [(a, b, document.text[a:b]) for a, b in spans if document.text[a:b].strip()]
    return tuple(Chunk(n, a, b, text, None, "") for n, (a, b, text) in enumerate(texts))


def recut(store: Path, settings: IndexSettings, cut: Cut) -> None:
    """Bring a store over to chunks of another kind."""
    with Store.write(store, settings) as writer:
        reshape(writer, settings, open_embedder(settings.model), lambda done: None, cut)


def scores(
    store: Path, cases: Sequence[Case], ruler: Ruler, budgets: Sequence[int]
) -> np.ndarray[Any, Any]:
    """Token recall and precision by budget and question, shape (budgets, questions, 2)."""
    embedder, settings = open_embedder("all-MiniLM-L6-v2"), RetrievalSection()
    rows = []
    with Store.open(store) as opened:
        for case in cases:
            taken: dict[tuple[str, int], None] = {}
            ranked = retrieve(case.question, opened, embedder, settings).candidates[:_CHUNKS]
            chunks = opened.chunks([candidate.chunk_id for candidate in ranked])
            for c in (chunks[candidate.chunk_id] for candidate in ranked):
                taken |= dict.fromkeys(ruler.tokens(c.source, c.start, c.end))
            gold = {token for span in case.spans for token in ruler.tokens(*span)}
            packed = [set(list(taken)[:budget]) for budget in budgets]
            rows.append([(len(p & gold) / len(gold), len(p & gold) / len(p)) for p in packed])
    return np.array(rows).swapaxes(0, 1)


def read_cases(folder: Path, documents: Mapping[str, Document]) -> list[Case]:
    """The questions whose evidence stands in the documents' texts word for word."""
    cases = []
    for line in (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        spans = []
        for each in row["evidence"]:
            start = documents[each["doc"]].text.find(each["text"])
            spans.append((each["doc"], start, start + len(each["text"])))
        if all(start >= 0 for _, start, _ in spans):
            cases.append(Case(row["question"], tuple(spans)))
    return cases


def main() -> int:
    """Make the stores, ask all questions of each, and print a line for each way and budget."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--budgets", type=int, nargs="+", default=[400, 800, 1600])
    options = parser.parse_args()
    folder, settings = options.data / "chunking_eval", IndexSettings()
    stores = {name: cache_folder() / f"chunking-{name}" for name in _WAYS}
    for store in stores.values():
        sync(store, [folder / "corpus"], SyncSettings(settings))
    with Store.open(stores["ours"]) as opened:
        documents = {i.source: opened.document(i.source).document for i in opened.sources()}
    ruler, pieces = Ruler(documents), WordPieces()
    recut(stores["ours"], settings, lambda document: chunk(document, pieces, settings))
    for name, make in _WAYS.items():
        if make is not None:
            recut(stores[name], settings, make(ruler))
    cases = read_cases(folder, documents)
    print(f"{len(cases)} questions")
    found = {name: scores(s, cases, ruler, options.budgets) for name, s in stores.items()}
    for place, budget in enumerate(options.budgets):
        for name, rows in found.items():
            recall, precision = rows[place].mean(axis=0)
            own = found["ours"][place, :, 0]
            low, high = paired_interval(rows[place, :, 0].tolist(), own.tolist())
            print(
                f"{budget:5} tokens  {name:14} recall {recall:.3f}  precision {precision:.3f}  "
                f"ours better in recall by {low:+.3f} to {high:+.3f}"
            )
    return 0


_WAYS: Mapping[str, Callable[[Ruler], Cut] | None] = {
    "ours": None,
    "fixed-400": lambda ruler: fixed(ruler, 400),
    "fixed-220": lambda ruler: fixed(ruler, 220),
    "recursive-400": lambda ruler: recursive(ruler, 400),
    "recursive-220": lambda ruler: recursive(ruler, 220),
}

if __name__ == "__main__":
    sys.exit(main())
