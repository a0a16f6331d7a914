"""What the store can be asked, as plain functions over a connection inside a read transaction."""

import difflib
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ingest.commit import blocks_of
from ingest.errors import StoreDamaged, UsageError
from ingest.filters import Filter, condition
from ingest.records import FileRecord, Matrix, Meta, Problem, SourceInfo, seal
from ingest.types import Chunk, Document, Hit, StoredChunk, StoredDocument, shown_title, text_sha256
from ingest.vectors import IdList, Ids

_VECTOR_TYPE = "<f4"


def sources(connection: sqlite3.Connection, expected: int) -> list[SourceInfo]:
    """Every live document, by source; StoreDamaged where there are not as many as `expected`."""
    known_files(connection)  # which looks at the seals of what is joined
    # The table itself is read, not an index on it: each row is checked against its seal.
    joined = "documents NOT INDEXED JOIN files ON files.id = file_id WHERE live = 1"
    rows = _documents(connection, ", documents.id, path, size", joined)
    if len(rows) != expected:
        raise StoreDamaged(f"store damaged: {len(rows)} of {expected} documents found")
    return sorted(map(_source_info, rows), key=lambda info: info.source)


def known_files(connection: sqlite3.Connection) -> dict[str, FileRecord]:
    """Every file looked at so far, by path; StoreDamaged where a row of them is not whole."""
    records = list(file_records(connection))
    if None in records:
        raise StoreDamaged("store damaged: what is known of a file has changed on disk")
    return {record.path: record for record in records if record}


def file_records(connection: sqlite3.Connection) -> Iterator[FileRecord | None]:
    """Every file looked at so far, None for one whose row is not whole."""
    query = """SELECT seal, path, root, size, mtime_ns, sha256, loader, status, problems FROM files
        NOT INDEXED WHERE status != 'pending'"""
    for sealed, *seen in connection.execute(query):
        if sealed == seal(*seen):
            seen[-1] = tuple(Problem(s, t, h, bool(k)) for s, t, h, k in json.loads(seen[-1]))
            yield FileRecord(*seen)
        else:
            yield None


def document(connection: sqlite3.Connection, source: str) -> StoredDocument:
    """The document with this source; UsageError with the nearest names where there is none."""
    query = "SELECT id FROM documents WHERE live = 1 AND source = ?"
    for document_id in _column(connection, query, source):
        found = document_by_id(connection, document_id)
        if found.document.source != source:
            raise StoreDamaged(f"store damaged: {source!r} is misplaced")
        return found
    names = _column(connection, "SELECT source FROM documents NOT INDEXED WHERE live = 1")
    if source in names:
        raise StoreDamaged(f"store damaged: {source!r} is not in the index of sources")
    near = difflib.get_close_matches(source, names, n=3, cutoff=0.5)
    question = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise UsageError(f"no source named {source!r}", f"{question}`rag list` shows all sources")


def document_by_id(connection: sqlite3.Connection, document_id: int) -> StoredDocument:
    """The live document with this id; UsageError where there is none."""
    document, _, count = stored_document(connection, document_id)
    query = f"SELECT {_CHUNK} FROM chunks WHERE document_id = ? ORDER BY ordinal"
    rows = connection.execute(query, (document_id,)).fetchall()
    if len(rows) != count:
        raise StoreDamaged(f"store damaged: chunks of {document.source!r} are missing")
    return StoredDocument(document_id, document, tuple(_chunk(row, document.text) for row in rows))


def stored_document(connection: sqlite3.Connection, document_id: int) -> tuple[Document, int, int]:
    """A live document, the id of its file, and how many chunks it has."""
    rows = _whole_documents(connection, [document_id])
    if not rows:
        raise UsageError(f"no document with id {document_id}", "`rag list` shows all sources")
    row = rows[0]
    document = Document(
        row["source"],
        row["title"],
        row["media_type"],
        row["text"],
        blocks_of(row["structure"]),
        tuple(json.loads(row["page_starts"])),
        tuple(json.loads(row["page_labels"])),
        json.loads(row["metadata"]),
    )
    return document, row["file_id"], row["chunk_count"]


def document_ids(connection: sqlite3.Connection) -> list[int]:
    """The ids of all live documents, in the order in which they came."""
    return _column(connection, "SELECT id FROM documents WHERE live = 1 ORDER BY id")


def sources_by_id(connection: sqlite3.Connection, paths: Iterable[str]) -> dict[int, str]:
    """The ids and sources of the live documents of these files."""
    query = f"""SELECT documents.id, source FROM documents JOIN files ON files.id = file_id
        WHERE live = 1 AND path {_LISTED}"""
    return dict(connection.execute(query, (_listed(paths),)).fetchall())


def chunk_ids(connection: sqlite3.Connection, document_ids: Iterable[int]) -> list[int]:
    """The ids of these documents' chunks, ascending."""
    query = f"SELECT id FROM chunks WHERE document_id {_LISTED} ORDER BY id"
    return _column(connection, query, _listed(document_ids))


def chunks(connection: sqlite3.Connection, ids: Iterable[int]) -> dict[int, StoredChunk]:
    """The live chunks among `ids`, none of which is of a commit under way, in the order of `ids`.

    Texts are read whole and cut here rather than by SQL's substr, because a whole text can be
    checked against its digest: what is quoted was never altered on disk.
    """
    wanted = list(ids)
    query = f"""SELECT {_CHUNK}, chunks.id
        FROM json_each(?) JOIN chunks ON chunks.id = json_each.value"""
    by_document = defaultdict(list)
    for row in connection.execute(query, (_listed(wanted),)):
        by_document[row[1]].append(row)
    documents = _whole_documents(connection, by_document)
    if len(documents) < len(by_document):
        raise StoreDamaged("store damaged: a chunk has no document")
    found = {
        row[-1]: _stored_chunk(row, document)
        for document in documents
        for row in by_document[document["id"]]
    }
    return {chunk_id: found[chunk_id] for chunk_id in wanted if chunk_id in found}


def _stored_chunk(row: Sequence[Any], document: sqlite3.Row) -> StoredChunk:
    chunk = _chunk(row[:-1], document["text"])
    labels = json.loads(document["page_labels"])
    metadata = json.loads(document["metadata"])
    return StoredChunk(
        id=row[-1],
        source=document["source"],
        title=shown_title(document["title"], document["source"]),
        start=chunk.start,
        end=chunk.end,
        text=chunk.text,
        page=chunk.page,
        section=chunk.section,
        vector_id=row[-2],
        family=row[-3],
        page_label=labels[chunk.page - 1] if labels and chunk.page else "",
        header=document["text"][slice(*chunk.header)] if chunk.header else "",
        document_id=document["id"],
        ordinal=chunk.ordinal,
        language=metadata.get("language", ""),
        date=metadata.get("date", ""),
    )


def slices(connection: sqlite3.Connection, places: Sequence[tuple[int, int, int]]) -> list[str]:
    """The texts of these places: a live document's id, start and end."""
    documents = _whole_documents(connection, {place[0] for place in places})
    texts = {document["id"]: document["text"] for document in documents}
    return [texts[document_id][start:end] for document_id, start, end in places]


def titles(connection: sqlite3.Connection, ids: Iterable[int]) -> dict[int, str]:
    """The own titles of these chunks' documents, by chunk; their texts are not read."""
    query = f"SELECT id, document_id FROM chunks WHERE id {_LISTED}"
    owners = dict(connection.execute(query, (_listed(ids),)).fetchall())
    documents = f"documents WHERE live = 1 AND id {_LISTED}"
    rows = _documents(connection, ", id", documents, _listed({*owners.values()}))
    named = {row["id"]: row["title"] for row in rows}
    return {chunk_id: named[owner] for chunk_id, owner in owners.items() if owner in named}


def languages(connection: sqlite3.Connection) -> dict[str, int]:
    """How many live documents are in each language ("" where it is not known)."""
    query = """SELECT ifnull(json_extract(metadata, '$.language'), ''), count(*) FROM documents
        NOT INDEXED WHERE live = 1 GROUP BY 1 ORDER BY 2 DESC, 1"""
    return dict(connection.execute(query).fetchall())


def vocabulary(connection: sqlite3.Connection, shortest: int, longest: int) -> dict[str, int]:
    """The index terms of so many characters, and in how many chunks each stands."""
    query = "SELECT term, doc FROM term_rows WHERE length(term) BETWEEN ? AND ?"
    return dict(connection.execute(query, (shortest, longest)).fetchall())


def live_ids(connection: sqlite3.Connection, filters: Sequence[Filter] = ()) -> Ids:
    """The ids of the live chunks whose document passes the filters, ascending."""
    passes, values = condition(filters)
    query = f"""SELECT chunks.id FROM chunks JOIN documents ON documents.id = document_id
        WHERE live = 1 {passes} ORDER BY chunks.id"""
    return np.array(_column(connection, query, *values), np.int64)


def still_live(connection: sqlite3.Connection, ids: Sequence[int]) -> set[int]:
    """Those of `ids` that are live chunks."""
    query = """SELECT chunks.id FROM json_each(?) JOIN chunks ON chunks.id = json_each.value
        JOIN documents ON documents.id = document_id WHERE live = 1"""
    return set(_column(connection, query, _listed(ids)))


def vectors(connection: sqlite3.Connection, ids: IdList, dimension: int) -> Matrix:
    """The vectors of these chunks, (len(ids), dimension), in their order."""
    wanted = [int(chunk_id) for chunk_id in ids]
    query = """SELECT vector FROM json_each(?) JOIN chunks ON chunks.id = json_each.value
        JOIN vectors ON vectors.id = vector_id
        WHERE vectors.seal = crc32(CAST(vectors.key || vector AS BLOB)) ORDER BY json_each.key"""
    found = _column(connection, query, json.dumps(wanted))
    return _matrix(found, len(wanted), dimension)


def all_vectors(connection: sqlite3.Connection, meta: Meta) -> tuple[Ids, Matrix]:
    """The ids of all live chunks, ascending, and their vectors; StoreDamaged where they are not
    those that were stored."""
    query = f"SELECT chunks.id, vector, {_CHECKSUM} {_SEARCHED} ORDER BY chunks.id"
    rows = connection.execute(query).fetchall()
    if len(rows) != meta.chunks or sum(row[2] for row in rows) != meta.chunk_sum:
        raise StoreDamaged("store damaged: chunks or vectors have changed on disk")
    ids = np.fromiter((row[0] for row in rows), np.int64, len(rows))
    return ids, _matrix([row[1] for row in rows], len(rows), meta.settings.dimension)


def chunk_sum(connection: sqlite3.Connection, ids: Iterable[int]) -> int:
    """The checksum of live chunks as they are searched: which vector and how many words each has.

    It is a sum over the chunks, so that a commit has to look at its own alone.
    """
    query = f"SELECT ifnull(sum({_CHECKSUM}), 0) {_SEARCHED} WHERE chunks.id {_LISTED}"
    return int(_column(connection, query, _listed(ids))[0])


def term_sum(connection: sqlite3.Connection) -> int:
    """The checksum of the lexical index; small beside the texts, and read whole."""
    # Opening the list of terms makes FTS5 write out what the open transaction has given it.
    connection.execute("SELECT 1 FROM term_rows LIMIT 1").fetchone()
    query = """SELECT (SELECT sum(crc32(CAST(id || block AS BLOB))) FROM terms_data) + (SELECT
        ifnull(sum(crc32(CAST(segid || ' ' || pgno || term AS BLOB))), 0) FROM terms_idx)"""
    return int(_column(connection, query)[0])


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
    query = f"SELECT term, doc FROM term_rows WHERE term {_LISTED}"
    rows = connection.execute(query, (_listed(wanted),))
    return dict.fromkeys(wanted, 0) | dict(rows.fetchall())


def outbox(connection: sqlite3.Connection) -> list[int]:
    """Chunk ids of which the vector index may hold a ghost."""
    return _column(connection, "SELECT chunk_id FROM outbox")


_LISTED = "IN (SELECT value FROM json_each(?))"
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


def _column(connection: sqlite3.Connection, query: str, *values: object) -> list[Any]:
    """The values of a query that asks for one column."""
    return [value for (value,) in connection.execute(query, values)]


def _listed(values: Iterable[int | str]) -> str:
    """Values for SQLite's json_each."""
    return json.dumps(list(values))


def _documents(
    connection: sqlite3.Connection, more: str, where: str, *values: object
) -> list[sqlite3.Row]:
    """Rows of documents, each as its seal says, with `more` columns."""
    cursor = connection.cursor()
    cursor.row_factory = sqlite3.Row
    rows = cursor.execute(f"SELECT {_SEALED}{more} FROM {where}", values).fetchall()
    for row in rows:
        _check_seal(row[:_COLUMNS])
    return rows


def _whole_documents(
    connection: sqlite3.Connection, document_ids: Iterable[int]
) -> list[sqlite3.Row]:
    """Rows of live documents with id and text, the text as its digest says."""
    listed = "json_each(?) JOIN documents ON documents.id = json_each.value WHERE live = 1"
    rows = _documents(connection, ", documents.id, text", listed, _listed(document_ids))
    for row in rows:
        # A changed byte in a row's header can make another type of a value.
        if not isinstance(row["text"], str) or text_sha256(row["text"]) != row["sha256"]:
            source = row["source"]
            raise StoreDamaged(f"store damaged: the text of {source!r} has changed on disk")
    return rows


def _source_info(row: sqlite3.Row) -> SourceInfo:
    return SourceInfo(
        id=row["id"],
        source=row["source"],
        title=shown_title(row["title"], row["source"]),
        media_type=row["media_type"],
        chunks=row["chunk_count"],
        pages=len(json.loads(row["page_starts"])),
        path=row["path"],
        size=row["size"],
        family=row["family"],
    )


def _chunk(row: Sequence[Any], text: str) -> Chunk:
    _check_seal(row)
    _, _, ordinal, start, stop, page, section, tokens, header_start, header_stop, _, _ = row
    header = None if header_start is None else (header_start, header_stop)
    for first, last in filter(None, ((start, stop), header)):
        if not 0 <= first <= last <= len(text):  # as a store that was made to mislead may have it
            raise StoreDamaged("store damaged: a chunk lies outside its document")
    return Chunk(ordinal, start, stop, text[start:stop], page, section, tokens, header)


def _check_seal(row: Sequence[Any]) -> None:
    """The first value of a row is the checksum of the others."""
    if row[0] != seal(*row[1:]):
        raise StoreDamaged("store damaged: a row has changed on disk")


def _matrix(blobs: Sequence[object], count: int, dimension: int) -> Matrix:
    blob = b"".join(part for part in blobs if isinstance(part, bytes))
    if len(blob) != count * dimension * 4:
        raise StoreDamaged("store damaged: a chunk or its vector is missing")
    return np.frombuffer(blob, _VECTOR_TYPE).reshape(count, dimension)
