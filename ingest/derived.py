"""The writer's side of the vector index: kept equal to the live chunks, made anew when in doubt."""

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ingest import manifest, queries
from ingest.errors import StoreError
from ingest.records import Meta
from ingest.schema import index_folder, place, read_meta, transaction, write_meta

if TYPE_CHECKING:
    from ingest.chroma import ChromaIndex

# Vectors held in memory at a time while the index is made anew.
_BATCH = 10_000


class DerivedIndex:
    """The vector index of a store, for the holder of the writer lock.

    It is opened at the first use only, so that a run without changes never loads Chroma.
    """

    def __init__(
        self, folder: Path, connection: sqlite3.Connection, checkpoint: Callable[[str], None]
    ) -> None:
        self._folder = folder
        self._connection = connection
        self._checkpoint = checkpoint
        self._index: ChromaIndex | None = None
        self._number = 0

    def ready(self) -> None:
        """Open the index, delete what the outbox names, and rebuild it where it is not whole.

        Call it while every chunk is live; afterwards the outbox is empty.
        """
        try:
            if self._index is None:
                self._open()
            if ghosts := queries.outbox(self._connection):
                self._opened().delete(ghosts)
                self._connection.execute("DELETE FROM outbox")
        except StoreError:
            self.rebuild()

    def add(self, ids: Sequence[int]) -> None:
        """Add stored chunks, live or not."""
        try:
            self._add(ids)
        except StoreError:
            self.rebuild()
            self._add(ids)

    def delete(self, ids: Sequence[int]) -> None:
        """Forget chunks that are no longer stored."""
        try:
            self._opened().delete(ids)
        except StoreError:
            self.rebuild()

    def rebuild(self) -> None:
        """Make the index anew from the live chunks in a folder of its own, then change over."""
        self.let_go()
        meta = self._meta()
        meta = replace(meta, index=meta.index + 1)
        shutil.rmtree(index_folder(self._folder, meta.index), ignore_errors=True)
        self._use(meta.index)
        ids = queries.live_ids(self._connection).tolist()
        for start in range(0, len(ids), _BATCH):
            self._add(ids[start : start + _BATCH])
        self._checkpoint("filled")
        with transaction(self._connection):
            write_meta(self._connection, meta)
            # Chunks of a commit under way stay named: they are to be deleted if it fails.
            self._connection.execute(
                """DELETE FROM outbox WHERE chunk_id NOT IN (SELECT chunks.id FROM documents
                   JOIN chunks ON document_id = documents.id WHERE live = 0)"""
            )
        self._checkpoint("swapped")
        self._remove_other_folders(meta.index)

    def close(self) -> None:
        """Let go of the index and write down what it consists of."""
        if self.let_go() and self._number == (meta := self._meta()).index:
            with suppress(OSError):  # without it the index is made anew by whoever opens it next
                manifest.write(index_folder(self._folder, meta.index), meta, place(self._folder))

    def let_go(self) -> bool:
        """Close the index if it is open; whether that went well."""
        index, self._index = self._index, None
        with suppress(StoreError):  # what is broken is made anew by whoever opens it next
            if index is not None:
                index.close()
                return True
        return False

    def _open(self) -> None:
        meta = self._meta()
        self._remove_other_folders(meta.index)
        index = index_folder(self._folder, meta.index)
        if not manifest.is_whole(index, meta, place(self._folder)):
            raise StoreError("the vector index is not as it was left", "run `rag rebuild`")
        self._use(meta.index)

    def _use(self, number: int) -> None:
        from ingest.chroma import ChromaIndex

        folder = index_folder(self._folder, number)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            manifest.remove(folder)
        except OSError as error:
            raise StoreError(
                f"cannot write {folder}: {error.strerror}", "check the disk"
            ) from error
        self._index, self._number = ChromaIndex(folder), number

    def _meta(self) -> Meta:
        return read_meta(self._connection, self._folder)

    def _opened(self) -> "ChromaIndex":
        if self._index is None:
            raise StoreError("the vector index is not open", "run `rag rebuild`")
        return self._index

    def _add(self, ids: Sequence[int]) -> None:
        dimension = self._meta().settings.dimension
        self._opened().add(ids, queries.vectors(self._connection, ids, dimension))

    def _remove_other_folders(self, number: int) -> None:
        """Remove what an earlier rebuild, finished or killed, has left."""
        for path in self._folder.glob("index-*"):
            if path != index_folder(self._folder, number):
                shutil.rmtree(path, ignore_errors=True)
