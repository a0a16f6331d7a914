"""Whether a store agrees with itself, read from end to end."""

import sqlite3

from ingest import queries
from ingest.errors import StoreDamaged
from ingest.records import Meta

_REBUILD = "run `rag rebuild`"


def check_truth(connection: sqlite3.Connection, meta: Meta) -> None:
    """Read every page, text, chunk, vector and term; StoreDamaged names the first thing wrong."""
    problem = integrity_problem(connection)
    if problem:
        raise StoreDamaged(f"store damaged: {problem}", _REBUILD)
    chunks = 0
    for source in queries.sources(connection, meta.documents):
        chunks += len(queries.document_by_id(connection, source.id).chunks)
    ids, _ = queries.all_vectors(connection, meta.settings.dimension)
    rows, words = 0, 0
    for heading, body in connection.execute("SELECT heading, body FROM terms"):
        rows, words = rows + 1, words + len(heading.split()) + len(body.split())
    indexed = connection.execute("SELECT total(cnt) FROM term_rows").fetchone()[0]
    if not meta.chunks == chunks == len(ids) == rows or indexed != words:
        raise StoreDamaged(
            f"store damaged: of {meta.chunks} chunks {chunks} are found, {len(ids)} vectors and"
            f" {rows} rows of terms; {indexed:.0f} of {words} terms are indexed",
            _REBUILD,
        )


def integrity_problem(connection: sqlite3.Connection) -> str:
    """What SQLite finds wrong with the file's structure, in its words; empty when all is well."""
    try:
        (answer,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if answer == "ok" else str(answer)
