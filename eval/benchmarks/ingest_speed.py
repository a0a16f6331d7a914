"""How fast an ingest is: against the naive way, and against what the model's arithmetic allows.

    python -m eval.benchmarks.ingest_speed DOCS... [--engines torch openvino] [--json]

The naive way is `SentenceTransformer(model).encode(texts)` as its documentation shows it, then
`collection.add` into chromadb, over the very texts that the ingest embeds; its start is not
counted. A whole `rag ingest` is timed from the start of the process to its end. Each has a process
of its own, and memory is the peak of a process and its children together. Linux only.
"""

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from ingest.embed import open_embedder
from ingest.minilm import DIMENSION, LAYERS
from ingest.store import Store
from ingest.types import embedded_text
from ingest.wordpieces import WordPieces, model_folder

Row = dict[str, float]

_SAMPLE_SECONDS = 0.1
_SIDE = 2048  # of the matrices that are multiplied
_ADDED = 5000  # texts in one call of chromadb
_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20
_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("docs", nargs="+")
    parser.add_argument("--engines", nargs="+", default=["torch", "openvino"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as work:
        ingests = {e: ingest(options.docs, Path(work, e), e) for e in options.engines}
        texts = embedded_texts(Path(work, options.engines[0]))
        naive = apart(encode_and_add, texts, str(Path(work, "chromadb")))
    report = {"work": sizes(texts), "peak_gflops": apart(peak_gflops), "naive": naive}
    for engine, row in ingests.items():
        report[engine] = row | compared(row, apart(embed, engine, texts), report)
    print(json.dumps(report) if options.json else shown(report))


def ingest(docs: Sequence[str], store: Path, engine: str) -> Row:
    """A whole `rag ingest`: seconds, memory, and the processor time of its processes."""
    code = "from rag.cli import main; main()"
    command = [sys.executable, "-c", code, "ingest", *docs, "--store", str(store), "--json"]
    environment = os.environ | {"RAG_EMBEDDING_ENGINE": engine}
    seconds: dict[int, float] = {}
    peak = 0.0
    with tempfile.TemporaryFile() as output:
        begun = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=output)
        while process.poll() is None:
            tree = processes(process.pid)
            seconds |= {pid: used for pid, (used, _) in tree.items()}
            peak = max(peak, sum(memory for _, memory in tree.values()))
            time.sleep(_SAMPLE_SECONDS)
        whole = time.perf_counter() - begun
        output.seek(0)
        said = json.load(output)
    return {
        "seconds": whole,
        "peak_mib": peak,
        "chunks": said["chunks"],
        "truncated": said["truncated"],
        "cpu_seconds": sum(seconds.values()),
        "cpu_reading": sum(seconds.values()) - seconds.get(process.pid, 0.0),
    }


def processes(root: int) -> dict[int, tuple[float, float]]:
    """Processor seconds and MiB of memory of a process and all below it."""
    tree: dict[int, tuple[float, float]] = {}
    for pid in sorted(int(path.name) for path in Path("/proc").glob("[0-9]*")):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if pid == root or int(fields[1]) in tree:
            used = (int(fields[11]) + int(fields[12])) * _TICK_SECONDS
            tree[pid] = used, int(fields[21]) * _PAGE_MIB
    return tree


def embedded_texts(store: Path) -> list[str]:
    """What was embedded for a store's chunks, each text once."""
    with Store.open(store) as opened:
        documents = [opened.document(info.source) for info in opened.sources()]
    texts = (embedded_text(d.document, chunk) for d in documents for chunk in d.chunks)
    return list(dict.fromkeys(texts))


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """A function's result from a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def encode_and_add(texts: Sequence[str], folder: str) -> Row:
    """The naive way."""
    import chromadb
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(model_folder()), device="cpu")
    client = chromadb.PersistentClient(folder, chromadb.Settings(anonymized_telemetry=False))
    collection = client.create_collection("chunks", embedding_function=None)
    begun, used = time.perf_counter(), time.process_time()
    vectors = model.encode(list(texts), show_progress_bar=False)
    encoded, cpu = time.perf_counter(), time.process_time() - used
    for at in range(0, len(texts), _ADDED):
        part = slice(at, at + _ADDED)
        ids = [str(at + i) for i in range(len(texts[part]))]
        collection.add(ids, embeddings=vectors[part], documents=list(texts[part]))
    added = time.perf_counter()
    return {
        "encode_seconds": encoded - begun,
        "encode_cpu_seconds": cpu,
        "add_seconds": added - encoded,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def embed(engine: str, texts: Sequence[str]) -> Row:
    """Embedding alone, the engine started before: seconds, and those of the processor."""
    embedder = open_embedder("all-MiniLM-L6-v2", engine)
    embedder.embed_documents(texts[:1])
    begun, used = time.perf_counter(), time.process_time()
    embedder.embed_documents(texts)
    return {"seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - used}


def sizes(texts: Sequence[str]) -> Row:
    """How much there is to embed, and what the model computes for it.

    A token meets every weight of a layer (12·d² of them, in a multiplication and an addition) and
    the other tokens of its text twice: for the scores, and for the mix of values.
    """
    lengths = [len(ids) for ids in WordPieces().encode(texts)]
    weights = LAYERS * 2 * 12 * DIMENSION**2 * sum(lengths)
    attention = LAYERS * 2 * 2 * DIMENSION * sum(length**2 for length in lengths)
    return {
        "texts": len(texts),
        "tokens": sum(lengths),
        "mean_tokens": sum(lengths) / len(lengths),
        "gflop": (weights + attention) / 1e9,
    }


def peak_gflops() -> Row:
    """What a large product of matrices reaches here, in the best of several rounds."""
    import torch

    def gflops(name: str) -> float:
        matrix = torch.ones((_SIDE, _SIDE), dtype=getattr(torch, name))
        product = torch._int_mm if name == "int8" else torch.matmul
        seconds = timeit.repeat(partial(product, matrix, matrix), number=1, repeat=20)
        return 2 * _SIDE**3 / min(seconds) / 1e9

    return {name: gflops(name) for name in ("float32", "bfloat16", "int8")}


def compared(row: Row, alone: Row, report: Mapping[str, Row]) -> Row:
    """An engine's ingest against the naive way and the peak, and where its time went."""
    work, naive = report["work"], report["naive"]
    return {
        "tokens_per_second": work["tokens"] / row["seconds"],
        "times_encode": naive["encode_seconds"] / row["seconds"],
        "times_encode_and_add": (naive["encode_seconds"] + naive["add_seconds"]) / row["seconds"],
        "cpu_embedding": alone["cpu_seconds"],
        "cpu_start_and_store": row["cpu_seconds"] - row["cpu_reading"] - alone["cpu_seconds"],
        "embedding_tokens_per_second": work["tokens"] / alone["seconds"],
    } | {
        f"of_{name}_peak": work["gflop"] / row["seconds"] / peak
        for name, peak in report["peak_gflops"].items()
    }


def shown(report: Mapping[str, Row]) -> str:
    """A line for each figure."""
    return "\n".join(
        f"{section:12} {name:28} {value:>12,.{0 if value >= 100 else 2}f}"
        for section, row in report.items()
        for name, value in row.items()
    )


if __name__ == "__main__":
    main()
