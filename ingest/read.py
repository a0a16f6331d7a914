"""The task of a worker process: one file to documents and chunks, part by part."""

import hashlib
from collections.abc import Iterator, Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ingest.chunk import chunk
from ingest.config import IndexSettings
from ingest.credentials import credential_kinds
from ingest.errors import LoadError
from ingest.load import Reading, Unread, load, read_file
from ingest.loaders.options import LoadOptions
from ingest.types import Chunk, Document
from ingest.wordpieces import WordPieces

_word_pieces = cache(WordPieces)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A document of a file whose bytes have this digest, with its chunks.

    `secrets` are the kinds of keys and passwords that stand in its text.
    """

    sha256: str
    document: Document
    chunks: tuple[Chunk, ...]
    secrets: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Characters that it holds in memory."""
        return 2 * len(self.document.text)


def read_and_chunk(
    path: Path, source: str, skip: Set[str], index: IndexSettings, options: LoadOptions
) -> Iterator[Reading | Unread | Loaded]:
    """The documents of a file as they come, and what could not be read; nothing is raised."""
    yield Reading(source)
    try:
        data = read_file(path, options.max_file)
    except LoadError as error:
        yield Unread(source, error)
        return
    sha256 = hashlib.sha256(data).hexdigest()
    for part in load(data, source, options, skip):
        if isinstance(part, Document):
            chunks = chunk(part, _word_pieces(), index)
            yield Loaded(sha256, part, chunks, credential_kinds(part.text))
        else:
            yield part
