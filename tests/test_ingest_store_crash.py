"""Whatever a writer was doing when it was killed: no document is lost, doubled or torn.

Each test kills a real process with SIGKILL, looks at what is left, and runs the work again.
"""

import hashlib
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest
from killed import at, ended, kill, start, started

from eval.benchmarks.durability.runs import index_count
from ingest.config import IndexSettings
from ingest.errors import StoreBusy, StoreMissing
from ingest.lock import no_writer, writer_lock
from ingest.rebuild import rebuild
from ingest.records import DocumentCommit, FileCommit, FileRecord, vector_key
from ingest.schema import DATABASE, LOCK
from ingest.store import Store
from ingest.types import Chunk, Document, embedded_text

DIMENSION = 8
SETTINGS = IndexSettings("test-model", DIMENSION, 220)
STEPS = ["prepared", "indexed", "published", "deleted", "cleared"]
BATCH = 2

# A collection by file name; the second version changes, adds and removes files.
Collection = Mapping[str, int]
FIRST = {f"{n}.md": 1 for n in range(8)}
SECOND = {f"{n}.md": 1 if n % 2 else 2 for n in range(2, 8)} | {"8.md": 1, "9.md": 1}


def paragraphs(name: str, version: int, count: int = 5) -> list[str]:
    return [f"Paragraph {n} of {name} in version {version}." for n in range(count)]


def text_of(name: str, version: int) -> str:
    return "\n".join(paragraphs(name, version))


def make_file(name: str, version: int, count: int = 5) -> FileCommit:
    parts = paragraphs(name, version, count)
    text, chunks, start = "\n".join(parts), [], 0
    for ordinal, part in enumerate(parts):
        chunks.append(Chunk(ordinal, start, start + len(part), part, None, ""))
        start += len(part) + 1
    digest = hashlib.sha256(text.encode()).hexdigest()
    document = Document(name, name, "text/plain", text, ())
    keys = tuple(vector_key("test-model", embedded_text(document, c)) for c in chunks)
    record = FileRecord(f"/root/{name}", "/root", len(text), version, digest, "text-1")
    return FileCommit(record, (DocumentCommit(document, tuple(chunks), keys),))


def unit(key: bytes) -> np.ndarray:
    row = np.random.default_rng(int.from_bytes(key, "big")).standard_normal(DIMENSION)
    return (row / np.linalg.norm(row)).astype(np.float32)


def sync(
    folder: Path, wanted: Collection, checkpoint: Callable[[str], None] = lambda step: None
) -> None:
    """Bring a store to a collection as an ingest does: what is the same is left alone."""
    with Store.write(folder, SETTINGS, checkpoint=checkpoint) as writer:
        known = writer.known_files()
        files = [make_file(name, version) for name, version in sorted(wanted.items())]
        changed = [f for f in files if known.get(f.record.path, None) != f.record]
        for start in range(0, len(changed), BATCH):
            batch = changed[start : start + BATCH]
            keys = writer.missing_vectors(k for f in batch for d in f.documents for k in d.keys)
            writer.commit(batch, {key: unit(key) for key in keys})
        writer.remove(paths=known.keys() - {file.record.path for file in files})
        writer.collect_garbage()


def killed_at(folder: Path, step: str, passing: int) -> None:
    """A second run that kills itself at a step."""
    sync(folder, SECOND, at(step, passing))


def sync_when_ready(ready: Event, folder: Path) -> None:
    ready.set()
    sync(folder, SECOND)


def rebuild_when_ready(ready: Event, folder: Path) -> None:
    ready.set()
    rebuild(folder)


def hold(ready: Event, folder: Path) -> None:
    """A writer that does not end."""
    with Store.write(folder, SETTINGS):
        ready.set()
        time.sleep(60)


def large_when_ready(ready: Event, folder: Path) -> None:
    ready.set()
    large(folder)


def large(folder: Path) -> None:
    """Enough small batches of many chunks for Chroma to write its index several times."""
    with Store.write(folder, SETTINGS) as writer:
        for number in range(10):
            if f"/root/large-{number}" in writer.known_files():
                continue
            file = make_file(f"large-{number}", 1, count=400)
            writer.commit([file], {key: unit(key) for d in file.documents for key in d.keys})


def versions(folder: Path) -> dict[str, int]:
    """Which whole version of each file the store holds; a torn one has none and fails."""
    with Store.open(folder) as store, store.snapshot():
        store.check()
        found = {}
        for info in store.sources():
            stored = store.document(info.source)
            text, first = stored.document.text, stored.chunks[0]
            found[info.source] = {text_of(info.source, v): v for v in (1, 2)}[text]
            key = vector_key("test-model", embedded_text(stored.document, first))
            (hit,) = store.dense(unit(key), 1)
            assert first.text == store.chunks([hit.chunk_id])[hit.chunk_id].text
        return found


def assert_agrees(folder: Path, wanted: Collection) -> None:
    """The store is what an uninterrupted run would have made of it, in all its parts."""
    assert wanted == versions(folder)
    chunks = 5 * len(wanted)
    with sqlite3.connect(folder / DATABASE) as connection:
        counted = {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("documents", "chunks", "vectors", "terms", "outbox", "files")
        }
    connection.close()
    assert counted == {
        "documents": len(wanted),
        "chunks": chunks,
        "vectors": chunks,
        "terms": chunks,
        "outbox": 0,
        "files": len(wanted),
    }
    assert index_count(folder) == chunks
    assert len(list(folder.glob("index-*"))) == 1


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("times", [2, 4])
def test_a_kill_between_two_steps_is_mended_by_the_next_run(
    tmp_path: Path, step: str, times: int
) -> None:
    """In the middle of the batches, and at the removal that ends the run."""
    sync(tmp_path, FIRST)

    assert ended(start(killed_at, tmp_path, step, times)) == -signal.SIGKILL
    left = versions(tmp_path)
    sync(tmp_path, SECOND)

    # Batches are acknowledged in order, each as a whole.
    done = times - (STEPS.index(step) < STEPS.index("published"))
    batches = [["2.md", "4.md"], ["6.md", "8.md"], ["9.md"]]
    expected = FIRST | {n: SECOND[n] for batch in batches[:done] for n in batch}
    assert left == (SECOND if done > len(batches) else expected)
    assert_agrees(tmp_path, SECOND)


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_birth_leaves_nothing_in_the_way(tmp_path: Path, step: str) -> None:
    """The very first commit of a new store."""
    assert ended(start(killed_at, tmp_path, step, 1)) == -signal.SIGKILL
    left = versions(tmp_path)
    sync(tmp_path, SECOND)

    assert left.items() <= SECOND.items()
    assert_agrees(tmp_path, SECOND)


@pytest.mark.parametrize("step", ["filled", "swapped"])
def test_a_kill_while_the_index_is_made_anew(tmp_path: Path, step: str) -> None:
    """A broken index, and a kill during its repair."""
    sync(tmp_path, FIRST)
    (index,) = tmp_path.glob("index-*")
    (index / "chroma.sqlite3").write_bytes(b"no database" * 1000)

    assert ended(start(killed_at, tmp_path, step, 1)) == -signal.SIGKILL
    with Store.open(tmp_path) as store:
        sources = {info.source for info in store.sources()}
    sync(tmp_path, SECOND)

    assert sources == FIRST.keys()
    assert_agrees(tmp_path, SECOND)


@pytest.mark.parametrize("work", [sync_when_ready, rebuild_when_ready])
@pytest.mark.parametrize("seed", range(3))
def test_a_kill_at_any_moment(tmp_path: Path, work: Callable[..., None], seed: int) -> None:
    """Moments that no checkpoint names."""
    sync(tmp_path, FIRST)

    with started(work, tmp_path):
        time.sleep(random.Random(seed).uniform(0.0, 0.6))
    with Store.open(tmp_path) as store:
        left = {store.document(info.source).document.text for info in store.sources()}
    sync(tmp_path, SECOND)
    sync(tmp_path, SECOND)

    whole = {text_of(name, version) for name in FIRST | SECOND for version in (1, 2)}
    assert left <= whole
    if work is sync_when_ready:
        assert_agrees(tmp_path, SECOND)
    else:
        assert versions(tmp_path) == SECOND


@pytest.mark.parametrize("writes", [1, 3, 6])
def test_a_kill_while_chroma_writes_its_index(tmp_path: Path, writes: int) -> None:
    """Aimed at the moment the files of the index change."""
    with started(large_when_ready, tmp_path) as process:
        wait_for_index_writes(process, tmp_path, writes)
    with Store.open(tmp_path) as store:
        left = store.chunk_count
        whole = [info.chunks for info in store.sources()]
    large(tmp_path)

    assert left % 400 == 0
    assert set(whole) <= {400}
    with Store.open(tmp_path) as store:
        store.check()
        assert store.chunk_count == 4000
    assert index_count(tmp_path) == 4000


def wait_for_index_writes(process: BaseProcess, folder: Path, writes: int) -> None:
    """Return when the index's files have changed so many times, or the process has ended."""
    last: set[tuple[str, int]] = set()
    while process.is_alive() and writes:
        now = {(str(p), p.stat().st_mtime_ns) for p in folder.glob("index-*/*/*.bin")}
        writes -= now != last
        last = now
        time.sleep(0.0005)


def test_a_second_writer_is_told_who_holds_the_store(tmp_path: Path) -> None:
    """It gives up after its wait, and goes ahead the moment the holder is dead."""
    sync(tmp_path, FIRST)
    with started(hold, tmp_path) as process:
        with (
            pytest.raises(StoreBusy, match=f"process {process.pid}, '"),
            Store.write(tmp_path, SETTINGS, wait=0.2),
        ):
            pass
        with Store.open(tmp_path) as store:
            documents = store.status().documents
        kill(process)
        sync(tmp_path, SECOND)

    assert documents == 8
    assert_agrees(tmp_path, SECOND)


def test_a_lock_is_free_again_after_its_context(tmp_path: Path) -> None:
    """Also after an error inside it; a reader can tell whether a writer is at work."""
    path = tmp_path / LOCK
    with no_writer(path) as quiet_without_file:
        pass
    with writer_lock(path), no_writer(path) as quiet_inside:
        pass
    with pytest.raises(ZeroDivisionError), writer_lock(path):
        _ = 1 / 0
    with no_writer(path) as quiet_after, pytest.raises(StoreBusy), writer_lock(path, wait=0):
        pass

    assert [quiet_without_file, quiet_inside, quiet_after] == [False, False, True]


def test_an_error_inside_a_commit_takes_it_back(tmp_path: Path) -> None:
    """The process lives on: the next commit of the same writer finds nothing half done."""
    failures = iter([True])

    def checkpoint(step: str) -> None:
        if step == "indexed" and next(failures, False):
            raise KeyboardInterrupt

    file = make_file("0.md", 1)
    vectors = {key: unit(key) for key in file.documents[0].keys}
    with Store.write(tmp_path, SETTINGS, checkpoint=checkpoint) as writer:
        with pytest.raises(KeyboardInterrupt):
            writer.commit([file], vectors)
        known = writer.known_files()
        writer.commit([file], {})

    assert known == {}
    assert_agrees(tmp_path, {"0.md": 1})


def test_a_store_killed_before_its_tables_is_missing_not_damaged(tmp_path: Path) -> None:
    """What a kill during creation leaves can be written at once."""
    (tmp_path / DATABASE).touch()

    with pytest.raises(StoreMissing):
        Store.open(tmp_path)
    sync(tmp_path, SECOND)

    assert_agrees(tmp_path, SECOND)
