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

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from ingest import commit, manifest, queries, schema
from ingest.check import TABLES, check_indexes, check_terms
from ingest.commit import Inserted
from ingest.config import IndexSettings
from ingest.derived import DerivedIndex
from ingest.errors import StoreError
from ingest.families import represent, withdraw
from ingest.lock import writer_lock
from ingest.records import DocumentCommit, FileCommit, FileRecord, Meta, SourceInfo, Vectors
from ingest.types import Document, StoredDocument

Checkpoint = Callable[[str], None]
Recut = Callable[[Document], DocumentCommit]  # cuts a document of the store anew

_ACKNOWLEDGED = ("published", "reshaped")  # the steps after which a commit has to outlive a kill


@contextmanager
def open_store(
    folder: Path,
    settings: IndexSettings,
    checkpoint: Checkpoint = lambda step: None,
    wait: float = 5.0,
) -> Iterator["Writer"]:
    """Open the store in `folder` for writing, making it where there is none: lock, create,
    recover; close and unlock at the end.

    `checkpoint` is called with a name between the steps of a commit, so that a test can stop the
    process exactly there. `settings` are those of a new store; an old one keeps its own, until
    `Writer.reshape`. Raises StoreBusy when another writer has not finished within `wait` seconds,
    StoreMismatch for a store of another format, StoreDamaged.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make {folder}: {error.strerror}", "check its place") from error
    schema.check_place(folder)
    schema.check_owner(folder)
    with (
        writer_lock(folder / schema.LOCK, wait),
        schema.translate_errors(folder),
        closing(schema.open_writer(folder / schema.DATABASE)) as connection,
    ):
        if schema.is_empty(connection):
            (folder / schema.NEWEST).unlink(missing_ok=True)
            schema.create(connection, Meta(schema.FORMAT, settings, home=schema.place(folder)))

        def passed(step: str) -> None:
            if step in _ACKNOWLEDGED:
                schema.note_newest(folder, schema.read_meta(connection, folder))
            checkpoint(step)

        schema.check_newest(folder, schema.read_meta(connection, folder), schema.newest(folder))
        with Writer(folder, connection, passed) as writer:
            yield writer


@dataclass(frozen=True, slots=True)
class _Changes:
    """One commit, worked out: documents to insert (by their file's path), and what goes: documents
    by id with their sources, and files."""

    records: tuple[FileRecord, ...]
    documents: tuple[tuple[str, DocumentCommit], ...]
    old_documents: Mapping[int, str]
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
        return self._meta().settings

    def follow(self, roots: Iterable[str]) -> None:
        """Remember roots that a person has named; those that a store has brought with it from
        elsewhere are forgotten."""
        with schema.transaction(self._connection):
            meta, home = self._meta(), schema.place(self._folder)
            named = frozenset(roots) | (meta.roots if meta.home == home else frozenset())
            if (home, named) != (meta.home, meta.roots):
                schema.write_meta(self._connection, replace(meta, home=home, roots=named))

    def known_files(self) -> dict[str, FileRecord]:
        """Every file looked at so far, by path."""
        return queries.known_files(self._connection)

    def known_sources(self) -> dict[str, str]:
        """Every document's source, and the path of the file it came from."""
        return {info.source: info.path for info in self._infos()}

    def documents(self) -> Iterator[StoredDocument]:
        """Every document, read one by one."""
        for document_id in queries.document_ids(self._connection):
            yield queries.document_by_id(self._connection, document_id)

    def missing_vectors(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of the keys for which no vector is stored: their texts have to be embedded."""
        wanted = set(keys)
        return wanted - commit.vector_ids(self._connection, wanted).keys()

    def add_vectors(self, vectors: Vectors) -> None:
        """Keep vectors for chunks that are still to come."""
        with schema.transaction(self._connection):
            commit.insert_vectors(self._connection, vectors)

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
        with schema.translate_errors(self._folder):
            commit.check_commit(self._connection, files, vectors, self.settings.dimension, gone)
            changes = self._changes(files, gone, records)
            self._apply(changes, vectors)
        written = tuple(entry.document.source for _, entry in changes.documents)
        return Outcome(written, tuple(sorted({*changes.old_documents.values()} - {*written})))

    def record(self, records: Sequence[FileRecord]) -> None:
        """Note how files were found, without touching their documents.

        For files that were skipped or failed, and for unchanged ones with another date. A file
        that fails now but was read before keeps its documents: its last readable text answers
        better than none, and its record says that it is not the newest.
        """
        if records:
            with schema.transaction(self._connection):
                commit.write_records(self._connection, records)

    def remove(self, paths: Collection[str] = (), sources: Collection[str] = ()) -> tuple[str, ...]:
        """Remove files with all their documents, and single documents by source.

        Returns the sources that are gone; unknown paths and sources are ignored. A file that
        loses all its documents is forgotten, one that keeps some is marked to be read again: the
        next ingest of it brings them back.
        """
        infos = self._infos()
        old = {i.id: i.source for i in infos if i.path in paths or i.source in sources}
        touched = {info.path for info in infos if info.id in old}
        kept = {info.path for info in infos if info.id not in old} & touched
        known = self.known_files()
        marked = tuple(replace(known[path], sha256="", mtime_ns=0) for path in kept)
        self._apply(_Changes(marked, (), old, frozenset((touched | {*paths}) - kept)), {})
        return tuple(sorted(old.values()))

    def reshape(self, settings: IndexSettings, recut: Recut) -> None:
        """Bring every document over to other settings, in one generation.

        All vectors of its new chunks must be stored already. The vector index is made anew.
        """
        with schema.translate_errors(self._folder):
            self._reshape(settings, recut)
            self._checkpoint("reshaped")
            self._derived.rebuild()

    def collect_garbage(self) -> int:
        """Drop vectors that no chunk uses, once at the end of a run; returns how many."""
        # The inner query is answered from the index of keys: the blobs are not read.
        dropped = self._connection.execute(
            """DELETE FROM vectors WHERE id IN (SELECT id FROM vectors WHERE NOT EXISTS
               (SELECT 1 FROM chunks WHERE vector_id = vectors.id))"""
        ).rowcount
        if self._dropped:
            with schema.transaction(self._connection):
                # FTS5 keeps the terms of deleted rows until their segments are merged.
                self._connection.execute("INSERT INTO terms (terms) VALUES ('optimize')")
                self._write_meta(self._meta())
            self._dropped = False
        return dropped

    def _meta(self) -> Meta:
        return schema.read_meta(self._connection, self._folder)

    def _infos(self) -> list[SourceInfo]:
        return queries.sources(self._connection, self._meta().documents)

    def _changes(
        self, files: Sequence[FileCommit], removed: frozenset[str], records: Sequence[FileRecord]
    ) -> _Changes:
        """Which documents of these files are new, and which of the stored ones go."""
        new: list[tuple[str, DocumentCommit]] = []
        old = queries.sources_by_id(self._connection, removed)
        for file in files:
            path = file.record.path
            stored = commit.stored_rows(self._connection, path)
            named = {entry.document.source: entry for entry in file.documents}
            same = {
                source
                for source, (_, row) in stored.items()
                if source in named and row == commit.document_row(row[0], named[source].document)
            }
            new += [(path, entry) for source, entry in named.items() if source not in same]
            kept = stored.keys() - named if file.kept is None else file.kept
            old |= {stored[source][0]: source for source in stored.keys() - same - kept}
        return _Changes((*(f.record for f in files), *records), tuple(new), old, removed)

    def _apply(self, changes: _Changes, vectors: Vectors) -> None:
        """The two-transaction commit: old documents and removed files out, new ones in."""
        if not changes:
            self.record(changes.records)
            return
        try:
            if not self._checked:  # what has changed on disk would be merged into what is new
                check_terms(self._connection, self._meta())
                check_indexes(self._connection, TABLES)
                self._checked = True
            self._derived.ready()
            inserted = self._prepare(changes, vectors)
            self._checkpoint("prepared")
            self._derived.add(inserted.ids)
            self._checkpoint("indexed")
            dropped = self._publish(changes, inserted)
        except BaseException:
            with suppress(sqlite3.Error):  # what cannot be taken back now is at the next opening
                self._take_back()
            raise
        self._checkpoint("published")
        self._derived.delete(dropped)
        self._checkpoint("deleted")
        self._connection.execute("DELETE FROM outbox")
        self._checkpoint("cleared")

    def _prepare(self, changes: _Changes, vectors: Vectors) -> Inserted:
        """Transaction A: new documents and chunks, not live."""
        with schema.transaction(self._connection):
            commit.insert_vectors(self._connection, vectors)
            roots = {record.path: record.root for record in changes.records}
            ids = {
                path: commit.pending_file(self._connection, path, roots[path])
                for path, _ in changes.documents
            }
            documents = [(ids[path], entry) for path, entry in changes.documents]
            inserted = commit.insert_documents(self._connection, documents)
            self._connection.executemany(
                "INSERT INTO outbox VALUES (?)", [(chunk_id,) for chunk_id in inserted.ids]
            )
        return inserted

    def _publish(self, changes: _Changes, inserted: Inserted) -> list[int]:
        """Transaction B; returns the ids of the chunks that are gone."""
        execute, executemany = self._connection.execute, self._connection.executemany
        with schema.transaction(self._connection):
            dropped = queries.chunk_ids(self._connection, changes.old_documents)
            orphaned = withdraw(self._connection, dropped)
            gone = queries.chunk_sum(self._connection, dropped)
            executemany("DELETE FROM terms WHERE rowid = ?", [(id_,) for id_ in dropped])
            executemany("DELETE FROM documents WHERE id = ?", [(i,) for i in changes.old_documents])
            executemany("DELETE FROM files WHERE path = ?", [(p,) for p in changes.removed_paths])
            inserted.publish(self._connection)
            represent(self._connection, orphaned)
            commit.write_records(self._connection, changes.records)
            execute("DELETE FROM outbox")
            executemany("INSERT INTO outbox VALUES (?)", [(id_,) for id_ in dropped])
            meta = self._meta()
            documents = meta.documents + len(changes.documents) - len(changes.old_documents)
            meta = replace(
                meta,
                generation=meta.generation + 1,
                documents=documents,
                chunks=meta.chunks + len(inserted.ids) - len(dropped),
                chunk_sum=meta.chunk_sum + queries.chunk_sum(self._connection, inserted.ids) - gone,
            )
            self._write_meta(meta)
        self._dropped = self._dropped or bool(dropped)
        return dropped

    def _write_meta(self, meta: Meta) -> None:
        """Write the store's record at the end of the open transaction."""
        words = queries.term_sum(self._connection)
        schema.write_meta(self._connection, replace(meta, term_sum=words))

    def _reshape(self, settings: IndexSettings, recut: Recut) -> None:
        execute = self._connection.execute
        with schema.transaction(self._connection):
            for table in ("chunks", "terms", "bands", "outbox"):
                execute(f"DELETE FROM {table}")
            chunks = total = 0
            for document_id in queries.document_ids(self._connection):
                document, file_id, _ = queries.stored_document(self._connection, document_id)
                execute("DELETE FROM documents WHERE id = ?", (document_id,))
                entry = recut(document)
                inserted = commit.insert_documents(self._connection, [(file_id, entry)])
                inserted.publish(self._connection)
                chunks += len(inserted.ids)
                total += queries.chunk_sum(self._connection, inserted.ids)
            meta = self._meta()
            # Until it is made anew, the index of another number is missing rather than wrong.
            meta = replace(
                meta,
                settings=settings,
                generation=meta.generation + 1,
                index=meta.index + 1,
                chunks=chunks,
                chunk_sum=total,
            )
            self._write_meta(meta)
        self._dropped = True

    def _recover(self) -> None:
        """Bring the store to where its last whole commit left it."""
        self._take_back()
        meta = self._meta()
        index = schema.index_folder(self._folder, meta.index)
        if meta.generation and not manifest.is_there(index, schema.place(self._folder)):
            self._derived.ready()

    def _take_back(self) -> None:
        """Remove what a commit left that did not come to its transaction B.

        The outbox keeps the ids: the vector index is mended when it is next opened.
        """
        with schema.transaction(self._connection):
            self._connection.execute("DELETE FROM documents WHERE live = 0")
            self._connection.execute("DELETE FROM files WHERE status = 'pending'")
