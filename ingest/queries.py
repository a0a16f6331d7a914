"""What the store can be asked, as plain functions over a connection inside a read transaction."""

import difflib
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ingest.errors import StoreDamaged, UsageError
from ingest.records import FileRecord, Matrix, SourceInfo, seal
from ingest.types import Chunk, Hit, StoredChunk, StoredDocument, text_sha256
from ingest.vectors import IdList, Ids

Filters = Mapping[str, str]

_REBUILD = "run `rag rebuild`"
_COLUMNS = frozenset({"source", "title", "media_type"})
# A stored vector's length may be off by this much through rounding; a flipped byte shows as more.
_LENGTH_TOLERANCE = 1e-2
_VECTOR_TYPE = "<f4"


def roots(connection: sqlite3.Connection) -> tuple[str, ...]:
    """The roots from which files were ingested."""
    rows = connection.execute("SELECT DISTINCT root FROM files ORDER BY root")
    return tuple(root for (root,) in rows)


def sources(connection: sqlite3.Connection, expected: int) -> list[SourceInfo]:
    """Every live document, by source; StoreDamaged where there are not as many as `expected`."""
    # The table itself is read, not an index on it: each row is checked against its seal.
    rows = connection.execute(
        f"""SELECT {_SEALED}, documents.id, path, size
           FROM documents NOT INDEXED JOIN files ON files.id = file_id WHERE live = 1"""
    ).fetchall()
    if len(rows) != expected:
        raise StoreDamaged(f"store damaged: {len(rows)} of {expected} documents found", _REBUILD)
    return sorted((_source_info(row) for row in rows), key=lambda info: info.source)


def known_files(connection: sqlite3.Connection) -> dict[str, FileRecord]:
    """Every file looked at so far, by path."""
    rows = connection.execute(
        """SELECT path, root, size, mtime_ns, sha256, loader, status, reason FROM files
           WHERE status != 'pending'"""
    )
    return {row[0]: FileRecord(*row) for row in rows}


def file_sources(connection: sqlite3.Connection) -> dict[str, tuple[str, ...]]:
    """The sources of the documents that each file holds, by path."""
    found = defaultdict(list)
    rows = connection.execute(
        """SELECT path, source FROM documents JOIN files ON files.id = file_id
           WHERE live = 1 ORDER BY documents.id"""
    )
    for path, source in rows:
        found[path].append(source)
    return {path: tuple(names) for path, names in found.items()}


def document(connection: sqlite3.Connection, source: str) -> StoredDocument:
    """The document with this source; UsageError with the nearest names where there is none."""
    row = connection.execute(
        "SELECT id FROM documents WHERE live = 1 AND source = ?", (source,)
    ).fetchone()
    if row is not None:
        found = document_by_id(connection, row[0])
        if found.source != source:
            raise StoreDamaged(f"store damaged: {source!r} is misplaced", _REBUILD)
        return found
    rows = connection.execute("SELECT source FROM documents NOT INDEXED WHERE live = 1")
    names = [name for (name,) in rows]
    if source in names:
        raise StoreDamaged(f"store damaged: {source!r} is not in the index of sources", _REBUILD)
    near = difflib.get_close_matches(source, names, n=3, cutoff=0.5)
    question = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise UsageError(f"no source named {source!r}", f"{question}`rag list` shows all sources")


def document_by_id(connection: sqlite3.Connection, document_id: int) -> StoredDocument:
    """The live document with this id; UsageError where there is none."""
    row = connection.execute(
        f"SELECT {_SEALED}, text FROM documents WHERE id = ? AND live = 1", (document_id,)
    ).fetchone()
    if row is None:
        raise UsageError(f"no document with id {document_id}", "`rag list` shows all sources")
    _check_seal(row[:9])
    _, _, source, title, media_type, sha256, page_starts, metadata, chunk_count, text = row
    _check_text(source, text, sha256)
    rows = connection.execute(
        """SELECT seal, document_id, ordinal, start, stop, page, section, vector_id FROM chunks
           WHERE document_id = ? ORDER BY ordinal""",
        (document_id,),
    ).fetchall()
    if len(rows) != chunk_count:
        raise StoreDamaged(f"store damaged: chunks of {source!r} are missing", _REBUILD)
    return StoredDocument(
        id=document_id,
        source=source,
        title=title,
        media_type=media_type,
        sha256=sha256,
        text=text,
        page_starts=tuple(json.loads(page_starts)),
        metadata=json.loads(metadata),
        chunks=tuple(_chunk(row, source, text) for row in rows),
    )


def chunks(connection: sqlite3.Connection, ids: Iterable[int]) -> dict[int, StoredChunk]:
    """The live chunks among `ids`, in the order of `ids`.

    Texts are read whole and cut here rather than by SQL's substr, because a whole text can be
    checked against its digest: what is quoted was never altered on disk.
    """
    wanted = list(ids)
    rows = connection.execute(
        """SELECT seal, document_id, ordinal, start, stop, page, section, vector_id, chunks.id
           FROM json_each(?) JOIN chunks ON chunks.id = json_each.value""",
        (json.dumps(wanted),),
    )
    by_document = defaultdict(list)
    for row in rows:
        by_document[row[1]].append(row)
    found = {}
    for source, title, text, document_id in _texts(connection, by_document):
        for row in by_document[document_id]:
            c = _chunk(row[:8], source, text)
            found[row[8]] = StoredChunk(
                row[8], source, title, c.start, c.end, c.text, c.page, c.section, row[7]
            )
    return {chunk_id: found[chunk_id] for chunk_id in wanted if chunk_id in found}


def live_ids(connection: sqlite3.Connection, filters: Filters) -> Ids:
    """The ids of the live chunks whose document passes the filters, ascending."""
    condition, values = _condition(filters)
    rows = connection.execute(
        f"""SELECT chunks.id FROM chunks JOIN documents ON documents.id = document_id
            WHERE live = 1 {condition} ORDER BY chunks.id""",
        values,
    )
    return np.fromiter((chunk_id for (chunk_id,) in rows), np.int64)


def still_live(connection: sqlite3.Connection, ids: Sequence[int]) -> set[int]:
    """Those of `ids` that are live chunks."""
    rows = connection.execute(
        """SELECT chunks.id FROM json_each(?) JOIN chunks ON chunks.id = json_each.value
           JOIN documents ON documents.id = document_id WHERE live = 1""",
        (json.dumps(list(ids)),),
    )
    return {chunk_id for (chunk_id,) in rows}


def vectors(connection: sqlite3.Connection, ids: IdList, dimension: int) -> Matrix:
    """The vectors of these chunks, (len(ids), dimension), in their order."""
    wanted = [int(chunk_id) for chunk_id in ids]
    rows = connection.execute(
        """SELECT vector FROM json_each(?) JOIN chunks ON chunks.id = json_each.value
           JOIN vectors ON vectors.id = vector_id ORDER BY json_each.key""",
        (json.dumps(wanted),),
    ).fetchall()
    return _matrix([row[0] for row in rows], len(wanted), dimension)


def all_vectors(connection: sqlite3.Connection, dimension: int) -> tuple[Ids, Matrix]:
    """The ids of all live chunks, ascending, and their vectors."""
    rows = connection.execute(
        """SELECT chunks.id, vector FROM chunks JOIN vectors ON vectors.id = vector_id
           WHERE document_id NOT IN (SELECT id FROM documents WHERE live = 0)
           ORDER BY chunks.id"""
    ).fetchall()
    ids = np.fromiter((row[0] for row in rows), np.int64, len(rows))
    return ids, _matrix([row[1] for row in rows], len(rows), dimension)


def lexical(
    connection: sqlite3.Connection,
    terms: Iterable[str],
    limit: int,
    filters: Filters,
    weights: tuple[float, float],
) -> list[Hit]:
    """Chunks that hold any of the terms by BM25, `weights` being those of heading and body."""
    # In double quotes nothing is FTS syntax; a quote itself is doubled.
    query = " OR ".join(f'"{term.replace(chr(34), chr(34) * 2)}"' for term in dict.fromkeys(terms))
    if not query:
        return []
    condition, values = _condition(filters)
    if condition:
        # The plus keeps SQLite from running the whole match once for every chunk that passes.
        condition = f"""AND +terms.rowid IN (SELECT chunks.id FROM documents JOIN chunks
            ON document_id = documents.id WHERE live = 1 {condition})"""
    rows = connection.execute(
        f"""SELECT rowid, bm25(terms, ?, ?) AS score FROM terms WHERE terms MATCH ? {condition}
            ORDER BY score, rowid LIMIT ?""",
        (*weights, query, *values, limit),
    )
    return [Hit(chunk_id, -score) for chunk_id, score in rows]


def document_frequencies(connection: sqlite3.Connection, terms: Iterable[str]) -> dict[str, int]:
    """In how many chunks each term stands; 0 for a term that no chunk holds."""
    wanted = list(dict.fromkeys(terms))
    rows = connection.execute(
        "SELECT term, doc FROM term_rows WHERE term IN (SELECT value FROM json_each(?))",
        (json.dumps(wanted),),
    )
    return dict.fromkeys(wanted, 0) | dict(rows.fetchall())


def outbox(connection: sqlite3.Connection) -> list[int]:
    """Chunk ids of which the vector index may hold a ghost."""
    return [chunk_id for (chunk_id,) in connection.execute("SELECT chunk_id FROM outbox")]


def _condition(filters: Filters) -> tuple[str, list[str]]:
    """Filters as an SQL condition on documents, each beginning with AND, and its values."""
    conditions, values = [], []
    for key, value in filters.items():
        if key == "source" and value.endswith(("/", "*")):
            prefix = value.removesuffix("*")
            conditions.append("AND substr(source, 1, length(?)) = ?")
            values += [prefix, prefix]
        elif key in _COLUMNS:
            conditions.append(f"AND {key} = ?")
            values.append(value)
        else:
            conditions.append(
                "AND EXISTS (SELECT 1 FROM json_each(metadata) AS pair"
                " WHERE pair.key = ? AND pair.value = ?)"
            )
            values += [key, value]
    return " ".join(conditions), values


# A document's seal and the columns it covers, in its order.
_SEALED = """seal, file_id, source, title, media_type, documents.sha256, page_starts, metadata,
    chunk_count"""


def _source_info(row: tuple[Any, ...]) -> SourceInfo:
    _check_seal(row[:9])
    _, _, source, title, media_type, _, page_starts, _, chunks, document_id, path, size = row
    pages = len(json.loads(page_starts))
    return SourceInfo(document_id, source, title, media_type, chunks, pages, path, size)


def _texts(
    connection: sqlite3.Connection, document_ids: Iterable[int]
) -> Iterator[tuple[str, str, str, int]]:
    rows = connection.execute(
        f"""SELECT {_SEALED}, text, documents.id
           FROM json_each(?) JOIN documents ON documents.id = json_each.value WHERE live = 1""",
        (json.dumps(list(document_ids)),),
    )
    for row in rows:
        _check_seal(row[:9])
        _, _, source, title, _, sha256, _, _, _, text, document_id = row
        _check_text(source, text, sha256)
        yield source, title, text, document_id


def _chunk(row: tuple[Any, ...], source: str, text: str) -> Chunk:
    _check_seal(row)
    _, _, ordinal, start, stop, page, section, _ = row
    return Chunk(ordinal, start, stop, text[start:stop], page, section)


def _check_seal(row: tuple[Any, ...]) -> None:
    """The first value of a row is the checksum of the others."""
    if row[0] != seal(*row[1:]):
        raise StoreDamaged("store damaged: a row has changed on disk", _REBUILD)


def _check_text(source: str, text: object, sha256: str) -> None:
    # A changed byte in a row's header can make another type of a value.
    if not isinstance(text, str) or text_sha256(text) != sha256:
        raise StoreDamaged(f"store damaged: the text of {source!r} has changed on disk", _REBUILD)


def _matrix(blobs: Sequence[object], count: int, dimension: int) -> Matrix:
    blob = b"".join(part for part in blobs if isinstance(part, bytes))
    if len(blob) != count * dimension * 4:
        raise StoreDamaged("store damaged: a chunk or its vector is missing", _REBUILD)
    matrix = np.frombuffer(blob, _VECTOR_TYPE).reshape(count, dimension)
    lengths = np.einsum("ij,ij->i", matrix, matrix)
    # Written so that a length that is no number fails too.
    if not bool((np.abs(lengths - 1.0) < _LENGTH_TOLERANCE).all()):
        raise StoreDamaged("store damaged: a vector has changed on disk", _REBUILD)
    return matrix
