"""Many questions in one run: rows for all, nothing asked twice, whatever stops it."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from threading import Event

import pytest
from chat_api import ChatApi, Refusal, serving
from command import Rag, clean_environment

from ingest.errors import RagError, UsageError
from ingest.filters import Filter
from rag.app import open_app
from rag.batch.answers import AnswerFile, open_answers
from rag.batch.questions import Asked, read_questions
from rag.batch.report import BatchReport
from rag.batch.run import in_any_order, run_batch
from rag.context import Question
from rag.settings.config import load_settings
from rag.types import Message

LIKE = Question("", batch=True)
LEAVE = "How many days of paid leave does an employee have?"
ANSWERS = {
    LEAVE: "Every employee has 28 days of paid leave a year.",
    "How many weeks of parental leave do parents receive?": (
        "Parents receive 16 weeks of paid parental leave for each child."
    ),
    "How much water does the pump P-200 move?": "The pump P-200 moves 40 litres of water a minute.",
    "When does the fire drill take place?": "The fire drill takes place on 12 May.",
    "Who leads the evacuation of the second floor?": (
        "Anna Berg leads the evacuation of the second floor."
    ),
    "What does error E-1042 mean?": "Error E-1042 means that the inlet valve is blocked.",
}


@pytest.fixture
def api() -> Iterator[ChatApi]:
    """A chat API that knows the answers."""
    with serving(ANSWERS.__getitem__) as server:
        yield server


def written(folder: Path, *rows: object) -> Path:
    """A file of questions."""
    path = folder / "questions.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def all_questions(folder: Path) -> Path:
    return written(folder, *({"id": n, "question": q} for n, q in enumerate(ANSWERS)))


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def here(api: ChatApi) -> dict[str, str]:
    return {"OPENAI_BASE_URL": api.base_url}


def test_every_line_gets_a_row(library: Rag, api: ChatApi, tmp_path: Path) -> None:
    """Ids stay as they are, equal questions are asked once, filters and earlier turns count."""
    out = tmp_path / "answers.jsonl"
    turns = [{"role": "user", "content": "Tell me of leave."}, {"role": "ai", "content": "Do ask."}]
    questions = written(
        tmp_path,
        {"id": 7, "question": LEAVE},
        {"id": "again", "question": LEAVE},
        {"question": LEAVE, "filters": {"source": "handbook/"}},
        {"id": "turns", "question": LEAVE, "messages": turns},
        {"id": "opera", "question": "Which composer wrote the opera Tosca?"},
    )

    result = library("batch", questions, "-o", out, "--json", environment=here(api))

    rows = {row["id"]: row for row in rows_of(out)}
    assert result.code == 0, result.err
    assert {identity: row["status"] for identity, row in rows.items()} == {
        7: "answered", "again": "answered", "3": "answered", "turns": "answered",
        "opera": "abstained",
    }  # fmt: skip
    assert len(api.asked) == 3
    assert {p["source"] for p in rows["3"]["passages"]} <= {
        "handbook/leave.md",
        "handbook/travel.md",
    }
    assert rows["again"]["usage"] == rows[7]["usage"] | {"cost_usd": 0.0, "cached": True}
    assert result.json | {"seconds": 0} == {
        "before": 0, "answered": 4, "abstained": 1, "incomplete": 0, "failed": 0, "left": 0,
        "prompt_tokens": 300, "completion_tokens": 30, "cost_usd": None, "seconds": 0,
    }  # fmt: skip


def test_a_killed_run_goes_on_without_asking_twice(
    library: Rag, api: ChatApi, tmp_path: Path
) -> None:
    """Killed with rows written and one torn: the rest is asked, and nothing that stands there."""
    out, go = tmp_path / "answers.jsonl", Event()
    questions = all_questions(tmp_path)
    slow = list(ANSWERS)[3:]
    api.reply = lambda q: ANSWERS[q] if q not in slow or go.wait(30) else ""
    command = ("batch", str(questions), "-o", str(out), "-j", "2", "--no-cache")
    process = subprocess.Popen(
        [*library.command, *command],
        cwd=library.folder,
        env=clean_environment(library.home) | here(api),
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: len(api.asked) == 5 and out.read_bytes().count(b"\n") == 3)
    process.kill()
    process.wait()
    go.set()
    with out.open("a", encoding="utf-8") as file:
        file.write('{"id": 4, "question": "Who')

    result = library(*command, "--resume", environment=here(api))

    assert result.code == 0, result.err
    assert "3 answered, 3 there before" in result.out
    assert sorted(row["id"] for row in rows_of(out)) == [*range(6)]
    assert sorted(api.asked[5:]) == sorted(slow)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_failures_are_rows_and_are_asked_again(library: Rag, api: ChatApi, tmp_path: Path) -> None:
    """A refused question costs only itself; going on replaces its row, and asks nothing else."""
    out, store = tmp_path / "answers.jsonl", library.folder / ".rag"
    asked = read_questions(str(all_questions(tmp_path)), LIKE)
    settings = load_settings(
        {"chat.base_url": api.base_url, "cache.answers": False}, folder=tmp_path, environment={}
    )

    def run() -> BatchReport:
        with open_app(settings, store) as app, open_answers(out, asked, resume=True) as file:
            return run_batch(app, asked, file, None, lambda progress: None)

    api.reply = lambda question: Refusal(400) if question == LEAVE else ANSWERS[question]
    first = run()

    assert (first.answered, first.failed, first.is_whole, len(api.asked)) == (5, 1, False, 6)
    (row,) = (row for row in rows_of(out) if "error" in row)
    assert (row["id"], row["status"], row["error"]["type"]) == (0, "failed", "chat_rejected")

    api.reply = ANSWERS.__getitem__
    second = run()

    assert (second.answered, second.before, second.is_whole) == (1, 5, True)
    assert api.asked[6:] == [LEAVE]
    assert sorted(row["id"] for row in rows_of(out)) == [*range(6)]
    assert not any("error" in row for row in rows_of(out))


def test_money_is_bounded(library: Rag, api: ChatApi, tmp_path: Path) -> None:
    """Once the sum is spent no question is begun, and the exit code says that some are left."""
    out = tmp_path / "answers.jsonl"
    command = ("batch", all_questions(tmp_path), "-o", out, "-j", "1")
    prices = here(api) | {"RAG_CHAT_PRICE_IN": "10", "RAG_CHAT_PRICE_OUT": "10"}

    unpriced = library(*command, "--max-cost", "0.002", environment=here(api))
    stopped = library(*command, "--max-cost", "0.002", environment=prices)

    assert (unpriced.code, "price of gpt-4o-mini is unknown" in unpriced.err) == (2, True)
    assert (stopped.code, "2 answered, 4 left; $0.0022" in stopped.out) == (7, True)
    assert "--resume" in stopped.err
    assert len(rows_of(out)) == len(api.asked) == 2


def test_a_refused_key_ends_the_run(library: Rag, api: ChatApi, tmp_path: Path) -> None:
    """What every question would fail by is said once, with its own exit code, and is no row."""
    out = tmp_path / "answers.jsonl"
    api.reply = lambda question: Refusal(401)

    result = library("batch", all_questions(tmp_path), "-o", out, "-j", "1", environment=here(api))

    assert (result.code, len(api.asked), rows_of(out)) == (4, 1, [])
    assert "check the key" in result.err


def test_an_interrupt_waits_for_nobody(library: Rag, api: ChatApi, tmp_path: Path) -> None:
    """With a server that does not answer, Ctrl-C ends the run within seconds."""
    never = Event()
    api.reply = lambda question: never.wait(60) and ""
    process = subprocess.Popen(
        [*library.command, "batch", str(all_questions(tmp_path)), "-o", str(tmp_path / "a.jsonl")],
        cwd=library.folder,
        env=clean_environment(library.home) | here(api),
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: len(api.asked) == 6)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    never.set()

    assert (process.returncode, time.monotonic() - begun < 5) == (130, True)
    assert "go on with --resume" in said
    assert "Traceback" not in said


def test_questions_come_from_a_pipe(library: Rag, tmp_path: Path) -> None:
    """`-` reads standard input; without a chat API the answers are the documents' own words."""
    out = tmp_path / "answers.jsonl"

    result = library("batch", "-", "-o", out, stdin=json.dumps({"question": LEAVE}))

    assert (result.code, result.out.startswith("1 answered; $0.0000")) == (0, True)
    (row,) = rows_of(out)
    assert (row["id"], row["answerer"]) == ("1", "extractive")


def test_who_answers_is_said_where_no_api_is_configured(library: Rag, tmp_path: Path) -> None:
    """The note stands before the answers; who asked for extractive ones is told nothing."""
    line = json.dumps({"question": LEAVE})

    unasked = library("batch", "-", "-o", tmp_path / "a.jsonl", stdin=line)
    asked = library("batch", "-", "-o", tmp_path / "b.jsonl", "--extractive", stdin=line)

    assert "no chat API configured" in unasked.err
    assert "chat API" not in asked.err


@pytest.mark.parametrize(
    ("resume", "said"), [(False, "is there already"), (True, ":1: not a line that")]
)
def test_an_output_that_is_there_is_not_touched(tmp_path: Path, resume: bool, said: str) -> None:
    """Neither without --resume nor where it is something else."""
    out = tmp_path / "answers.jsonl"
    out.write_text('{"mine": 1}\n', encoding="utf-8")

    with pytest.raises(UsageError, match=said):
        open_answers(out, [], resume=resume).__enter__()

    assert out.read_text(encoding="utf-8") == '{"mine": 1}\n'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"question": "A?"}\nno json\n', ":2: not JSON"),
        ("[1]\n", ":1: not a JSON object"),
        ('\n{"id": 1}\n', ":2: no question"),
        ('{"question": " "}\n', ":1: no question"),
        (json.dumps({"question": "x" * 4001}), ":1: the question has 4001 characters"),
        (
            '{"id": 1, "question": "A?"}\n{"id": 1, "question": "B?"}\n',
            ":2: the id 1 is used twice",
        ),
        ('{"id": true, "question": "A?"}\n', ":1: 'id' must be"),
        ('{"question": "A?", "filters": 3}\n', ":1: 'filters' must be"),
        ('{"question": "A?", "filters": ["source"]}\n', ":1: not a filter: 'source'"),
        ('{"question": "A?", "messages": [{"role": "system", "content": ""}]}', ":1: each of"),
        ("", "no questions in"),
    ],
)
def test_the_input_is_checked_before_anything_is_asked(
    tmp_path: Path, content: str, said: str
) -> None:
    """What is wrong is named with its file and line."""
    path = tmp_path / "questions.jsonl"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(UsageError) as raised:
        read_questions(str(path), LIKE)

    assert said in raised.value.message
    assert str(path) in raised.value.message


def test_a_line_is_asked_with_what_it_brings(tmp_path: Path) -> None:
    """Its filters stand beside those of the command; fields of other tools are understood."""
    turn = {"role": "human", "content": "Hello"}
    path = written(
        tmp_path,
        {"_id": "a", "query": "Q?", "filters": ["date>=2024", "source=x/"], "history": [turn]},
    )
    like = Question("", (Filter("tags", "=", "law"),), batch=True)

    (asked,) = read_questions(str(path), like)

    filters = (*like.filters, Filter("date", ">=", "2024"), Filter("source", "=", "x/"))
    question = Question("Q?", filters, (Message("user", "Hello"),), batch=True)
    assert asked == Asked("a", question)


def test_going_on_keeps_what_still_answers_a_question(tmp_path: Path) -> None:
    """Failures, edited questions and a torn line go; rows of other questions are let alone."""
    out = tmp_path / "answers.jsonl"
    rows = [
        {"id": "same", "question": "A?"},
        {"id": "edited", "question": "B?"},
        {"id": "failed", "question": "C?", "error": {}},
        {"id": "other", "question": "D?", "error": {}},
    ]
    lines = [f"{json.dumps(row)}\n" for row in rows]
    out.write_text("".join(lines) + lines[0].rstrip("\n"), encoding="utf-8")
    asked = [
        Asked(name, Question(text))
        for name, text in {"same": "A?", "edited": "B!", "failed": "C?", "new": "E?"}.items()
    ]

    with open_answers(out, asked, resume=True) as file:
        assert file.done == {"same", "other"}
        file.write([{"id": "new", "question": "E?"}])
        with pytest.raises(UsageError, match="another `rag batch` is writing"):
            open_answers(out, asked, resume=True).__enter__()

    expected = [*lines[:1], *lines[3:], '{"id": "new", "question": "E?"}\n']
    assert out.read_text(encoding="utf-8") == "".join(expected)
    assert [*tmp_path.iterdir()] == [out]


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    """Writing stops with a message, and no row is lost silently."""
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(RagError, match="cannot write to '/dev/full': No space left"),
    ):
        AnswerFile(full, frozenset()).write([{"id": 1}])


def test_threads_answer_as_one_does(library: Rag) -> None:
    """The same questions from eight threads at once get the same answers as one after another."""
    settings = load_settings(folder=library.folder, environment={})
    with open_app(settings, library.folder / ".rag") as app:

        def answer(question: Question) -> tuple:
            answer = app.ask(question)
            return question, answer.answer, answer.citations, answer.passages, answer.confidence

        questions = [Question(text) for text in ANSWERS] * 2
        alone = {answered[0]: answered for answered in map(answer, questions[: len(ANSWERS)])}
        together = list(in_any_order(answer, questions, 8))

    assert len(together) == len(questions)
    assert all(answered == alone[answered[0]] for answered in together)


def test_work_is_begun_when_its_turn_has_come() -> None:
    """Never more than so many at once, and nothing is taken ahead of need."""
    running, most = 0, 0
    taken = count()
    items = (next(taken) for _ in range(20))

    def work(item: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.001)
        running -= 1
        return item

    found = []
    for done, item in enumerate(in_any_order(work, items, 3), start=1):
        found.append(item)
        assert int(repr(taken)[6:-1]) <= done + 3

    assert sorted(found) == [*range(20)]
    assert most <= 3
