"""One writer at a time: an operating-system lock on a file inside the store.

`flock` dies with its process, so a killed writer never leaves a lock behind. What the file holds
is only there to name the writer to whoever has to wait for it.
"""

import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from ingest.errors import StoreBusy, StoreError

_POLL_SECONDS = 0.05
# More than any holder we write; a foreign file is never read whole.
_HOLDER_BYTES = 4096


@contextmanager
def writer_lock(path: Path, wait: float = 5.0) -> Iterator[None]:
    """Hold the writer lock while the context is open; StoreBusy after `wait` seconds in vain."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(
            f"cannot write to {path.parent}: {error.strerror}", "check its owner and permissions"
        ) from error
    try:
        deadline = time.monotonic() + wait
        while not _try_lock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                raise StoreBusy(
                    f"another process is writing to {path.parent}: {_holder(descriptor)}",
                    "wait until it has finished, or stop it, and run the command again",
                )
            time.sleep(_POLL_SECONDS)
        _write_holder(descriptor)
        try:
            yield
        finally:
            with suppress(OSError):  # the name is a courtesy; closing is what frees the lock
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


@contextmanager
def no_writer(path: Path) -> Iterator[bool]:
    """True while the context keeps writers out; False where one is at work or cannot be seen."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        yield _try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, kind: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        return True
    return False


def _write_holder(descriptor: int) -> None:
    """Name this process in the lock file: program and first argument only, for an argument
    further on may be private."""
    holder = {
        "pid": os.getpid(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]]),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with suppress(OSError):  # on a full disk the writer still holds the lock
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, _HOLDER_BYTES, 0))
        return f"process {holder['pid']}, {holder['command']!r}, since {holder['started']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has not written its name yet
        return "a process that has not given its name"
