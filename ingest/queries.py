"""What the store can be asked, as plain functions over a connection inside a read transaction."""

import difflib
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ingest.commit import blocks_of
from ingest.errors import StoreDamaged, UsageError
from ingest.filters import Filter, condition
from ingest.records import FileRecord, Matrix, Meta, Problem, SourceInfo, seal
from ingest.types import (
    Chunk,
    Document,
    Hit,
    StoredChunk,
    StoredDocument,
    shown_title,
    text_sha256,
)
from ingest.vectors import IdList, Ids

_REBUILD = "run `rag rebuild`"
_VECTOR_TYPE = "<f4"


def sources(connection: sqlite3.Connection, expected: int) -> list[SourceInfo]:
    """Every live document, by source; StoreDamaged where there are not as many as `expected`."""
    known_files(connection)  # which looks at the seals of what is joined
    # The table itself is read, not an index on it: each row is checked against its seal.
    rows = connection.execute(
        f"""SELECT {_SEALED}, documents.id, path, size
           FROM documents NOT INDEXED JOIN files ON files.id = file_id WHERE live = 1"""
    ).fetchall()
    if len(rows) != expected:
        raise StoreDamaged(f"store damaged: {len(rows)} of {expected} documents found", _REBUILD)
    return sorted((_source_info(row) for row in rows), key=lambda info: info.source)


def known_files(connection: sqlite3.Connection) -> dict[str, FileRecord]:
    """Every file looked at so far, by path; StoreDamaged where a row of them is not whole."""
    records = list(file_records(connection))
    whole = [record for record in records if record is not None]
    if len(whole) < len(records):
        raise StoreDamaged("store damaged: what is known of a file has changed on disk", _REBUILD)
    return {record.path: record for record in whole}


def file_records(connection: sqlite3.Connection) -> Iterator[FileRecord | None]:
    """Every file looked at so far, None for one whose row is not whole."""
    rows = connection.execute(
        """SELECT seal, path, root, size, mtime_ns, sha256, loader, status, problems FROM files
           NOT INDEXED WHERE status != 'pending'"""
    )
    for sealed, path, root, size, mtime_ns, sha256, loader, status, problems in rows:
        seen = (path, root, size, mtime_ns, sha256, loader, status)
        whole = sealed == seal(*seen, problems)
        yield FileRecord(*seen, _problems(problems)) if whole else None


def document(connection: sqlite3.Connection, source: str) -> StoredDocument:
    """The document with this source; UsageError with the nearest names where there is none."""
    row = connection.execute(
        "SELECT id FROM documents WHERE live = 1 AND source = ?", (source,)
    ).fetchone()
    if row is not None:
        found = document_by_id(connection, row[0])
        if found.document.source != source:
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
    document, _, count = _document(connection, document_id)
    rows = connection.execute(
        f"SELECT {_CHUNK} FROM chunks WHERE document_id = ? ORDER BY ordinal", (document_id,)
    ).fetchall()
    if len(rows) != count:
        raise StoreDamaged(f"store damaged: chunks of {document.source!r} are missing", _REBUILD)
    return StoredDocument(document_id, document, tuple(_chunk(row, document.text) for row in rows))


def stored_document(connection: sqlite3.Connection, document_id: int) -> tuple[Document, int]:
    """A live document without its chunks, and the id of its file."""
    document, file_id, _ = _document(connection, document_id)
    return document, file_id


def document_ids(connection: sqlite3.Connection) -> list[int]:
    """The ids of all live documents, in the order in which they came."""
    rows = connection.execute("SELECT id FROM documents WHERE live = 1 ORDER BY id")
    return [document_id for (document_id,) in rows]


def ids_of_paths(connection: sqlite3.Connection, paths: Iterable[str]) -> list[int]:
    """The ids of the live documents of these files."""
    rows = connection.execute(
        """SELECT documents.id FROM documents JOIN files ON files.id = file_id
           WHERE live = 1 AND path IN (SELECT value FROM json_each(?))""",
        (json.dumps(list(paths)),),
    )
    return [document_id for (document_id,) in rows]


def ids_of_sources(connection: sqlite3.Connection, sources: Iterable[str]) -> list[int]:
    """The ids of the live documents with these sources."""
    rows = connection.execute(
        """SELECT id FROM documents
           WHERE live = 1 AND source IN (SELECT value FROM json_each(?))""",
        (json.dumps(list(sources)),),
    )
    return [document_id for (document_id,) in rows]


def sources_of(connection: sqlite3.Connection, document_ids: Iterable[int]) -> list[str]:
    """The sources of these documents."""
    rows = connection.execute(
        "SELECT source FROM documents WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(document_ids)),),
    )
    return [source for (source,) in rows]


def file_documents(connection: sqlite3.Connection, path: str) -> tuple[int, dict[str, int]]:
    """The id of a file (0 where it is unknown), and its live documents' ids by source."""
    row = connection.execute("SELECT id FROM files WHERE path = ?", (path,)).fetchone()
    rows = connection.execute(
        "SELECT source, id FROM documents WHERE live = 1 AND file_id = ?", (row[0] if row else 0,)
    )
    return row[0] if row else 0, dict(rows.fetchall())


def chunk_ids(connection: sqlite3.Connection, document_ids: Iterable[int]) -> list[int]:
    """The ids of these documents' chunks, ascending."""
    rows = connection.execute(
        """SELECT id FROM chunks
           WHERE document_id IN (SELECT value FROM json_each(?)) ORDER BY id""",
        (json.dumps(list(document_ids)),),
    )
    return [chunk_id for (chunk_id,) in rows]


def chunks(connection: sqlite3.Connection, ids: Iterable[int]) -> dict[int, StoredChunk]:
    """The live chunks among `ids`, none of which is of a commit under way, in the order of `ids`.

    Texts are read whole and cut here rather than by SQL's substr, because a whole text can be
    checked against its digest: what is quoted was never altered on disk.
    """
    wanted = list(ids)
    rows = connection.execute(
        f"""SELECT chunks.id, {_CHUNK}
           FROM json_each(?) JOIN chunks ON chunks.id = json_each.value""",
        (json.dumps(wanted),),
    )
    by_document = defaultdict(list)
    for row in rows:
        by_document[row[2]].append(row)
    documents = list(_texts(connection, by_document))
    if len(documents) < len(by_document):
        raise StoreDamaged("store damaged: a chunk has no document", _REBUILD)
    found = {
        row[0]: _stored_chunk(row, source, title, labels, metadata, text)
        for document_id, source, title, labels, metadata, text in documents
        for row in by_document[document_id]
    }
    return {chunk_id: found[chunk_id] for chunk_id in wanted if chunk_id in found}


def _stored_chunk(
    row: Sequence[Any],
    source: str,
    title: str,
    labels: Sequence[str],
    metadata: Mapping[str, str],
    text: str,
) -> StoredChunk:
    chunk = _chunk(row[1:], text)
    return StoredChunk(
        id=row[0],
        source=source,
        title=title,
        start=chunk.start,
        end=chunk.end,
        text=chunk.text,
        page=chunk.page,
        section=chunk.section,
        vector_id=row[-1],
        family=row[-2],
        page_label=labels[chunk.page - 1] if labels and chunk.page else "",
        header=text[slice(*chunk.header)] if chunk.header else "",
        document_id=row[2],
        ordinal=chunk.ordinal,
        language=metadata.get("language", ""),
        date=metadata.get("date", ""),
    )


def slices(connection: sqlite3.Connection, places: Sequence[tuple[int, int, int]]) -> list[str]:
    """The texts of these places: a live document's id, start and end."""
    texts = {row[0]: row[-1] for row in _texts(connection, {place[0] for place in places})}
    return [texts[document_id][start:end] for document_id, start, end in places]


def titles(connection: sqlite3.Connection, ids: Iterable[int]) -> dict[int, str]:
    """The own titles of these chunks' documents, by chunk; their texts are not read."""
    owners = connection.execute(
        "SELECT id, document_id FROM chunks WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(ids)),),
    ).fetchall()
    rows = connection.execute(
        f"""SELECT {_SEALED}, id FROM documents
            WHERE live = 1 AND id IN (SELECT value FROM json_each(?))""",
        (json.dumps(list({document_id for _, document_id in owners})),),
    ).fetchall()
    for row in rows:
        _check_seal(row[:_COLUMNS])
    named = {row[_COLUMNS]: row[3] for row in rows}
    return {
        chunk_id: named[document_id] for chunk_id, document_id in owners if document_id in named
    }


def languages(connection: sqlite3.Connection) -> dict[str, int]:
    """How many live documents are in each language ("" where it is not known)."""
    rows = connection.execute(
        """SELECT ifnull(json_extract(metadata, '$.language'), ''), count(*) FROM documents
           NOT INDEXED WHERE live = 1 GROUP BY 1 ORDER BY 2 DESC, 1"""
    )
    return dict(rows.fetchall())


def vocabulary(connection: sqlite3.Connection, shortest: int, longest: int) -> dict[str, int]:
    """The index terms of so many characters, and in how many chunks each stands."""
    rows = connection.execute(
        "SELECT term, doc FROM term_rows WHERE length(term) BETWEEN ? AND ?", (shortest, longest)
    )
    return dict(rows.fetchall())


def live_ids(connection: sqlite3.Connection, filters: Sequence[Filter] = ()) -> Ids:
    """The ids of the live chunks whose document passes the filters, ascending."""
    passes, values = condition(filters)
    rows = connection.execute(
        f"""SELECT chunks.id FROM chunks JOIN documents ON documents.id = document_id
            WHERE live = 1 {passes} ORDER BY chunks.id""",
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
           JOIN vectors ON vectors.id = vector_id
           WHERE vectors.seal = crc32(CAST(vectors.key || vector AS BLOB))
           ORDER BY json_each.key""",
        (json.dumps(wanted),),
    ).fetchall()
    return _matrix([row[0] for row in rows], len(wanted), dimension)


def all_vectors(connection: sqlite3.Connection, meta: Meta) -> tuple[Ids, Matrix]:
    """The ids of all live chunks, ascending, and their vectors; StoreDamaged where they are not
    those that were stored."""
    rows = connection.execute(
        f"SELECT chunks.id, vector, {_CHECKSUM} {_SEARCHED} ORDER BY chunks.id"
    ).fetchall()
    if len(rows) != meta.chunks or sum(row[2] for row in rows) != meta.chunk_sum:
        raise StoreDamaged("store damaged: chunks or vectors have changed on disk", _REBUILD)
    ids = np.fromiter((row[0] for row in rows), np.int64, len(rows))
    return ids, _matrix([row[1] for row in rows], len(rows), meta.settings.dimension)


def chunk_sum(connection: sqlite3.Connection, ids: Iterable[int]) -> int:
    """The checksum of live chunks as they are searched: which vector and how many words each has.

    It is a sum over the chunks, so that a commit has to look at its own alone.
    """
    row = connection.execute(
        f"""SELECT ifnull(sum({_CHECKSUM}), 0) {_SEARCHED}
            WHERE chunks.id IN (SELECT value FROM json_each(?))""",
        (json.dumps(list(ids)),),
    )
    return int(row.fetchone()[0])


def term_sum(connection: sqlite3.Connection) -> int:
    """The checksum of the lexical index; small beside the texts, and read whole."""
    # Opening the list of terms makes FTS5 write out what the open transaction has given it.
    connection.execute("SELECT 1 FROM term_rows LIMIT 1").fetchone()
    row = connection.execute(
        """SELECT (SELECT sum(crc32(CAST(id || block AS BLOB))) FROM terms_data) + (SELECT
           ifnull(sum(crc32(CAST(segid || ' ' || pgno || term AS BLOB))), 0) FROM terms_idx)"""
    )
    return int(row.fetchone()[0])


def lexical(
    connection: sqlite3.Connection,
    terms: Iterable[str],
    limit: int,
    filters: Sequence[Filter],
    weights: tuple[float, float],
) -> list[Hit]:
    """Chunks that hold any of the terms by BM25, `weights` being those of heading and body."""
    # In double quotes nothing is FTS syntax; a quote itself is doubled.
    query = " OR ".join(f'"{term.replace(chr(34), chr(34) * 2)}"' for term in dict.fromkeys(terms))
    if not query:
        return []
    passes, values = condition(filters)
    if passes:
        # The plus keeps SQLite from running the whole match once for every chunk that passes.
        passes = f"""AND +terms.rowid IN (SELECT chunks.id FROM documents JOIN chunks
            ON document_id = documents.id WHERE live = 1 {passes})"""
    rows = connection.execute(
        f"""SELECT rowid, bm25(terms, ?, ?) AS score FROM terms WHERE terms MATCH ? {passes}
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


_SEARCHED = """FROM chunks NOT INDEXED JOIN vectors ON vectors.id = vector_id
    JOIN terms_docsize ON terms_docsize.id = chunks.id"""
_CHECKSUM = """crc32(CAST(chunks.id || ' ' || document_id || ' ' || vector_id || ' ' || sz || vector
    AS BLOB))"""
# A row's seal and the columns it covers, in their order.
_SEALED = """documents.seal, file_id, source, title, media_type, documents.sha256, page_starts,
    page_labels, metadata, structure, chunk_count, family"""
_COLUMNS = 12
_CHUNK = """seal, document_id, ordinal, start, stop, page, section, tokens, header_start,
    header_stop, family, vector_id"""


def _source_info(row: tuple[Any, ...]) -> SourceInfo:
    _check_seal(row[:_COLUMNS])
    _, _, source, title, media_type, _, page_starts, _, _, _, chunks, family = row[:_COLUMNS]
    document_id, path, size = row[_COLUMNS:]
    pages = len(json.loads(page_starts))
    title = shown_title(title, source)
    return SourceInfo(document_id, source, title, media_type, chunks, pages, path, size, family)


def _document(connection: sqlite3.Connection, document_id: int) -> tuple[Document, int, int]:
    """A live document, the id of its file, and how many chunks it has."""
    row = connection.execute(
        f"SELECT {_SEALED}, text FROM documents WHERE id = ? AND live = 1", (document_id,)
    ).fetchone()
    if row is None:
        raise UsageError(f"no document with id {document_id}", "`rag list` shows all sources")
    _check_seal(row[:_COLUMNS])
    _, file_id, source, title, media_type, sha256, starts, labels, metadata, structure = row[:10]
    _check_text(source, row[-1], sha256)
    document = Document(
        source,
        title,
        media_type,
        row[-1],
        blocks_of(structure),
        tuple(json.loads(starts)),
        tuple(json.loads(labels)),
        json.loads(metadata),
    )
    return document, file_id, row[10]


def _texts(
    connection: sqlite3.Connection, document_ids: Iterable[int]
) -> Iterator[tuple[int, str, str, list[str], dict[str, str], str]]:
    """Id, source, shown title, page labels, metadata and text of live documents."""
    rows = connection.execute(
        f"""SELECT {_SEALED}, text, documents.id
           FROM json_each(?) JOIN documents ON documents.id = json_each.value WHERE live = 1""",
        (json.dumps(list(document_ids)),),
    )
    for row in rows:
        _check_seal(row[:_COLUMNS])
        source, title, sha256, labels, metadata = row[2], row[3], row[5], row[7], row[8]
        text, document_id = row[_COLUMNS:]
        _check_text(source, text, sha256)
        shown = shown_title(title, source)
        yield document_id, source, shown, json.loads(labels), json.loads(metadata), text


def _chunk(row: Sequence[Any], text: str) -> Chunk:
    _check_seal(row)
    _, _, ordinal, start, stop, page, section, tokens, header_start, header_stop, _, _ = row
    header = None if header_start is None else (header_start, header_stop)
    for first, last in filter(None, ((start, stop), header)):
        if not 0 <= first <= last <= len(text):  # as a store that was made to mislead may have it
            raise StoreDamaged("store damaged: a chunk lies outside its document", _REBUILD)
    return Chunk(ordinal, start, stop, text[start:stop], page, section, tokens, header)


def _problems(written: str) -> tuple[Problem, ...]:
    return tuple(Problem(s, message, hint, bool(k)) for s, message, hint, k in json.loads(written))


def _check_seal(row: Sequence[Any]) -> None:
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
    return np.frombuffer(blob, _VECTOR_TYPE).reshape(count, dimension)
