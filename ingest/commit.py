"""The rows of one commit: what they must satisfy, and how they are inserted."""

import json
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from ingest.errors import StoreMismatch, UsageError
from ingest.families import Families
from ingest.records import DocumentCommit, FileCommit, FileRecord, Matrix, Vectors, seal
from ingest.types import Block, Chunk, Document, context
from ingest.words import terms

_LENGTH_TOLERANCE = 1e-3
_KEYS_A_QUERY = 1000
_DOCUMENT_COLUMNS = """file_id, source, title, media_type, sha256, page_starts, page_labels,
    metadata, structure"""


@dataclass(frozen=True, slots=True)
class Inserted:
    """The new chunks of a commit, not live yet, with their rows in the lexical index and their
    families."""

    ids: tuple[int, ...]
    terms: tuple[tuple[int, str, str], ...]
    families: Families

    def publish(self, connection: sqlite3.Connection) -> None:
        """Make them live, inside the open transaction."""
        connection.execute("UPDATE documents SET live = 1 WHERE live = 0")
        connection.executemany(
            "INSERT INTO terms (rowid, heading, body) VALUES (?, ?, ?)", self.terms
        )
        self.families.publish()


def term_row(document: Document, chunk: Chunk) -> tuple[str, str]:
    """A chunk's row in the lexical index: the terms of what stands above its text, and its own."""
    language = document.metadata.get("language", "")
    above = terms(context(document, chunk), language)
    return " ".join(above), " ".join(terms(chunk.text, language))


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


def pending_file(connection: sqlite3.Connection, path: str, root: str) -> int:
    """The id of a file, which is taken down where it is not known yet."""
    row = connection.execute(
        """INSERT INTO files (path, root, size, mtime_ns, sha256, loader, status, problems, seal)
           VALUES (?, ?, 0, 0, '', '', 'pending', '[]', 0)
           ON CONFLICT (path) DO UPDATE SET path = path RETURNING id""",
        (path, root),
    )
    return int(row.fetchone()[0])


def write_records(connection: sqlite3.Connection, records: Sequence[FileRecord]) -> None:
    """Note how files were found, those that are known and those that are not."""
    rows = [(*seen, json.dumps(problems)) for *seen, problems in map(astuple, records)]
    connection.executemany(
        """INSERT INTO files (path, root, size, mtime_ns, sha256, loader, status, problems, seal)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
           ON CONFLICT (path) DO UPDATE SET root = excluded.root, size = excluded.size,
               mtime_ns = excluded.mtime_ns, sha256 = excluded.sha256, loader = excluded.loader,
               status = excluded.status, problems = excluded.problems, seal = excluded.seal""",
        [(*row, seal(*row)) for row in rows],
    )


def insert_vectors(connection: sqlite3.Connection, vectors: Vectors) -> None:
    """Insert vectors; a key that is there already keeps its vector."""
    connection.executemany(
        """INSERT OR IGNORE INTO vectors (key, vector, seal)
           VALUES (?1, ?2, crc32(CAST(?1 || ?2 AS BLOB)))""",
        [(key, np.asarray(row, "<f4").tobytes()) for key, row in vectors.items()],
    )


def insert_documents(
    connection: sqlite3.Connection, documents: Sequence[tuple[int, DocumentCommit]]
) -> Inserted:
    """Insert documents, each with the id of its file, and their chunks, not live."""
    vectors = vector_ids(connection, {key for _, entry in documents for key in entry.keys})
    document_id, chunk_id = (_last_id(connection, table) for table in ("documents", "chunks"))
    rows: list[tuple[int, str, str]] = []
    families = Families(connection)
    for file_id, entry in documents:
        document_id += 1
        first = chunk_id + 1
        indexed = [term_row(entry.document, chunk) for chunk in entry.chunks]
        kin = [families.join(first + n, document_id, body) for n, (_, body) in enumerate(indexed)]
        family = families.join_document(document_id, kin)
        row = (*document_row(file_id, entry.document), len(entry.chunks), family)
        connection.execute(
            f"""INSERT INTO documents (id, live, {_DOCUMENT_COLUMNS}, chunk_count, family, seal,
                text) VALUES (?, 0, {", ".join("?" * len(row))}, ?, ?)""",
            (document_id, *row, seal(*row), entry.document.text),
        )
        for number, (chunk, key) in enumerate(zip(entry.chunks, entry.keys, strict=True)):
            chunk_id += 1
            place = (document_id, number, chunk.start, chunk.end, chunk.page, chunk.section)
            header = chunk.header or (None, None)
            values = (*place, chunk.tokens, *header, kin[number].family, vectors[key])
            connection.execute(_INSERT_CHUNK, (chunk_id, *values, seal(*values)))
        rows += [(first + n, *row) for n, row in enumerate(indexed)]
    return Inserted(tuple(row[0] for row in rows), tuple(rows), families)


_INSERT_CHUNK = """INSERT INTO chunks (id, document_id, ordinal, start, stop, page, section, tokens,
    header_start, header_stop, family, vector_id, seal)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""


def document_row(file_id: int, document: Document) -> tuple[int | str, ...]:
    """What a document's row holds of it beside its text."""
    blocks = [(b.start, b.end, b.kind, b.level, b.label, b.header) for b in document.blocks]
    return (
        file_id,
        document.source,
        document.title,
        document.media_type,
        document.sha256,
        json.dumps(document.page_starts),
        json.dumps(document.page_labels),
        json.dumps(dict(document.metadata)),
        json.dumps(blocks, separators=(",", ":")),
    )


def blocks_of(structure: str) -> tuple[Block, ...]:
    """The blocks that `document_row` has written."""
    return tuple(Block(*row) for row in json.loads(structure))


def stored_rows(
    connection: sqlite3.Connection, path: str
) -> dict[str, tuple[int, tuple[Any, ...]]]:
    """A file's live documents by source: their ids and rows, as of `document_row`."""
    rows = connection.execute(
        f"""SELECT id, {_DOCUMENT_COLUMNS} FROM documents
            WHERE live = 1 AND file_id = (SELECT id FROM files WHERE path = ?)""",
        (path,),
    )
    return {row[2]: (row[0], row[1:]) for row in rows}


def _last_id(connection: sqlite3.Connection, table: str) -> int:
    """The highest id that was ever given in a table."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
    return int(row[0]) if row else 0


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
        check_dimension(row, dimension)
        # Written so that a length that is no number fails too.
        if not abs(float(row @ row) - 1.0) < _LENGTH_TOLERANCE:
            raise ValueError(f"vector {key.hex()} is not of unit length")
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


def check_dimension(vector: Matrix, dimension: int) -> None:
    """StoreMismatch where a vector is not one of the store's: a server may change its model."""
    if vector.shape != (dimension,):
        raise StoreMismatch(
            f"the model gives vectors of {len(vector)} numbers, the store's have {dimension}",
            "use the model it was built with, or delete the store's folder and ingest again",
        )
