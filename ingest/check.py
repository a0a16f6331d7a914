"""Whether a store agrees with itself, read from end to end."""

import sqlite3
from collections.abc import Collection

from ingest import queries
from ingest.errors import StoreDamaged
from ingest.records import Meta

# What is looked up by an index rather than by id: its name, its table, its columns, its rows.
_INDEXES = (
    ("documents_source", "documents", "id || source", "WHERE live = 1"),
    ("documents_file", "documents", "id || ' ' || file_id", ""),
    ("chunks_document", "chunks", "id || ' ' || document_id || ' ' || ordinal", ""),
    ("chunks_vector", "chunks", "id || ' ' || vector_id", ""),
    ("sqlite_autoindex_files_1", "files", "id || path", ""),
    ("sqlite_autoindex_vectors_1", "vectors", "id || key", ""),
)
TABLES = frozenset(table for _, table, _, _ in _INDEXES)


def check_terms(connection: sqlite3.Connection, meta: Meta) -> None:
    """StoreDamaged where the lexical index is not what the last commit left."""
    if meta.chunks and queries.term_sum(connection) != meta.term_sum:
        raise StoreDamaged("store damaged: the index of words has changed on disk")


def check_indexes(connection: sqlite3.Connection, tables: Collection[str]) -> None:
    """StoreDamaged where an index of these tables leads to other rows than the table has."""
    for name, table, entry, condition in _INDEXES:
        if table in tables:
            by_index, by_table = (
                connection.execute(
                    f"SELECT sum(crc32(CAST({entry} AS BLOB))) FROM {table} {how} {condition}"
                ).fetchone()
                for how in (f"INDEXED BY {name}", "NOT INDEXED")
            )
            if by_index != by_table:
                raise StoreDamaged(f"store damaged: {name} contradicts {table}")


def check_truth(connection: sqlite3.Connection, meta: Meta) -> None:
    """Read every page, text, chunk, vector and term; StoreDamaged names the first thing wrong."""
    problem = integrity_problem(connection)
    if problem:
        raise StoreDamaged(f"store damaged: {problem}")
    sources = queries.sources(connection, meta.documents)
    chunks = sum(len(queries.document_by_id(connection, s.id).chunks) for s in sources)
    ids, _ = queries.all_vectors(connection, meta)
    check_terms(connection, meta)
    rows, words = 0, 0
    for heading, body in connection.execute("SELECT heading, body FROM terms"):
        rows, words = rows + 1, words + len(heading.split()) + len(body.split())
    indexed = connection.execute("SELECT total(cnt) FROM term_rows").fetchone()[0]
    if not meta.chunks == chunks == len(ids) == rows or indexed != words:
        raise StoreDamaged(
            f"store damaged: of {meta.chunks} chunks {chunks} are found, {len(ids)} vectors and"
            f" {rows} rows of terms; {indexed:.0f} of {words} terms are indexed"
        )


def integrity_problem(connection: sqlite3.Connection) -> str:
    """What SQLite finds wrong with the file's structure, in its words; empty when all is well."""
    try:
        (answer,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if answer == "ok" else str(answer)
