"""The ledger: what is kept of a question, who may read it, and what cannot hurt an answer."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from command import Rag
from served import Request, Response, Served

from eval.command import RunOptions, run_set
from ingest.errors import StoreDamaged, StoreMissing, UsageError
from rag.app import open_app
from rag.context import Question
from rag.errors import ChatUnavailable
from rag.instruments.ledger import DAY_S, FILE, Entry, Ledger, read_entries
from rag.instruments.observe import Instruments, observed, within_budget
from rag.settings.config import LedgerSection, load_settings
from rag.types import Answer, Delta, Event, Finished, Usage

NOW = 1_800_000_000.0
LEAVE = "How many days of paid leave does an employee have?"
ENTRY = Entry(
    time=NOW,
    origin="ask",
    status="answered",
    answerer="chat",
    model="m-1",
    prompt_tokens=800,
    completion_tokens=60,
    cached=True,
    cost_usd=0.0002,
    retries=1,
    retrieve_ms=9.5,
    first_token_ms=310.0,
    chat_ms=820.0,
    verify_ms=1.0,
    total_ms=834.0,
    grounding=0.5,
    confidence=0.9,
    citations=2,
    warnings=1,
    question="Who?",
    answer="Anna Berg [1].",
)
ANSWER = Answer(
    question="Who?",
    answer="Anna Berg [1].",
    status="answered",
    answerer="chat",
    model="m-1",
    sentences=(),
    citations=(),
    passages=(),
    grounding=0.5,
    confidence=0.9,
    usage=Usage(800, 60, 0.0002, cached=True, retries=1),
    timings_ms={
        "retrieve": 9.5,
        "first_token": 310.0,
        "chat": 820.0,
        "verify": 1.0,
        "total": 834.0,
    },
    warnings=("the documents disagree",),
)
WRITER = """
import sys, threading
from pathlib import Path
from rag.app import open_app
from rag.settings.config import LedgerSection
from rag.instruments.ledger import Entry, Ledger

ledger = Ledger(Path(sys.argv[1]), LedgerSection())
def write():
    for number in range(int(sys.argv[2])):
        note = ledger.record(Entry(1_800_000_000.0 + number, "ask", "answered"))
        print(note or number, flush=True)
threads = [threading.Thread(target=write) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
ledger.close()
"""


def run_python(script: str, folder: Path) -> str:
    """What a process of its own says."""
    command = [sys.executable, "-c", script, str(folder)]
    root = Path(__file__).parent.parent
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=root).stdout


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger in an empty folder."""
    with closing(Ledger(tmp_path, LedgerSection())) as opened:
        yield opened


def rows(folder: Path) -> tuple[Entry, ...]:
    """All that a ledger holds."""
    return read_entries(folder, 0, 10 * NOW)


# What is kept


def test_a_row_comes_back_without_its_words(tmp_path: Path, ledger: Ledger) -> None:
    """Every figure is read as it was written; question and answer are not there."""
    assert ledger.record(ENTRY) == ""

    assert rows(tmp_path) == (replace(ENTRY, question=None, answer=None),)
    ledger.close()
    assert b"Anna" not in (tmp_path / FILE).read_bytes()


def test_words_are_kept_where_they_are_asked_for(tmp_path: Path) -> None:
    """The setting `ledger.questions` keeps question and answer."""
    with closing(Ledger(tmp_path, LedgerSection(questions=True))) as ledger:
        ledger.record(ENTRY)

    assert rows(tmp_path) == (ENTRY,)


def test_the_files_are_private(tmp_path: Path, ledger: Ledger) -> None:
    """The ledger and what SQLite keeps beside it are readable by their owner alone."""
    ledger.record(ENTRY)

    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys([FILE, f"{FILE}-wal", f"{FILE}-shm"], 0o600)


def test_old_rows_go_when_the_ledger_is_opened(tmp_path: Path, ledger: Ledger) -> None:
    """A row older than `ledger.days` is removed, one that is not stays."""
    old, recent = replace(ENTRY, time=NOW - 401 * DAY_S), replace(ENTRY, time=NOW - 399 * DAY_S)
    ledger.record(old)
    ledger.record(recent)
    ledger.close()

    with closing(Ledger(tmp_path, LedgerSection())) as opened:
        opened.record(ENTRY)

    assert [entry.time for entry in rows(tmp_path)] == [recent.time, NOW]


# Several at once, and kills


def writer(folder: Path, count: int) -> "subprocess.Popen[str]":
    """A process that writes rows from four threads."""
    command = [sys.executable, "-c", WRITER, str(folder), str(count)]
    root = Path(__file__).parent.parent
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)


def test_two_processes_of_four_threads_lose_no_row(tmp_path: Path) -> None:
    """Each of the 400 rows is there, and no writer had anything to complain of."""
    with writer(tmp_path, 50) as one, writer(tmp_path, 50) as other:
        said = one.communicate()[0].split("\n") + other.communicate()[0].split("\n")

    assert all(line.isdigit() for line in said if line)
    assert len(rows(tmp_path)) == 400


def test_a_killed_writer_leaves_its_rows(tmp_path: Path) -> None:
    """What was written before kill -9 is read afterwards, and another process goes on writing."""
    with writer(tmp_path, 100_000) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(200)]
        process.send_signal(signal.SIGKILL)

    assert len(rows(tmp_path)) >= len(said)
    with closing(Ledger(tmp_path, LedgerSection())) as ledger:
        assert ledger.record(ENTRY) == ""


# What cannot be written or read


def garbage(path: Path) -> None:
    path.write_bytes(b"no database at all" * 100)


def a_link(path: Path) -> None:
    (path.parent / "elsewhere").write_bytes(b"")
    path.symlink_to(path.parent / "elsewhere")


def other_columns(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE questions (time REAL, mood TEXT)")


@pytest.mark.parametrize("spoil", [garbage, a_link, Path.mkdir, other_columns])
def test_a_ledger_that_cannot_be_written_is_said_once(tmp_path: Path, spoil, ledger) -> None:
    """The first question has a note, the later ones have none; a link is not followed."""
    spoil(tmp_path / FILE)

    first, second = ledger.record(ENTRY), ledger.record(ENTRY)

    assert first.startswith(f"not counted in `rag stats`: {tmp_path / FILE} cannot be written")
    assert second == ""
    assert [p for p in tmp_path.glob("elsewhere") if p.read_bytes()] == []


def test_a_full_disk_is_survived(tmp_path: Path) -> None:
    """Where no byte can be written there is a note and no exception."""
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        f"{WRITER.partition('def write')[0]}"
        "entry = Entry(1.0, 'ask', 'answered')\n"
        "said = [ledger.record(entry) for _ in range(3)]; ledger.close(); print(said)\n"
    )

    said = run_python(script, tmp_path)

    assert "cannot be written" in said
    assert said.count("''") == 2


def test_a_read_only_ledger_is_read_and_not_written() -> None:
    """Another user's store: its rows count, and a question of it has a note."""
    script = (
        f"{WRITER.partition('ledger =')[0]}import os\n"
        "from rag.instruments.ledger import read_entries\n"
        "if os.getuid() == 0: os.setuid(65534)  # nothing is forbidden to root\n"
        "folder = Path(sys.argv[1])\n"
        "print(len(read_entries(folder, 0, 4e9)))\n"
        "print(Ledger(folder, LedgerSection()).record(Entry(1.0, 'ask', 'answered')))\n"
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with closing(Ledger(folder, LedgerSection())) as ledger:
            ledger.record(ENTRY)
        (folder / FILE).chmod(0o444)
        folder.chmod(0o555)
        try:
            done = run_python(script, folder)
        finally:
            folder.chmod(0o700)

    count, note = done.splitlines()
    assert count == "1"
    assert "cannot be written: attempt to write a readonly database" in note


def test_a_lock_is_waited_for_only_shortly(tmp_path: Path, ledger: Ledger) -> None:
    """Another program's transaction costs the answer less than a second; later rows are kept."""
    ledger.record(ENTRY)
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        begun = time.perf_counter()
        note = ledger.record(ENTRY)
        waited = time.perf_counter() - begun
        other.execute("ROLLBACK")

    assert "locked" in note
    assert waited < 1
    assert ledger.record(ENTRY) == ""
    assert len(rows(tmp_path)) == 2


def test_no_ledger_has_no_rows(tmp_path: Path) -> None:
    """A store that was never asked anything is no error."""
    assert rows(tmp_path) == ()


def wrong_kind(path: Path) -> None:
    with closing(Ledger(path.parent, LedgerSection())) as ledger:
        ledger.record(ENTRY)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE questions SET total_ms = 'long'")


@pytest.mark.parametrize("spoil", [garbage, other_columns, wrong_kind])
def test_a_damaged_ledger_says_what_mends_it(tmp_path: Path, spoil) -> None:
    """Reading it is an error that names the file to remove."""
    spoil(tmp_path / FILE)

    with pytest.raises(StoreDamaged, match="cannot be read") as caught:
        rows(tmp_path)

    assert f"rm {tmp_path / FILE}*" in caught.value.hint


# Around a question


def answering(*events: Event | BaseException):
    """What answers a question with these events."""

    def ask(question: Question) -> Iterator[Event]:
        for event in events:
            if isinstance(event, BaseException):
                raise event
            yield event

    return ask


@pytest.fixture
def instruments(ledger: Ledger) -> Instruments:
    return Instruments("ask", ledger, clock=lambda: NOW)


def test_an_answer_is_counted(tmp_path: Path, instruments: Instruments) -> None:
    """The row holds what the answer says of itself, and the answer is passed on as it was."""
    events = list(observed(Question("Who?"), answering(Delta("A"), Finished(ANSWER)), instruments))

    assert events == [Delta("A"), Finished(ANSWER)]
    assert rows(tmp_path) == (replace(ENTRY, citations=0, question=None, answer=None),)


def test_a_failed_answer_is_counted_with_its_error(
    tmp_path: Path, instruments: Instruments
) -> None:
    """The error is named as `--json` names it."""
    failed = Finished(replace(ANSWER, status="failed"), ChatUnavailable("no answer"))

    list(observed(Question("Who?"), answering(failed), instruments))

    assert [(e.status, e.error) for e in rows(tmp_path)] == [("failed", "chat_unavailable")]


def test_a_note_of_the_ledger_is_a_warning_of_the_answer(
    tmp_path: Path, instruments: Instruments
) -> None:
    """Who asks learns that the question was not counted, and has the answer all the same."""
    garbage(tmp_path / FILE)

    *_, last = observed(Question("Who?"), answering(Finished(ANSWER)), instruments)

    assert last.answer.warnings[0] == ANSWER.warnings[0]
    assert "cannot be written" in last.answer.warnings[1]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (Delta("B"), ("interrupted", None)),
        (KeyboardInterrupt(), ("interrupted", None)),
        (StoreMissing("gone"), ("failed", "store_missing")),
        (AttributeError(name="x"), ("failed", "unexpected_error")),
    ],
    ids=["consumer-gone", "interrupt", "error", "crash"],
)
def test_a_question_without_an_end_is_counted(
    tmp_path: Path, instruments: Instruments, event: Event | BaseException, expected
) -> None:
    """A consumer that goes away and an error on the way leave a row that says so."""
    events = observed(Question("Who?"), answering(Delta("A"), event), instruments)
    next(events)

    if isinstance(event, BaseException):
        with pytest.raises(type(event)):
            next(events)
    else:
        events.close()

    assert [(e.status, e.error) for e in rows(tmp_path)] == [expected]


def test_a_consumer_that_stops_at_the_end_is_counted_once(
    tmp_path: Path, instruments: Instruments
) -> None:
    """Going away after the last event is no interruption."""
    events = observed(Question("Who?"), answering(Finished(ANSWER)), instruments)
    next(events)
    events.close()

    assert [entry.status for entry in rows(tmp_path)] == ["answered"]


def test_what_cannot_be_asked_is_not_counted(tmp_path: Path, instruments: Instruments) -> None:
    """An empty question is a mistake at the keyboard."""
    with pytest.raises(UsageError):
        list(observed(Question(""), answering(UsageError("empty")), instruments))

    assert rows(tmp_path) == ()


# The day's budget


def budgeted(ledger: Ledger, limit: float, **how: bool) -> tuple[list[Question], Answer]:
    """The questions that reached the answerer, and the answer."""
    asked: list[Question] = []

    def ask(question: Question) -> Iterator[Event]:
        asked.append(question)
        yield Finished(replace(ANSWER, warnings=()))

    events = list(within_budget(Question("Who?", **how), ask, ledger, limit, lambda: NOW))
    return asked, events[-1].answer


def test_the_budget_counts_this_day_of_utc_alone(ledger: Ledger) -> None:
    """What yesterday cost does not count; what today has reached the limit ends written answers."""
    midnight = NOW - NOW % DAY_S
    ledger.record(replace(ENTRY, time=midnight - 1, cost_usd=5.0))
    ledger.record(replace(ENTRY, time=midnight, cost_usd=0.06))
    ledger.record(replace(ENTRY, time=NOW, cost_usd=None))

    under, over = budgeted(ledger, 0.07), budgeted(ledger, 0.06)

    assert [(q.extractive, a.warnings) for (q,), a in [under, over]] == [
        (False, ()),
        (
            True,
            ("extractive answer, for $0.0600 were spent today, and chat.max_cost_per_day is 0.06",),
        ),
    ]


def test_a_budget_that_cannot_be_checked_is_reached(tmp_path: Path, ledger: Ledger) -> None:
    """Without its ledger the limit lets no question through to the chat API."""
    garbage(tmp_path / FILE)

    (question,), answer = budgeted(ledger, 1.0)

    assert question.extractive
    assert "today's cost is unknown" in answer.warnings[0]


def test_an_extractive_question_has_no_budget(tmp_path: Path, ledger: Ledger) -> None:
    """It costs nothing, and nothing is said."""
    garbage(tmp_path / FILE)

    assert budgeted(ledger, 1.0, extractive=True)[1].warnings == ()


def test_a_budget_needs_the_ledger() -> None:
    """A limit without what counts is refused when the settings are read."""
    with pytest.raises(UsageError, match="max_cost_per_day"):
        load_settings({"chat.max_cost_per_day": 1.0, "ledger.enabled": False}, environment={})


# The whole command


@pytest.fixture
def asked(library: Rag, tmp_path: Path) -> Rag:
    """The command over a copy of the collection whose ledger is empty."""
    shutil.copytree(library.folder / ".rag", tmp_path / "copy" / ".rag")
    for path in (tmp_path / "copy" / ".rag").glob(f"{FILE}*"):
        path.unlink()
    return Rag(tmp_path / "copy", tmp_path / "home")


def chat_reply(text: str) -> Response:
    chunks = [
        {"model": "m-1", "choices": [{"delta": {"content": text}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 100}},
    ]
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return Response("".join([*lines, "data: [DONE]\n\n"]).encode(), kind="text/event-stream")


def test_questions_of_the_command_are_counted(asked: Rag) -> None:
    """A retried chat answer and one after the day's budget: cost, tokens, retries, and no words."""
    replies = [Response(b"{}", 503), chat_reply("Every employee has 28 days of paid leave a year.")]

    def respond(request: Request) -> Response:
        return replies.pop(0)

    with Served(respond) as server:
        environment = {
            "OPENAI_BASE_URL": f"{server.url}/v1",
            "RAG_CHAT_PRICE_IN": "1",
            "RAG_CHAT_PRICE_OUT": "10",
            "RAG_CHAT_MAX_COST_PER_DAY": "0.001",
        }
        written = asked("ask", LEAVE, "--json", environment=environment)
        quoted = asked("ask", LEAVE, "--json", environment=environment)

    assert written.json["usage"]["retries"] == 1
    assert quoted.json["answerer"] == "extractive"
    assert "chat.max_cost_per_day" in quoted.json["warnings"][0]
    stats = asked("stats", "--json").json
    total = stats["total"]
    assert (total["questions"], total["retries"], total["cost_usd"]) == (2, 1, 0.002)
    assert list(stats["models"]) == ["m-1", "extractive"]
    assert stats["origins"] == {"ask": 2}
    assert stats["store"]["documents"] == 5
    assert LEAVE.encode() not in (asked.folder / ".rag" / FILE).read_bytes()
    text = asked("stats")
    assert "2 questions in 30 days (2 ask): 2 answered" in text.out


def test_an_empty_ledger_says_what_to_do(asked: Rag) -> None:
    """Before the first question there is a way on, and no error."""
    result = asked("stats")

    assert (result.code, result.err) == (0, "")
    assert 'rag ask "' in result.out


def test_a_ledger_that_is_off_writes_nothing(asked: Rag) -> None:
    """The setting keeps the file from being made."""
    store = asked.folder / ".rag"
    settings = load_settings({"ledger.enabled": False}, folder=asked.folder, environment={})

    with open_app(settings, store) as app:
        assert app.ask(Question(LEAVE)).status == "answered"

    assert list(store.glob(f"{FILE}*")) == []


def test_evaluations_are_marked(asked: Rag, tmp_path: Path) -> None:
    """What `rag eval` asks has an origin of its own, so that it does not spoil the figures."""
    path = tmp_path / "questions.jsonl"
    path.write_text(json.dumps({"id": "1", "question": LEAVE, "answers": ["28 days"]}) + "\n")
    store = asked.folder / ".rag"

    run_set(
        path,
        load_settings({"store": str(store)}, folder=tmp_path, environment={}),
        RunOptions(extractive=True),
        lambda progress: None,
    )

    assert [entry.origin for entry in rows(store)] == ["eval"]
