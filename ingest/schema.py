"""The store's database file: where it lies, how it is opened, and what its errors mean.

.rag/store.sqlite3     the truth (SQLite in WAL mode)
.rag/lock              the writer lock
.rag/index-<n>/        the vector index made from it
"""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

from ingest.config import IndexSettings
from ingest.errors import StoreBusy, StoreDamaged, StoreError, StoreMismatch, StoreMissing
from ingest.records import Meta

# Raise it whenever schema.sql changes: a store of another format is refused, never misread.
FORMAT = 2
DATABASE = "store.sqlite3"
LOCK = "lock"
_BUSY_MS = 5000
_CACHE_KIB = 16_384
_REBUILD = "run `rag rebuild`"


def index_folder(folder: Path, number: int) -> Path:
    """The folder of the vector index with this number."""
    return folder / f"index-{number}"


def in_use_mark(folder: Path, number: int) -> Path:
    """Stands in an index folder while a writer has it open; one that outlives its writer tells of
    a kill, after which Chroma's files may be torn in ways that no query shows."""
    return index_folder(folder, number) / "in-use"


def open_reader(folder: Path) -> sqlite3.Connection:
    """A read-only connection to an existing store; StoreMissing where there is none."""
    path = folder / DATABASE
    if not path.is_file():
        raise StoreMissing(f"no store found in {folder}", "run `rag ingest PATH`")
    try:
        return _readable(path, "mode=ro")
    except sqlite3.OperationalError:
        # WAL needs to write a file beside the database, which a read-only folder does not allow.
        # An empty or missing journal shows that nobody is writing: the file is whole as it stands.
        if os.access(folder, os.W_OK) or _has_content(path.with_name(f"{DATABASE}-wal")):
            raise
        return _readable(path, "mode=ro&immutable=1")


def open_writer(path: Path) -> sqlite3.Connection:
    """A connection that writes, creating an empty database file where there is none."""
    # Made here so that it is private from the start; SQLite gives its other files the same mode.
    # Never opened when it is there: closing it again would drop this process's locks on it.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = _connect(f"{path.resolve().as_uri()}?mode=rw")
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # An acknowledged commit must also survive a power cut, which NORMAL does not promise.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def create(connection: sqlite3.Connection, settings: IndexSettings) -> None:
    """Make the tables of an empty database, all or nothing."""
    schema = files("ingest").joinpath("schema.sql").read_text(encoding="utf-8")
    # executescript would commit a transaction that was open before it, so the script opens one.
    connection.executescript(f"BEGIN IMMEDIATE;\n{schema}")
    created = datetime.now(UTC).isoformat(timespec="microseconds")
    write_meta(connection, Meta(FORMAT, settings, 0, 0, created))
    connection.execute("COMMIT")


def is_empty(connection: sqlite3.Connection) -> bool:
    """Whether the database has no table yet: new, or killed while it was being made."""
    return connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None


def read_meta(connection: sqlite3.Connection, folder: Path) -> Meta:
    """The store's own record; StoreMismatch for another format, StoreDamaged for nonsense."""
    if is_empty(connection):
        raise StoreMissing(f"the store in {folder} is empty", "run `rag ingest PATH`")
    values = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    try:
        found = int(values["format"])
        if found != FORMAT:
            raise StoreMismatch(
                f"{folder} was made by store format {found}; this version uses {FORMAT}",
                f"delete {folder} and run `rag ingest PATH` again",
            )
        settings = IndexSettings(**json.loads(values["settings"]))
        numbers = (int(values[name]) for name in ("generation", "index", "documents", "chunks"))
        generation, index, documents, chunks = numbers
        return Meta(found, settings, generation, index, values["created"], documents, chunks)
    except (KeyError, ValueError, TypeError) as error:
        raise StoreDamaged(
            f"store damaged: {folder}: its record is unreadable", _REBUILD
        ) from error


def write_meta(connection: sqlite3.Connection, meta: Meta) -> None:
    """Write the store's own record inside the open transaction."""
    values = {
        "format": str(meta.format),
        "settings": json.dumps(asdict(meta.settings)),
        "generation": str(meta.generation),
        "index": str(meta.index),
        "created": meta.created,
        "documents": str(meta.documents),
        "chunks": str(meta.chunks),
    }
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One write transaction: committed at the end, rolled back on any exception."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def translate_errors(folder: Path) -> Iterator[None]:
    """The border where SQLite's errors become ours."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # a mistake in our own code, not in the store
    except UnicodeDecodeError as error:  # a changed byte inside a name or a message
        raise StoreDamaged(f"store damaged: {folder}: {error}", _REBUILD) from error
    except sqlite3.DatabaseError as error:
        raise _translated(error, folder) from error


def _translated(error: sqlite3.DatabaseError, folder: Path) -> StoreError:
    # The low byte is the primary result code; a few errors raised by the module have none.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StoreError(f"the disk is full: {folder}", "free some space and run it again")
    if code == sqlite3.SQLITE_READONLY:
        return StoreError(f"the store is read-only: {folder}", "check its owner and permissions")
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return StoreBusy(f"another process is using {folder}", "wait a moment and run it again")
    if code in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR}:
        return StoreError(
            f"the store cannot be read or written: {folder}: {error}", "check the disk"
        )
    # Not only SQLITE_CORRUPT: a flipped byte can also make a table or a column disappear.
    return StoreDamaged(f"store damaged: {folder}: {error}", _REBUILD)


def _readable(path: Path, mode: str) -> sqlite3.Connection:
    connection = _connect(f"{path.resolve().as_uri()}?{mode}")
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_MS / 1000
    )
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return connection


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0
