"""Kill an ingest without mercy, again and again, and see what a plain re-run makes of it.

    python -m eval.benchmarks.crash DOCS [--kills 20] [--aimed 10] [--real]

Each trial starts from an empty store, kills the ingest with SIGKILL (at a random moment, or the
moment a file of Chroma's index changes), asks a question of what is left, runs the ingest again
to its end and compares every document and chunk with an uninterrupted run. Vectors are hashes of
words unless --real is given: the store is what is tried here, and it does not look into them.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from eval.benchmarks.hashes import HashEmbedder
from ingest.dense import index_count
from ingest.embed import DefaultEmbedder, Embedder
from ingest.store import Store
from ingest.sync import SyncSettings, sync

_POLL_SECONDS = 0.0005
_QUESTION = "How do I read the contents of a file?"


@dataclass(frozen=True, slots=True)
class Trial:
    """What one kill left behind, and what the re-run made of it; counts are of documents."""

    kind: str
    killed_after: float
    before: int
    asked: str
    lost: int
    doubled: int
    differing: int
    index_agrees: bool

    @property
    def passed(self) -> bool:
        """Whether nothing was lost, doubled or changed, and asking worked."""
        whole = self.lost == self.doubled == self.differing == 0
        return whole and self.index_agrees and self.asked in ("answered", "abstained", "no store")


Spans = dict[str, tuple[tuple[int, int], ...]]


def main() -> int:
    """Run all trials; exit 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("docs", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--aimed", type=int, default=10)
    parser.add_argument("--real", action="store_true", help="embed with the real model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.store:  # the child that is killed
        _ingest(arguments.store, arguments.docs, real=arguments.real)
        return 0
    return _trials(arguments)


def _trials(arguments: argparse.Namespace) -> int:
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder, "reference")
        begun = time.perf_counter()
        _child(arguments, reference).wait()
        seconds = time.perf_counter() - begun
        expected = _spans(reference)
        chunks = sum(map(len, expected.values()))
        print(f"uninterrupted: {len(expected)} documents, {chunks} chunks, {seconds:.1f} s")
        kinds = ["random"] * arguments.kills + ["aimed"] * arguments.aimed
        passed = 0
        for number, kind in enumerate(kinds):
            store = Path(folder, f"trial-{number}")
            trial = _trial(arguments, store, kind, expected, _moment(kind, chance, seconds, store))
            print(f"{number + 1:>3} {trial}", flush=True)
            passed += trial.passed
            shutil.rmtree(store, ignore_errors=True)
    print(f"{passed} passed, {len(kinds) - passed} failed")
    return 0 if passed == len(kinds) else 1


def _moment(
    kind: str, chance: random.Random, seconds: float, store: Path
) -> Callable[[subprocess.Popen[bytes]], None]:
    """What to wait for before the kill."""
    if kind == "random":
        delay = chance.uniform(0.1, 1.0) * seconds
        return lambda child: time.sleep(delay)
    writes = chance.randint(1, 12)
    return lambda child: _wait_for_index_writes(child, store, writes)


def _wait_for_index_writes(child: subprocess.Popen[bytes], store: Path, writes: int) -> None:
    """Return the moment Chroma's own index files have changed `writes` times."""
    last: set[tuple[str, int, int]] = set()
    changes = 0
    while child.poll() is None and changes < writes:
        now = set()
        for path in store.glob("index-*/*/*"):
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            now.add((str(path), stat.st_size, stat.st_mtime_ns))
        changes += bool(now) and now != last
        last = now
        time.sleep(_POLL_SECONDS)


def _trial(
    arguments: argparse.Namespace,
    store: Path,
    kind: str,
    expected: Spans,
    moment: Callable[[subprocess.Popen[bytes]], None],
) -> Trial:
    begun = time.perf_counter()
    child = _child(arguments, store)
    moment(child)
    child.send_signal(signal.SIGKILL)
    child.wait()
    killed_after = time.perf_counter() - begun
    asked = _ask(store)
    before = _documents(store)
    rerun = _child(arguments, store)
    if rerun.wait() != 0:
        raise SystemExit(f"the re-run after kill failed with exit code {rerun.returncode}")
    found = _spans(store)
    return Trial(
        kind,
        round(killed_after, 2),
        before,
        asked,
        lost=len(expected.keys() - found.keys()),
        doubled=len(found.keys() - expected.keys()),
        differing=sum(found[s] != expected[s] for s in found.keys() & expected.keys()),
        index_agrees=index_count(store) == sum(map(len, expected.values())),
    )


def _child(arguments: argparse.Namespace, store: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "eval.benchmarks.crash", str(arguments.docs)]
    command += ["--store", str(store), *(["--real"] if arguments.real else [])]
    return subprocess.Popen(command)


def _ingest(store: Path, docs: Path, *, real: bool) -> None:
    embedder: Embedder = DefaultEmbedder() if real else HashEmbedder()
    sync(store, [docs], SyncSettings(), embedder=embedder)


def _ask(store: Path) -> str:
    """What the command line says of a store right after the kill."""
    command = [sys.executable, "-c", "from rag.cli import main; main()"]
    command += ["ask", "--extractive", "--json", "--store", str(store), _QUESTION]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    answer = json.loads(result.stdout or "{}")
    if result.returncode == 0:
        return str(answer["status"])
    error = answer.get("error", {}).get("type", "")
    # Killed before the store existed: saying so is the right answer.
    return "no store" if error == "store_missing" else f"exit {result.returncode}: {error}"


def _documents(store: Path) -> int:
    return len(_spans(store)) if (store / "store.sqlite3").exists() else 0


def _spans(store: Path) -> Spans:
    """The chunk spans of every document, by its source."""
    try:
        with Store.open(store) as opened:
            names = [s.source for s in opened.sources()]
            documents = [opened.document(name) for name in names]
    except Exception as error:  # noqa: BLE001  # a store killed at birth holds nothing yet
        print(f"    ({type(error).__name__}: {error})", file=sys.stderr)
        return {}
    return {d.document.source: tuple((c.start, c.end) for c in d.chunks) for d in documents}


if __name__ == "__main__":
    sys.exit(main())
