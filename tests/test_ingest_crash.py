"""Killed at any moment, the store holds whole documents, and a plain re-run finishes the work."""

import random
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from killed import ended, ingest, ingest_without_workers, kill, start

from eval.benchmarks.durability.runs import Contents, contents, index_count
from ingest.config import IndexSettings
from ingest.store import Store
from ingest.types import page_at

STEPS = ("prepared", "indexed", "published", "deleted", "cleared")
RESHAPE_STEPS = ("reshaped", "filled", "swapped")
DOCUMENTS = 24


def write_collection(folder: Path, version: int) -> Path:
    """Small documents of several chunks. The second version has every other one in another edition,
    two moved, one gone and one more."""
    folder.mkdir(exist_ok=True)
    for number in range(DOCUMENTS):
        edition = version if number % 2 else 1
        sections = (
            f"## Section {i}\n\nDocument {number} in edition {edition} says that item {i} "
            f"weighs {number * i} grams."
            for i in range(4)
        )
        (folder / f"{number:02}.md").write_text(f"# Document {number}\n\n" + "\n\n".join(sections))
    if version == 2:
        (folder / "00.md").unlink()
        (folder / "24.md").write_text("# Document 24\n\nIt is new.")
        for number in (2, 22):
            (folder / f"{number:02}.md").rename(folder / f"moved-{number:02}.md")
    return folder


def write_container(folder: Path) -> Path:
    """The same documents in one file, which is committed in parts."""
    folder.mkdir()
    lines = [
        f'{{"_id": "{number}", "text": "Document {number} weighs {number * 7} grams. It is old."}}'
        for number in range(4 * DOCUMENTS)
    ]
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    return folder


@dataclass(frozen=True)
class Run:
    """An ingest to be killed, what it begins with, and what it makes of it undisturbed."""

    docs: Path
    index: IndexSettings
    base: Path | None
    before: Contents
    after: Contents

    def begin(self, store: Path) -> Path:
        """A store to run on."""
        if self.base is not None:
            shutil.copytree(self.base, store)
        return store

    def check(self, store: Path) -> None:
        """Nothing half done is visible, and a plain re-run ends like the undisturbed one."""
        found = contents(store)
        assert all(each in (self.before.get(s), self.after.get(s)) for s, each in found.items())
        assert found.keys() >= self.before.keys() & self.after.keys()
        assert ended(start(ingest_without_workers, store, self.docs, self.index)) == 0
        assert contents(store) == self.after
        chunks = sum(len(spans) for _, spans in self.after.values())
        with Store.open(store) as opened:
            assert len(opened.dense(np.eye(384, dtype=np.float32)[0], 10 * chunks)) == chunks
        assert index_count(store) == chunks


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Run]:
    """A first ingest, one of a file with many documents, one after edits, one to other settings."""
    place, plain = tmp_path_factory.mktemp("runs"), IndexSettings()
    edited, base = write_collection(place / "edited", 1), place / "base"
    assert ended(start(ingest_without_workers, base, edited, plain)) == 0
    write_collection(edited, 2)
    first, container = write_collection(place / "first", 1), write_container(place / "container")

    def run(name: str, docs: Path, index: IndexSettings, base: Path | None) -> Run:
        store = place / f"{name}-store"
        before = contents(shutil.copytree(base, store)) if base else {}
        assert ended(start(ingest_without_workers, store, docs, index)) == 0
        return Run(docs, index, base, before, contents(store))

    return {
        "first": run("first", first, plain, None),
        "container": run("container", container, plain, None),
        "update": run("update", edited, plain, base),
        "reshape": run("reshape", edited, IndexSettings(chunk_tokens=64), base),
    }


@pytest.mark.parametrize(
    ("name", "step", "passing"),
    [("first", step, passing) for step in STEPS for passing in (1, 3)]
    + [("container", step, 3) for step in STEPS]
    + [("update", step, 2) for step in STEPS]
    + [("reshape", step, 1) for step in (*RESHAPE_STEPS, "indexed", "published")],
)
def test_killed_at_each_step(
    tmp_path: Path, runs: Mapping[str, Run], name: str, step: str, passing: int
) -> None:
    """SIGKILL exactly between any two steps of a commit."""
    run = runs[name]
    store = run.begin(tmp_path / ".rag")

    process = start(ingest_without_workers, store, run.docs, run.index, step, passing)

    assert ended(process) == -signal.SIGKILL
    run.check(store)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["first", "update"])
def test_killed_at_random_moments(
    tmp_path: Path, runs: Mapping[str, Run], name: str, seed: int
) -> None:
    """SIGKILL from outside, twice in a row, whenever it comes; with worker processes too."""
    run, chance = runs[name], random.Random(seed)
    store = run.begin(tmp_path / ".rag")
    work: Callable[..., None] = ingest if seed == 0 else ingest_without_workers
    for _ in range(2):
        process = start(work, store, run.docs, run.index)
        while not (store / "lock").exists() and process.is_alive():
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.8))
        kill(process)

    run.check(store)


def test_an_index_left_open_by_a_kill_is_made_anew(tmp_path: Path, runs: Mapping[str, Run]) -> None:
    """Torn files can pass every query, so the next run builds a new index and drops the old."""
    run, store = runs["first"], tmp_path / ".rag"
    work = (ingest_without_workers, store, run.docs, run.index)
    assert ended(start(*work, "cleared", 3)) == -signal.SIGKILL
    left = {path.name for path in store.glob("index-*")}

    assert ended(start(*work)) == 0

    (kept,) = store.glob("index-*")
    assert kept.name not in left
    assert contents(store) == run.after


def test_pages_are_counted_from_one() -> None:
    """The offset of a page's first character belongs to it."""
    assert [page_at((0, 10), offset) for offset in (0, 9, 10)] == [1, 1, 2]
    assert page_at((), 5) is None
