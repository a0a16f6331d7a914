"""The store as readers see it: one consistent generation at a time.

SQLite is the truth (ingest/schema.sql); the vectors are searched in memory up to a size, and by
an index made from the truth above it. Writing is in ingest/writer.py.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import local
from typing import Self

from ingest import queries, schema, spelling
from ingest.check import check_indexes, check_terms, check_truth
from ingest.commit import check_dimension
from ingest.config import IndexSettings
from ingest.connections import ReaderPool, Session
from ingest.dense import EXACT_LIMIT, DenseSearch, check_index
from ingest.errors import StoreDamaged
from ingest.filters import Filter
from ingest.records import FileRecord, Matrix, SourceInfo, StoreStatus
from ingest.types import Hit, StoredChunk, StoredDocument
from ingest.writer import open_store

# What a term in the heading path counts against one in the text.
HEADING_WEIGHT = 2.0
BODY_WEIGHT = 1.0
# What a value raises that is not of the kind its column should hold, as in a store that was made
# to mislead.
_UNREADABLE = (ValueError, TypeError, LookupError, OverflowError, RecursionError)


class Store:
    """An open store, read-only and usable from several threads at once.

    Every method answers from the newest generation at the moment of the call; inside `snapshot`
    all calls of that thread answer from the same one. What has changed on disk is StoreDamaged,
    never an answer: of each generation all that is searched is checked once, of a store above
    `exact_limit` chunks the index of words and what is quoted.
    """

    def __init__(self, folder: Path, exact_limit: int = EXACT_LIMIT) -> None:
        self._folder = folder
        self._pool = ReaderPool(folder)
        self._exact_limit = exact_limit
        self._dense = DenseSearch(folder, exact_limit)
        self._checked_terms = 0
        self._languages: tuple[tuple[str, int], tuple[str, ...]] = (("", 0), ())
        self._checked_documents = ("", 0)
        self._thread = local()

    @classmethod
    def open(cls, folder: Path, exact_limit: int = EXACT_LIMIT) -> Self:
        """Open the store in `folder` for reading; a context manager.

        Raises StoreMissing, StoreMismatch (another format) or StoreDamaged.
        """
        store = cls(folder, exact_limit)
        schema.check_place(folder)
        with store.snapshot():
            return store

    write = staticmethod(open_store)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and let go of the vectors."""
        self._pool.close()
        self._dense.close()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """One read transaction around several calls of this thread.

        Leave it in the thread that entered it: do not hold it across a `yield` to a caller.
        """
        with self._session():
            yield

    @property
    def generation(self) -> int:
        """Counts the commits: a higher number means that something has changed."""
        with self._reading() as session:
            return session.meta.generation

    @property
    def settings(self) -> IndexSettings:
        """The settings the store was made with."""
        with self._reading() as session:
            return session.meta.settings

    @property
    def chunk_count(self) -> int:
        """How many chunks can be found."""
        with self._reading() as session:
            return session.meta.chunks

    @property
    def index_warning(self) -> str | None:
        """Why the vector index could not answer and an exact scan did; None when all is well."""
        return self._dense.warning

    def status(self) -> StoreStatus:
        """What the store holds."""
        with self._reading() as session:
            files = queries.known_files(session.connection)
            return StoreStatus(
                documents=session.meta.documents,
                chunks=session.meta.chunks,
                bytes=_size(self._folder),
                format=session.meta.format,
                generation=session.meta.generation,
                embedding_model=session.meta.settings.model,
                roots=tuple(sorted({record.root for record in files.values()})),
            )

    def sources(self) -> list[SourceInfo]:
        """Every document, by source."""
        with self._reading() as session:
            return queries.sources(session.connection, session.meta.documents)

    def known_files(self) -> dict[str, FileRecord]:
        """Every file looked at so far, by path."""
        with self._reading() as session:
            return queries.known_files(session.connection)

    def followed(self) -> frozenset[str]:
        """The roots whose files may be read again; UsageError for a store from elsewhere."""
        with self._reading() as session:
            return schema.followed_roots(self._folder, session.meta)

    def file_sources(self) -> dict[str, tuple[str, ...]]:
        """The sources of the documents that each file holds, by path."""
        found = defaultdict(list)
        for info in sorted(self.sources(), key=lambda info: info.id):
            found[info.path].append(info.source)
        return {path: tuple(names) for path, names in found.items()}

    def check(self) -> None:
        """Read the whole store; StoreDamaged where any part of it contradicts another."""
        with self._reading() as session:
            check_truth(session.connection, session.meta)
            check_index(self._folder, session.meta)

    def document(self, source: str) -> StoredDocument:
        """The document with this source; UsageError with near names where there is none."""
        with self._reading() as session:
            return queries.document(session.connection, source)

    def document_by_id(self, document_id: int) -> StoredDocument:
        """The document with this id; UsageError where there is none."""
        with self._reading() as session:
            return queries.document_by_id(session.connection, document_id)

    def chunks(self, ids: Iterable[int]) -> dict[int, StoredChunk]:
        """The chunks among `ids` that are live, in the order of `ids`."""
        with self._reading() as session:
            return queries.chunks(session.connection, ids)

    def slices(self, places: Sequence[tuple[int, int, int]]) -> list[str]:
        """The texts of these places: the id of a document, start and end."""
        with self._reading() as session:
            return queries.slices(session.connection, places)

    def titles(self, ids: Iterable[int]) -> dict[int, str]:
        """The own titles of these chunks' documents ("" where one has none), by chunk."""
        with self._reading() as session:
            return queries.titles(session.connection, ids)

    def languages(self) -> tuple[str, ...]:
        """The languages of the documents, the most frequent first."""
        with self._reading() as session:
            key = (session.meta.created, session.meta.generation)
            if self._languages[0] != key:
                self._languages = key, tuple(queries.languages(session.connection))
            return self._languages[1]

    def nearest_term(self, term: str) -> str:
        """The index term of which this one is most likely a misspelling; "" where there is none."""
        if not (edits := spelling.edits(term)):
            return ""
        with self._reading() as session:
            lengths = len(term) - edits, len(term) + edits
            return spelling.nearest(term, queries.vocabulary(session.connection, *lengths))

    def vectors(self, ids: Sequence[int]) -> Matrix:
        """The vectors of live chunks, (len(ids), dimension), in the order of `ids`."""
        with self._reading() as session:
            return queries.vectors(session.connection, ids, session.meta.settings.dimension)

    def dense(self, vector: Matrix, limit: int, filters: Sequence[Filter] = ()) -> list[Hit]:
        """The chunks with the highest cosine to a unit vector.

        With filters (all of which must hold) the scan is exact over the chunks that pass. Raises
        StoreMismatch for a vector of another length than the store's.
        """
        with self._reading() as session:
            check_dimension(vector, session.meta.settings.dimension)
            self._check(session, filters)
            return self._dense.search(session, vector, limit, filters)

    def lexical(
        self,
        terms: Iterable[str],
        limit: int,
        filters: Sequence[Filter] = (),
        weights: tuple[float, float] = (HEADING_WEIGHT, BODY_WEIGHT),
    ) -> list[Hit]:
        """The chunks that hold any of the index terms, best BM25 first.

        `weights` are those of heading path and text; `filters` as in `dense`.
        """
        with self._reading() as session:
            self._check(session, filters)
            return queries.lexical(session.connection, terms, limit, filters, weights)

    def document_frequencies(self, terms: Iterable[str]) -> dict[str, int]:
        """In how many chunks each index term stands; 0 for a term no chunk holds."""
        with self._reading() as session:
            self._check(session)
            return queries.document_frequencies(session.connection, terms)

    def _check(self, session: Session, filters: Sequence[Filter] = ()) -> None:
        """Look at what is searched, the index of words and what filters test, once in each of its
        states; vectors are looked at where they are read. Of a large store, only the former."""
        meta = session.meta
        if self._checked_terms != meta.term_sum:
            check_terms(session.connection, meta)
            self._checked_terms = meta.term_sum
        key = (meta.created, meta.generation)
        if filters and self._checked_documents != key and meta.chunks <= self._exact_limit:
            queries.sources(session.connection, meta.documents)
            check_indexes(session.connection, {"documents", "chunks"})
            self._checked_documents = key

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        """A session in which a value of a wrong kind is damage."""
        with self._session() as session:
            try:
                yield session
            except _UNREADABLE as error:
                raise StoreDamaged(f"store damaged: {self._folder}: {error}") from error

    @contextmanager
    def _session(self) -> Iterator[Session]:
        """This thread's read transaction, begun here unless one is open."""
        current: Session | None = getattr(self._thread, "session", None)
        if current is not None:
            yield current
            return
        noted = schema.newest(self._folder)
        with schema.translate_errors(self._folder):
            lent = self._pool.take()
            _, connection = lent
            try:
                connection.execute("BEGIN")
                meta = schema.read_meta(connection, self._folder)
                schema.check_newest(self._folder, meta, noted)
                self._thread.session = Session(connection, meta)
                yield self._thread.session
            finally:
                self._thread.session = None
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._pool.give(lent)


def _size(folder: Path) -> int:
    """Bytes of all files in the store, less those that vanish while they are counted."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total
