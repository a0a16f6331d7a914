"""What goes into the store with a file, and what the store says about itself."""

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ingest.config import IndexSettings
from ingest.types import Chunk, Document, embedded_text

FileStatus = Literal["ok", "skipped", "failed"]
# Unit-length rows of float32.
Matrix = NDArray[np.float32]
# New vectors of a commit by their key.
Vectors = Mapping[bytes, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Problem:
    """A file, or a part of one, that gave no document: `skipped` on purpose, or else failed."""

    source: str
    message: str
    hint: str = ""
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file as it was when last looked at; `path` is absolute, `loader` names what read it.

    `problems` says why it was skipped or failed, or what of its content was.
    """

    path: str
    root: str
    size: int
    mtime_ns: int
    sha256: str
    loader: str
    status: FileStatus = "ok"
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class DocumentCommit:
    """A document with its chunks; `keys[i]` is the vector key of `chunks[i]`."""

    document: Document
    chunks: tuple[Chunk, ...]
    keys: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class FileCommit:
    """A file and documents in it.

    Whatever else it held before is removed, save the sources named in `kept`; with `kept` None
    nothing is: the file is committed in parts, of which this is not the last.
    """

    record: FileRecord
    documents: tuple[DocumentCommit, ...]
    kept: frozenset[str] | None = frozenset()


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """A document in a listing; `pages` is 0 for formats without pages, `size` is the file's.

    Documents of one `family` are nearly the same.
    """

    id: int
    source: str
    title: str
    media_type: str
    chunks: int
    pages: int
    path: str
    size: int
    family: int


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """The store at one generation; `bytes` is what its folder takes on disk."""

    documents: int
    chunks: int
    bytes: int
    format: int
    generation: int
    embedding_model: str
    roots: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Meta:
    """What the store's own record says: `index` is the number of the live index folder,
    `documents` and `chunks` count what is live, `chunk_sum` and `term_sum` are the checksums of
    what is searched.

    `home` is the place where it was made, and `roots` are those that were named there by a person:
    a store from elsewhere may name any folder as the root of its files.
    """

    format: int
    settings: IndexSettings
    generation: int = 0
    index: int = 0
    created: str = ""
    documents: int = 0
    chunks: int = 0
    chunk_sum: int = 0
    term_sum: int = 0
    home: int = 0
    roots: frozenset[str] = frozenset()


def keyed(
    document: Document, chunks: tuple[Chunk, ...], model: str
) -> tuple[DocumentCommit, dict[bytes, str]]:
    """A document to commit, and the texts by vector key that are embedded for its chunks."""
    texts = [embedded_text(document, chunk) for chunk in chunks]
    keys = tuple(vector_key(model, text) for text in texts)
    return DocumentCommit(document, chunks, keys), dict(zip(keys, texts, strict=True))


def seal(*values: str | int | None) -> int:
    """The checksum of a row: SQLite's pages have none, and a changed offset reads like another."""
    return zlib.crc32(json.dumps(values).encode())


def vector_key(model: str, embedded: str) -> bytes:
    """The 16-byte key of a vector: equal for equal models and equal embedded texts."""
    return hashlib.sha256(f"{model}\0{embedded}".encode()).digest()[:16]


def file_sha256(path: Path) -> str:
    """The hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
