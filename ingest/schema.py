"""The store's database file: where it lies, how it is opened, and what its errors mean.

.rag/store.sqlite3     the truth (SQLite in WAL mode)
.rag/newest            which state of it was acknowledged last
.rag/lock              the writer lock
.rag/index-<n>/        the vector index made from it

A store may come from a stranger, or be damaged anywhere: its tables must be the known ones, and
nothing in its folder may lead out of it.
"""

import json
import os
import shutil
import sqlite3
import stat
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path

from ingest.config import IndexSettings
from ingest.errors import (
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreMismatch,
    StoreMissing,
    UsageError,
)
from ingest.records import Meta, seal

# Raise it whenever schema.sql changes: a store of another format is refused, never misread.
FORMAT = 3
DATABASE = "store.sqlite3"
LOCK = "lock"
NEWEST = "newest"
_NUMBERS = (
    "format", "generation", "index", "documents", "chunks", "chunk_sum", "term_sum", "home",
)  # fmt: skip
_NOT_WRITABLE = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR})
# With less free disk than this in bytes a failure is taken for a full disk.
_ROOM = 1 << 20
_BUSY_SECONDS = 5.0
# A stranger's database runs no code of its own and is not trusted to be well formed.
_GUARDS = (
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA cache_size = -16384",  # KiB
)
_ANY_READ = "SELECT count(*) FROM sqlite_schema"  # SQLite opens a file when it is first read


def index_folder(folder: Path, number: int) -> Path:
    """The folder of the vector index with this number."""
    return folder / f"index-{number}"


def check_place(folder: Path) -> None:
    """StoreError where a link or a device in the store's folder stands for one of its files."""
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a journal that its writer has just removed
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise StoreError(
                    f"{path} leads out of the store or is no file",
                    f"remove it, or delete {folder} and run `rag ingest PATH` again",
                )


def check_owner(folder: Path) -> None:
    """StoreError where the folder belongs to another user: what is written there is theirs."""
    owner = folder.stat().st_uid
    if owner != os.geteuid():
        raise StoreError(
            f"{folder} belongs to another user ({owner})",
            "ingest into a store of your own: `--store DIR`",
        )


def is_full(folder: Path) -> bool:
    """Whether the disk has no room left, which libraries say in many words that do not name it."""
    with suppress(OSError):
        return shutil.disk_usage(folder).free < _ROOM
    return False


def place(folder: Path) -> int:
    """A number that a copy of the folder does not have, nor a store that was made elsewhere."""
    return folder.stat().st_ino


def followed_roots(folder: Path, meta: Meta) -> frozenset[str]:
    """The roots that a person has named for this store, here.

    Raises UsageError for a store that was copied or unpacked: it could name any folder of this
    machine as the root of its files, and what is there would be taken in.
    """
    if meta.home != place(folder):
        raise UsageError(
            f"{folder} was made elsewhere; the folders it names are not read without your word",
            "name them once: `rag ingest PATH…`; `rag status` lists them",
        )
    return meta.roots


def open_reader(folder: Path) -> sqlite3.Connection:
    """A read-only connection to an existing store; StoreMissing where there is none."""
    path = folder / DATABASE
    if not path.is_file():
        raise StoreMissing(f"no store found in {folder}", "run `rag ingest PATH`")
    try:
        return _connect(path, "mode=ro", _ANY_READ)
    except sqlite3.OperationalError as error:
        # WAL needs to write a file beside the database, which neither a read-only folder nor a full
        # disk allows. An empty or missing journal shows that nobody is writing: the file is whole
        # as it stands.
        blocked = error.sqlite_errorcode & 0xFF in _NOT_WRITABLE
        journal = path.with_name(f"{DATABASE}-wal")
        if not blocked or (journal.is_file() and journal.stat().st_size):
            raise
        return _connect(path, "mode=ro&immutable=1", _ANY_READ)


def open_writer(path: Path) -> sqlite3.Connection:
    """A connection that writes, creating an empty database file where there is none."""
    # Made here so that it is private from the start; SQLite gives its other files the same mode.
    # Never opened when it is there: closing it again would drop this process's locks on it.
    with suppress(FileExistsError):
        path.touch(mode=0o600, exist_ok=False)
    return _connect(
        path,
        "mode=rw",
        "PRAGMA journal_mode = WAL",
        # An acknowledged commit must also survive a power cut, which NORMAL does not promise.
        "PRAGMA synchronous = FULL",
        "PRAGMA foreign_keys = ON",
        "PRAGMA secure_delete = ON",
    )


def create(connection: sqlite3.Connection, meta: Meta) -> None:
    """Make the tables of an empty database, all or nothing; its record says that it is made now."""
    # executescript would commit a transaction that was open before it, so the script opens one.
    connection.executescript(f"BEGIN IMMEDIATE;\n{_schema()}")
    created = datetime.now(UTC).isoformat(timespec="microseconds")
    write_meta(connection, replace(meta, created=created))
    connection.execute("COMMIT")


def is_empty(connection: sqlite3.Connection) -> bool:
    """Whether the database has no table yet: new, or killed while it was being made."""
    return connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None


def read_meta(connection: sqlite3.Connection, folder: Path) -> Meta:
    """The store's own record; StoreMismatch for another format, StoreDamaged for nonsense."""
    if is_empty(connection):
        raise StoreMissing(f"the store in {folder} is empty", "run `rag ingest PATH`")
    values = dict(connection.execute("SELECT key, value FROM meta ORDER BY key").fetchall())
    try:
        sealed = values.pop("seal", None)
        if sealed is not None and sealed != str(seal(*values.values())):
            raise ValueError("its seal is broken")
        found = int(values["format"])
        if found != FORMAT:
            raise StoreMismatch(
                f"{folder} was made by store format {found}; this version uses {FORMAT}",
                f"delete {folder} and run `rag ingest PATH` again",
            )
        if _tables(connection) != _known_tables():
            raise ValueError("its tables are not those of a store")
        settings = IndexSettings(**json.loads(values["settings"]))
        numbers = {name: int(values[name]) for name in _NUMBERS}
        roots = frozenset(json.loads(values["roots"]))
        return Meta(settings=settings, created=values["created"], roots=roots, **numbers)
    except (KeyError, ValueError, TypeError) as error:
        raise StoreDamaged(f"store damaged: {folder}: its record is unreadable: {error}") from error


def write_meta(connection: sqlite3.Connection, meta: Meta) -> None:
    """Write the store's own record inside the open transaction."""
    values = {name: str(getattr(meta, name)) for name in (*_NUMBERS, "created")}
    values["settings"] = json.dumps(asdict(meta.settings))
    values["roots"] = json.dumps(sorted(meta.roots))
    values["seal"] = str(seal(*(values[key] for key in sorted(values))))
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())


def newest(folder: Path) -> str:
    """What the last commit has noted of itself outside the database; "" where there is no note.

    Read it before the snapshot that it is compared with.
    """
    with suppress(OSError):
        return (folder / NEWEST).read_text(encoding="utf-8", errors="replace")
    return ""


def note_newest(folder: Path, meta: Meta) -> None:
    """Note which state was acknowledged, after its commit.

    SQLite ends a journal at the first frame that is torn: that of a killed writer is one, but so
    is one that was damaged later, and whole commits behind it would be gone without a word.
    """
    with suppress(OSError):  # on a full disk the commit holds all the same, and needs no note
        (folder / NEWEST).touch(mode=0o600)
        (folder / NEWEST).write_text(f"{meta.created} {meta.generation}", encoding="utf-8")


def is_behind(meta: Meta, noted: str) -> bool:
    """Whether this is an older state than the noted one, or a state of another store."""
    created, _, generation = noted.rpartition(" ")
    same = created == meta.created and generation.isdigit()
    return bool(noted) and not (same and int(generation) <= meta.generation)


def check_newest(folder: Path, meta: Meta, noted: str) -> None:
    """StoreDamaged where the note, unchanged since it was read, tells of a newer state."""
    if is_behind(meta, noted) and newest(folder) == noted:
        raise StoreDamaged(f"store damaged: {folder}: its last changes are missing")


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
        raise StoreDamaged(f"store damaged: {folder}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise _translated(error, folder) from error


def _translated(error: sqlite3.DatabaseError, folder: Path) -> StoreError:
    # The low byte is the primary result code; a few errors raised by the module have none.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL or (code in _NOT_WRITABLE and is_full(folder)):
        return StoreError(f"the disk is full: {folder}", "free some space and run it again")
    if code == sqlite3.SQLITE_READONLY:
        return StoreError(f"the store is read-only: {folder}", "check its owner and permissions")
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return StoreBusy(f"another process is using {folder}", "wait a moment and run it again")
    if code in _NOT_WRITABLE:
        return StoreError(
            f"the store cannot be read or written: {folder}: {error}", "check the disk"
        )
    # Not only SQLITE_CORRUPT: a flipped byte can also make a table or a column disappear.
    return StoreDamaged(f"store damaged: {folder}: {error}")


def _connect(path: Path, mode: str, *statements: str) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?{mode}"
    connection = sqlite3.connect(
        uri, _BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=True
    )
    try:
        for statement in (*_GUARDS, *statements):
            connection.execute(statement)
        connection.create_function("crc32", 1, zlib.crc32, deterministic=True)
    except BaseException:
        connection.close()
        raise
    return connection


@cache
def _schema() -> str:
    return files("ingest").joinpath("schema.sql").read_text(encoding="utf-8")


@cache
def _known_tables() -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_schema())
        return _tables(connection)


def _tables(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    """Every table, index, view and trigger, and how all but those of FTS5 were made."""
    rows = connection.execute(
        """SELECT type, name, tbl_name, iif(name GLOB 'terms_*', '', sql) FROM sqlite_schema
           ORDER BY name, type"""
    )
    return rows.fetchall()
