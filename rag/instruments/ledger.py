"""The ledger: a row for each question, in a SQLite file of its own in the store's folder.

It says what questions cost, how long they took and how they ended; their words are in it only
where `ledger.questions` asks for them. Losing the file loses these figures and nothing else, and a
ledger that cannot be written never hurts an answer.
"""

import sqlite3
from contextlib import closing
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

from ingest.errors import StoreDamaged
from rag.settings.config import LedgerSection
from rag.sidecar import Sidecar

FILE = "ledger.sqlite"
EVALUATION = "eval"
DAY_S = 86_400.0
STEPS = ("rewrite", "retrieve", "first_token", "chat", "verify", "total")
"""What an answer's times are of; `total` is always there."""

_BUSY_S = 0.25  # how long an answer waits for another process that is writing its own row


@dataclass(frozen=True, slots=True)
class Entry:
    """One question, asked at `time` in seconds since 1970; the rest is as in `Answer`.

    `status` may also be "interrupted", and `error` names what an answer failed by or broke off
    for. A time is None where that step did not happen, a cost where the price is unknown.
    """

    time: float
    origin: str
    status: str
    error: str | None = None
    answerer: str | None = None
    model: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False
    cached: bool = False
    cost_usd: float | None = None
    retries: int = 0
    rewrite_ms: float | None = None
    retrieve_ms: float | None = None
    first_token_ms: float | None = None
    chat_ms: float | None = None
    verify_ms: float | None = None
    total_ms: float = 0.0
    grounding: float | None = None
    confidence: float | None = None
    citations: int = 0
    warnings: int = 0
    prompt: str | None = None
    question: str | None = None
    answer: str | None = None


_SQL_TYPES = {float: "REAL", int: "INTEGER", bool: "INTEGER", str: "TEXT"}
_KINDS = {field.name: (get_args(field.type) or (field.type,)) for field in fields(Entry)}
_NAMES = ", ".join(_KINDS)
_INSERT = f"INSERT INTO questions ({_NAMES}) VALUES ({', '.join('?' * len(_KINDS))})"
# The first row waits for no disk; from then on a checkpoint does, so that a power cut costs rows
# and not the file.
_SCHEMA = (
    "PRAGMA synchronous = OFF",
    "PRAGMA journal_mode = WAL",
    "CREATE TABLE IF NOT EXISTS questions (id INTEGER PRIMARY KEY, "
    + ", ".join(f"{name} {_SQL_TYPES[kinds[0]]}" for name, kinds in _KINDS.items())
    + ")",
    "CREATE INDEX IF NOT EXISTS questions_by_time ON questions (time)",
)


class Ledger:
    """The ledger of a store, open for writing; one serves all threads of a process."""

    def __init__(self, folder: Path, settings: LedgerSection) -> None:
        self._file = Sidecar(folder / FILE, _BUSY_S)
        self._settings = settings
        self._noted = False

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def record(self, entry: Entry) -> str:
        """Write a row. Returns "", or what the person should know: once, where it failed."""
        if not self._settings.questions:
            entry = replace(entry, question=None, answer=None)
        try:
            self._run(entry.time, _INSERT, *astuple(entry))
        except (sqlite3.Error, OSError) as error:
            first, self._noted = not self._noted, True
            reason = f"{self._file.path} cannot be written: {error}"
            return f"not counted in `rag stats`: {reason} (ledger.enabled)" if first else ""
        return ""

    def spent(self, since: float, until: float) -> float:
        """US dollars of the questions in a time. Raises sqlite3.Error or OSError."""
        query = "SELECT total(cost_usd) FROM questions WHERE time BETWEEN ? AND ?"
        ((dollars,),) = self._run(until, query, since, until)
        return float(dollars)

    def _run(self, now: float, statement: str, *values: object) -> list[Any]:
        """The rows of a statement; where it opens the file, what is too old is removed."""
        oldest = now - self._settings.days * DAY_S
        opening = (*_SCHEMA, f"DELETE FROM questions WHERE time < {oldest}")
        found = self._file.run(opening, statement, *values)
        self._file.run(opening, "PRAGMA synchronous = NORMAL")
        return found


def read_entries(folder: Path, since: float, until: float) -> tuple[Entry, ...]:
    """The rows of a time, oldest first; none where there is no ledger. Raises StoreDamaged."""
    path = folder / FILE
    if not path.is_file():
        return ()
    query = f"SELECT {_NAMES} FROM questions WHERE time BETWEEN ? AND ? ORDER BY time, id"
    try:
        rows = _rows(path, query, (since, until))
        return tuple(Entry(*map(_checked, _KINDS.values(), row)) for row in rows)
    except (sqlite3.Error, TypeError) as error:
        hint = f"remove it: only its figures are lost: `rm {path}*`"
        raise StoreDamaged(f"the ledger {path} cannot be read: {error}", hint) from error


def _rows(path: Path, query: str, values: tuple[float, float]) -> list[tuple[object, ...]]:
    address = path.resolve().as_uri()
    try:
        with closing(sqlite3.connect(f"{address}?mode=ro", uri=True)) as connection:
            return connection.execute(query, values).fetchall()
    except sqlite3.OperationalError:
        # WAL needs to write beside the file, which a read-only folder does not allow.
        with closing(sqlite3.connect(f"{address}?mode=ro&immutable=1", uri=True)) as connection:
            return connection.execute(query, values).fetchall()


def _checked(kinds: tuple[type, ...], value: Any) -> Any:
    """A value of the kind that its column holds; TypeError in a file that was changed."""
    if bool in kinds:
        return bool(value)
    if not isinstance(value, kinds):
        raise TypeError(f"{value!r:.40} stands where a {kinds[0].__name__} should")
    return value
