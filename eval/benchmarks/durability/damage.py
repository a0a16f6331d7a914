"""Damaged stores: whatever has changed on disk, the answer is right or the damage is named."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from random import Random

from eval.benchmarks.durability.runs import QUESTION, Bench, Run, Trial
from eval.benchmarks.hashes import HashEmbedder
from ingest.dense import EXACT_LIMIT
from ingest.errors import StoreError
from ingest.filters import parse_filters
from ingest.rebuild import rebuild
from ingest.schema import DATABASE, place
from ingest.store import Store
from ingest.sync import SyncSettings, sync
from rag.retrieval.retrieve import retrieve
from rag.settings.config import RetrievalSection

_DOCUMENTS = 8


@dataclass(frozen=True, slots=True)
class Damage:
    """What is done to one file of a store, and to which: larger ones more often, if so wished."""

    change: Callable[[Path, Path, Random], None]
    files: str = "**/*"
    by_size: bool = False
    exact_limit: int = EXACT_LIMIT


def flips(bench: Bench) -> Iterator[Trial]:
    """One byte changed in the database, its journal, or another file beside the index."""
    return _trials(bench, 8 * bench.kills, Damage(_flip, "*", by_size=True))


def index_flips(bench: Bench) -> Iterator[Trial]:
    """One byte changed in the vector index, of a store that is searched by it."""
    return _trials(bench, 2 * bench.kills, Damage(_flip, "index-*/**/*", exact_limit=0))


def truncations(bench: Bench) -> Iterator[Trial]:
    """One file cut short."""
    return _trials(bench, 2 * bench.kills, Damage(_cut))


def losses(bench: Bench) -> Iterator[Trial]:
    """One file gone, or put back as it was before the last run, or taken from another store."""
    return _trials(bench, 2 * bench.kills, Damage(_lose))


def _flip(store: Path, path: Path, chance: Random) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= chance.randrange(1, 256)
    path.write_bytes(data)


def _cut(store: Path, path: Path, chance: Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(len(data))])


def _lose(store: Path, path: Path, chance: Random) -> None:
    path.unlink()
    origin = store.parent.parent / chance.choice(["nothing", "earlier", "other"])
    if (source := origin / path.relative_to(store)).exists():
        shutil.copy(source, path)


def _trials(bench: Bench, count: int, damage: Damage) -> Iterator[Trial]:
    _make_stores(bench)
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        expected = pool.submit(
            _look, _copied(bench.folder, "expected"), damage.exact_limit
        ).result()
        seeds = (f"{bench.seed} {number}" for number in range(count))
        yield from pool.map(partial(_trial, bench.folder, damage, expected), seeds)


def _make_stores(bench: Bench) -> None:
    """A store whose last commits are in the journal, as after a kill; an earlier state of it, and
    another store, beside it. Of small documents: few bytes, so that each has its chance."""
    docs, store = bench.folder / "docs", bench.folder / "writing"
    docs.mkdir()
    files = sorted((p.stat().st_size, p) for p in bench.docs.rglob("*.*") if p.is_file())
    (_, first), *others = files[:_DOCUMENTS]
    for _, path in others:
        shutil.copy(path, docs)
    Run(bench, ("ingest", docs)).finish(store)
    shutil.copytree(store, bench.folder / "earlier")
    with sqlite3.connect(store / DATABASE) as reader:  # keeps the journal from being merged
        reader.execute("SELECT * FROM meta").fetchall()
        shutil.copy(first, docs)
        Run(bench, ("ingest", docs)).finish(store)
        shutil.copytree(store, bench.folder / "whole")
    reader.close()
    Run(bench, ("ingest", first)).finish(bench.folder / "other")


def _copied(folder: Path, name: str) -> Path:
    """A copy of the whole store that counts as made where it is."""
    store = Path(shutil.copytree(folder / "whole", folder / name / ".rag"))
    for path in store.glob("index-*/manifest.json"):
        written = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(written | {"place": place(store)}), encoding="utf-8")
    return store


def _trial(folder: Path, damage: Damage, expected: object, seed: str) -> Trial:
    """Look at once and after an ingest; after a rebuild and one more ingest all is as it was."""
    store, chance = _copied(folder, seed), Random(seed)
    files = {p: p.stat().st_size for p in sorted(store.glob(damage.files)) if p.is_file()}
    weights = [size if damage.by_size else size > 0 for size in files.values()]
    (path,) = chance.choices(list(files), weights)
    damage.change(store, path, chance)
    look = partial(_look, store, damage.exact_limit)
    ingest = partial(sync, store, [folder / "docs"], SyncSettings(), embedder=HashEmbedder())
    found = [_named(look), "named" if _named(ingest) == "named" else expected, _named(look)]
    if _named(partial(rebuild, store)) == "named":  # beyond repair
        shutil.rmtree(store)
    ingest()
    wrong = [each for each in found if each not in ("named", expected)]
    wrong += [last] if (last := look()) != expected else []
    shutil.rmtree(store.parent)
    return Trial(f"{seed}, {path.name}", str(wrong)[:500] if wrong else "")


def _named(step: Callable[[], object]) -> object:
    try:
        return step()
    except StoreError:
        return "named"


def _look(store: Path, exact_limit: int) -> object:
    """All that a store says, through every way of reading it."""
    with Store.open(store, exact_limit) as opened:
        sources = [(i.source, i.title, i.path, i.chunks) for i in opened.sources()]
        found = [
            (p.chunk.source, p.chunk.start, p.chunk.text, round(p.score, 4))
            for filters in ((), parse_filters(["source=*e*"]))
            for p in retrieve(
                QUESTION, opened, HashEmbedder(), RetrievalSection(), filters
            ).passages
        ]
        return sources, [opened.document(name).document for name, *_ in sources], found
