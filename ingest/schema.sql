-- Store format 3. SQLite is the truth; the vector index beside it can always be made again.
-- Its pages have no checksums, and a changed byte mostly still reads like a value: a seal is the
-- CRC-32 of the rest of its row, so that nothing is answered from what has changed on disk.

-- format, settings (JSON), generation, index (number of the live index folder), created; how many
-- documents and chunks are live: a row that a damaged page hides is missed by its absence; the sums
-- of queries.chunk_sum and queries.term_sum; home and roots: see Meta; seal.
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- One row a file that was looked at. 'pending' stands only between the two transactions of a
-- commit and is taken away by recovery; its seal is 0. problems: a JSON list of [source, message,
-- hint, skipped], what could not be read of the file or of the files in it.
CREATE TABLE files (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE,
    root TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    loader TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'ok', 'skipped', 'failed')),
    problems TEXT NOT NULL,
    seal INTEGER NOT NULL
);

-- live = 0 only between the two transactions of a commit. title is empty where the document has
-- none of its own. structure: its blocks (JSON), from which it can be cut anew. family is equal for
-- documents that are nearly the same. The text comes last: the columns before it are then read
-- without walking its pages. seal: of the row but for id, live and text, of which sha256 is the
-- digest.
CREATE TABLE documents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    file_id INTEGER NOT NULL REFERENCES files (id) ON DELETE CASCADE,
    live INTEGER NOT NULL CHECK (live IN (0, 1)),
    source TEXT NOT NULL,
    title TEXT NOT NULL,
    media_type TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    page_starts TEXT NOT NULL,
    page_labels TEXT NOT NULL,
    metadata TEXT NOT NULL,
    structure TEXT NOT NULL,
    chunk_count INTEGER NOT NULL,
    family INTEGER NOT NULL,
    seal INTEGER NOT NULL,
    text TEXT NOT NULL
);
CREATE UNIQUE INDEX documents_source ON documents (source) WHERE live = 1;
CREATE INDEX documents_file ON documents (file_id);
CREATE INDEX documents_pending ON documents (id) WHERE live = 0;

-- key: 16 bytes of sha256 over model name, NUL, embedded text; vector: float32, little-endian.
CREATE TABLE vectors (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    vector BLOB NOT NULL,
    seal INTEGER NOT NULL
);

-- Half-open offsets in code points of the document's text; header_start and header_stop are those
-- of the table header that belongs above the chunk. family is equal for chunks whose texts are
-- nearly the same. An id is never given twice, so that a ghost in the vector index cannot take the
-- place of a later chunk.
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    document_id INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    ordinal INTEGER NOT NULL,
    start INTEGER NOT NULL,
    stop INTEGER NOT NULL,
    page INTEGER,
    section TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    header_start INTEGER,
    header_stop INTEGER,
    family INTEGER NOT NULL,
    vector_id INTEGER NOT NULL REFERENCES vectors (id),
    seal INTEGER NOT NULL
);
CREATE UNIQUE INDEX chunks_document ON chunks (document_id, ordinal);
CREATE INDEX chunks_vector ON chunks (vector_id);
CREATE INDEX chunks_family ON chunks (family);

-- One live chunk of each family by the hashes of its words: see ingest/families.py.
CREATE TABLE bands (
    key INTEGER NOT NULL,
    chunk_id INTEGER NOT NULL,
    PRIMARY KEY (key, chunk_id)
) WITHOUT ROWID;

-- Index terms joined by spaces, rowid = chunk id; holds live chunks only. ingest/words.py has
-- made the terms, so everything but a separator belongs to a token.
CREATE VIRTUAL TABLE terms USING fts5 (
    heading,
    body,
    tokenize = "unicode61 remove_diacritics 0 categories 'L* M* N* P* S* C*'"
);
CREATE VIRTUAL TABLE term_rows USING fts5vocab (terms, row);

-- Chunk ids of which the vector index may hold a ghost: to be deleted there unless they are live.
CREATE TABLE outbox (
    chunk_id INTEGER PRIMARY KEY
);
