"""How much of the gold a prompt holds when the budget is tight: trimmed passages or whole ones.

    python -m eval.benchmarks.packing DATA_DIR [--sets squad multihop chunking] [--step N]

DATA_DIR holds squad2_dev, musique100, hotpot100, wiki_distractors and chunking_eval. Retrieved are
as many passages as `rag ask` would; for each room in tokens, passages are packed as rag/pack.py
does and, to compare, whole ones in rank order while they fit. Scored is whether a gold answer
stands in what is shown or, where the set marks evidence in its documents, the share of its
characters that is shown. Of SQuAD only the questions with an odd crc32 are asked: rag/pack.py's
weights were fitted on the others.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

from eval.benchmarks.retrieval import multi_hop, squad_passages
from eval.command import cache_folder
from eval.metrics import contains
from eval.report import aligned
from eval.statistics import paired_interval
from ingest.sync import SyncSettings, sync
from rag.app import App, open_app
from rag.context import term_weights
from rag.pack import pack
from rag.prompt import passage_tokens
from rag.settings.config import Settings
from rag.types import Passage

_ROOMS = (250, 500, 1000, 2000)

Row = Mapping[str, Any]


def _squad(data: Path, work: Path) -> tuple[Path, list[Row]]:
    rows = _read(data / "squad2_dev")
    asked = [row for row in rows if row["answers"] and crc32(row["id"].encode()) % 2]
    return squad_passages(data, work) / "corpus.jsonl", asked


def _multihop(data: Path, work: Path) -> tuple[Path, list[Row]]:
    rows = [row for name in ("musique100", "hotpot100") for row in _read(data / name)]
    asked = [row for row in rows if not {"yes", "no"} & set(row["answers"])]
    return multi_hop(data, work) / "corpus.jsonl", asked


def _chunking(data: Path, work: Path) -> tuple[Path, list[Row]]:
    folder = data / "chunking_eval"
    return folder / "corpus", _read(folder)


SETS: Mapping[str, Callable[[Path, Path], tuple[Path, list[Row]]]] = {
    "squad": _squad,
    "multihop": _multihop,
    "chunking": _chunking,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Pack for every question of the chosen sets and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="the folder that holds the public sets")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--step", type=int, default=1, help="only every N-th question")
    options = parser.parse_args(arguments)
    table: list[tuple[str, ...]] = [("set", "n", "room", "whole", "packed", "change", "95 %")]
    for name in options.sets:
        corpus, questions = SETS[name](options.data, cache_folder() / "benchmarks")
        store = cache_folder() / f"benchmarks-{name}"
        sync(store, [corpus], SyncSettings())
        with open_app(Settings(), store) as app:
            scores = [measure(app, question) for question in questions[:: options.step]]
        for place, room in enumerate(_ROOMS):
            whole, packed = zip(*(score[place] for score in scores), strict=True)
            table.append((name, str(len(scores)), str(room), *compared(whole, packed)))
    print(aligned(table))


def measure(app: App, question: Row) -> list[tuple[float, float]]:
    """For each room, what whole passages hold of a question's gold, and what packed ones do."""
    found = app.search(question["question"]).passages
    idf = term_weights(app.store)
    return [
        (
            held(question, whole_passages(found, room)),
            held(question, pack(question["question"], found, idf, room, passage_tokens)),
        )
        for room in _ROOMS
    ]


def whole_passages(passages: Sequence[Passage], room: int) -> list[Passage]:
    """Each passage in turn that still fits."""
    kept = []
    for passage in passages:
        cost = passage_tokens(passage)
        if cost <= room:
            kept.append(passage)
            room -= cost
    return kept


def held(question: Row, shown: Sequence[Passage]) -> float:
    """The share of the marked evidence that is shown, or whether an answer is."""
    marked = [e for e in question["evidence"] if "end" in e]
    if not marked:
        return contains("\n".join(p.chunk.text for p in shown), question["answers"]) or 0.0
    wanted = {(e["doc"], at) for e in marked for at in range(e["start"], e["end"])}
    ours = {(p.chunk.source, at) for p in shown for at in range(p.chunk.start, p.chunk.end)}
    return len(wanted & ours) / len(wanted)


def compared(whole: Sequence[float], packed: Sequence[float]) -> tuple[str, ...]:
    """Both means, their difference and its interval, as a table has them."""
    low, high = paired_interval(whole, packed)
    means = sum(whole) / len(whole), sum(packed) / len(packed)
    interval = f"{low:+.3f} to {high:+.3f}"
    return f"{means[0]:.3f}", f"{means[1]:.3f}", f"{means[1] - means[0]:+.3f}", interval


def _read(folder: Path) -> list[Row]:
    lines = (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


if __name__ == "__main__":
    main()
