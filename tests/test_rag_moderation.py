"""Moderation: what is flagged is neither asked nor shown, and a check that fails is no pass."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_server import ChatServer, chat_server
from command import Rag

from ingest.errors import UsageError
from rag.app import open_app
from rag.context import Question
from rag.safety.moderation import rules_check
from rag.settings.config import load_settings
from rag.types import Answer

QUESTION = "How many days of paid leave does an employee have?"
GOOD = "Every employee has 28 days of paid leave a year."
BY_API = {"RAG_SAFETY_MODERATION": "api"}


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server(GOOD) as running:
        yield running


def answer_of(library: Rag, server: ChatServer, **settings: str) -> Answer:
    """The answer within this process."""
    environment = server.environment | BY_API | settings
    opened = load_settings(folder=library.folder, environment=environment)
    with open_app(opened, library.folder / ".rag") as app:
        return app.ask(Question(QUESTION))


def test_what_passes_is_answered(library: Rag, server: ChatServer) -> None:
    """Question and answer are both checked; personal words leave for neither endpoint."""
    answer = answer_of(library, server, RAG_PRIVACY_TERMS="employee")

    assert answer.status == "answered"
    assert [text[:8] for text in server.moderated] == ["How many", "Every [T"]
    assert "employee" not in str(server.moderated)


def test_a_flagged_question_is_not_asked(library: Rag, server: ChatServer) -> None:
    """Nothing is sent to the model; the error names the category."""
    server.flagged = lambda text: "How many" in text

    result = library("ask", QUESTION, "--json", environment=server.environment | BY_API)

    assert (result.code, server.bodies) == (2, [])
    assert result.json["error"]["type"] == "question_refused"
    assert "violence" in result.json["error"]["message"]


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_nothing_of_a_flagged_answer_is_shown(
    library: Rag, server: ChatServer, form: tuple[str, ...]
) -> None:
    """Neither its text nor the passages it was made of, streamed or not."""
    server.flagged = lambda text: "Every employee" in text

    result = library("ask", QUESTION, *form, environment=server.environment | BY_API)

    assert len(server.bodies) == 1
    assert result.code == 5
    assert "28 days" not in result.out + result.err
    assert "withheld by moderation: violence" in result.out + result.err


def test_a_failed_check_stops_the_question(library: Rag, server: ChatServer) -> None:
    """Closed by default: no verdict is no pass, and the message says how to go on without."""
    server.flagged = 403

    result = library("ask", QUESTION, environment=server.environment | BY_API)

    assert (result.code, server.bodies) == (4, [])
    assert "moderation failed" in result.err
    assert "safety.on_failure" in result.err


def test_a_failed_check_can_be_let_pass(library: Rag, server: ChatServer) -> None:
    """Open: the answer comes, and says that it was not checked."""
    server.flagged = 403

    answer = answer_of(library, server, RAG_SAFETY_ON_FAILURE="open")

    assert answer.status == "answered"
    assert [w for w in answer.warnings if w.startswith("not moderated: ")]


def test_rules_need_no_chat_api(library: Rag, tmp_path: Path) -> None:
    """A list of patterns checks extractive answers too; a message of one's own is shown."""
    rules = tmp_path / "rules.toml"
    rules.write_text(
        '[[rule]]\npattern = "paid (leave|salary)"\nmessage = "ask the staff office"\n'
    )
    lines = tmp_path / "rules.txt"
    lines.write_text("# figures\n28 days\n")

    def ask(file: Path):
        settings = {"RAG_SAFETY_MODERATION": "rules", "RAG_SAFETY_RULES": str(file)}
        return library("ask", QUESTION, environment=settings)

    question, answer = ask(rules), ask(lines)
    assert (question.code, "ask the staff office" in question.err) == (2, True)
    assert (answer.code, "28 days" in answer.out) == (5, False)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.txt", None, "cannot be read"),
        ("a.toml", "rule = 1", "cannot be read"),
        ("a.txt", "good\n(bad", r"'\(bad' in .*a.txt is no pattern"),
    ],
)
def test_rules_that_cannot_be_used_are_refused(
    tmp_path: Path, name: str, content: str | None, said: str
) -> None:
    """Before any question is asked, by name."""
    if content is not None:
        (tmp_path / name).write_text(content)

    with pytest.raises(UsageError, match=said):
        rules_check(tmp_path / name)
