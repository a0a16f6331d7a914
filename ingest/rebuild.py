"""`rag rebuild`: a new database and a new vector index from every document that can still be read.

The same path serves a healthy store and a damaged one: documents are copied one by one into a
fresh file, checked on the way, and the fresh file takes the old one's place at the end.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ingest import queries
from ingest.check import integrity_problem
from ingest.commit import term_row
from ingest.derived import DerivedIndex
from ingest.errors import StoreDamaged, StoreMismatch, StoreMissing, UsageError
from ingest.lock import WriterLock
from ingest.records import Meta
from ingest.schema import (
    DATABASE,
    LOCK,
    create,
    open_writer,
    read_meta,
    transaction,
    translate_errors,
    write_meta,
)
from ingest.types import StoredDocument, heading_path
from ingest.words import terms as index_terms

_FRESH = "rebuild.sqlite3"
_JOURNALS = ("", "-wal", "-shm")

Analyse = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was saved, and the documents that were not: their files are read again by the next
    ingest. `damaged` says that the old file was broken, so that more may be missing."""

    documents: int
    chunks: int
    lost: tuple[str, ...]
    damaged: bool


def rebuild(folder: Path, analyse: Analyse = index_terms, wait: float = 5.0) -> Rebuilt:
    """Make the store in `folder` anew from itself; nothing is embedded again.

    Raises StoreMissing, StoreBusy, StoreMismatch, and StoreDamaged where not even the list of
    documents can be read.
    """
    path, fresh = folder / DATABASE, folder / _FRESH
    if not path.is_file():
        raise StoreMissing(f"no store found in {folder}", "run `rag ingest PATH`")
    with WriterLock(folder / LOCK, wait), translate_errors(folder):
        for journal in _JOURNALS:  # what a killed rebuild left
            fresh.with_name(_FRESH + journal).unlink(missing_ok=True)
        with closing(_opened(path, folder)) as old, closing(open_writer(fresh)) as new:
            meta = _readable_meta(old, folder)
            problem = integrity_problem(old)
            saved, lost = _copy(old, new, meta, analyse)
            damaged = bool(problem) or saved.documents + len(lost) != meta.documents
            if lost or damaged:
                # Which files the missing documents came from is not known: all are read again.
                new.execute("UPDATE files SET sha256 = '', mtime_ns = 0")
            derived = DerivedIndex(folder, new, lambda step: None)
            derived.rebuild()
            derived.close()
            with suppress(sqlite3.DatabaseError):  # a damaged file has nothing to keep
                old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for journal in _JOURNALS[1:]:
            path.with_name(DATABASE + journal).unlink(missing_ok=True)
        fresh.replace(path)
    return Rebuilt(saved.documents, saved.chunks, tuple(lost), damaged)


def _opened(path: Path, folder: Path) -> sqlite3.Connection:
    try:
        return open_writer(path)
    except sqlite3.DatabaseError as error:
        raise _beyond_repair(folder) from error


def _readable_meta(connection: sqlite3.Connection, folder: Path) -> Meta:
    try:
        return read_meta(connection, folder)
    except StoreMismatch:
        raise
    except (sqlite3.DatabaseError, StoreDamaged) as error:
        raise _beyond_repair(folder) from error


def _beyond_repair(folder: Path) -> StoreDamaged:
    return StoreDamaged(
        f"store damaged beyond repair: {folder}",
        f"delete {folder} and run `rag ingest PATH` again",
    )


def _copy(
    old: sqlite3.Connection, new: sqlite3.Connection, meta: Meta, analyse: Analyse
) -> tuple[Meta, list[str]]:
    """Copy what is whole; returns the new file's record and the names of the lost documents."""
    create(new, meta.settings)
    lost = []
    with transaction(new):
        files = old.execute("SELECT * FROM files WHERE status != 'pending'").fetchall()
        _insert(new, "files", files)
        for document_id in _document_ids(old):
            try:
                with _reading():
                    document = queries.document_by_id(old, document_id)
                    rows = _rows(old, document, meta)
                _insert_document(new, rows, document, analyse)
            except UsageError:  # an id that no document has
                continue
            except (sqlite3.IntegrityError, StoreDamaged):
                lost.append(_name(old, document_id))
        (documents,) = new.execute("SELECT count(*) FROM documents").fetchone()
        (chunks,) = new.execute("SELECT count(*) FROM chunks").fetchone()
        saved = replace(
            read_meta(new, Path()),
            generation=meta.generation + 1,
            index=meta.index,
            documents=documents,
            chunks=chunks,
        )
        write_meta(new, saved)
    return saved, lost


@contextmanager
def _reading() -> Iterator[None]:
    """Keeps what the old file cannot give apart from what the new one cannot take."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise StoreDamaged(f"store damaged: {error}") from error


def _document_ids(old: sqlite3.Connection) -> Sequence[int]:
    """The ids of the live documents; every id there can be where their list is broken."""
    try:
        return [id_ for (id_,) in old.execute("SELECT id FROM documents WHERE live = 1")]
    except sqlite3.DatabaseError:
        row = old.execute("SELECT seq FROM sqlite_sequence WHERE name = 'documents'").fetchone()
        return range(1, row[0] + 1)


# Rows by table, in the order in which they can be inserted.
_Rows = dict[str, list[tuple[object, ...]]]


def _rows(old: sqlite3.Connection, document: StoredDocument, meta: Meta) -> _Rows:
    """Everything stored of a document whose text is whole; StoreDamaged where the rest is not."""
    found = {
        table: old.execute(query, (document.id,)).fetchall() for table, query in _QUERIES.items()
    }
    ids = [row[0] for row in found["chunks"]]
    queries.vectors(old, ids, meta.settings.dimension)  # checks them
    return found


_QUERIES = {
    "documents": "SELECT * FROM documents WHERE id = ?",
    "vectors": """SELECT DISTINCT vectors.* FROM chunks JOIN vectors ON vectors.id = vector_id
                  WHERE document_id = ?""",
    "chunks": "SELECT * FROM chunks WHERE document_id = ? ORDER BY ordinal",
}


def _insert_document(
    new: sqlite3.Connection, rows: _Rows, document: StoredDocument, analyse: Analyse
) -> None:
    """All of it, or nothing and an IntegrityError where it contradicts what is there already."""
    terms = [
        (row[0], *term_row(analyse, heading_path(document.title, chunk.section), chunk.text))
        for row, chunk in zip(rows["chunks"], document.chunks, strict=True)
    ]
    new.execute("SAVEPOINT document")
    try:
        for table, found in rows.items():
            _insert(new, table, found)
        new.executemany("INSERT INTO terms (rowid, heading, body) VALUES (?, ?, ?)", terms)
    except sqlite3.IntegrityError:
        new.execute("ROLLBACK TO document")
        raise
    finally:
        if new.in_transaction:
            new.execute("RELEASE document")


def _insert(new: sqlite3.Connection, table: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert whole rows; a vector that another document has brought along is there already."""
    if rows:
        places = ", ".join("?" * len(rows[0]))
        verb = "INSERT OR IGNORE" if table == "vectors" else "INSERT"
        new.executemany(f"{verb} INTO {table} VALUES ({places})", rows)


def _name(old: sqlite3.Connection, document_id: int) -> str:
    with suppress(sqlite3.DatabaseError):
        row = old.execute("SELECT source FROM documents WHERE id = ?", (document_id,)).fetchone()
        if row:
            return str(row[0])
    return f"document {document_id}"
