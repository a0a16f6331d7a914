"""Retrieval through the whole product path: ingest, store, search, at the default settings.

    python -m eval.benchmarks.retrieval DATA_DIR [--sets scifact squad ...] [--half even]
        [--alpha .4 .6 ...] [--limit N] [--json]

DATA_DIR holds a folder for each public set (`scifact/`, `squad2_dev/`, `musique100/`, ...) with
`corpus.jsonl`, `questions.jsonl` and `qrels.tsv`. Every set is run as the product ships it, with
one search only, and with either leg alone; the last column is the 95 % interval of what the product
gains in recall@5 on the same questions. `--half` takes the questions whose id has an even or odd
CRC-32. The constants of retrieval were first set with figures of all of them in view, and compared
again on the even ones alone (`--alpha` adds weights of meaning to compare). Stores are kept in the
user's cache, so that a second run measures retrieval without ingesting again.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

from eval.command import RunOptions, cache_folder, run_set
from eval.report import aligned
from eval.run import summarise
from eval.statistics import paired_interval
from eval.types import Report
from rag.settings.config import RetrievalSection, Settings

_WAYS = {
    "product": RetrievalSection(),
    "one search": RetrievalSection(second_search=False),
    "dense": RetrievalSection(alpha=1.0),
    "lexical": RetrievalSection(alpha=0.0),
}
_HALVES = {"even": 0, "odd": 1}
_GAINED = "recall@5"
_COLUMNS = ("ndcg@10", "hit@1", "recall@5", "recall@10", "mrr@10", "latency_p50_ms")

Row = Mapping[str, Any]


def as_it_is(folder: str) -> Callable[[Path, Path], Path]:
    """A set that is a folder of the data directory already."""
    return lambda data, work: data / folder


def squad_passages(data: Path, work: Path) -> Path:
    """SQuAD 2.0's paragraphs as documents, with every answerable question, as a BEIR folder."""
    source = data / "squad2_dev"
    questions = (row for row in _rows(source / "questions.jsonl") if row["answerable"])
    return _write_beir(
        work / "squad", _rows(source / "passages.jsonl"), questions, [source / "qrels.tsv"]
    )


def multi_hop(data: Path, work: Path) -> Path:
    """MuSiQue's and HotpotQA's questions over both sets' passages and distractors, as BEIR."""
    sets = [data / "musique100", data / "hotpot100"]
    corpora = [*sets, data / "wiki_distractors"]
    passages = {row["_id"]: row for folder in corpora for row in _rows(folder / "corpus.jsonl")}
    questions = (row for folder in sets for row in _rows(folder / "questions.jsonl"))
    return _write_beir(
        work / "multihop", passages.values(), questions, [folder / "qrels.tsv" for folder in sets]
    )


SETS: Mapping[str, Callable[[Path, Path], Path]] = {
    "scifact": as_it_is("scifact"),
    "squad": squad_passages,
    "multihop": multi_hop,
    **{f"xquad-{code}": as_it_is(f"xquad/{code}") for code in ("en", "de", "zh", "ar")},
}


def run(
    folder: Path, limit: int | None, half: str | None, alphas: Iterable[float] = ()
) -> dict[str, Report]:
    """One set's report for each way of retrieving."""
    options = RunOptions(retrieval_only=True, limit=limit)
    reports = {}
    others = {f"alpha {alpha}": RetrievalSection(alpha=alpha) for alpha in alphas}
    for way, section in {**_WAYS, **others}.items():
        settings = replace(Settings(), retrieval=section)
        report = run_set(folder, settings, options, lambda progress: None)
        chosen = [r for r in report.results if half is None or parity(r.id) == _HALVES[half]]
        reports[way] = summarise(report.name, report.fingerprint, chosen, report.settings)
    return reports


def parity(question_id: str) -> int:
    """In which half of its set a question is: 0 or 1."""
    return crc32(question_id.encode()) % 2


def table(reports: Mapping[str, Mapping[str, Report]]) -> str:
    """A line for each set and way of retrieving."""
    rows: list[tuple[str, ...]] = [("set", "by", "n", *_COLUMNS, f"product gains in {_GAINED}")]
    for name, ways in reports.items():
        for way, report in ways.items():
            values = (report.metrics[column].value for column in _COLUMNS)
            cells = (f"{value:.3f}" if value <= 1 else f"{value:.1f}" for value in values)
            low, high = paired_interval(_gained(report), _gained(ways["product"]))
            gain = "" if way == "product" else f"{low:+.3f} to {high:+.3f}"
            rows.append((name, way, str(report.metrics[_COLUMNS[0]].n), *cells, gain))
    return aligned(rows)


def _gained(report: Report) -> list[float]:
    return [r.scores[_GAINED] for r in report.results if _GAINED in r.scores]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the chosen sets and print a table, or all intervals as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="the folder that holds the public sets")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--limit", type=int, help="at most this many questions a set")
    parser.add_argument("--half", choices=_HALVES, help="only these questions")
    parser.add_argument("--alpha", type=float, nargs="+", default=[], help="further weights")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    work = cache_folder() / "benchmarks"
    reports = {}
    for name in options.sets:
        print(f"{name} ...", file=sys.stderr)
        folder = SETS[name](options.data, work)
        reports[name] = run(folder, options.limit, options.half, options.alpha)
    print(json.dumps(_plain(reports)) if options.json else table(reports))


def _plain(reports: Mapping[str, Mapping[str, Report]]) -> dict[str, Any]:
    return {
        name: {
            leg: {
                metric: {"value": s.value, "n": s.n, "low": s.low, "high": s.high}
                for metric, s in report.metrics.items()
            }
            for leg, report in legs.items()
        }
        for name, legs in reports.items()
    }


def _rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _write_beir(
    folder: Path, passages: Iterable[Row], questions: Iterable[Row], qrels: Sequence[Path]
) -> Path:
    """Write a BEIR folder; files that would not change stay, so that nothing is ingested anew."""
    folder.mkdir(parents=True, exist_ok=True)
    queries = ({"_id": row["id"], "text": row["question"]} for row in questions)
    for name, rows in (("corpus.jsonl", passages), ("queries.jsonl", queries)):
        _write(folder / name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    lines = [line for path in qrels for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    _write(folder / "qrels.tsv", "\n".join(["query-id\tcorpus-id\tscore", *lines, ""]))
    return folder


def _write(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
