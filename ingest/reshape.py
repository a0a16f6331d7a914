"""A store brought over to other settings: cut, indexed and embedded anew, from what it holds.

The vectors come first and are kept as they come, so that a run that was killed goes on where it
was; then everything changes at once. Only texts without a vector are embedded: with another size
of chunks those that stay the same keep theirs.
"""

from collections.abc import Callable, Mapping

from ingest.chunk import chunk
from ingest.config import IndexSettings
from ingest.embed import Embedder
from ingest.records import Vectors, vector_key
from ingest.types import Chunk, Document, embedded_text
from ingest.wordpieces import WordPieces
from ingest.writer import Writer

_BATCH_CHUNKS = 512


def reshape(
    writer: Writer, settings: IndexSettings, embedder: Embedder, show: Callable[[int], None]
) -> None:
    """Bring all documents of a store over to `settings`; `show` is told how far a batch is."""
    pieces = WordPieces()

    def recut(document: Document) -> tuple[tuple[Chunk, ...], tuple[bytes, ...]]:
        chunks = chunk(document, pieces, settings)
        keys = (vector_key(settings.model, embedded_text(document, c)) for c in chunks)
        return chunks, tuple(keys)

    texts: dict[bytes, str] = {}
    for stored in writer.documents():
        chunks, keys = recut(stored.document)
        texts |= {k: embedded_text(stored.document, c) for k, c in zip(keys, chunks, strict=True)}
        if len(texts) >= _BATCH_CHUNKS:
            writer.add_vectors(embed_missing(writer, embedder, texts, show))
            texts = {}
    writer.add_vectors(embed_missing(writer, embedder, texts, show))
    writer.reshape(settings, recut)


def embed_missing(
    writer: Writer,
    embedder: Embedder,
    texts: Mapping[bytes, str],
    show: Callable[[int], None],
) -> Vectors:
    """The vectors, by key, of those texts whose key has none in the store."""
    missing = sorted(writer.missing_vectors(texts))
    rows = embedder.embed_documents([texts[key] for key in missing], show)
    return dict(zip(missing, rows, strict=True))
