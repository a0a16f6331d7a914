"""Processes that can be killed: they read files while this one embeds.

    with Pool(read_and_chunk, options, jobs=2) as pool:
        for item, part in pool.read(items): ...

A file is read by one child, part by part. A part that makes the child hang, die or grow beyond the
limits costs that part alone: the child is killed, and a new one goes on behind it. Children that
have grown are replaced between files.
"""

import multiprocessing
import os
import resource
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from queue import SimpleQueue
from typing import Generic, Self, TypeVar

from ingest.errors import LoadError, RagError
from ingest.load import Reading, Unread, failure
from ingest.loaders.options import LoadOptions

T = TypeVar("T")
Item = tuple[Path, str]
# Reads a file part by part, passing over the parts that are named; each part is announced by a
# Reading, and then comes as any number of Ts or as an Unread.
Work = Callable[[Path, str, Set[str]], Iterator[Reading | Unread | T]]

# Characters that may wait for the main process: enough to keep the children busy during a batch of
# embedding, few enough to fit in memory beside it. One part may be larger and then waits alone.
_AHEAD = 8_000_000
_START_SECONDS = 120.0  # imports on a busy machine; a child that is slower is broken
_NOT_STARTED = "the process that reads files did not start"
_START_HINT = 'run `rag doctor`; a script of your own needs `if __name__ == "__main__":`'
_EXIT_SECONDS = 5.0  # between a child's closed pipe and its end
_GRACE_SECONDS = 30.0  # beyond the time limit, until the child's own alarm ends it
_GROWTH = 400 << 20  # bytes: a child that holds so much more than at its start is replaced


@dataclass(frozen=True, slots=True)
class Finished:
    """The last part of every file, with the bytes that the child holds now."""

    resident: int = field(default=0, compare=False)


class Pool(Generic[T]):
    """Killable processes that apply `work(path, source, skip)` to files.

    `work` must be importable (a module's own function, or a partial of one) and its parts
    picklable; `size` gives a part's characters. A context manager: leaving it ends the children.
    They die with this process, whatever ends it.
    """

    def __init__(
        self, work: Work[T], options: LoadOptions, jobs: int, size: Callable[[T], int]
    ) -> None:
        self._children = [_Child(work, options) for _ in range(jobs)]
        self._size = size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the children now, also in the middle of a file."""
        for child in self._children:
            child.close()

    def read(self, items: Iterable[Item]) -> Iterator[tuple[Item, T | Unread | Finished]]:
        """Each item with its parts, the last of them Finished; with one job in the items' order.

        The children work ahead until enough waits to be consumed. Abandoning the iterator ends
        them. Raises RagError if no child can be started.
        """
        waiting = _Waiting[tuple[Item, T | Unread | Finished]]()
        queue = iter(list(items))  # a list's iterator gives each item to one thread

        def work(child: _Child[T]) -> None:
            try:
                for item in queue:
                    for part in child.read(item):
                        size = self._size(part) if not isinstance(part, Unread | Finished) else 0
                        waiting.put((item, part), size)
            except BaseException as error:  # noqa: BLE001 - raised where the parts are consumed
                waiting.end(error)
            else:
                waiting.end(None)

        with ThreadPoolExecutor(len(self._children)) as threads:
            try:
                for child in self._children:
                    threads.submit(work, child)
                for _ in self._children:
                    yield from waiting
            except BaseException:
                waiting.abandon()
                self.close()
                raise


class _Waiting(Generic[T]):
    """What was produced and not yet consumed, bounded by its size."""

    def __init__(self) -> None:
        self._parts: SimpleQueue[tuple[T, int] | BaseException | None] = SimpleQueue()
        self._size = 0
        self._abandoned = False
        self._changed = threading.Condition()

    def put(self, part: T, size: int) -> None:
        """Add a part as soon as there is room for it; EOFError once nobody consumes any more."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._abandoned or not self._size or self._size + size <= _AHEAD
            )
            if self._abandoned:
                raise EOFError
            self._size += size
        self._parts.put((part, size))

    def end(self, error: BaseException | None) -> None:
        """A producer has ended; its error is raised where the parts are consumed."""
        self._parts.put(error)

    def abandon(self) -> None:
        """Nothing more will be consumed."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """The parts, until the next end of a producer."""
        while found := self._parts.get():
            if isinstance(found, BaseException):
                raise found
            part, size = found
            with self._changed:
                self._size -= size
                self._changed.notify_all()
            yield part


class _Child(Generic[T]):
    """One process at a time, started when there is something to read."""

    def __init__(self, work: Work[T], options: LoadOptions) -> None:
        self._work = work
        self._options = options
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._current = ""  # the part that the process reads
        self._finished: set[str] = set()  # those of the same file that it is done with
        self._resident = 0  # bytes that the process held when it had started
        self._closed = False
        self._guard = threading.Lock()  # a child is either started or forbidden, never between

    def close(self) -> None:
        """End the process now, and start no other."""
        self._closed = True
        self._kill()

    def read(self, item: Item) -> Iterator[T | Unread | Finished]:
        """The parts of one file. A part that ends the process is an Unread; the rest follows."""
        self._current, self._finished = item[1], set()
        while True:
            try:
                yield from self._attempt(item)
            except TimeoutError:
                error = LoadError(
                    f"took longer than {self._options.max_seconds:g} s",
                    "raise `ingest.max_seconds`, or leave it out with .ragignore",
                )
            except (EOFError, OSError):  # the child is gone
                error = self._death()
            else:
                return
            self._kill()
            yield Unread(self._current, error)
            if self._current == item[1] or self._closed:
                yield Finished()
                return
            self._finished.add(self._current)

    def _attempt(self, item: Item) -> Iterator[T | Unread | Finished]:
        """Have the process read one file, until it is done."""
        pipe = self._pipe or self._start()
        pipe.send((*item, frozenset(self._finished)))
        while True:
            if not pipe.poll(self._options.max_seconds):
                raise TimeoutError
            part: T | Reading | Unread | LoadError | Finished = pipe.recv()
            if isinstance(part, Reading):
                if not f"{part.source}/".startswith(f"{self._current}/"):  # nor inside of it
                    self._finished.add(self._current)
                self._current = part.source
            elif isinstance(part, LoadError):
                yield Unread(self._current, part)
            else:
                yield part
            if isinstance(part, Finished):
                if part.resident > self._resident + _GROWTH:
                    self._kill()
                return

    def _start(self) -> Connection:
        """Start a process and wait until it has imported what it needs."""
        context = multiprocessing.get_context("spawn")
        with self._guard:
            if self._closed:
                raise EOFError
            try:
                ours, theirs = context.Pipe()
                arguments = (theirs, self._work, self._options)
                process = context.Process(target=_serve, args=arguments, daemon=True)
                _start_without_interrupts(process)
            except OSError as error:
                raise RagError(f"{_NOT_STARTED}: {error.strerror}", _START_HINT) from error
            theirs.close()
            self._process, self._pipe = process, ours
        try:
            ready = ours.recv() if ours.poll(_START_SECONDS) else None
        except EOFError:
            ready = None
        if ready is None and not self._closed:
            self._death()  # what it has to say on standard error comes first
            self._kill()
            raise RagError(_NOT_STARTED, _START_HINT)
        self._resident = ready.resident if ready else 0
        return ours

    def _kill(self) -> None:
        """Kill the process, if there is one, and wait for its end."""
        with self._guard:
            process, self._process = self._process, None
            self._pipe = None  # not closed: another thread may wait on it, for the child's end
            if process:
                process.kill()
                process.join()
                process.close()

    def _death(self) -> LoadError:
        """Why the process is gone."""
        with self._guard:
            if self._process is None:
                return LoadError("not read: the run was ended", "run the same command again")
            self._process.join(_EXIT_SECONDS)
            code = self._process.exitcode
        cause = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return LoadError(
            f"crashed the process that read it ({cause})", "leave it out by .ragignore"
        )


def _start_without_interrupts(process: SpawnProcess) -> None:
    """Start a child that Ctrl-C does not reach, not even while it starts: the parent decides."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def _serve(pipe: Connection, work: Work[T], options: LoadOptions) -> None:
    """The child: read files until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # what a library thinks of one file is not the user's concern
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):  # the pipe is closed, or broken: the parent may be gone
        pipe.send(Finished(_memory()[1]))
        while True:
            _read_item(pipe, work, options)


def _read_item(pipe: Connection, work: Work[T], options: LoadOptions) -> None:
    item = pipe.recv()
    _limit_memory(options.max_memory)
    parts = work(*item)
    while (part := _next(parts, options)) is not None:
        try:
            pipe.send(part)
        except (MemoryError, TypeError, AttributeError, ValueError) as error:  # while pickling
            pipe.send(failure(error, options))
    _limit_memory(None)
    pipe.send(Finished(_memory()[1]))


def _next(
    parts: Iterator[Reading | Unread | T], options: LoadOptions
) -> Reading | Unread | T | LoadError | None:
    """The next part of a file, or an error that the work itself has not foreseen; None at its end.

    The error is of the part that was announced last.
    """
    # Ends the child even where C code holds the interpreter and the parent is gone.
    signal.setitimer(signal.ITIMER_REAL, options.max_seconds + _GRACE_SECONDS)
    try:
        return next(parts, None)
    except Exception as error:  # noqa: BLE001 - the border to whatever a file makes go wrong
        return failure(error, options)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _limit_memory(allowance: int | None) -> None:
    """Allow this process so many more bytes of address space than it has now; None lifts it.

    Counted from what is mapped now, because libraries map far more than they use. Linux only:
    elsewhere the limit is not kept.
    """
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    mapped, _ = _memory()
    if allowance is None:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    elif mapped and (hard == resource.RLIM_INFINITY or mapped + allowance < hard):
        resource.setrlimit(resource.RLIMIT_AS, (mapped + allowance, hard))


def _memory() -> tuple[int, int]:
    """Bytes of this process that are mapped, and that are in memory; zeros where unknown."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0, 0
    mapped, resident = map(int, statm.read_text().split()[:2])
    page = os.sysconf("SC_PAGE_SIZE")
    return mapped * page, resident * page


def _end_with_parent() -> None:
    """Wait for the parent's end and follow it."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)
