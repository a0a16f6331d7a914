"""SQLite files beside the store, such as the ledger: private to their owner, shared by processes,
and of a kind whose loss loses nothing but themselves.
"""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

_AGAIN_S = 0.005


def open_sidecar(path: Path, busy_s: float, statements: Sequence[str]) -> sqlite3.Connection:
    """A connection for any thread, after these statements; another process is waited for that long.

    Raises sqlite3.Error or OSError.
    """
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
