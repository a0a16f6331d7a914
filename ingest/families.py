"""Chunks and documents that say nearly the same: each belongs to a family, found when it is stored.

Two chunks are kin if the sets of their shingles (two neighbouring index terms) have a Jaccard
resemblance of at least .7 (Broder 1997). Who may be kin is told by MinHash in bands (Leskovec,
Rajaraman & Ullman, Mining of Massive Datasets, ch. 3). Only one chunk of a family, its
representative, stands in the bands, so that a thousand copies cost no more than one. Two documents
are kin if most of their chunks are.
"""

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple
from zlib import crc32

import numpy as np

_SHINGLE = 2
_KIN = 0.7
_BANDS = 15
_ROWS = 4  # a pair at .7 is found with a probability of .98, one at .4 with .3
_CANDIDATES = 8
_DOCUMENT_KIN = 0.7
_RANDOM = np.random.default_rng(1)
_FACTORS = _RANDOM.integers(1, 2**63, (_BANDS * _ROWS, 1), np.uint64) | np.uint64(1)
_MIXERS = _RANDOM.integers(1, 2**63, (1, _ROWS), np.uint64) | np.uint64(1)


class Representative(NamedTuple):
    """The chunk that stands for a family, and the document it is in."""

    chunk_id: int
    family: int
    document_id: int


class Families:
    """Finds kin among the live chunks and those of one commit, in the order they are added."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._new: dict[int, tuple[Representative, frozenset[int]]] = {}
        self._bands: defaultdict[int, list[int]] = defaultdict(list)
        # Document families by id and size in chunks, of this commit.
        self._documents: dict[int, tuple[int, int]] = {}

    def join(self, chunk_id: int, document_id: int, terms: str) -> Representative:
        """The representative of a new chunk's family: the chunk itself if it has no kin.

        `terms` are the index terms of its text, joined by spaces.
        """
        own = Representative(chunk_id, chunk_id, document_id)
        if not terms:
            return own
        mine = shingles(terms)
        keys = band_keys(mine)
        candidates = chain(self._among_new(keys), self._among_live(keys))
        alike = [(resemblance(mine, theirs), found) for found, theirs in candidates]
        nearest, found = max(alike, default=(0.0, own), key=lambda pair: pair[0])
        if nearest >= _KIN:
            return found
        self._new[chunk_id] = own, mine
        for key in keys:
            self._bands[key].append(chunk_id)
        return own

    def join_document(self, document_id: int, representatives: Sequence[Representative]) -> int:
        """The family of a new document, given those of its chunks."""
        size = len(representatives)
        counts = Counter(r.document_id for r in representatives if r.document_id != document_id)
        family = document_id
        for other, shared in counts.most_common(1):
            others_family, others_size = self._document(other)
            if shared >= _DOCUMENT_KIN * max(size, others_size):
                family = others_family
        self._documents[document_id] = family, size
        return family

    def publish(self) -> None:
        """Enter the new representatives into the bands, inside the open transaction."""
        rows = [(key, chunk_id) for key, ids in self._bands.items() for chunk_id in ids]
        self._connection.executemany("INSERT OR IGNORE INTO bands VALUES (?, ?)", rows)

    def _among_new(self, keys: Sequence[int]) -> list[tuple[Representative, frozenset[int]]]:
        ids = dict.fromkeys(chunk_id for key in keys for chunk_id in self._bands.get(key, ()))
        return [self._new[chunk_id] for chunk_id in list(ids)[:_CANDIDATES]]

    def _among_live(self, keys: Sequence[int]) -> list[tuple[Representative, frozenset[int]]]:
        places = ",".join("?" * len(keys))
        rows = self._connection.execute(
            f"""SELECT chunks.id, family, document_id, body
                FROM (SELECT DISTINCT chunk_id FROM bands WHERE key IN ({places}) LIMIT ?)
                JOIN chunks ON chunks.id = chunk_id JOIN terms ON terms.rowid = chunk_id""",
            (*keys, _CANDIDATES),
        )
        return [(Representative(*row[:3]), shingles(row[3])) for row in rows]

    def _document(self, document_id: int) -> tuple[int, int]:
        """The family and the size of a document."""
        if document_id not in self._documents:
            query = "SELECT family, chunk_count FROM documents WHERE id = ?"
            row = self._connection.execute(query, (document_id,)).fetchone()
            self._documents[document_id] = row
        return self._documents[document_id]


def withdraw(connection: sqlite3.Connection, chunk_ids: Sequence[int]) -> set[int]:
    """Take chunks out of the bands while their terms are still there; the families that have lost
    their representative are returned."""
    orphaned = set()
    query = """SELECT chunks.id, body, family FROM json_each(?) JOIN chunks ON chunks.id = value
        JOIN terms ON terms.rowid = value"""
    for chunk_id, body, family in connection.execute(query, (json.dumps(list(chunk_ids)),)):
        keys = [(key, chunk_id) for key in band_keys(shingles(body))]
        delete = "DELETE FROM bands WHERE key = ? AND chunk_id = ?"
        if connection.executemany(delete, keys).rowcount:  # only representatives stand there
            orphaned.add(family)
    return orphaned


def represent(connection: sqlite3.Connection, families: set[int]) -> None:
    """Give families that have lost theirs a new representative, if any of their chunks is left."""
    query = """SELECT chunks.id, body FROM chunks JOIN terms ON terms.rowid = chunks.id
        WHERE family = ? ORDER BY chunks.id LIMIT 1"""
    for family in families:
        row = connection.execute(query, (family,)).fetchone()
        if row:
            keys = [(key, row[0]) for key in band_keys(shingles(row[1]))]
            connection.executemany("INSERT OR IGNORE INTO bands VALUES (?, ?)", keys)


def shingles(terms: str) -> frozenset[int]:
    """The hashes of each two neighbouring terms, of a single one where it is alone."""
    words = terms.split(" ")
    count = max(1, len(words) - _SHINGLE + 1)
    return frozenset(crc32(" ".join(words[i : i + _SHINGLE]).encode()) for i in range(count))


def resemblance(one: frozenset[int], other: frozenset[int]) -> float:
    """The Jaccard coefficient of two sets, 0 to 1."""
    return len(one & other) / len(one | other)


def band_keys(shingled: frozenset[int]) -> list[int]:
    """One key a band: two sets that share a key are likely to resemble each other."""
    hashes = np.fromiter(shingled, np.uint64, len(shingled))
    # Multiplication modulo 2^64 by random odd factors stands for random permutations; the low bits
    # of the products are not random enough to compare by.
    smallest = ((hashes[None, :] * _FACTORS) >> np.uint64(20)).min(axis=1).reshape(_BANDS, _ROWS)
    keys = (smallest * _MIXERS).sum(axis=1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bands: list[int] = (keys ^ np.arange(_BANDS, dtype=np.uint64)).view(np.int64).tolist()
    return bands
