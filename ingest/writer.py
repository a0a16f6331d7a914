"""Writing the store: one writer, two transactions a commit, and recovery from a kill in between.

    transaction A   new documents and chunks, not live; their vectors; their ids in the outbox
    index.add       the same ids and vectors into the vector index
    transaction B   new documents live with their terms, old ones gone, generation + 1; the old
                    ids take the place of the new ones in the outbox
    index.delete    the old ids
    outbox cleared

A process killed anywhere leaves the old answers whole: what is not live is taken back at the next
opening, and ids still in the outbox are deleted from the index. This is the transactional outbox
(C. Richardson, Microservices Patterns, 2018), but holding what has to be undone.
"""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from ingest import manifest, queries
from ingest.check import TABLES, check_indexes, check_terms
from ingest.commit import (
    Inserted,
    check_commit,
    document_row,
    insert_documents,
    insert_vectors,
    stored_rows,
    vector_ids,
)
from ingest.config import IndexSettings
from ingest.derived import DerivedIndex
from ingest.errors import StoreError
from ingest.families import Families, represent, withdraw
from ingest.lock import writer_lock
from ingest.records import DocumentCommit, FileCommit, FileRecord, Vectors, seal
from ingest.schema import (
    DATABASE,
    LOCK,
    NEWEST,
    check_newest,
    check_owner,
    check_place,
    create,
    index_folder,
    is_empty,
    newest,
    note_newest,
    open_writer,
    place,
    read_meta,
    transaction,
    translate_errors,
    write_meta,
)
from ingest.types import Chunk, Document, StoredDocument

Checkpoint = Callable[[str], None]
# A document of the store, cut anew: its chunks with their vector keys.
Recut = Callable[[Document], tuple[tuple[Chunk, ...], tuple[bytes, ...]]]

_DOCUMENTS_A_QUERY = 100
_ACKNOWLEDGED = ("published", "reshaped")  # the steps after which a commit has to outlive a kill


@contextmanager
def open_store(
    folder: Path, settings: IndexSettings, checkpoint: Checkpoint, wait: float
) -> Iterator["Writer"]:
    """Lock, create, recover; close and unlock at the end. See `Store.write`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make {folder}: {error.strerror}", "check its place") from error
    check_place(folder)
    check_owner(folder)
    with (
        writer_lock(folder / LOCK, wait),
        translate_errors(folder),
        closing(open_writer(folder / DATABASE)) as connection,
    ):
        if is_empty(connection):
            (folder / NEWEST).unlink(missing_ok=True)
            create(connection, settings, place(folder))

        def passed(step: str) -> None:
            if step in _ACKNOWLEDGED:
                note_newest(folder, read_meta(connection, folder))
            checkpoint(step)

        check_newest(folder, read_meta(connection, folder), newest(folder))
        with Writer(folder, connection, passed) as writer:
            yield writer


@dataclass(frozen=True, slots=True)
class _Changes:
    """One commit, worked out: documents to insert (by their file's path), and what goes."""

    records: tuple[FileRecord, ...]
    documents: tuple[tuple[str, DocumentCommit], ...]
    old_documents: tuple[int, ...]
    removed_paths: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.documents or self.old_documents or self.removed_paths)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The sources of the documents that a commit wrote, and of those that are gone with it."""

    written: tuple[str, ...]
    removed: tuple[str, ...]


class Writer:
    """The one writer of a store, for one thread at a time; get it from `Store.write`."""

    def __init__(
        self, folder: Path, connection: sqlite3.Connection, checkpoint: Checkpoint
    ) -> None:
        self._folder = folder
        self._connection = connection
        self._checkpoint = checkpoint
        self._derived = DerivedIndex(folder, connection, checkpoint)
        self._dropped = False
        self._checked = False
        try:
            self._recover()
        except BaseException:
            self._derived.let_go()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._derived.close()

    @property
    def settings(self) -> IndexSettings:
        """What the store is built with now."""
        return read_meta(self._connection, self._folder).settings

    def follow(self, roots: Iterable[str]) -> None:
        """Remember roots that a person has named; those that a store has brought with it from
        elsewhere are forgotten."""
        with translate_errors(self._folder), transaction(self._connection):
            meta, home = read_meta(self._connection, self._folder), place(self._folder)
            named = frozenset(roots) | (meta.roots if meta.home == home else frozenset())
            if (home, named) != (meta.home, meta.roots):
                write_meta(self._connection, replace(meta, home=home, roots=named))

    def known_files(self) -> dict[str, FileRecord]:
        """Every file looked at so far, by path."""
        with translate_errors(self._folder):
            return queries.known_files(self._connection)

    def known_sources(self) -> dict[str, str]:
        """Every document's source, and the path of the file it came from."""
        with translate_errors(self._folder):
            meta = read_meta(self._connection, self._folder)
            infos = queries.sources(self._connection, meta.documents)
            return {info.source: info.path for info in infos}

    def documents(self) -> Iterator[StoredDocument]:
        """Every document, a hundred read at a time."""
        with translate_errors(self._folder):
            ids = queries.document_ids(self._connection)
            for start in range(0, len(ids), _DOCUMENTS_A_QUERY):
                for document_id in ids[start : start + _DOCUMENTS_A_QUERY]:
                    yield queries.document_by_id(self._connection, document_id)

    def missing_vectors(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of the keys for which no vector is stored: their texts have to be embedded."""
        with translate_errors(self._folder):
            wanted = set(keys)
            return wanted - vector_ids(self._connection, wanted).keys()

    def add_vectors(self, vectors: Vectors) -> None:
        """Keep vectors for chunks that are still to come."""
        with translate_errors(self._folder), transaction(self._connection):
            insert_vectors(self._connection, vectors)

    def commit(
        self,
        files: Sequence[FileCommit],
        vectors: Vectors,
        removed: Collection[str] = (),
        records: Sequence[FileRecord] = (),
    ) -> Outcome:
        """Replace what these files held, and remove the files at the paths in `removed`.

        One generation: readers see all of it or nothing. `vectors` holds a unit-length row for
        each key that is not stored yet. A document that is stored just like that stays as it is.
        A file that moved is committed at its new path and removed at its old one here, so that it
        is never doubled and never gone. `records` say how other files were found, as of `record`.

        Raises UsageError where another file holds a document of the same source, StoreError
        where nothing could be written; then nothing has changed.
        """
        gone = frozenset(removed) - {file.record.path for file in files}
        with translate_errors(self._folder):
            dimension = self.settings.dimension
            check_commit(self._connection, files, vectors, dimension, gone)
            changes = self._changes(files, gone, records)
            before = queries.sources_of(self._connection, changes.old_documents)
            self._apply(changes, vectors)
        written = tuple(entry.document.source for _, entry in changes.documents)
        return Outcome(written, tuple(sorted(set(before) - set(written))))

    def record(self, records: Sequence[FileRecord]) -> None:
        """Note how files were found, without touching their documents.

        For files that were skipped or failed, and for unchanged ones with another date. A file
        that fails now but was read before keeps its documents: its last readable text answers
        better than none, and its record says that it is not the newest.
        """
        if records:
            with translate_errors(self._folder), transaction(self._connection):
                self._write_records(records)

    def remove(self, paths: Collection[str] = (), sources: Collection[str] = ()) -> tuple[str, ...]:
        """Remove files with all their documents, and single documents by source.

        Returns the sources that are gone; unknown paths and sources are ignored. A file that
        loses all its documents is forgotten, one that keeps some is marked to be read again: the
        next ingest of it brings them back.
        """
        owners = self.known_sources()
        gone = sorted(s for s, path in owners.items() if path in paths or s in sources)
        touched = {owners[source] for source in gone}
        kept = {path for source, path in owners.items() if source not in gone} & touched
        known = self.known_files()
        marked = tuple(replace(known[path], sha256="", mtime_ns=0) for path in kept)
        with translate_errors(self._folder):
            rows = queries.ids_of_sources(self._connection, gone)
            paths_gone = frozenset((touched | set(paths)) - kept)
            self._apply(_Changes(marked, (), tuple(rows), paths_gone), {})
        return tuple(gone)

    def reshape(self, settings: IndexSettings, recut: Recut) -> None:
        """Bring every document over to other settings, in one generation.

        All vectors of its new chunks must be stored already. The vector index is made anew.
        """
        with translate_errors(self._folder):
            self._reshape(settings, recut)
            self._checkpoint("reshaped")
            self._derived.rebuild()

    def collect_garbage(self) -> int:
        """Drop vectors that no chunk uses, once at the end of a run; returns how many."""
        with translate_errors(self._folder):
            # The inner query is answered from the index of keys: the blobs are not read.
            dropped = self._connection.execute(
                """DELETE FROM vectors WHERE id IN (SELECT id FROM vectors WHERE NOT EXISTS
                   (SELECT 1 FROM chunks WHERE vector_id = vectors.id))"""
            ).rowcount
            if self._dropped:
                with transaction(self._connection):
                    # FTS5 keeps the terms of deleted rows until their segments are merged.
                    self._connection.execute("INSERT INTO terms (terms) VALUES ('optimize')")
                    self._change_meta()
                self._dropped = False
            return dropped

    def _changes(
        self, files: Sequence[FileCommit], removed: frozenset[str], records: Sequence[FileRecord]
    ) -> _Changes:
        """Which documents of these files are new, and which of the stored ones go."""
        new: list[tuple[str, DocumentCommit]] = []
        old: list[int] = list(queries.ids_of_paths(self._connection, removed))
        for file in files:
            path = file.record.path
            file_id, ids = queries.file_documents(self._connection, path)
            stored = stored_rows(self._connection, file_id)
            same = {
                entry.document.source
                for entry in file.documents
                if stored.get(entry.document.source) == document_row(file_id, entry.document)
            }
            named = {entry.document.source for entry in file.documents}
            new += [(path, e) for e in file.documents if e.document.source not in same]
            kept = stored.keys() - named if file.kept is None else file.kept
            old += [ids[source] for source in ids.keys() - same - kept]
        return _Changes((*(f.record for f in files), *records), tuple(new), tuple(old), removed)

    def _apply(self, changes: _Changes, vectors: Vectors) -> None:
        """The two-transaction commit: old documents and removed files out, new ones in."""
        if not changes:
            self.record(changes.records)
            return
        try:
            if not self._checked:  # what has changed on disk would be merged into what is new
                check_terms(self._connection, read_meta(self._connection, self._folder))
                check_indexes(self._connection, TABLES)
                self._checked = True
            self._derived.ready()
            families = Families(self._connection)
            inserted = self._prepare(changes, vectors, families)
            self._checkpoint("prepared")
            self._derived.add(inserted.ids)
            self._checkpoint("indexed")
            dropped = self._publish(changes, inserted, families)
        except BaseException:
            with suppress(sqlite3.Error):  # what cannot be taken back now is at the next opening
                self._take_back()
            raise
        self._checkpoint("published")
        self._derived.delete(dropped)
        self._checkpoint("deleted")
        self._connection.execute("DELETE FROM outbox")
        self._checkpoint("cleared")

    def _prepare(self, changes: _Changes, vectors: Vectors, families: Families) -> Inserted:
        """Transaction A: new documents and chunks, not live."""
        with transaction(self._connection):
            insert_vectors(self._connection, vectors)
            roots = {record.path: record.root for record in changes.records}
            ids = {path: self._pending_file(path, roots[path]) for path, _ in changes.documents}
            documents = [(ids[path], entry) for path, entry in changes.documents]
            inserted = insert_documents(self._connection, documents, families)
            self._connection.executemany(
                "INSERT INTO outbox VALUES (?)", [(chunk_id,) for chunk_id in inserted.ids]
            )
        return inserted

    def _publish(self, changes: _Changes, inserted: Inserted, families: Families) -> list[int]:
        """Transaction B; returns the ids of the chunks that are gone."""
        execute, executemany = self._connection.execute, self._connection.executemany
        with transaction(self._connection):
            dropped = queries.chunk_ids(self._connection, changes.old_documents)
            orphaned = withdraw(self._connection, dropped)
            gone = queries.chunk_sum(self._connection, dropped)
            executemany("DELETE FROM terms WHERE rowid = ?", [(id_,) for id_ in dropped])
            executemany("DELETE FROM documents WHERE id = ?", [(i,) for i in changes.old_documents])
            executemany("DELETE FROM files WHERE path = ?", [(p,) for p in changes.removed_paths])
            execute("UPDATE documents SET live = 1 WHERE live = 0")
            executemany("INSERT INTO terms (rowid, heading, body) VALUES (?, ?, ?)", inserted.terms)
            families.publish()
            represent(self._connection, orphaned)
            self._write_records(changes.records)
            execute("DELETE FROM outbox")
            executemany("INSERT INTO outbox VALUES (?)", [(id_,) for id_ in dropped])
            self._change_meta(
                generation=1,
                documents=len(changes.documents) - len(changes.old_documents),
                chunks=len(inserted.ids) - len(dropped),
                chunk_sum=queries.chunk_sum(self._connection, inserted.ids) - gone,
            )
        self._dropped = self._dropped or bool(dropped)
        return dropped

    def _change_meta(
        self, generation: int = 0, documents: int = 0, chunks: int = 0, chunk_sum: int = 0
    ) -> None:
        """Add to what the store's record counts, at the end of the open transaction."""
        meta = read_meta(self._connection, self._folder)
        meta = replace(
            meta,
            generation=meta.generation + generation,
            documents=meta.documents + documents,
            chunks=meta.chunks + chunks,
            chunk_sum=meta.chunk_sum + chunk_sum,
            term_sum=queries.term_sum(self._connection),
        )
        write_meta(self._connection, meta)

    def _reshape(self, settings: IndexSettings, recut: Recut) -> None:
        execute, executemany = self._connection.execute, self._connection.executemany
        with transaction(self._connection):
            for table in ("chunks", "terms", "bands", "outbox"):
                execute(f"DELETE FROM {table}")
            chunks = total = 0
            for document_id in queries.document_ids(self._connection):
                document, file_id = queries.stored_document(self._connection, document_id)
                execute("DELETE FROM documents WHERE id = ?", (document_id,))
                entry = DocumentCommit(document, *recut(document))
                families = Families(self._connection)
                inserted = insert_documents(self._connection, [(file_id, entry)], families)
                executemany(
                    "INSERT INTO terms (rowid, heading, body) VALUES (?, ?, ?)", inserted.terms
                )
                families.publish()
                chunks += len(inserted.ids)
                total += queries.chunk_sum(self._connection, inserted.ids)
            execute("UPDATE documents SET live = 1 WHERE live = 0")
            meta = read_meta(self._connection, self._folder)
            # Until it is made anew, the index of another number is missing rather than wrong.
            meta = replace(
                meta,
                settings=settings,
                generation=meta.generation + 1,
                index=meta.index + 1,
                chunks=chunks,
                chunk_sum=total,
                term_sum=queries.term_sum(self._connection),
            )
            write_meta(self._connection, meta)
        self._dropped = True

    def _recover(self) -> None:
        """Bring the store to where its last whole commit left it."""
        self._take_back()
        meta = read_meta(self._connection, self._folder)
        index = index_folder(self._folder, meta.index)
        if meta.generation and not manifest.is_there(index, place(self._folder)):
            self._derived.ready()

    def _take_back(self) -> None:
        """Remove what a commit left that did not come to its transaction B.

        The outbox keeps the ids: the vector index is mended when it is next opened.
        """
        with transaction(self._connection):
            self._connection.execute("DELETE FROM documents WHERE live = 0")
            self._connection.execute("DELETE FROM files WHERE status = 'pending'")

    def _pending_file(self, path: str, root: str) -> int:
        self._connection.execute(
            """INSERT OR IGNORE INTO files
               (path, root, size, mtime_ns, sha256, loader, status, problems, seal)
               VALUES (?, ?, 0, 0, '', '', 'pending', '[]', 0)""",
            (path, root),
        )
        row = self._connection.execute("SELECT id FROM files WHERE path = ?", (path,))
        return int(row.fetchone()[0])

    def _write_records(self, records: Sequence[FileRecord]) -> None:
        rows = [
            (r.path, r.root, r.size, r.mtime_ns, r.sha256, r.loader, r.status, _written(r))
            for r in records
        ]
        self._connection.executemany(
            """INSERT INTO files
               (path, root, size, mtime_ns, sha256, loader, status, problems, seal)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
               ON CONFLICT (path) DO UPDATE SET root = excluded.root, size = excluded.size,
                   mtime_ns = excluded.mtime_ns, sha256 = excluded.sha256,
                   loader = excluded.loader, status = excluded.status,
                   problems = excluded.problems, seal = excluded.seal""",
            [(*row, seal(*row)) for row in rows],
        )


def _written(record: FileRecord) -> str:
    return json.dumps([(p.source, p.message, p.hint, p.skipped) for p in record.problems])
