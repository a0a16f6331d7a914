"""A second process that can be killed: it reads files while this one embeds.

    with Worker(load_and_chunk, limits) as worker:
        for item, result in worker.map(items): ...

The function runs in one child process, one file at a time. A file that makes the child hang, die or
grow beyond the limits costs that file alone: the child is killed and the next file gets a new one.
"""

import multiprocessing
import os
import resource
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar

from ingest.errors import LoadError, RagError
from ingest.loaders.limits import LoadLimits

T = TypeVar("T")
Item = tuple[Path, str]
Work = Callable[[Path, str], T]

# Results that may wait for the main process: enough to keep the child busy during one batch of
# embedding, few enough that 16 of the largest documents fit in memory.
_AHEAD = 16
_START_SECONDS = 120.0  # imports on a busy machine; a child that is slower is broken
_EXIT_SECONDS = 5.0  # between a child's closed pipe and its end
_GRACE_SECONDS = 30.0  # beyond the time limit, until the child's own alarm ends it


class Worker(Generic[T]):
    """A killable process that applies `function(path, source)` to files.

    `function` must be importable (a module's own function) and its result picklable. A context
    manager: leaving it ends the child. The child dies with this process, whatever ends it.
    """

    def __init__(self, function: Work[T], limits: LoadLimits) -> None:
        self._function = function
        self._limits = limits
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._closed = False
        self._guard = threading.Lock()  # a child is either started or forbidden, never between

    def __enter__(self) -> "Worker[T]":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child now, also in the middle of a file."""
        with self._guard:
            self._closed = True
            self._kill()

    def map(self, items: Iterable[Item]) -> Iterator[tuple[Item, T | LoadError]]:
        """Each item with its result or with the error that it met, in the order of the items.

        The child works up to 16 files ahead of the consumer; `items` is read in the consumer's
        thread. Abandoning the iterator ends the child. Raises RagError if no child can be started.
        """
        waiting: deque[tuple[Item, Future[T | LoadError]]] = deque()
        with ThreadPoolExecutor(1, "worker") as thread:
            try:
                for item in items:
                    waiting.append((item, thread.submit(self._run, item)))
                    if len(waiting) >= _AHEAD:
                        first, future = waiting.popleft()
                        yield first, future.result()
                for item, future in waiting:
                    yield item, future.result()
            except BaseException:
                thread.shutdown(wait=False, cancel_futures=True)
                self.close()
                raise

    def _run(self, item: Item) -> T | LoadError:
        """Have the child do one item; start a child if there is none."""
        try:
            pipe = self._pipe or self._start()
            pipe.send(item)
            if not pipe.poll(self._limits.max_seconds):
                return self._give_up(_timed_out(self._limits))
            result: T | LoadError = pipe.recv()
        except (EOFError, OSError):  # the child is gone
            return self._give_up(self._death())
        return result

    def _start(self) -> Connection:
        """Start a child and wait until it has imported what it needs."""
        context = multiprocessing.get_context("spawn")
        with self._guard:
            if self._closed:
                raise EOFError
            ours, theirs = context.Pipe()
            arguments = (theirs, self._function, self._limits)
            self._process = context.Process(target=_serve, args=arguments, daemon=True)
            _start_without_interrupts(self._process)
            theirs.close()
            self._pipe = ours
        try:
            ready = ours.poll(_START_SECONDS) and ours.recv()
        except EOFError:
            ready = False
        if not ready and not self._closed:
            self._give_up(self._death())
            raise RagError("the process that reads files did not start", "run `rag doctor`")
        return ours

    def _give_up(self, error: LoadError) -> LoadError:
        """Kill the child, so that the next item gets a new one."""
        with self._guard:
            self._kill()
        return error

    def _kill(self) -> None:
        """Kill the child, if there is one, and wait for its end."""
        process, self._process = self._process, None
        self._pipe = None  # not closed: another thread may be waiting on it, for the child's end
        if process:
            process.kill()
            process.join()
            process.close()

    def _death(self) -> LoadError:
        """Why the child is gone."""
        with self._guard:
            if self._process is None:
                return LoadError("not read: the run was ended", "run the same command again")
            self._process.join(_EXIT_SECONDS)
            code = self._process.exitcode
        cause = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return LoadError(
            f"crashed the process that read it ({cause})", "leave it out by .ragignore"
        )


def _timed_out(limits: LoadLimits) -> LoadError:
    return LoadError(
        f"took longer than {limits.max_seconds:g} s",
        "raise `ingest.max_seconds`, or leave it out with .ragignore",
    )


def _start_without_interrupts(process: SpawnProcess) -> None:
    """Start a child that Ctrl-C does not reach, not even while it starts: the parent decides."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def _serve(pipe: Connection, function: Work[T], limits: LoadLimits) -> None:
    """The child: answer items until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # what a library thinks of one file is not the user's concern
    threading.Thread(target=_end_with_parent, daemon=True).start()
    pipe.send(True)
    while True:
        try:
            item = pipe.recv()
        except (EOFError, OSError):
            return
        # Ends the child even where C code holds the interpreter and the parent is gone.
        signal.setitimer(signal.ITIMER_REAL, limits.max_seconds + _GRACE_SECONDS)
        result = _guarded(function, item, limits)
        try:
            pipe.send(result)
        except (MemoryError, TypeError, AttributeError, ValueError) as error:  # while pickling
            pipe.send(_failure(error, limits))
        signal.setitimer(signal.ITIMER_REAL, 0)


def _guarded(function: Work[T], item: Item, limits: LoadLimits) -> T | LoadError:
    """The function's result within the memory limit, or its error as a LoadError."""
    _limit_memory(limits.max_memory)
    try:
        return function(*item)
    except LoadError as error:
        return error
    except Exception as error:  # noqa: BLE001 - the border to whatever a file makes go wrong
        return _failure(error, limits)
    finally:
        _limit_memory(None)


def _failure(error: Exception, limits: LoadLimits) -> LoadError:
    """An unforeseen error as a LoadError."""
    if isinstance(error, MemoryError):
        return LoadError(
            f"needs more than {limits.max_memory / 2**20:,.0f} MiB of memory",
            "raise `ingest.max_memory` (bytes), or leave it out with .ragignore",
        )
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return LoadError(f"could not be read: {reason}", "leave it out with .ragignore")


def _limit_memory(allowance: int | None) -> None:
    """Allow this process so many more bytes of address space than it has now; None lifts it.

    Counted from what is mapped now, because libraries map far more than they use. Linux only:
    elsewhere the limit is not kept.
    """
    statm = Path("/proc/self/statm")
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if allowance is None:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    elif statm.exists():
        mapped = int(statm.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        soft = mapped + allowance
        if hard == resource.RLIM_INFINITY or soft < hard:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _end_with_parent() -> None:
    """Wait for the parent's end and follow it."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)
