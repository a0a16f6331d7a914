"""The derived vector index: Chroma's HNSW over ids and vectors, made again whenever in doubt.

Chroma is given vectors only, never texts: a query by text could load a model named inside the
store. It has no way to open a folder for reading only: that replays a log and may write the index,
and two processes at one folder lose vectors. So only the holder of the writer lock opens it, and a
reader opens a copy.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from ingest.errors import StoreError
from ingest.records import Matrix
from ingest.schema import is_full
from ingest.types import Hit
from ingest.vectors import IdList

_COLLECTION = "chunks"
# Chroma refuses more than 5,461 records a call; its speed is flat from about 2,000 on.
_BATCH = 2000


class ChromaIndex:
    """A vector index in a folder of its own; every failure of Chroma is a StoreError."""

    def __init__(self, folder: Path) -> None:
        """Open the index in `folder`, or make an empty one."""
        self._folder = folder
        self._count: int | None = None  # asking takes longer than searching
        folder.mkdir(mode=0o700, exist_ok=True)
        with _border(folder):
            self._client = _client(folder)
            try:
                self._collection = self._client.get_or_create_collection(
                    _COLLECTION,
                    configuration={"hnsw": {"space": "cosine"}},
                    embedding_function=None,
                )
            except BaseException:
                with suppress(StoreError):
                    self.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder."""
        with _border(self._folder):
            self._client.close()
        _make_private(self._folder)

    def add(self, ids: IdList, vectors: Matrix) -> None:
        """Add rows; ids that are there already keep their vector."""
        self._count = None
        for start in range(0, len(ids), _BATCH):
            part = slice(start, start + _BATCH)
            with _border(self._folder):
                self._collection.add(ids=[*map(str, ids[part])], embeddings=vectors[part])

    def delete(self, ids: IdList) -> None:
        """Forget these ids; unknown ones are ignored."""
        self._count = None
        for start in range(0, len(ids), _BATCH):
            with _border(self._folder):
                self._collection.delete(ids=[*map(str, ids[start : start + _BATCH])])

    def search(self, vector: Matrix, limit: int) -> list[Hit]:
        """The highest cosines first, approximately: HNSW may miss a neighbour."""
        limit = min(limit, self.count())
        if limit <= 0:
            return []
        with _border(self._folder):
            found = self._collection.query(
                query_embeddings=[vector], n_results=limit, include=["distances"]
            )
            pairs = zip(found["ids"][0], found["distances"][0], strict=True)
            hits = [Hit(int(name), min(1.0, 1.0 - float(distance))) for name, distance in pairs]
        return sorted(hits, key=lambda hit: (-hit.score, hit.chunk_id))

    def count(self) -> int:
        """How many ids the index holds."""
        if self._count is None:
            with _border(self._folder):
                self._count = int(self._collection.count())
        return self._count


def _client(folder: Path) -> Any:  # chromadb is typed loosely itself
    import chromadb
    from chromadb.config import Settings
    from chromadb.utils import embedding_functions as models

    # Chroma loads, or fetches with its code, whatever model an index names. Here it knows of none.
    models.known_embedding_functions.clear()
    models.sparse_known_embedding_functions.clear()
    # Without _env_file Chroma would take settings from any .env in the working directory.
    settings = Settings(_env_file=None, anonymized_telemetry=False)
    return chromadb.PersistentClient(path=str(folder), settings=settings)


@contextmanager
def _border(folder: Path) -> Iterator[None]:
    """Chroma raises many kinds of errors, and its Rust core panics outside Exception."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, StoreError):
        raise
    except BaseException as error:
        if is_full(folder):
            hint = "free some space and run it again"
            raise StoreError(f"the disk is full: {folder}", hint) from error
        problem = f"vector index {folder.name} cannot be used: {error}"
        raise StoreError(problem, "run `rag rebuild`") from error


def _make_private(folder: Path) -> None:
    """Chroma makes its files readable to all; the folder around them is private already."""
    for path in folder.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)


def copy_index(folder: Path, target: Path) -> None:
    """Copy an index that nobody writes, for a reader to open in the writer's stead."""
    try:
        shutil.copytree(folder, target)
    except (OSError, shutil.Error) as error:
        raise StoreError(
            f"vector index {folder.name} cannot be copied: {error}", "run `rag rebuild`"
        ) from error
