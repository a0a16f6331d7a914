"""A batch by way of the provider's endpoint, against a server that has one."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from chat_api import USAGE, ChatApi, Handler, Refusal, serving
from command import Rag, write_documents

from eval.benchmarks.hashes import HashEmbedder
from ingest.errors import UsageError
from ingest.sync import sync
from rag.app import sync_settings
from rag.batch.provider import Work, collect, look_up, submit
from rag.batch.questions import read_questions
from rag.context import Question
from rag.errors import ChatRejected, ChatUnavailable
from rag.settings.config import Settings, load_settings

ANSWERS = {
    "When does the fire drill take place?": "The fire drill takes place on 12 May.",
    "How many days of paid leave does an employee have?": (
        "Every employee has 28 days of paid leave a year."
    ),
    "What does error E-1042 mean?": "Error E-1042 means that the inlet valve is blocked.",
}
FIRST, LEAVE, ERROR = ANSWERS
UNSAID = "Which composer wrote the opera Tosca?"


class BatchHandler(Handler):
    """Files and batches of OpenAI's shape: one batch, which ends after it was looked at once."""

    def do_POST(self) -> None:
        """Take a file, begin a batch, or chat."""
        if self.path.endswith("/chat/completions"):
            super().do_POST()
            return
        body, state = self.body(), self.server.__dict__
        if self.path.endswith("/files"):
            assert b'name="purpose"\r\n\r\nbatch' in body
            (content,) = re.findall(
                rb'filename="[^\r]*\r\n(?:[^\r]+\r\n)*\r\n(.*?)\r\n--', body, re.S
            )
            state["requests"] = [json.loads(line) for line in content.splitlines()]
            self.give({"id": "file-in"})
        else:
            state["begun"] = json.loads(body)
            state["looks"] = 0
            self.give(self.batch())

    def do_GET(self) -> None:
        """Tell of the batch, or give what a file holds."""
        if "/batches/" in self.path:
            self.server.looks += 1
            self.give(self.batch())
            return
        if "/files/" not in self.path:
            self.send(404, b"{}")
            return
        name = self.path.split("/")[-2]
        rows = [self.row(request) for request in self.server.requests]
        wanted = [row for row in rows if bool(row["error"]) == (name == "file-errors")]
        self.send(200, "".join(f"{json.dumps(row)}\n" for row in wanted).encode())

    def do_DELETE(self) -> None:
        """Note what is deleted."""
        self.server.__dict__.setdefault("deleted", []).append(self.path.rpartition("/")[2])
        self.give({"deleted": True})

    def give(self, value: object) -> None:
        self.send(200, json.dumps(value).encode())

    def batch(self) -> dict:
        ended = self.server.looks > 1
        problem = self.server.__dict__.get("problem")
        count = len(self.server.requests)
        return {
            "id": "batch_1",
            "status": "failed" if problem else "completed" if ended else "in_progress",
            "errors": {"data": [{"message": problem}]} if problem else None,
            "request_counts": {"total": count, "completed": count if ended else 0, "failed": 0},
            "input_file_id": "file-in",
            "output_file_id": "file-out" if ended else None,
            "error_file_id": "file-errors" if ended else None,
        }

    def row(self, request: dict) -> dict:
        reply = self.server.answer(request["body"])
        body = {
            "model": "batched",
            "choices": [{"message": {"content": reply}, "finish_reason": "stop"}],
            "usage": USAGE,
        }
        if isinstance(reply, Refusal):
            body = {"error": {"message": "too much", "code": "invalid_request_error"}}
        failed = {"code": "no", "message": "too much"} if isinstance(reply, Refusal) else None
        status = reply.status if isinstance(reply, Refusal) else 200
        response = {"status_code": status, "body": body}
        return {"custom_id": request["custom_id"], "response": response, "error": failed}


@pytest.fixture
def api() -> Iterator[ChatApi]:
    """A chat API with a batch endpoint that knows the answers."""
    with serving(ANSWERS.__getitem__, BatchHandler) as server:
        yield server


@pytest.fixture
def settings(library: Rag, api: ChatApi) -> Settings:
    """Settings of the shared collection and this API."""
    flags = {
        "chat.base_url": api.base_url,
        "chat.price_in": 1.0,
        "chat.price_out": 1.0,
        "store": str(library.folder / ".rag"),
    }
    return load_settings(flags, folder=library.folder, environment={})


def work_of(folder: Path, settings: Settings, *, resume: bool = False) -> Work:
    path = folder / "questions.jsonl"
    questions = (*ANSWERS, UNSAID)
    path.write_text("".join(f'{{"id": {n}, "question": "{q}"}}\n' for n, q in enumerate(questions)))
    asked = read_questions(str(path), Question("", batch=True))
    return Work(settings, asked, folder / "answers.jsonl", resume)


def rows_of(work: Work) -> dict[int, dict]:
    lines = work.out.read_text(encoding="utf-8").splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def ignore(progress: object) -> None:
    """No progress is shown."""


def no_wait(seconds: float) -> None:
    """Time passes at once."""


def test_replies_come_back_as_checked_answers(
    tmp_path: Path, settings: Settings, api: ChatApi
) -> None:
    """One request goes at once, the others by file; their answers are cited, at half the price."""
    work = work_of(tmp_path, settings)

    job = submit(work, ignore)

    assert (job.id, api.asked) == ("batch_1", [FIRST])
    assert {row["status"] for row in rows_of(work).values()} == {"answered", "abstained"}
    assert len(api.requests) == 2
    assert api.begun == {
        "input_file_id": "file-in", "endpoint": "/v1/chat/completions", "completion_window": "24h",
    }  # fmt: skip
    assert all(request["body"]["stream"] is False for request in api.requests)
    assert look_up(work).ended is False

    report = collect(work, ignore, no_wait)

    rows = rows_of(work)
    assert (report.answered, report.before, report.is_whole) == (2, 2, True)
    assert {row["status"] for row in rows.values()} == {"answered", "abstained"}
    assert [rows[n]["usage"]["cost_usd"] for n in (0, 1)] == [0.00011, 0.000055]
    assert rows[1]["citations"][0]["quote"] == ANSWERS[LEAVE]
    assert (api.deleted, work.ticket.exists()) == (["file-in", "file-out", "file-errors"], False)


def test_a_document_changed_in_between_is_asked_anew(
    tmp_path: Path, settings: Settings, api: ChatApi
) -> None:
    """A reply to passages that have changed is no answer: the row says so, and can be asked."""
    docs, store = write_documents(tmp_path / "docs"), tmp_path / ".rag"
    settings = replace(settings, store=str(store))
    sync(store, [docs], sync_settings(settings), embedder=HashEmbedder())
    work = work_of(tmp_path, settings)
    submit(work, ignore)
    (docs / "new.md").write_text("# New\n\nPaid leave and error E-1042: new words.\n")
    sync(store, [docs], sync_settings(settings), embedder=HashEmbedder())

    report = collect(work, ignore, no_wait)

    assert (report.failed, report.answered) == (2, 0)
    assert "documents or settings have changed" in rows_of(work)[1]["error"]["message"]


def test_what_failed_at_the_provider_is_a_row(
    tmp_path: Path, settings: Settings, api: ChatApi
) -> None:
    """Its error is told as the chat API's own would be; the others are answered."""
    work = work_of(tmp_path, settings)
    submit(work, ignore)
    api.reply = lambda question: Refusal(400) if question == LEAVE else ANSWERS[question]

    report = collect(work, ignore, no_wait)

    assert (report.failed, report.answered) == (1, 1)
    assert rows_of(work)[1]["error"]["message"] == "the batch answered 400: too much"


def test_a_batch_that_the_provider_refuses_can_be_submitted_again(
    tmp_path: Path, settings: Settings, api: ChatApi
) -> None:
    """Its reason is told, and nothing is in the way of another try."""
    submit(work_of(tmp_path, settings), ignore)
    work = work_of(tmp_path, settings, resume=True)
    with pytest.raises(UsageError, match="a batch is under way"):
        submit(work, ignore)
    api.problem = "line 1 is too long"

    with pytest.raises(ChatRejected, match="the batch failed: line 1 is too long"):
        collect(work, ignore, no_wait)
    with pytest.raises(UsageError, match="no batch is under way"):
        collect(work, ignore, no_wait)

    api.problem = None
    assert submit(work, ignore) is not None
    assert api.asked == [FIRST, LEAVE]


def test_a_provider_that_is_away_for_a_while_is_borne_with(
    tmp_path: Path, settings: Settings, api: ChatApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Polls that fail are repeated, but not for ever."""
    work = work_of(tmp_path, settings)
    submit(work, ignore)
    fine = BatchHandler.do_GET
    waits: list[float] = []

    def away(handler: BatchHandler) -> None:
        handler.send(503, b"{}")

    def back_after_three(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            monkeypatch.setattr(BatchHandler, "do_GET", fine)

    monkeypatch.setattr(BatchHandler, "do_GET", away)
    with pytest.raises(ChatUnavailable):
        collect(work, ignore, no_wait)
    assert collect(work, ignore, back_after_three).is_whole


def test_the_command_goes_the_whole_way(library: Rag, api: ChatApi, tmp_path: Path) -> None:
    """Submit, status and collect as three runs; each says how it stands."""
    questions, out = tmp_path / "questions.jsonl", tmp_path / "answers.jsonl"
    questions.write_text("".join(f'{{"question": "{question}"}}\n' for question in ANSWERS))
    here = {"OPENAI_BASE_URL": api.base_url}

    def run(action: str) -> object:
        return library("batch", questions, "-o", out, "--provider", action, environment=here)

    results = [run(action) for action in ("submit", "status", "collect")]

    assert [result.code for result in results] == [0, 0, 0], results
    assert results[1].out == "batch_1: in_progress, 0 of 2 replies\n"
    assert results[2].out.startswith("2 answered, 1 there before; ")
    assert len(out.read_text().splitlines()) == 3
