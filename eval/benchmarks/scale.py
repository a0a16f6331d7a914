"""How an ingest behaves when there is much of everything: many files, many chunks, few changes.

    python -m eval.benchmarks.scale files [--files 10000]
    python -m eval.benchmarks.scale chunks [--chunks 100000] [--real] [--keep DIR]

`files`: a store of so many small files is asked for again by the whole `rag ingest` command, first
unchanged and then with one file in a hundred edited. `chunks`: one ingest of so many chunks; the
rate of its last tenth against that of its first, by the clock and by the processor's time (which
other work on the machine does not disturb), and the peak memory. Texts are made of random words;
vectors are hashes of them unless --real is given (the edits are embedded for real). Hashes have no
neighbours, which is the worst case for the vector index: what they cost is not what texts cost.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import NamedTuple

from eval.benchmarks.hashes import HashEmbedder
from ingest.config import DEFAULT_MODEL
from ingest.embed import Embedder, open_embedder
from ingest.report import Progress
from ingest.sync import SyncSettings, sync

_RUNS = 3
_CHUNK_WORDS = 44  # made-up words have more than three wordpieces each: about 170 in a chunk
_VOCABULARY = 20_000


def main() -> int:
    """Run one of the two trials and print its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("trial", choices=("files", "chunks"))
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--real", action="store_true", help="embed with the real model")
    parser.add_argument("--keep", type=Path, help="make documents and store here, and keep them")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.keep or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        if arguments.trial == "files":
            figures = many_files(work, arguments.files)
        else:
            figures = many_chunks(work, arguments.chunks, real=arguments.real)
    print(json.dumps(figures, indent=1))
    return 0


def many_files(work: Path, count: int) -> dict[str, float | int]:
    """Seconds of whole commands over a store of `count` files of one chunk each."""
    docs, store = work / "docs", work / ".rag"
    for number, text in zip(range(count), _texts(), strict=False):
        path = docs / f"{number // 100:03}" / f"{number:05}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# Note {number}\n\n{text}\n", encoding="utf-8")
        os.utime(path, (1_600_000_000, 1_600_000_000))
    begun = time.perf_counter()
    report = sync(store, [docs], SyncSettings(), embedder=HashEmbedder())
    first = time.perf_counter() - begun
    unchanged = [_command(store, docs)[0] for _ in range(_RUNS)]
    for path in sorted(docs.rglob("*.md"))[::100]:
        path.write_text(path.read_text(encoding="utf-8") + "\nOne more line.\n", encoding="utf-8")
    seconds, changed = _command(store, docs)
    return {
        "files": len(report.added),
        "first_ingest_with_hashes_seconds": round(first, 2),
        "unchanged_seconds": round(median(unchanged), 2),
        "changed_files": len(changed["updated"]),
        "changed_seconds": round(seconds, 2),
    }


def many_chunks(work: Path, count: int, *, real: bool) -> dict[str, float | int]:
    """The rate of an ingest of `count` chunks in its first and in its last tenth."""
    docs = work / "docs"
    docs.mkdir()
    texts = _texts()
    for number in range(count // 20):
        parts = "\n\n".join(f"## Part {part}\n\n{next(texts)}" for part in range(20))
        (docs / f"{number:05}.md").write_text(f"# Volume {number}\n\n{parts}\n", encoding="utf-8")
    embedder: Embedder = open_embedder(DEFAULT_MODEL) if real else HashEmbedder()
    points = [_Point(0, time.perf_counter(), time.process_time())]

    def note(progress: Progress) -> None:
        if progress.done * 20 >= points[-1].chunks + count // 100:
            points.append(_Point(progress.done * 20, time.perf_counter(), time.process_time()))

    report = sync(work / ".rag", [docs], SyncSettings(), note, embedder)
    first, last = _rates(points, 0.0, 0.1), _rates(points, 0.9, 1.0)
    return {
        "chunks": report.chunks,
        "chunks_per_second": round(report.chunks / report.seconds, 1),
        "last_to_first_by_the_clock": round(last[0] / first[0], 3),
        "last_to_first_by_processor_time": round(last[1] / first[1], 3),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "peak_mib_of_a_worker": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }


class _Point(NamedTuple):
    """How many chunks were done when."""

    chunks: int
    clock: float
    processor: float


def _rates(points: Sequence[_Point], start: float, end: float) -> tuple[float, float]:
    """Chunks a second between two shares of the work: by the clock, and by processor time."""
    whole = points[-1].chunks
    inside = [point for point in points if start * whole <= point.chunks <= end * whole]
    first, last = inside[0], inside[-1]
    done = last.chunks - first.chunks
    return done / (last.clock - first.clock), done / (last.processor - first.processor)


def _command(store: Path, docs: Path) -> tuple[float, dict[str, list[str]]]:
    """The seconds of a whole `rag ingest`, and its report."""
    command = [sys.executable, "-c", "from rag.cli import main; main()"]
    command += ["ingest", str(docs), "--store", str(store), "--json"]
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - begun, json.loads(done.stdout)


def _texts() -> Iterator[str]:
    """Paragraphs of made-up words, as often as words of a language are (Zipf's law)."""
    chance = random.Random(0)
    letters = "aeioubdfgklmnprstvz"
    words = ["".join(chance.choices(letters, k=chance.randint(3, 9))) for _ in range(_VOCABULARY)]
    weights = list(accumulate(1 / rank for rank in range(1, _VOCABULARY + 1)))
    while True:
        chosen = chance.choices(words, cum_weights=weights, k=_CHUNK_WORDS)
        lines = (" ".join(chosen[i : i + 11]).capitalize() for i in range(0, _CHUNK_WORDS, 11))
        yield ". ".join(lines) + "."


if __name__ == "__main__":
    sys.exit(main())
