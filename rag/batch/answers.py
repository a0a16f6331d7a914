"""The output of a batch: one answer a line, whole or not there, whenever the process is killed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from io import FileIO
from pathlib import Path
from typing import Any

from ingest.errors import RagError, UsageError
from rag.batch.questions import Asked, Id
from rag.rows import RowError, parsed_row


@dataclass(frozen=True, slots=True)
class AnswerFile:
    """An open output file; `done` are the ids that it already answers."""

    file: FileIO
    done: frozenset[Id]

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows: a process killed here leaves whole lines and at most a torn one.

        Raises RagError where the disk does not take them.
        """
        lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
        _append(self.file, lines.encode("utf-8", errors="replace"))


@contextmanager
def open_answers(path: Path, asked: Sequence[Asked], *, resume: bool) -> Iterator[AnswerFile]:
    """The output file, held against other batches. With `resume`, what it answers stays.

    A torn last line goes, and so do failures and answers to questions that have changed since:
    those are asked again. Raises UsageError where a file is in the way, or is no output of a batch.
    """
    if path.exists() and not resume:
        hint = "go on with it by --resume, or name another file with -o"
        raise UsageError(f"{path} is there already", hint)
    questions = {each.id: each.question.text for each in asked}
    with _held(path) as file:
        ids = [identity for _, identity in _lines(path, questions)]
        done = frozenset(identity for identity in ids if identity is not None)
        if None not in ids:
            yield AnswerFile(file, done)
            return
        mended = path.with_name(f"{path.name}.mended")
        with _held(mended) as new:
            new.truncate(0)
            for line, identity in _lines(path, questions):
                if identity is not None:
                    _append(new, line)
            mended.replace(path)
            yield AnswerFile(new, done)


def _lines(path: Path, questions: Mapping[Id, str]) -> Iterator[tuple[bytes, Id | None]]:
    """Each line with its id; with None where it goes. Lines of other questions are let alone."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                yield line, None
                return
            row = parsed_row(line)
            if isinstance(row, RowError) or not isinstance(row.get("id"), str | int):
                message = f"{path}:{number}: not a line that `rag batch` writes"
                raise UsageError(message, "name another file with -o")
            identity = row["id"]
            same = questions.get(identity) == row.get("question") and "error" not in row
            yield line, identity if same or identity not in questions else None


def _append(file: FileIO, data: bytes) -> None:
    left = memoryview(data)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        message = f"cannot write to {file.name!r}: {error.strerror}"
        raise RagError(message, "make room, then go on with --resume") from error


@contextmanager
def _held(path: Path) -> Iterator[FileIO]:
    """A file open for appending, that no other batch appends to."""
    try:
        file = path.open("ab", buffering=0)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", "check -o") from None
    with file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            message = f"another `rag batch` is writing to {path}"
            raise UsageError(message, "wait for it, or name another file with -o") from None
        yield file
