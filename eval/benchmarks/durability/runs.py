"""Runs that are ended at any moment, that meet others, and that find no room on the disk.

This file is also the program of the processes that are started: `rag` with vectors of hashes.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from random import Random

from eval.benchmarks.hashes import HashEmbedder
from ingest.chroma import ChromaIndex, copy_index
from ingest.config import IndexSettings
from ingest.errors import StoreBusy, StoreMissing
from ingest.store import Store
from rag.retrieval.retrieve import retrieve
from rag.settings.config import RetrievalSection

QUESTION = "How do I read the contents of a file?"
_BATCH_CHUNKS = 64  # small commits: more moments between them
_STOP_SECONDS = 6  # within 5, on a busy machine
# What a disk has left, in KiB beside the store: too little for the commit, the index, the journal.
_LEFT = (64, 512, 1024, 2048)

Process = subprocess.Popen[str]
# A document's text and the spans of its chunks; those of all documents by their sources.
Content = tuple[str, tuple[tuple[int, int], ...]]
Contents = dict[str, Content]
Seen = set[tuple[str, Content]]
# Ends a process that writes a store, after some seconds.
End = Callable[[Process, Path, float], None]


@dataclass(frozen=True, slots=True)
class Trial:
    """What was tried; `problem` is empty where the promise held."""

    label: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Bench:
    """A run of the trials: the documents, a folder of its own, and how often to try."""

    docs: Path
    folder: Path
    kills: int
    aimed: int
    seed: int
    real: bool


@dataclass(frozen=True, slots=True)
class Run:
    """A command on a store, which begins as a copy of `before`, if that is given."""

    bench: Bench
    words: tuple[str | Path, ...]
    before: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    def command(self, store: Path) -> list[str]:
        """The program and its arguments."""
        program = [sys.executable, "-m", "eval.benchmarks.durability.runs", str(self.bench.real)]
        return [*program, *map(str, self.words), "--json", "--store", str(store)]

    def start(self, store: Path) -> Process:
        """A process, from the moment that it writes the store."""
        pipe, variables = subprocess.PIPE, os.environ | self.settings
        command = self.command(store)
        process = subprocess.Popen(command, env=variables, stdout=pipe, stderr=pipe, text=True)
        wait_until(
            process, lambda: bool((store / "lock").exists() and (store / "lock").read_text())
        )
        return process

    def finish(self, store: Path) -> str:
        """What it prints; it has to succeed."""
        process = self.start(store)
        out, err = process.communicate()
        if process.returncode:
            raise RuntimeError(f"exit {process.returncode}: {err}")
        return out

    def trials(self, count: int, end: End) -> Iterator[Trial]:
        """End it at so many moments of its life, two of them at a time."""
        begun, whole = time.perf_counter(), self._copied("whole")
        self.finish(whole)
        seconds = time.perf_counter() - begun
        before, after = contents(self.before) if self.before else {}, contents(whole)

        def trial(number: int) -> Trial:
            delay = Random(f"{self.bench.seed} {self.words[0]} {number}").uniform(0, seconds)
            store = self._copied(str(number))
            process = self.start(store)
            end(process, store, delay)
            problem = _stopped(process) or self._left(store, before, after)
            return Trial(f"{number}, after {delay:.2f} s", problem)

        with ThreadPoolExecutor(2) as pool:
            yield from pool.map(trial, range(count))

    def _copied(self, label: str) -> Path:
        store = self.bench.folder / label / ".rag"
        store.parent.mkdir()
        return Path(shutil.copytree(self.before, store)) if self.before else store

    def _left(self, store: Path, before: Contents, after: Contents) -> str:
        """What is wrong with what is left, and with what a plain re-run makes of it."""
        found = contents(store)
        torn = [s for s, each in found.items() if each not in (before.get(s), after.get(s))]
        if torn or not found.keys() >= before.keys() & after.keys():
            return f"torn: {torn}; there are {sorted(found)}"
        if found:
            asked = Run(self.bench, ("ask", "--extractive", QUESTION)).finish(store)
            passages = json.loads(asked)["passages"]
            texts = [found[p["source"]][0][p["start"] : p["end"]] for p in passages]
            if not texts or texts != [p["text"] for p in passages]:
                return f"asked in between: {asked}"
        self.finish(store)
        whole = index_count(store) == sum(len(spans) for _, spans in after.values())
        return "" if whole and contents(store) == after else "the re-run ended otherwise"


def first_runs(bench: Bench) -> Iterator[Trial]:
    """The first ingest of a store, killed at random moments."""
    return Run(bench, ("ingest", bench.docs)).trials(bench.kills, _kill)


def index_writes(bench: Bench) -> Iterator[Trial]:
    """The same, killed the moment Chroma writes its files."""
    return Run(bench, ("ingest", bench.docs)).trials(bench.aimed, _kill_at_write)


def containers(bench: Bench) -> Iterator[Trial]:
    """A file of many documents, which is committed in parts."""
    docs = bench.folder / "docs"
    docs.mkdir()
    lines = [
        json.dumps({"_id": f"{source} {start}", "text": text[start:end]})
        for source, (text, spans) in contents(_made(bench, bench.docs)).items()
        for start, end in spans
    ]
    (docs / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return Run(bench, ("ingest", docs)).trials(bench.kills // 4, _kill)


def updates(bench: Bench) -> Iterator[Trial]:
    """Edited, moved, deleted and new files."""
    return _edited(bench).trials(bench.kills // 4, _kill)


def reshapes(bench: Bench) -> Iterator[Trial]:
    """A store that is brought over to chunks of another size."""
    words, store = ("ingest", bench.docs), _made(bench, bench.docs)
    run = Run(bench, words, store, {"RAG_INGEST_CHUNK_TOKENS": "100"})
    return run.trials(bench.kills // 4, _kill)


def rebuilds(bench: Bench) -> Iterator[Trial]:
    """`rag rebuild`."""
    run = Run(bench, ("rebuild",), _made(bench, bench.docs))
    return run.trials(bench.kills // 4, _kill)


def interrupts(bench: Bench) -> Iterator[Trial]:
    """Ctrl-C and SIGTERM: the run stops within seconds and says so by its exit code."""
    return _edited(bench).trials(bench.kills // 4, _interrupt)


def company(bench: Bench) -> Iterator[Trial]:
    """Readers that ask in a loop, and a second writer, beside an ingest of edited files."""
    run, store, over = _edited(bench), bench.folder / "made", bench.folder / "over"
    before = contents(store)
    with ProcessPoolExecutor(3, get_context("spawn")) as pool:
        readers = [pool.submit(_read, store, over) for _ in range(3)]
        process = run.start(store)
        yield Trial("second writer", _second_writer(store, process.pid))
        process.communicate()
        after = contents(store)
        over.touch()
        for number, reader in enumerate(readers):
            seen, last = reader.result()
            torn = {s for s, each in seen if each not in (before.get(s), after.get(s))}
            torn |= {f"old {s}" for s, each in last if each != after[s]}
            yield Trial(f"reader {number}", f"torn: {torn}" if torn or not last else "")


def disks(bench: Bench) -> Iterator[Trial]:
    """One that is read-only, and some with too little room for what an ingest writes: it says so,
    and what was there answers."""
    run, store = _edited(bench), bench.folder / "made"
    used = sum(path.stat().st_size for path in store.rglob("*")) >> 10
    yield _refused(run, store, "size=1g", "mount -o remount,ro")
    for left in _LEFT:
        yield _refused(run, store, f"size={used + left}k", "true")


def _made(bench: Bench, docs: Path) -> Path:
    store = bench.folder / "made"
    Run(bench, ("ingest", docs)).finish(store)
    return store


def _edited(bench: Bench) -> Run:
    """An ingest of files of which some were edited, moved, deleted or added since the last one."""
    docs = Path(shutil.copytree(bench.docs, bench.folder / "docs"))
    files = sorted(path for path in docs.rglob("*.*") if path.is_file())
    new = files[-1].rename(bench.folder / "new")
    store = _made(bench, docs)
    new.rename(files[-1])
    files[0].unlink()
    files[1].rename(files[1].with_stem("moved"))
    for path in files[2:-1:2]:
        path.write_bytes(path.read_bytes().replace(b"the", b"that very"))
    return Run(bench, ("ingest", docs), store)


def _kill(process: Process, store: Path, delay: float) -> None:
    time.sleep(delay)
    process.kill()


def _kill_at_write(process: Process, store: Path, delay: float) -> None:
    time.sleep(delay / 2)
    seen = _index_time(store)
    wait_until(process, lambda: _index_time(store) != seen)
    process.kill()


def _interrupt(process: Process, store: Path, delay: float) -> None:
    time.sleep(delay)
    process.send_signal(signal.SIGINT if int(1000 * delay) % 2 else signal.SIGTERM)


def _stopped(process: Process) -> str:
    """What is wrong with the end of a process."""
    begun = time.perf_counter()
    _, err = process.communicate()
    seconds = time.perf_counter() - begun
    right = process.returncode in (0, 130, -signal.SIGKILL) and seconds < _STOP_SECONDS
    return "" if right and "Traceback" not in err else f"{seconds:.1f} s to its end: {err}"


def _second_writer(store: Path, first: int) -> str:
    """What is wrong with the end of a writer that comes second."""
    begun = time.perf_counter()
    try:
        with Store.write(store, IndexSettings()):
            return ""  # the first has finished meanwhile
    except StoreBusy as error:
        seconds = time.perf_counter() - begun
        right = f"process {first}," in error.message and seconds < _STOP_SECONDS
        return "" if right else f"after {seconds:.1f} s: {error}"


def _read(store: Path, over: Path) -> tuple[Seen, Seen]:
    """The documents of all passages found until `over` is there, and of those found after that."""
    seen: Seen = set()
    with Store.open(store) as opened:
        while True:
            last = over.exists()
            with opened.snapshot():
                passages = retrieve(QUESTION, opened, HashEmbedder(), RetrievalSection()).passages
                found = {_document(opened, passage.chunk.source) for passage in passages}
            if last:
                return seen, found
            seen |= found


def _refused(run: Run, before: Path, options: str, then: str) -> Trial:
    """An ingest on a disk of its own, in a namespace of its own, and a question after it."""
    disk = run.bench.folder / "disk"
    disk.mkdir(exist_ok=True)
    ask = shlex.join(Run(run.bench, ("ask", "--extractive", QUESTION)).command(disk))
    mount = f"mount -t tmpfs -o {options} none {disk} && cp -r {before}/. {disk} && {then} {disk}"
    script = f"{mount} || exit; {shlex.join(run.command(disk))} >&2; echo $?; {ask}"
    command = ["unshare", "-rm", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    code, _, answer = done.stdout.partition("\n")
    if not code:
        return Trial(f"skipped, no disk can be made: {done.stderr}")
    said = code == "0" or ("rag: " in done.stderr and "Traceback" not in done.stderr)
    answered = done.returncode == 0 and json.loads(answer)["passages"]
    return Trial(f"{options} {then}: exit {code}", "" if said and answered else done.stderr)


def contents(store: Path) -> Contents:
    """What a store holds, the whole of it checked on the way; nothing where there is none."""
    try:
        with Store.open(store) as opened:
            opened.check()
            return dict(_document(opened, info.source) for info in opened.sources())
    except StoreMissing:
        return {}


def _document(store: Store, source: str) -> tuple[str, Content]:
    stored = store.document(source)
    return source, (stored.document.text, tuple((c.start, c.end) for c in stored.chunks))


def index_count(store: Path) -> int:
    """How many chunks the vector index holds; call it while no writer is at work."""
    (index,), copy = store.glob("index-*"), store.with_name("index-copy")
    shutil.rmtree(copy, ignore_errors=True)
    copy_index(index, copy)
    with ChromaIndex(copy) as opened:
        return opened.count()


def wait_until(process: Process, holds: Callable[[], bool]) -> None:
    """Return when a condition holds or the process has ended."""
    while process.poll() is None and not holds():
        time.sleep(0.0005)


def _index_time(store: Path) -> int:
    return max((path.stat().st_mtime_ns for path in store.glob("index-*/*/*.bin")), default=0)


if __name__ == "__main__":
    if sys.argv[1] == "False":  # no real vectors: the store does not look into them
        vars(import_module("ingest.embed"))["open_embedder"] = lambda *_: HashEmbedder()
    vars(import_module("ingest.sync"))["_BATCH_CHUNKS"] = _BATCH_CHUNKS
    sys.argv = ["rag", *sys.argv[2:]]
    import_module("rag.cli").main()  # by its name: no module may import the composition root
