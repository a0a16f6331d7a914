"""A store brought over to other settings: cut, indexed and embedded anew, from what it holds.

The vectors come first and are kept as they come, so that a run that was killed goes on where it
was; then everything changes at once. Only texts without a vector are embedded: with another size
of chunks those that stay the same keep theirs.
"""

from collections.abc import Callable

from ingest.config import IndexSettings
from ingest.embed import Embedder
from ingest.records import keyed
from ingest.types import Chunk, Document
from ingest.writer import Writer

_BATCH_CHUNKS = 512


def reshape(
    writer: Writer,
    settings: IndexSettings,
    embedder: Embedder,
    show: Callable[[int], None],
    cut: Callable[[Document], tuple[Chunk, ...]],
) -> None:
    """Bring all documents of a store over to `settings`, by which `cut` makes chunks; `show` is
    told how far a batch is."""
    texts: dict[bytes, str] = {}

    def embed() -> None:
        missing = sorted(writer.missing_vectors(texts))
        rows = embedder.embed_documents([texts[key] for key in missing], show)
        writer.add_vectors(dict(zip(missing, rows, strict=True)))
        texts.clear()

    for stored in writer.documents():
        texts.update(keyed(stored.document, cut(stored.document), settings.model)[1])
        if len(texts) >= _BATCH_CHUNKS:
            embed()
    embed()
    writer.reshape(settings, lambda document: keyed(document, cut(document), settings.model)[0])
