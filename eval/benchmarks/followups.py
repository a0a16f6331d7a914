"""Retrieval for follow-ups: the last turn alone, completed by words, and rewritten by a model.

    python -m eval.benchmarks.followups DATA_DIR [--model URL] [--every N] [--json]

DATA_DIR holds `mtrag_un/`: MTRAG's conversations (Katsis et al. 2025; Rosenthal et al. 2026) with
`corpus.jsonl`, `questions.jsonl` and `qrels.tsv`. Asked are its questions that follow others and
have gold. The constants of rag/conversation/standalone.py were chosen on the half whose id has an
even CRC-32; the other half is reported beside it, with the 95 % interval of the gain over the last
turn alone. `standing alone` are questions without history, put behind another conversation: they
should stay as they are, and find what they found. `--model` is the base URL of a chat API that
rewrites every N-th question; its replies are kept in the user's cache.
"""

import argparse
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

from eval.benchmarks.retrieval import parity
from eval.command import cache_folder, store_of
from eval.dataset import load_set
from eval.report import aligned
from eval.run import RETRIEVAL_DEPTH, retrieval_scores
from eval.statistics import paired_interval
from eval.types import Case
from rag.app import App, open_app
from rag.chat.client import ChatModel, ChatOptions
from rag.context import Question, Resources, look_up, stand_alone, term_weights
from rag.settings.config import ChatSection, Settings
from rag.types import ChatDelta, Message

_HALVES = ("chosen on", "reported")
_DEADLINE_S = 600.0

Scores = Mapping[str, float | None]
Complete = Callable[[Case], str]


@dataclass(frozen=True, slots=True)
class Row:
    """One way on one half: means, and the interval of what it gains in recall@5."""

    way: str
    half: str
    questions: int
    recall_at_5: float
    ndcg_at_10: float
    low: float
    high: float
    better: int
    worse: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class Remembered:
    """A chat model whose replies are kept in a file by what was asked."""

    inner: ChatModel
    file: Path

    @property
    def name(self) -> str:
        """The model's name."""
        return self.inner.name

    def stream(
        self, messages: Sequence[Message], options: ChatOptions | None = None
    ) -> Generator[ChatDelta]:
        """See ChatModel; there is time for a slow machine."""
        asked = sha256(json.dumps([asdict(message) for message in messages]).encode()).hexdigest()
        kept = dict(self._kept())
        if asked not in kept:
            given = replace(options or ChatOptions(), deadline_s=_DEADLINE_S)
            kept[asked] = "".join(delta.text for delta in self.inner.stream(messages, given))
            with self.file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps([asked, kept[asked]]) + "\n")
        yield ChatDelta(kept[asked], finish_reason="stop")

    def _kept(self) -> Iterator[tuple[str, str]]:
        if self.file.exists():
            for line in self.file.read_text(encoding="utf-8").splitlines():
                asked, reply = json.loads(line)
                yield asked, reply


def rows(
    app: App, cases: Sequence[Case], ways: Mapping[str, Complete], halves: Mapping[str, int | None]
) -> Iterator[Row]:
    """Each way against the first one, on each half (None: on all)."""
    asked = {way: [complete(case) for case in cases] for way, complete in ways.items()}
    found: dict[tuple[str, str], Scores] = {}
    for place, case in enumerate(cases):
        for text in {texts[place] for texts in asked.values()}:
            passages = app.search(text, k=RETRIEVAL_DEPTH).passages
            found[case.id, text] = retrieval_scores(case, passages)
    first = asked[next(iter(ways))]
    for half, wanted in halves.items():
        places = [i for i, case in enumerate(cases) if wanted in (None, parity(case.id))]
        before = [found[cases[i].id, first[i]] for i in places]
        for way, texts in asked.items():
            after = [found[cases[i].id, texts[i]] for i in places]
            unchanged = sum(texts[i] == first[i] for i in places)
            yield _row(way, half, before, after, unchanged)


def _row(way: str, half: str, before: list[Scores], after: list[Scores], unchanged: int) -> Row:
    old, new = ([float(s["recall@5"] or 0) for s in scores] for scores in (before, after))
    low, high = paired_interval(old, new)
    return Row(
        way,
        half,
        len(new),
        sum(new) / len(new),
        sum(float(s["ndcg@10"] or 0) for s in after) / len(after),
        low,
        high,
        sum(b > a for a, b in zip(old, new, strict=True)),
        sum(b < a for a, b in zip(old, new, strict=True)),
        unchanged,
    )


def strangers(cases: Sequence[Case]) -> list[Case]:
    """The questions without history, each behind every eighth conversation."""
    alone = [case for case in cases if not case.messages]
    others = [case.messages for case in cases if case.messages][::8]
    return [replace(case, messages=messages) for messages in others for case in alone]


def completed(resources: Resources) -> Complete:
    """A case's question as the product completes it with these resources."""
    idf = term_weights(resources.store)

    def complete(case: Case) -> str:
        question = Question(case.question, history=case.messages)
        return look_up(question, stand_alone(question, resources, idf), resources)[0].text

    return complete


@contextmanager
def opened(data: Path, url: str) -> Iterator[tuple[App, Sequence[Case]]]:
    """The set's own store, with a chat model where one is named, and its cases that have gold."""
    eval_set = load_set(data / "mtrag_un")
    settings = replace(Settings(), chat=ChatSection(base_url=url))
    with open_app(settings, store_of(eval_set, settings, lambda progress: None)) as app:
        yield app, [case for case in eval_set.cases if case.evidence]


def run(data: Path, url: str, every: int) -> list[Row]:
    """All rows: by words on both halves and on strangers, and by a model on every N-th question."""
    with opened(data, url) as (app, cases):
        silent = replace(app.resources, chat=None)
        ways: dict[str, Complete] = {
            "last turn": lambda case: case.question,
            "by words": completed(silent),
        }
        follow_ups = [case for case in cases if case.messages]
        halves = dict(zip(_HALVES, (0, 1), strict=True))
        result = [*rows(app, follow_ups, ways, {**halves, "all": None})]
        result += rows(app, strangers(cases), ways, {"standing alone": None})
        if app.resources.chat:
            model = Remembered(
                app.resources.chat, cache_folder() / "benchmarks" / "followups.jsonl"
            )
            ways["by the model"] = completed(replace(app.resources, chat=model))
            result += rows(app, follow_ups[::every], ways, {f"every {every}": None})
    return result


def table(found: Sequence[Row]) -> str:
    """A line for each row."""
    lines = [
        ("questions", "by", "n", "recall@5", "ndcg@10", "gains in recall@5", "+", "-", "unchanged")
    ]
    for row in found:
        gain = f"{row.low:+.3f} to {row.high:+.3f}"
        means = (f"{row.recall_at_5:.3f}", f"{row.ndcg_at_10:.3f}")
        counts = (str(row.better), str(row.worse), str(row.unchanged))
        lines.append((row.half, row.way, str(row.questions), *means, gain, *counts))
    return aligned(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print a table, or all rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="the folder that holds mtrag_un/")
    parser.add_argument("--model", default="", metavar="URL", help="a chat API that rewrites")
    parser.add_argument("--every", type=int, default=4, help="rewrite every N-th question")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    found = run(options.data, options.model, options.every)
    print(json.dumps([asdict(row) for row in found]) if options.json else table(found))


if __name__ == "__main__":
    main()
