"""Killed at any moment, the store holds whole documents, and a plain re-run finishes the work."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ingest.config import IndexSettings
from ingest.dense import index_count
from ingest.store import Store
from ingest.types import page_at

SETTINGS = IndexSettings("all-MiniLM-L6-v2", 384, 220)
STEPS = ("prepared", "indexed", "published", "deleted", "cleared")
DOCUMENTS = 24

# An ingest as the command line runs it, but with vectors made of hashes; it can be told to kill
# itself at the n-th passing of a named step of the store's commit protocol.
CHILD = """
import functools, os, signal, sys
from pathlib import Path
from eval.benchmarks.hashes import HashEmbedder
from ingest import sync as module
from ingest.store import Store

folder, docs, step, passing = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
seen = 0

def checkpoint(name):
    global seen
    seen += name == step
    if name == step and seen == passing:
        os.kill(os.getpid(), signal.SIGKILL)

class KillableStore(Store):
    write = staticmethod(functools.partial(Store.write, checkpoint=checkpoint))

module.Store = KillableStore
module._BATCH_CHUNKS = 20
module.sync(folder, [docs], module.SyncSettings(), embedder=HashEmbedder())
"""


def write_collection(folder: Path, version: int) -> Path:
    """Small documents of several chunks; another version changes every second one."""
    folder.mkdir(exist_ok=True)
    for number in range(DOCUMENTS):
        edition = version if number % 2 else 1
        sections = (
            f"## Section {i}\n\nDocument {number} in edition {edition} says that item {i} "
            f"weighs {number * i} grams."
            for i in range(4)
        )
        text = f"# Document {number}\n\n" + "\n\n".join(sections) + "\n"
        path = folder / f"{number:02}.md"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    return folder


def ingest(store: Path, docs: Path, step: str = "never", passing: int = 1) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", CHILD, store, docs, step, str(passing)])


def contents(store: Path) -> dict[str, tuple[str, tuple[tuple[int, int], ...]]]:
    """Every document's text and chunk spans, read through the store's own checks."""
    with Store.open(store) as opened:
        opened.check()
        documents = [opened.document(info.source) for info in opened.sources()]
    spans = {d.document.source: tuple((c.start, c.end) for c in d.chunks) for d in documents}
    return {d.document.source: (d.document.text, spans[d.document.source]) for d in documents}


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_collection(tmp_path_factory.mktemp("docs") / "docs", 1)


@pytest.fixture(scope="module")
def expected(docs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What an uninterrupted run makes of the collection."""
    store = tmp_path_factory.mktemp("reference") / ".rag"
    assert ingest(store, docs).wait() == 0
    return contents(store)


def check_whole_and_finish(store: Path, docs: Path, expected: dict) -> None:
    """Nothing half done is visible, and a plain re-run ends like the uninterrupted one."""
    if (store / "store.sqlite3").exists():
        partial = contents_or_nothing(store)
        assert all(partial[source] == expected[source] for source in partial)
    assert ingest(store, docs).wait() == 0
    assert contents(store) == expected
    chunks = sum(len(spans) for _, spans in expected.values())
    with Store.open(store) as opened:
        assert opened.chunk_count == chunks
        assert len(opened.dense(np.eye(384, dtype=np.float32)[0], 10 * chunks)) == chunks
    assert index_count(store) == chunks


def contents_or_nothing(store: Path) -> dict:
    from ingest.errors import StoreMissing

    try:
        return contents(store)
    except StoreMissing:  # killed before the first table was made
        return {}


@pytest.mark.parametrize("passing", [1, 3])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_each_step(
    tmp_path: Path, docs: Path, expected: dict, step: str, passing: int
) -> None:
    """SIGKILL exactly between any two steps of a commit."""
    store = tmp_path / ".rag"

    assert ingest(store, docs, step, passing).wait() == -signal.SIGKILL

    check_whole_and_finish(store, docs, expected)


@pytest.mark.parametrize("step", STEPS)
def test_killed_while_documents_are_replaced(tmp_path: Path, step: str) -> None:
    """Each document is in its old or its new edition, never both, never neither."""
    docs = write_collection(tmp_path / "docs", 1)
    store = tmp_path / ".rag"
    assert ingest(store, docs).wait() == 0
    before = contents(store)
    write_collection(docs, 2)

    assert ingest(store, docs, step, 2).wait() == -signal.SIGKILL
    between = contents(store)
    assert ingest(store, docs).wait() == 0
    after = contents(store)

    assert before.keys() == between.keys() == after.keys()
    assert all(between[source] in (before[source], after[source]) for source in between)
    assert sum("edition 2" in text for text, _ in after.values()) == DOCUMENTS // 2


@pytest.mark.parametrize("seed", range(6))
def test_killed_at_random_moments(tmp_path: Path, docs: Path, expected: dict, seed: int) -> None:
    """SIGKILL from outside, twice in a row, whenever it comes."""
    store = tmp_path / ".rag"
    chance = random.Random(seed)
    for _ in range(2):
        child = ingest(store, docs)
        while not store.exists() and child.poll() is None:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 1.5))
        child.send_signal(signal.SIGKILL)
        child.wait()

    check_whole_and_finish(store, docs, expected)


def test_a_second_writer_is_told_who_holds_the_store(tmp_path: Path, docs: Path) -> None:
    """Two ingests at once: the later one gives up within seconds and names the first."""
    from ingest.errors import StoreBusy

    store = tmp_path / ".rag"
    with (
        Store.write(store, SETTINGS),
        pytest.raises(StoreBusy, match=str(os.getpid())) as caught,
        Store.write(store, SETTINGS, wait=0.2),
    ):
        pass

    assert caught.value.hint


def test_a_dead_holders_lock_is_free(tmp_path: Path, docs: Path) -> None:
    """A killed writer leaves no lock behind."""
    store = tmp_path / ".rag"
    assert ingest(store, docs, "prepared").wait() == -signal.SIGKILL

    with Store.write(store, SETTINGS, wait=0.2) as writer:
        assert writer.known_sources() == {}


def test_an_index_left_open_by_a_kill_is_made_anew(
    tmp_path: Path, docs: Path, expected: dict
) -> None:
    """Torn files can pass every query, so the next run builds a new index and drops the old."""
    store = tmp_path / ".rag"
    assert ingest(store, docs, "cleared", 3).wait() == -signal.SIGKILL
    left = sorted(path.name for path in store.glob("index-*"))

    assert ingest(store, docs).wait() == 0

    (kept,) = store.glob("index-*")
    assert kept.name not in left
    assert not (kept / "in-use").exists()
    assert contents(store) == expected


def test_pages_are_counted_from_one() -> None:
    """The offset of a page's first character belongs to it."""
    assert [page_at((0, 10), offset) for offset in (0, 9, 10)] == [1, 1, 2]
    assert page_at((), 5) is None
