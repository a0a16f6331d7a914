"""Dense search for readers: which index answers, and keeping it at the reader's generation."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

import numpy as np

from ingest import manifest, queries
from ingest.connections import Session
from ingest.errors import StoreDamaged, StoreError
from ingest.filters import Filter
from ingest.lock import no_writer
from ingest.records import Matrix, Meta
from ingest.schema import LOCK, index_folder, open_reader, place, read_meta
from ingest.types import Hit
from ingest.vectors import ExactIndex, Ids, nearest

# Up to here a scan of all vectors starts sooner than HNSW and misses nothing.
EXACT_LIMIT = 50_000
# Up to here a filter's candidates are read from the database rather than from memory.
_FEW = 2000
# Candidates of a filter are scanned by so many at a time, to bound the memory it takes.
_SCAN = 20_000

# Which store, and which state of it: chunk ids and vectors are the same for equal keys.
_Key = tuple[str, int]


class DenseSearch:
    """Holds the vectors, or a copy of the vector index, of the generation last asked for.

    A reader never opens the index of the store itself (see ingest/chroma.py) but a copy, taken
    while no writer is at work; as long as there is none for the generation asked for, an exact
    scan answers.
    """

    def __init__(self, folder: Path, exact_limit: int) -> None:
        self._folder = folder
        self._exact_limit = exact_limit
        self._lock = Lock()
        self._exact: ExactIndex | None = None
        self._exact_key: _Key = ("", 0)
        self._copy: _IndexCopy | None = None
        self._refused: _Key | None = None
        self.warning: str | None = None

    def close(self) -> None:
        """Let go of the vectors and of the copy."""
        with self._lock:
            self._exact = None
            self._drop_copy()

    def search(
        self, session: Session, vector: Matrix, limit: int, filters: Sequence[Filter]
    ) -> list[Hit]:
        """The live chunks with the highest cosine, of those that pass the filters."""
        if filters:
            return self._filtered(session, vector, limit, filters)
        copy = self._index(session)
        if copy is not None:
            try:
                hits = copy.index.search(vector, limit + copy.ghosts)
                live = queries.still_live(session.connection, [hit.chunk_id for hit in hits])
                return [hit for hit in hits if hit.chunk_id in live][:limit]
            except StoreError as error:
                self._refuse(copy.key, error)
        return nearest(*self._scanned(session), vector, limit)

    def _filtered(
        self, session: Session, vector: Matrix, limit: int, filters: Sequence[Filter]
    ) -> list[Hit]:
        wanted = queries.live_ids(session.connection, filters)
        if len(wanted) > _FEW and session.meta.chunks <= self._exact_limit:
            ids, vectors = self._scanned(session)
            return nearest(wanted, vectors[np.searchsorted(ids, wanted)], vector, limit)
        hits: list[Hit] = []
        for start in range(0, len(wanted), _SCAN):
            part = wanted[start : start + _SCAN]
            vectors = queries.vectors(session.connection, part, session.meta.settings.dimension)
            hits += nearest(part, vectors, vector, limit)
        return sorted(hits, key=lambda hit: (-hit.score, hit.chunk_id))[:limit]

    def _scanned(self, session: Session) -> tuple[Ids, Matrix]:
        """All live vectors of this generation; only those that are new are read."""
        connection, meta = session.connection, session.meta
        key = (meta.created, meta.generation)
        with self._lock:
            if self._exact is None or self._exact_key[0] != meta.created:
                self._exact = ExactIndex(meta.settings.dimension)
                self._exact.add(*queries.all_vectors(connection, meta))
            elif self._exact_key != key:
                live = queries.live_ids(connection)
                self._exact.delete(np.setdiff1d(self._exact.ids, live, assume_unique=True))
                new = np.setdiff1d(live, self._exact.ids, assume_unique=True)
                self._exact.add(new, queries.vectors(connection, new, meta.settings.dimension))
            if self._exact.count() != meta.chunks:
                found, self._exact = self._exact.count(), None
                raise StoreDamaged(f"store damaged: {found} of {meta.chunks} chunks found")
            self._exact_key = key
            return self._exact.ids, self._exact.vectors

    def _index(self, session: Session) -> "_IndexCopy | None":
        """The vector index of a large store, or None where an exact scan has to answer."""
        meta = session.meta
        if meta.chunks <= self._exact_limit:
            return None
        key = (meta.created, meta.generation)
        with self._lock:
            if self._refused == key:
                return None
            if self._copy is None or self._copy.key != key:
                self._drop_copy()
                self._take_copy(session, key)
            return self._copy

    def _take_copy(self, session: Session, key: _Key) -> None:
        with no_writer(self._folder / LOCK) as quiet:
            if quiet and _generation(self._folder) == session.meta.generation:
                try:
                    self._copy, self.warning = _IndexCopy(self._folder, session), None
                except StoreError as error:
                    self._refuse(key, error)

    def _refuse(self, key: _Key, error: StoreError) -> None:
        """Do without the vector index until the store changes."""
        self._refused = key
        self.warning = f"{error.message}; searched without it ({error.hint})"

    def _drop_copy(self) -> None:
        if self._copy is not None:
            self._copy.close()
            self._copy = None


class _IndexCopy:
    """A private copy of the vector index at one generation, removed when closed."""

    def __init__(self, folder: Path, session: Session) -> None:
        from ingest.chroma import ChromaIndex, copy_index

        meta = session.meta
        self.key: _Key = (meta.created, meta.generation)
        # Ids of a killed writer: at most so many of those in it are not live.
        self.ghosts = len(queries.outbox(session.connection))
        with ExitStack() as held:
            place_of_copy = TemporaryDirectory(prefix="rag-index-", ignore_cleanup_errors=True)
            target = Path(held.enter_context(place_of_copy)) / "index"
            copy_index(index_folder(folder, meta.index), target)
            if not manifest.is_whole(target, meta, place(folder)):
                raise StoreError("the vector index is not as it was left", "run `rag rebuild`")
            self.index = held.enter_context(ChromaIndex(target))
            self.close = held.pop_all().close


def check_index(folder: Path, meta: Meta) -> None:
    """StoreDamaged where the vector index is not as it was left here; passes while a writer is at
    work on it, and where the next writer makes it anew: after a kill, or in a copy of a store."""
    index, here = index_folder(folder, meta.index), place(folder)
    with no_writer(folder / LOCK) as quiet:
        if quiet and manifest.is_there(index, here) and not manifest.is_whole(index, meta, here):
            raise StoreDamaged("store damaged: the vector index has changed")


def _generation(folder: Path) -> int:
    """The newest generation, whatever transaction the caller is in."""
    with closing(open_reader(folder)) as connection:
        return read_meta(connection, folder).generation
