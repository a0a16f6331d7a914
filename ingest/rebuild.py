"""`rag rebuild`: a new database and a new vector index from every document that can still be read.

The same path serves a healthy store and a damaged one: documents are read one by one, checked on
the way, and committed to a fresh database as an ingest would, with the vectors they have. The fresh
file takes the old one's place at the end.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ingest import manifest, queries, schema
from ingest.check import integrity_problem
from ingest.errors import RagError, StoreBusy, StoreDamaged, StoreMissing, UsageError
from ingest.lock import writer_lock
from ingest.records import DocumentCommit, FileCommit, FileRecord, Matrix, Vectors
from ingest.writer import Writer

_FRESH = "rebuild.sqlite3"
_JOURNALS = ("", "-wal", "-shm")
_BATCH = 100  # documents


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was saved, and the documents that were not: their files are read again by the next
    ingest. `damaged` says that the old file was broken, so that more may be missing."""

    documents: int
    chunks: int
    lost: tuple[str, ...]
    damaged: bool


# A document as it is to be committed again, with the file it is in.
_Saved = tuple[FileRecord, DocumentCommit, Vectors]


def rebuild(folder: Path, wait: float = 5.0) -> Rebuilt:
    """Make the store in `folder` anew from itself; nothing is embedded again.

    Raises StoreMissing, StoreBusy, StoreMismatch, and StoreDamaged where not even the list of
    documents can be read.
    """
    path, fresh = folder / schema.DATABASE, folder / _FRESH
    if not path.is_file():
        raise StoreMissing(f"no store found in {folder}", "run `rag ingest PATH`")
    schema.check_place(folder)
    schema.check_owner(folder)
    with writer_lock(folder / schema.LOCK, wait):
        for journal in _JOURNALS:  # what a killed rebuild left
            fresh.with_name(_FRESH + journal).unlink(missing_ok=True)
        try:
            with (
                schema.translate_errors(folder),
                closing(schema.open_writer(path)) as old,
                closing(schema.open_writer(fresh)) as new,
            ):
                rebuilt = _rebuilt(folder, old, new)
                _merge_journal(old, folder)
                saved = schema.read_meta(new, folder)
        except StoreDamaged as error:
            raise StoreDamaged(
                f"store damaged beyond repair: {folder}",
                f"delete {folder} and run `rag ingest PATH` again",
            ) from error
        for journal in _JOURNALS[1:]:
            path.with_name(schema.DATABASE + journal).unlink(missing_ok=True)
        (folder / schema.NEWEST).unlink(missing_ok=True)
        fresh.replace(path)
        schema.note_newest(folder, saved)
    return rebuilt


def _rebuilt(folder: Path, old: sqlite3.Connection, new: sqlite3.Connection) -> Rebuilt:
    """Fill a new database with what is whole in the old one."""
    meta = schema.read_meta(old, folder)
    damaged = bool(integrity_problem(old)) or schema.is_behind(meta, schema.newest(folder))
    records = _records(old)
    schema.create(new, replace(meta, documents=0, chunks=0, chunk_sum=0))
    # It belongs to the old database, also where no document is left for which it is made anew.
    manifest.remove(schema.index_folder(folder, meta.index))
    with Writer(folder, new, lambda step: None) as writer:
        lost = _copy(old, writer, records)
        saved = schema.read_meta(new, folder)
        damaged = damaged or saved.documents + len(lost) != meta.documents
        if lost or damaged:
            # Which files the missing documents came from is not known: all are read again.
            records = {p: replace(r, sha256="", mtime_ns=0) for p, r in records.items()}
        writer.record(list(records.values()))
    return Rebuilt(saved.documents, saved.chunks, tuple(lost), damaged)


def _merge_journal(old: sqlite3.Connection, folder: Path) -> None:
    """Until the new file takes its place, the old one has to be whole without its journal."""
    with suppress(sqlite3.DatabaseError):  # a damaged file has nothing to keep
        if old.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise StoreBusy(f"another process is reading {folder}", "run it again after that")


def _records(old: sqlite3.Connection) -> dict[str, FileRecord]:
    """What is known of files, as far as it can be read."""
    records = {}
    with suppress(sqlite3.DatabaseError, ValueError, TypeError):
        for record in filter(None, queries.file_records(old)):
            records[record.path] = record
    return records


def _copy(old: sqlite3.Connection, writer: Writer, records: dict[str, FileRecord]) -> list[str]:
    """Commit what is whole; returned are the names of the documents that are not."""
    lost: list[str] = []
    batch: list[_Saved] = []
    for document_id in _document_ids(old):
        try:
            batch.append(_saved(old, document_id, records, writer.settings.dimension))
        except UsageError:  # an id that no document has
            continue
        except (StoreDamaged, sqlite3.DatabaseError, ValueError, TypeError):
            lost.append(_name(old, document_id))
        if len(batch) >= _BATCH:
            lost += _commit(batch, writer)
            batch = []
    return lost + _commit(batch, writer)


def _saved(
    old: sqlite3.Connection, document_id: int, records: dict[str, FileRecord], dimension: int
) -> _Saved:
    """A document with all that belongs to it; StoreDamaged where any of it is not whole."""
    stored = queries.document_by_id(old, document_id)
    query = """SELECT key FROM chunks JOIN vectors ON vectors.id = vector_id
        WHERE document_id = ? ORDER BY ordinal"""
    keys = tuple(key for (key,) in old.execute(query, (document_id,)))
    ids = queries.chunk_ids(old, [document_id])
    vectors = dict(zip(keys, queries.vectors(old, ids, dimension), strict=True))
    query = "SELECT path FROM documents JOIN files ON files.id = file_id WHERE documents.id = ?"
    path = old.execute(query, (document_id,)).fetchone()
    if path is None or path[0] not in records or len(keys) != len(stored.chunks):
        raise StoreDamaged(f"store damaged: {stored.document.source!r} is not whole")
    return records[path[0]], DocumentCommit(stored.document, stored.chunks, keys), vectors


def _commit(batch: Sequence[_Saved], writer: Writer) -> list[str]:
    """Commit documents, one by one where they contradict each other; the lost ones' names."""
    documents: defaultdict[FileRecord, list[DocumentCommit]] = defaultdict(list)
    vectors: dict[bytes, Matrix] = {}
    for record, entry, found in batch:
        documents[record].append(entry)
        vectors |= found
    try:
        writer.commit([FileCommit(r, tuple(d), kept=None) for r, d in documents.items()], vectors)
    except (RagError, ValueError):
        if len(batch) == 1:
            return [batch[0][1].document.source]
        return [name for saved in batch for name in _commit([saved], writer)]
    return []


def _document_ids(old: sqlite3.Connection) -> Sequence[int]:
    """The ids of the live documents; every id there can be where their list is broken."""
    try:
        return queries.document_ids(old)
    except sqlite3.DatabaseError:
        row = old.execute("SELECT seq FROM sqlite_sequence WHERE name = 'documents'").fetchone()
        return range(1, row[0] + 1)


def _name(old: sqlite3.Connection, document_id: int) -> str:
    with suppress(sqlite3.DatabaseError):
        row = old.execute("SELECT source FROM documents WHERE id = ?", (document_id,)).fetchone()
        if row:
            return str(row[0])
    return f"document {document_id}"
