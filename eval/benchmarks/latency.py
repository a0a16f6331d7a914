"""How long a question takes: in a process that has loaded all, and from the start of a new one.

    python -m eval.benchmarks.latency STORE [STORE ...]

Each store is asked 200 questions made of its own words: a search alone, then an answer without a
chat API. The first ten are not counted, and no question's vector is kept. Printed are the median
and the 95th percentile of a search, of `retrieve` (which ranks sentences too) and `total`, as
`rag stats` names them, of the ledger's row that an answer waits for, and the seconds of a whole
`rag search` in a process of its own (median of five). A store of any size is made by
`python -m eval.benchmarks.scale chunks --chunks N --keep DIR`.
"""

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from eval.statistics import quantile
from ingest.store import Store
from rag.app import App, open_app
from rag.context import Question
from rag.instruments.ledger import Entry, Ledger
from rag.settings.config import LedgerSection, Settings

_QUESTIONS = 200
_WARM_UP = 10
_COLD_RUNS = 5
_STEPS = ("retrieve", "total")
_SETTINGS = replace(Settings(), ledger=LedgerSection(enabled=False))


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


def warm(app: App, asked: Sequence[str]) -> dict[str, list[float]]:
    """Milliseconds of each step of each question, the first ones left out."""
    answers = [app.ask(Question(text, extractive=True)) for text in asked][_WARM_UP:]
    return {step: [answer.timings_ms[step] for answer in answers] for step in _STEPS}


def searches(app: App, asked: Sequence[str]) -> list[float]:
    """Milliseconds of each search, the first ones left out."""
    times = []
    for text in asked:
        begun = time.perf_counter()
        app.search(text)
        times.append((time.perf_counter() - begun) * 1000)
    return times[_WARM_UP:]


def ledger_rows(folder: Path) -> tuple[list[float], list[float]]:
    """Milliseconds of the first row of a process, and of each row after it."""
    first: list[float] = []
    later: list[float] = []
    entry = Entry(time.time(), "eval", "answered")
    with TemporaryDirectory(dir=folder) as place:
        for _ in range(_QUESTIONS // 10):
            with closing(Ledger(Path(place), LedgerSection())) as ledger:
                for times in (first, *[later] * 9):
                    begun = time.perf_counter()
                    ledger.record(entry)
                    times.append((time.perf_counter() - begun) * 1000)
    return first[1:], later


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
        with open_app(_SETTINGS, folder) as app:
            asked = questions(app.store, _QUESTIONS)
            found, chunks = searches(app, asked), app.store.chunk_count
        with open_app(_SETTINGS, folder) as app:  # which has no vectors of these questions
            times = {"search": found, **warm(app, asked)}
        first, later = ledger_rows(folder)
        measured = {**times, "first ledger row": first, "later ones": later}
        print(f"{folder}: {chunks} chunks")
        for name, values in measured.items():
            p50, p95 = quantile(values, 0.5), quantile(values, 0.95)
            print(f"  {name:<16}  p50 {p50:7.2f} ms  p95 {p95:7.2f} ms")
        print(f"  rag search, cold  {cold(folder, asked[0]):.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
