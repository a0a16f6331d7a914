"""SQLite files beside the store, such as the ledger: private to their owner, shared by processes,
and of a kind whose loss loses nothing but themselves.
"""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import RLock
from time import monotonic, sleep
from typing import Any

_AGAIN_S = 0.005
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Sidecar:
    """A file that is opened by the first statement, and anew after a failure; one serves all
    threads of a process. Another process is waited for `busy_s` seconds.

    With `is_renewed`, a damaged file is removed.
    """

    def __init__(self, path: Path, busy_s: float, *, is_renewed: bool = False) -> None:
        self.path = path
        self._busy_s = busy_s
        self._is_renewed = is_renewed
        self._lock = RLock()
        self._connection: sqlite3.Connection | None = None

    def run(self, opening: Sequence[str], statement: str, *values: object) -> list[Any]:
        """A statement's rows; `opening` goes before it where the file is not open yet.

        Raises sqlite3.Error or OSError.
        """
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = _opened(self.path, self._busy_s, opening)
                return self._connection.execute(statement, values).fetchall()
            except (sqlite3.Error, OSError) as error:
                self.close()
                if self._is_renewed and getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
                    _remove(self.path)
                raise

    def close(self) -> None:
        """Close the file."""
        with self._lock, suppress(sqlite3.Error):
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()


def _remove(path: Path) -> None:
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        with suppress(OSError):
            path.with_name(name).unlink()


def _opened(path: Path, busy_s: float, statements: Sequence[str]) -> sqlite3.Connection:
    """A connection for any thread, after these statements."""
    if path.is_symlink():  # a store may come from a stranger
        raise OSError("it is a link")
    # Private from the start; SQLite gives its other files the same mode.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(
        path, timeout=busy_s, isolation_level=None, check_same_thread=False
    )
    try:
        deadline = monotonic() + busy_s
        for statement in statements:
            _execute(connection, statement, deadline)
    except BaseException:
        connection.close()
        raise
    return connection


def _execute(connection: sqlite3.Connection, statement: str, deadline: float) -> None:
    """SQLite itself waits for nobody where the journal's mode is changed."""
    while True:
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > deadline:
                raise
            sleep(_AGAIN_S)
        else:
            return
