"""How long a search takes: in a process that has loaded all, and from the start of a new one.

    python -m eval.benchmarks.latency STORE [STORE ...]

Each store is asked 200 questions made of its own words; the first ten are not counted. Printed are
the median and the 95th percentile of a warm search, the question's embedding included, and the
seconds of a whole `rag search` in a process of its own (median of five). A store of any size is
made by `python -m eval.benchmarks.scale chunks --chunks N --keep DIR`.
"""

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles

from ingest.embed import open_embedder
from ingest.store import Store
from rag.config import RetrievalSection
from rag.retrieval.retrieve import retrieve

_QUESTIONS = 200
_WARM_UP = 10
_COLD_RUNS = 5


def questions(store: Store, count: int) -> list[str]:
    """Questions of five to nine words that stand near each other in some document."""
    chance = random.Random(0)
    sources = [info.source for info in store.sources()]
    made: list[str] = []
    while len(made) < count:
        words = store.document(chance.choice(sources)).document.text.split()
        start = chance.randrange(max(1, len(words) - 12))
        near = words[start : start + 12]
        made.append("What about " + " ".join(sorted(chance.sample(near, min(7, len(near))))) + "?")
    return made


def warm(store: Store, asked: Sequence[str]) -> list[float]:
    """Milliseconds of each search, the first ones left out."""
    embedder, settings, times = open_embedder("all-MiniLM-L6-v2"), RetrievalSection(), []
    for question in asked:
        begun = time.perf_counter()
        retrieve(question, store, embedder, settings)
        times.append((time.perf_counter() - begun) * 1000)
    return times[_WARM_UP:]


def cold(folder: Path, question: str) -> float:
    """Median seconds of the whole command."""
    code = "from rag.cli import main; main()"
    command = [sys.executable, "-c", code, "search", question, "--store", str(folder), "--json"]
    seconds = []
    for _ in range(_COLD_RUNS):
        begun = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        seconds.append(time.perf_counter() - begun)
    return median(seconds)


def main() -> int:
    """Measure each store and print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("stores", nargs="+", type=Path)
    for folder in parser.parse_args().stores:
        with Store.open(folder) as store:
            asked = questions(store, _QUESTIONS)
            times, chunks = warm(store, asked), store.chunk_count
        print(
            f"{folder}: {chunks} chunks, warm p50 {median(times):.1f} ms, "
            f"p95 {quantiles(times, n=20)[-1]:.1f} ms, cold {cold(folder, asked[0]):.2f} s"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
