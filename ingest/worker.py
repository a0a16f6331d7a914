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
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar

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
_EXIT_SECONDS = 5.0  # between a child's closed pipe and its end
_GRACE_SECONDS = 30.0  # beyond the time limit, until the child's own alarm ends it
_GROWTH = 400 << 20  # bytes: a child that holds so much more than at its start is replaced


@dataclass(frozen=True, slots=True)
class Finished:
    """The last part of every file."""


@dataclass(frozen=True, slots=True)
class _Rested:
    """A child's word that a file is done, with the bytes it holds now."""

    resident: int


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

    def __enter__(self) -> "Pool[T]":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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
        queue = iter(items)
        taking = threading.Lock()

        def work(child: _Child[T]) -> None:
            try:
                while item := _next(queue, taking):
                    for part in child.read(item):
                        size = self._size(part) if not isinstance(part, Unread | Finished) else 0
                        waiting.put((item, part), size)
            except BaseException as error:  # noqa: BLE001 - raised where the parts are consumed
                waiting.fail(error)
            finally:
                waiting.leave()

        threads = [threading.Thread(target=work, args=(child,)) for child in self._children]
        for thread in threads:
            waiting.join()
            thread.start()
        try:
            yield from waiting
        finally:
            waiting.abandon()
            if any(thread.is_alive() for thread in threads):
                self.close()
            for thread in threads:
                thread.join()


def _next(queue: Iterator[Item], taking: threading.Lock) -> Item | None:
    with taking:
        return next(queue, None)


class _Waiting(Generic[T]):
    """What was produced and not yet consumed, bounded by its size."""

    def __init__(self) -> None:
        self._parts: deque[tuple[T, int]] = deque()
        self._size = 0
        self._producers = 0
        self._error: BaseException | None = None
        self._abandoned = False
        self._changed = threading.Condition()

    def join(self) -> None:
        """Another producer begins."""
        with self._changed:
            self._producers += 1

    def leave(self) -> None:
        """A producer has ended."""
        with self._changed:
            self._producers -= 1
            self._changed.notify_all()

    def put(self, part: T, size: int) -> None:
        """Add a part as soon as there is room for it; EOFError once nobody consumes any more."""
        with self._changed:
            self._changed.wait_for(lambda: not self._size or self._has_room(size))
            if self._abandoned:
                raise EOFError
            self._parts.append((part, size))
            self._size += size
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Raise an error where the parts are consumed."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def abandon(self) -> None:
        """Nothing more will be consumed."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._parts or self._error or not self._producers)
                if self._error:
                    raise self._error
                if not self._parts:
                    return
                part, size = self._parts.popleft()
                self._size -= size
                self._changed.notify_all()
            yield part

    def _has_room(self, size: int) -> bool:
        return self._abandoned or self._size + size <= _AHEAD


class _Child(Generic[T]):
    """One process at a time, started when there is something to read."""

    def __init__(self, work: Work[T], options: LoadOptions) -> None:
        self._work = work
        self._options = options
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._resident = 0  # bytes that the process held when it had started
        self._closed = False
        self._guard = threading.Lock()  # a child is either started or forbidden, never between

    def close(self) -> None:
        """End the process now, and start no other."""
        with self._guard:
            self._closed = True
            self._kill()

    def read(self, item: Item) -> Iterator[T | Unread | Finished]:
        """The parts of one file. A part that ends the process is an Unread; the rest follows."""
        place = _Place(item[1])
        while True:
            try:
                yield from self._attempt(item, place)
            except TimeoutError:
                error = _timed_out(self._options)
            except (EOFError, OSError):  # the child is gone
                error = self._death()
            else:
                break
            with self._guard:
                self._kill()
            yield Unread(place.current, error)
            if place.current == item[1] or self._closed:
                break
            place.finished.add(place.current)
        yield Finished()

    def _attempt(self, item: Item, place: "_Place") -> Iterator[T | Unread]:
        """Have the process read one file, until it is done."""
        pipe = self._pipe or self._start()
        pipe.send((*item, frozenset(place.finished)))
        while True:
            if not pipe.poll(self._options.max_seconds):
                raise TimeoutError
            part: T | Reading | Unread | _Rested = pipe.recv()
            if isinstance(part, Reading):
                place.enter(part.source)
            elif not isinstance(part, _Rested):
                yield part
            else:
                if part.resident > self._resident + _GROWTH:
                    with self._guard:
                        self._kill()
                return

    def _start(self) -> Connection:
        """Start a process and wait until it has imported what it needs."""
        context = multiprocessing.get_context("spawn")
        with self._guard:
            if self._closed:
                raise EOFError
            ours, theirs = context.Pipe()
            arguments = (theirs, self._work, self._options)
            self._process = context.Process(target=_serve, args=arguments, daemon=True)
            _start_without_interrupts(self._process)
            theirs.close()
            self._pipe = ours
        try:
            ready = ours.recv() if ours.poll(_START_SECONDS) else None
        except EOFError:
            ready = None
        if ready is None and not self._closed:
            self._death()  # what it has to say on standard error comes first
            with self._guard:
                self._kill()
            raise RagError("the process that reads files did not start", "run `rag doctor`")
        self._resident = ready.resident if ready else 0
        return ours

    def _kill(self) -> None:
        """Kill the process, if there is one, and wait for its end."""
        process, self._process = self._process, None
        self._pipe = None  # not closed: another thread may be waiting on it, for the child's end
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


@dataclass(slots=True)
class _Place:
    """Where in a file a child is: the part that it reads, and those that it is done with."""

    current: str
    finished: set[str] = field(default_factory=set)

    def enter(self, source: str) -> None:
        """Another part begins; unless it is inside the current one, that is finished."""
        if source != self.current and not source.startswith(self.current + "/"):
            self.finished.add(self.current)
        self.current = source


def _timed_out(options: LoadOptions) -> LoadError:
    return LoadError(
        f"took longer than {options.max_seconds:g} s",
        "raise `ingest.max_seconds`, or leave it out with .ragignore",
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
        pipe.send(_Rested(_resident()))
        while True:
            _read_item(pipe, work, options)


def _read_item(pipe: Connection, work: Work[T], options: LoadOptions) -> None:
    item = pipe.recv()
    _limit_memory(options.max_memory)
    source = item[1]
    for part in _parts(work(*item), options, source):
        source = part.source if isinstance(part, Reading) else source
        try:
            pipe.send(part)
        except (MemoryError, TypeError, AttributeError, ValueError) as error:  # while pickling
            pipe.send(Unread(source, failure(error, options)))
    _limit_memory(None)
    pipe.send(_Rested(_resident()))


def _parts(
    parts: Iterator[Reading | Unread | T], options: LoadOptions, source: str
) -> Iterator[Reading | Unread | T]:
    """The parts of a file, or an Unread for an error that the work itself has not foreseen."""
    while True:
        # Ends the child even where C code holds the interpreter and the parent is gone.
        signal.setitimer(signal.ITIMER_REAL, options.max_seconds + _GRACE_SECONDS)
        try:
            part = next(parts)
        except StopIteration:
            return
        except Exception as error:  # noqa: BLE001 - the border to whatever a file makes go wrong
            yield Unread(source, failure(error, options))
            return
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        source = part.source if isinstance(part, Reading) else source
        yield part


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


def _resident() -> int:
    return _memory()[1]


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
