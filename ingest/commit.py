"""The rows of one commit: what they must satisfy, and how they are inserted."""

import json
import sqlite3
from collections.abc import Callable, Collection, Sequence

import numpy as np

from ingest.errors import UsageError
from ingest.records import DocumentCommit, FileCommit, Matrix, Vectors, seal
from ingest.types import heading_path

_LENGTH_TOLERANCE = 1e-3
_KEYS_A_QUERY = 1000


def term_row(analyse: Callable[[str], list[str]], heading: str, text: str) -> tuple[str, str]:
    """A chunk's row in the lexical index: the terms of its heading path and of its text."""
    return " ".join(analyse(heading)), " ".join(analyse(text))


def term_rows(
    files: Sequence[FileCommit], analyse: Callable[[str], list[str]]
) -> list[tuple[str, str]]:
    """The rows of all chunks of a commit in their order."""
    return [
        term_row(analyse, heading_path(entry.document.title, chunk.section), chunk.text)
        for file in files
        for entry in file.documents
        for chunk in entry.chunks
    ]


def vector_ids(connection: sqlite3.Connection, keys: Collection[bytes]) -> dict[bytes, int]:
    """The ids of the stored vectors among these keys."""
    unique = list(dict.fromkeys(keys))
    found: dict[bytes, int] = {}
    for start in range(0, len(unique), _KEYS_A_QUERY):
        part = unique[start : start + _KEYS_A_QUERY]
        places = ",".join("?" * len(part))
        query = f"SELECT key, id FROM vectors WHERE key IN ({places})"
        found |= dict(connection.execute(query, part).fetchall())
    return found


def insert_vectors(connection: sqlite3.Connection, vectors: Vectors) -> None:
    """Insert vectors; a key that is there already keeps its vector."""
    connection.executemany(
        "INSERT OR IGNORE INTO vectors (key, vector) VALUES (?, ?)",
        [(key, np.asarray(row, "<f4").tobytes()) for key, row in vectors.items()],
    )


def insert_document(
    connection: sqlite3.Connection, file_id: int, commit: DocumentCommit
) -> list[int]:
    """Insert a document and its chunks, not live; returns the chunks' ids in their order."""
    document = commit.document
    row = (
        file_id,
        document.source,
        document.title,
        document.media_type,
        document.sha256,
        json.dumps(document.page_starts),
        json.dumps(dict(document.metadata)),
        len(commit.chunks),
    )
    document_id = connection.execute(
        """INSERT INTO documents (live, file_id, source, title, media_type, sha256, page_starts,
               metadata, chunk_count, seal, text) VALUES (0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (*row, seal(*row), document.text),
    ).lastrowid
    ids = vector_ids(connection, commit.keys)
    chunks = [
        (document_id, ordinal, c.start, c.end, c.page, c.section, ids[key])
        for ordinal, (c, key) in enumerate(zip(commit.chunks, commit.keys, strict=True))
    ]
    connection.executemany(
        """INSERT INTO chunks (document_id, ordinal, start, stop, page, section, vector_id, seal)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
        [(*chunk, seal(*chunk)) for chunk in chunks],
    )
    rows = connection.execute(
        "SELECT id FROM chunks WHERE document_id = ? ORDER BY ordinal", (document_id,)
    )
    return [chunk_id for (chunk_id,) in rows]


def check_commit(
    connection: sqlite3.Connection,
    files: Sequence[FileCommit],
    vectors: Vectors,
    dimension: int,
    removed: Collection[str],
) -> None:
    """Refuse, before anything is written, what would make the store contradict itself.

    `removed` are paths whose files go with this commit, so that their sources are free.
    Raises UsageError where two documents have one name, ValueError for a mistake of our own code.
    """
    _check_sources(connection, files, removed)
    entries = [entry for file in files for entry in file.documents]
    for entry in entries:
        _check_chunks(entry)
    for key, row in vectors.items():
        _check_vector(key, row, dimension)
    keys = {key for entry in entries for key in entry.keys} - vectors.keys()
    if missing := keys - vector_ids(connection, keys).keys():
        raise ValueError(f"{len(missing)} chunks have no vector")


def _check_sources(
    connection: sqlite3.Connection, files: Sequence[FileCommit], removed: Collection[str]
) -> None:
    paths = {file.record.path for file in files}
    if len(paths) != len(files):
        raise ValueError("a file stands twice in one commit")
    named = [(e.document.source, f.record.path) for f in files for e in f.documents]
    rows = connection.execute(
        """SELECT source, files.path FROM json_each(?) JOIN documents ON source = value
           JOIN files ON files.id = file_id WHERE live = 1""",
        (json.dumps([source for source, _ in named]),),
    )
    owners = {source: path for source, path in rows if path not in paths | set(removed)}
    for source, path in named:
        if source in owners:
            raise UsageError(
                f"two documents are named {source!r}: in {owners[source]} and in {path}",
                "rename one of them, or ingest them into different stores",
            )
        owners[source] = path


def _check_chunks(entry: DocumentCommit) -> None:
    if len(entry.chunks) != len(entry.keys):
        raise ValueError(f"{len(entry.chunks)} chunks, but {len(entry.keys)} vector keys")
    for chunk in entry.chunks:
        if not chunk.text or entry.document.text[chunk.start : chunk.end] != chunk.text:
            raise ValueError(f"chunk {chunk.ordinal} is no slice of {entry.document.source!r}")


def _check_vector(key: bytes, row: Matrix, dimension: int) -> None:
    # Written so that a length that is no number fails too.
    if row.shape != (dimension,) or not abs(float(row @ row) - 1.0) < _LENGTH_TOLERANCE:
        raise ValueError(f"vector {key.hex()} is not of unit length in {dimension} dimensions")
