"""Read connections, shared by the threads of one process."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from ingest.errors import StoreMissing
from ingest.records import Meta
from ingest.schema import DATABASE, open_reader

_MOST_IDLE = 8
# Device, inode and last change of a database file.
_Identity = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Session:
    """A read transaction: everything read through it belongs to `meta.generation`."""

    connection: sqlite3.Connection
    meta: Meta


class ReaderPool:
    """Lends each thread a connection of its own, always to the file that stands there now.

    `rag rebuild`, or deleting the store and ingesting again, puts another file in its place: a
    connection to the old one would go on answering from what is gone. And where the folder is
    read-only to us a connection never looks at the file again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._idle: list[tuple[_Identity, sqlite3.Connection]] = []
        self._lock = Lock()

    def take(self) -> tuple[_Identity, sqlite3.Connection]:
        """A connection to give back with `give`; StoreMissing where the store has gone."""
        identity = self._current()
        with self._lock:
            stale = [pair for pair in self._idle if pair[0] != identity]
            self._idle = [pair for pair in self._idle if pair[0] == identity]
            found = self._idle.pop() if self._idle else None
        for _, connection in stale:
            connection.close()
        return found or (identity, open_reader(self._folder))

    def give(self, lent: tuple[_Identity, sqlite3.Connection]) -> None:
        """Take a connection back, for the next thread or to be closed."""
        with self._lock:
            if len(self._idle) < _MOST_IDLE:
                self._idle.append(lent)
                return
        lent[1].close()

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _current(self) -> _Identity:
        try:
            found = (self._folder / DATABASE).stat()
        except OSError as error:
            raise StoreMissing(
                f"no store found in {self._folder}", "run `rag ingest PATH`"
            ) from error
        return found.st_dev, found.st_ino, found.st_mtime_ns
