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
from contextlib import contextmanager, suppress
from dataclasses import astuple, replace
from pathlib import Path
from typing import Self

from ingest import queries
from ingest.commit import check_commit, insert_document, insert_vectors, term_rows, vector_ids
from ingest.config import IndexSettings
from ingest.derived import DerivedIndex
from ingest.errors import StoreError
from ingest.lock import WriterLock
from ingest.records import FileCommit, FileRecord, Vectors
from ingest.schema import (
    DATABASE,
    LOCK,
    check_settings,
    create,
    in_use_mark,
    is_empty,
    open_writer,
    read_meta,
    transaction,
    translate_errors,
    write_meta,
)

Analyse = Callable[[str], list[str]]
Checkpoint = Callable[[str], None]


@contextmanager
def open_store(
    folder: Path, settings: IndexSettings, analyse: Analyse, checkpoint: Checkpoint, wait: float
) -> Iterator["Writer"]:
    """Lock, create or check, recover; close and unlock at the end. See `Store.write`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make {folder}: {error.strerror}", "check its place") from error
    with WriterLock(folder / LOCK, wait), translate_errors(folder):
        connection = open_writer(folder / DATABASE)
        try:
            if is_empty(connection):
                create(connection, settings)
            check_settings(read_meta(connection, folder).settings, settings, folder)
            with Writer(folder, connection, analyse, checkpoint) as writer:
                yield writer
        finally:
            connection.close()


class Writer:
    """The one writer of a store, for one thread at a time; get it from `Store.write`."""

    def __init__(
        self, folder: Path, connection: sqlite3.Connection, analyse: Analyse, checkpoint: Checkpoint
    ) -> None:
        self._folder = folder
        self._connection = connection
        self._settings = read_meta(connection, folder).settings
        self._analyse = analyse
        self._checkpoint = checkpoint
        self._derived = DerivedIndex(folder, connection, checkpoint)
        self._dropped = False
        self._records: dict[str, FileRecord] = {}
        self._recover()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._flush_records()
        finally:
            self._derived.close()

    def known_files(self) -> dict[str, FileRecord]:
        """Every file looked at so far, by path."""
        with translate_errors(self._folder):
            return queries.known_files(self._connection)

    def known_sources(self) -> dict[str, str]:
        """Every document's source, and the path of the file it came from."""
        with translate_errors(self._folder):
            rows = self._connection.execute(
                "SELECT source, path FROM documents JOIN files ON files.id = file_id WHERE live = 1"
            )
            return dict(rows.fetchall())

    def missing_vectors(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of the keys for which no vector is stored: their texts have to be embedded."""
        with translate_errors(self._folder):
            wanted = set(keys)
            return wanted - vector_ids(self._connection, wanted).keys()

    def commit(
        self, files: Sequence[FileCommit], vectors: Vectors, removed: Collection[str] = ()
    ) -> None:
        """Replace everything these files held, and remove the files at the paths in `removed`.

        One generation: readers see all of it or nothing. `vectors` holds a unit-length row for
        each key that is not stored yet. A file that moved is committed at its new path and
        removed at its old one here, so that it is never doubled and never gone.

        Raises UsageError where another file holds a document of the same source, StoreError
        where nothing could be written; then nothing has changed.
        """
        kept = {file.record.path for file in files}
        gone = set(removed) - kept
        with translate_errors(self._folder):
            check_commit(self._connection, files, vectors, self._settings.dimension, gone)
            self._replace(files, vectors, self._ids_of_paths(kept | gone), gone)

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
        self.record_files(replace(known[path], sha256="", mtime_ns=0) for path in kept)
        with translate_errors(self._folder):
            self._replace((), {}, self._ids_of_sources(gone), (touched | set(paths)) - kept)
        return tuple(gone)

    def record_files(self, records: Iterable[FileRecord]) -> None:
        """Note how files were found, without touching their documents.

        For files that were skipped or failed, and for unchanged ones with another date; written
        with the next commit or at the end, for the next run can find it out again. A file that
        fails now but was read before keeps its documents: its last readable text answers better
        than none, and its record says that it is not the newest.
        """
        self._records |= {record.path: record for record in records}

    def collect_garbage(self) -> int:
        """Drop vectors that no chunk uses, once at the end of a run; returns how many."""
        with translate_errors(self._folder):
            self._flush_records()
            dropped = self._connection.execute(
                """DELETE FROM vectors WHERE NOT EXISTS
                   (SELECT 1 FROM chunks WHERE vector_id = vectors.id)"""
            ).rowcount
            if self._dropped:
                # FTS5 keeps the terms of deleted rows until their segments are merged.
                self._connection.execute("INSERT INTO terms (terms) VALUES ('optimize')")
                self._dropped = False
            return dropped

    def _replace(
        self,
        files: Sequence[FileCommit],
        vectors: Vectors,
        old_documents: Sequence[int],
        removed: Collection[str],
    ) -> None:
        """The two-transaction commit: old documents and removed files out, new ones in."""
        if not files and not old_documents and not removed:
            return
        rows = term_rows(files, self._analyse)
        try:
            self._derived.ready()
            added = self._prepare(files, vectors)
            self._checkpoint("prepared")
            self._derived.add(added)
            self._checkpoint("indexed")
            terms = [(chunk_id, *row) for chunk_id, row in zip(added, rows, strict=True)]
            dropped = self._publish(files, terms, old_documents, removed)
        except BaseException:
            with suppress(sqlite3.Error):  # what cannot be taken back now is at the next opening
                self._take_back()
            raise
        self._checkpoint("published")
        self._derived.delete(dropped)
        self._checkpoint("deleted")
        self._connection.execute("DELETE FROM outbox")
        self._checkpoint("cleared")

    def _prepare(self, files: Sequence[FileCommit], vectors: Vectors) -> list[int]:
        """Transaction A; returns the new chunks' ids in the order of the files."""
        with transaction(self._connection):
            insert_vectors(self._connection, vectors)
            added = []
            for file in files:
                file_id = self._pending_file(file.record)
                for document in file.documents:
                    added += insert_document(self._connection, file_id, document)
            self._connection.executemany(
                "INSERT INTO outbox VALUES (?)", [(chunk_id,) for chunk_id in added]
            )
        return added

    def _publish(
        self,
        files: Sequence[FileCommit],
        terms: Sequence[tuple[int, str, str]],
        old_documents: Sequence[int],
        removed: Collection[str],
    ) -> list[int]:
        """Transaction B; returns the ids of the chunks that are gone."""
        execute, executemany = self._connection.execute, self._connection.executemany
        with transaction(self._connection):
            dropped = self._chunk_ids(old_documents)
            executemany("DELETE FROM terms WHERE rowid = ?", [(id_,) for id_ in dropped])
            executemany("DELETE FROM documents WHERE id = ?", [(id_,) for id_ in old_documents])
            executemany("DELETE FROM files WHERE path = ?", [(path,) for path in removed])
            execute("UPDATE documents SET live = 1 WHERE live = 0")
            executemany("INSERT INTO terms (rowid, heading, body) VALUES (?, ?, ?)", terms)
            self._records |= {file.record.path: file.record for file in files}
            self._records = {p: r for p, r in self._records.items() if p not in removed}
            self._write_records()
            execute("DELETE FROM outbox")
            executemany("INSERT INTO outbox VALUES (?)", [(id_,) for id_ in dropped])
            meta = read_meta(self._connection, self._folder)
            meta = replace(
                meta,
                generation=meta.generation + 1,
                documents=meta.documents
                + sum(len(f.documents) for f in files)
                - len(old_documents),
                chunks=meta.chunks + len(terms) - len(dropped),
            )
            write_meta(self._connection, meta)
        self._records.clear()
        self._dropped = self._dropped or bool(dropped)
        return dropped

    def _recover(self) -> None:
        """Bring the store to where its last whole commit left it."""
        self._take_back()
        index = read_meta(self._connection, self._folder).index
        if queries.outbox(self._connection) or in_use_mark(self._folder, index).exists():
            self._derived.ready()

    def _take_back(self) -> None:
        """Remove what a commit left that did not come to its transaction B.

        The outbox keeps the ids: the vector index is mended when it is next opened.
        """
        with transaction(self._connection):
            self._connection.execute("DELETE FROM documents WHERE live = 0")
            self._connection.execute("DELETE FROM files WHERE status = 'pending'")

    def _pending_file(self, record: FileRecord) -> int:
        self._connection.execute(
            """INSERT OR IGNORE INTO files
               (path, root, size, mtime_ns, sha256, loader, status, reason)
               VALUES (?, ?, 0, 0, '', '', 'pending', '')""",
            (record.path, record.root),
        )
        row = self._connection.execute("SELECT id FROM files WHERE path = ?", (record.path,))
        return int(row.fetchone()[0])

    def _flush_records(self) -> None:
        if self._records:
            with translate_errors(self._folder), transaction(self._connection):
                self._write_records()
            self._records.clear()

    def _write_records(self) -> None:
        self._connection.executemany(
            """INSERT INTO files (path, root, size, mtime_ns, sha256, loader, status, reason)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?)
               ON CONFLICT (path) DO UPDATE SET root = excluded.root, size = excluded.size,
                   mtime_ns = excluded.mtime_ns, sha256 = excluded.sha256,
                   loader = excluded.loader, status = excluded.status, reason = excluded.reason""",
            [astuple(record) for record in self._records.values()],
        )

    def _ids_of_paths(self, paths: Iterable[str]) -> list[int]:
        """The live documents of these files."""
        rows = self._connection.execute(
            """SELECT documents.id FROM documents JOIN files ON files.id = file_id
               WHERE live = 1 AND path IN (SELECT value FROM json_each(?))""",
            (json.dumps(list(paths)),),
        )
        return [id_ for (id_,) in rows]

    def _ids_of_sources(self, sources: Collection[str]) -> list[int]:
        rows = self._connection.execute(
            """SELECT id FROM documents
               WHERE live = 1 AND source IN (SELECT value FROM json_each(?))""",
            (json.dumps(list(sources)),),
        )
        return [id_ for (id_,) in rows]

    def _chunk_ids(self, document_ids: Sequence[int]) -> list[int]:
        rows = self._connection.execute(
            """SELECT id FROM chunks
               WHERE document_id IN (SELECT value FROM json_each(?)) ORDER BY id""",
            (json.dumps(list(document_ids)),),
        )
        return [id_ for (id_,) in rows]
