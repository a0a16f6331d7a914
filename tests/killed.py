"""Processes for tests to kill, and an ingest that kills itself at a step of its commit.

They are forked from one process that has imported everything, so that they begin at once.
"""

import functools
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from eval.benchmarks.hashes import HashEmbedder
from ingest import load as load_module
from ingest import sync as sync_module
from ingest.config import IndexSettings
from ingest.load import Reading
from ingest.store import Store
from ingest.worker import Finished, Item

_PRELOADED = ["pytest", "chromadb.api.client", "chromadb.api.rust", "ingest.sync", "ingest.rebuild"]
SMALL_BATCH = 20  # chunks: several commits out of few documents


def start(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Begin work in a process of its own."""
    context = get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    process = context.Process(target=work, args=arguments)
    process.start()
    return process


@contextmanager
def started(work: Callable[..., None], *arguments: Any) -> Iterator[BaseProcess]:
    """The same, killed at the end; it begins with an event that `work` sets when it is ready."""
    ready = get_context("forkserver").Event()
    process = start(work, ready, *arguments)
    try:
        assert ready.wait(60)
        yield process
    finally:
        kill(process)


def kill(process: BaseProcess) -> None:
    """SIGKILL, and wait for the end."""
    process.kill()
    process.join()


def ended(process: BaseProcess) -> int | None:
    """Wait for the end; the exit code."""
    process.join()
    return process.exitcode


def at(step: str, passing: int) -> Callable[[str], None]:
    """A checkpoint that kills its process when it passes a step for the n-th time."""
    left = passing

    def checkpoint(reached: str) -> None:
        nonlocal left
        left -= reached == step
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return checkpoint


def ingest(
    store: Path, docs: Path, index: IndexSettings, step: str = "never", passing: int = 1
) -> None:
    """An ingest as the command runs it, but with vectors of hashes and in small batches."""
    write = functools.partial(Store.write, checkpoint=at(step, passing))
    sync_module.Store = type("KillableStore", (Store,), {"write": staticmethod(write)})
    sync_module._BATCH_CHUNKS = SMALL_BATCH
    sync_module.sync(store, [docs], sync_module.SyncSettings(index), embedder=HashEmbedder())


def ingest_without_workers(*arguments: Any) -> None:
    """The same, read in this process and without a model of languages: both take longer to start
    than all the rest."""
    sync_module.Pool = _Inline
    load_module.language_of = lambda document: ""
    ingest(*arguments)


class _Inline:
    """Reads files as a pool of workers does."""

    def __init__(self, work: Callable[..., Any], *_: object) -> None:
        self._work = work

    def __class_getitem__(cls, _: object) -> type["_Inline"]:
        return cls

    def __enter__(self) -> "_Inline":
        return self

    def __exit__(self, *_: object) -> None: ...

    def read(self, items: Sequence[Item]) -> Iterator[tuple[Item, Any]]:
        for item in items:
            for part in self._work(*item, frozenset()):
                if not isinstance(part, Reading):
                    yield item, part
            yield item, Finished()
