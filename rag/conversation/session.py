"""The turns of one conversation, and the file that keeps them where a person asks for it.

`sessions/NAME.jsonl` in the store's folder holds the object of `rag ask --json` for each turn, one
a line, and `{"new": true}` where the conversation was begun anew.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, cast

from ingest.errors import UsageError
from rag.conversation.summary import recalled
from rag.render import answer_json
from rag.types import Answer, Citation, Message, Summary

_NAME = re.compile(r"\w[\w.-]{0,63}")
_MARKER = re.compile(r" ?\[\d+\]")
_NEW: Mapping[str, Any] = {"new": True}


@dataclass(frozen=True, slots=True)
class Saved:
    """A session on disk: its turns, and the seconds since 1970 of the last one."""

    name: str
    turns: int
    last_question: str
    modified: float


class Session:
    """A conversation's turns so far, oldest first, as objects of `rag ask --json`."""

    def __init__(self, folder: Path, name: str = "") -> None:
        """Continue the session of this name, or begin it; without a name nothing is kept.

        `folder` is the store's. Raises UsageError for a name that is none, or for a file that
        cannot be read or written.
        """
        self._folder = folder
        self._path: Path | None = None
        self.rows: list[Mapping[str, Any]] = []
        if name:
            self._path = _path(folder, name)
            self.rows = _read(self._path)

    @property
    def history(self) -> tuple[Message, ...]:
        """The turns as messages, the earliest summed up where an answer has done so; markers are
        left out, for they name passages of their own turn.
        """
        return reduce(_with_turn, self.rows, ())

    @property
    def citations(self) -> tuple[Citation, ...]:
        """Those of the last answer."""
        rows = self.rows[-1]["citations"] if self.rows else ()
        return tuple(Citation(**row) for row in rows)

    def add(self, answer: Answer) -> None:
        """Take a turn; it is on disk when this returns, where the session is kept."""
        self._append(answer_json(answer))

    def begin_anew(self) -> None:
        """Forget the turns so far."""
        self._append(_NEW)

    def keep(self, name: str) -> None:
        """Keep the session under a name of its own from now on, with the turns so far."""
        path = _path(self._folder, name)
        if path.exists():
            raise UsageError(f"there is a session {name!r} already", "give another name")
        self._path = path
        for row in self.rows:
            self._write(row)

    def _append(self, row: Mapping[str, Any]) -> None:
        self.rows = [] if row == _NEW else [*self.rows, row]
        self._write(row)

    def _write(self, row: Mapping[str, Any]) -> None:
        if self._path is None:
            return
        line = json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            with os.fdopen(os.open(self._path, flags, 0o600), "ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            message = f"cannot keep the session in {self._path}: {error.strerror}"
            raise UsageError(message, "free space there, or chat without --session") from error


def saved_sessions(folder: Path) -> list[Saved]:
    """The sessions in a store's folder, the latest first."""
    found = (
        Saved(path.stem, len(rows), rows[-1]["question"] if rows else "", path.stat().st_mtime)
        for path in (folder / "sessions").glob("*.jsonl")
        for rows in [_read(path)]
    )
    return sorted(found, key=lambda saved: -saved.modified)


def _path(folder: Path, name: str) -> Path:
    if not _NAME.fullmatch(name):
        hint = "use letters, digits, dots, dashes and underscores, 64 at most"
        raise UsageError(f"{name!r} cannot name a session", hint)
    return folder / "sessions" / f"{name}.jsonl"


def _read(path: Path) -> list[Mapping[str, Any]]:
    """The turns since the conversation was last begun anew; a torn last line is cut off."""
    rows: list[Mapping[str, Any]] = []
    try:
        content = path.read_bytes() if path.exists() else b""
        if not content.endswith(b"\n") and content:
            content = content[: content.rfind(b"\n") + 1]
            os.truncate(path, len(content))
    except OSError as error:
        message = f"cannot read the session {path}: {error.strerror}"
        raise UsageError(message, "mend its permissions, or give another name") from error
    for number, line in enumerate(content.splitlines(), 1):
        try:
            row = cast(Mapping[str, Any], json.loads(line))
            rows = [] if row == _NEW else [*rows, _checked(row)]
        except (ValueError, TypeError, LookupError) as error:
            message = f"{path}:{number}: no turn of a session: {error}"
            raise UsageError(message, "take the line out, or give another name") from error
    return rows


def _checked(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row that holds what is read of it later on."""
    _with_turn((), row)
    for citation in row["citations"]:
        Citation(**citation)
    return row


def _with_turn(history: tuple[Message, ...], row: Mapping[str, Any]) -> tuple[Message, ...]:
    if "summary" in row:
        history = recalled(Summary(**row["summary"]), history)
    told = _MARKER.sub("", str(row["answer"]))
    return (*history, Message("user", str(row["question"])), Message("assistant", told))
