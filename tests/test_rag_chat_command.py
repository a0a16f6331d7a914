"""`rag chat` as a process: from a pipe, at a terminal, and after a kill."""

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from command import Rag, clean_environment

HALDEN = Path(__file__).parent.parent / "corpora" / "halden" / "docs"
FILES = ("handbook/02-working-time-and-leave.md", "manuals/kelda-kl40-manual.pdf")
HOURS = "How many weekly hours are full time in Portugal?"
LEAVE = "How many days of paid leave does an employee have?"


@pytest.fixture(scope="module")
def halden(tmp_path_factory: pytest.TempPathFactory) -> Rag:
    """Two of the sample documents, ingested."""
    folder = tmp_path_factory.mktemp("halden")
    for name in FILES:
        (folder / "docs" / name).parent.mkdir(parents=True)
        shutil.copy(HALDEN / name, folder / "docs" / name)
    command = Rag(folder, folder / "home")
    result = command("ingest", "docs")
    assert result.code == 0, result.err
    return command


def objects(out: str) -> list[Any]:
    """One JSON object a line."""
    return [json.loads(line) for line in out.splitlines()]


def test_follow_ups_from_a_pipe_are_understood(halden: Rag) -> None:
    """Each line is a question in the light of those before it, cited from its own passages."""
    battery = "How long does the battery pack of a KL-40 last with four PT-2 probes at 15 minutes?"
    lines = [HOURS, "And in Germany?", "/new", battery, "And with two PT-4?", ""]

    result = halden("chat", "--json", stdin="\n".join(lines))

    hours, germany, pack, probes = objects(result.out)
    assert result.code == 0
    assert "standalone" not in hours
    assert germany["question"] == "And in Germany?"
    assert germany["standalone"] == "How many weekly hours are full time in Germany?"
    assert "38 hours a week in Germany" in germany["citations"][0]["quote"]
    assert "36 months" in pack["citations"][0]["quote"]
    assert probes["standalone"] == battery.replace("PT-2", "PT-4")
    assert "with two of them 8 months" in probes["citations"][0]["quote"]
    for answer in (hours, germany, pack, probes):
        shown = {passage["source"] for passage in answer["passages"]}
        assert {citation["source"] for citation in answer["citations"]} <= shown


def test_commands_from_a_pipe(halden: Rag) -> None:
    """They show the words cited and how they were found; an unknown one is an error at the end."""
    result = halden("chat", stdin=f"{HOURS}\nAnd in Germany?\n/sources\n/explain\n/nothing\n/help")

    assert result.code == 2
    assert "rag show 'handbook/02-working-time-and-leave.md' --span" in result.out
    assert "understood as: How many weekly hours are full time in Germany?" in result.err
    assert "confidence:" in result.out
    assert "/save NAME" in result.out
    assert "rag: no such command: /nothing\n     /help lists the commands" in result.err


def test_an_unanswered_line_does_not_end_the_conversation(halden: Rag) -> None:
    """An error is one JSON object, and the next line is answered."""
    result = halden("chat", "--json", stdin=f"{'x' * 4001}\n{HOURS}\n")

    error, answer = objects(result.out)
    assert (result.code, error["error"]["type"]) == (2, "usage_error")
    assert answer["status"] == "answered"


def test_a_session_goes_on_after_a_kill(halden: Rag) -> None:
    """What was answered before a kill is there; the next question leans on it."""
    with subprocess.Popen(
        [*halden.command, "chat", "--session", "work", "--json"],
        cwd=halden.folder,
        env=clean_environment(halden.home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        assert child.stdin
        assert child.stdout
        child.stdin.write(f"{HOURS}\n")
        child.stdin.flush()
        first = json.loads(child.stdout.readline())
        kept = halden.folder / ".rag" / "sessions" / "work.jsonl"
        while not kept.exists() or not kept.read_bytes().endswith(b"\n"):
            time.sleep(0.01)
        child.kill()
    with kept.open("ab") as file:
        file.write(b'{"question": "And in')  # as a kill within a write leaves it

    resumed = halden("chat", "--resume", "--json", stdin="And in Germany?\n")
    (listed,) = halden("chat", "--list", "--json").json["sessions"]

    (second,) = objects(resumed.out)
    assert second["standalone"] == "How many weekly hours are full time in Germany?"
    assert [row["question"] for row in objects(kept.read_text())] == [HOURS, "And in Germany?"]
    assert (listed["name"], listed["turns"]) == ("work", 2)
    assert first["question"] == HOURS


def test_without_a_session_there_is_none_to_resume(library: Rag) -> None:
    """The error says how to keep one; a bad name is refused before any question."""
    result = library("chat", "--resume", stdin="")
    bad = library("chat", "--session", "../x", stdin=LEAVE)

    assert (result.code, bad.code) == (2, 2)
    assert "rag chat --session NAME" in result.err
    assert "cannot name a session" in bad.err


class StalledChat(ThreadingHTTPServer):
    """Begins an answer, and notes when the client hangs up."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.begun = Event()
        self.freed = Event()


class _Handler(BaseHTTPRequestHandler):
    server: StalledChat

    def do_POST(self) -> None:
        """Stream one sentence, then wait for the other side to go."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        text = "Every employee has 28 days of paid leave a year. Unused "
        chunk = {"choices": [{"index": 0, "delta": {"content": text}}]}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()
        self.server.begun.set()
        self.connection.settimeout(20)
        if self.connection.recv(1) == b"":
            self.server.freed.set()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the name it has
        """Say nothing."""


@pytest.fixture
def stalled() -> Iterator[StalledChat]:
    """A running server."""
    with StalledChat() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


PROMPT = "\n> "  # a heading path has such an arrow too, but not at the beginning of a line


class Terminal:
    """A terminal with a command at its other end."""

    def __init__(self, rag: Rag, environment: dict[str, str], *command: str) -> None:
        self._controller, terminal = pty.openpty()
        self.process = subprocess.Popen(
            [*rag.command, *(command or ["chat"])],
            cwd=rag.folder,
            env=clean_environment(rag.home) | {"TERM": "dumb"} | environment,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        os.close(terminal)
        self._shown = ""

    def type(self, text: str) -> None:
        """Press these keys."""
        os.write(self._controller, text.encode())

    def wait_for(self, text: str) -> str:
        """Read until this is shown; what came with it is returned."""
        deadline = time.monotonic() + 60
        while text not in self._shown:
            assert time.monotonic() < deadline, self._shown
            self._read(1.0)
        seen, _, self._shown = self._shown.partition(text)
        return seen + text

    def _read(self, seconds: float) -> None:
        if select.select([self._controller], [], [], seconds)[0]:
            self._shown += os.read(self._controller, 4096).decode()

    def interrupt(self) -> None:
        """As Ctrl-C does to what runs at the terminal."""
        self.process.send_signal(signal.SIGINT)

    def interrupt_prompt(self) -> None:
        """Until a new prompt is there: readline sees no signal between its prompt and its wait."""
        for _ in range(10):
            self.interrupt()
            deadline = time.monotonic() + 2
            while time.monotonic() < deadline:
                self._read(0.1)
                if PROMPT in self._shown:
                    return

    def end(self) -> int:
        """Press Ctrl-D, and wait for the end."""
        self.type("\x04")
        return self.process.wait(20)


def test_a_terminal_prompts_and_ends_with_ctrl_d(library: Rag) -> None:
    """The prompt comes back after an answer and after Ctrl-C; Ctrl-D ends well."""
    terminal = Terminal(library, {})
    terminal.wait_for(PROMPT)
    terminal.type(f"{LEAVE}\n")
    answer = terminal.wait_for("[1] handbook/leave.md")
    terminal.wait_for(PROMPT)
    terminal.interrupt_prompt()
    terminal.wait_for(PROMPT)

    assert "28 days" in answer
    assert terminal.end() == 0


def test_ctrl_c_cancels_an_answer_and_frees_the_api(library: Rag, stalled: StalledChat) -> None:
    """The conversation goes on, and within a second nobody waits for the rest of the answer."""
    url = f"http://127.0.0.1:{stalled.server_address[1]}/v1"
    terminal = Terminal(library, {"OPENAI_BASE_URL": url})
    terminal.wait_for(PROMPT)
    terminal.type(f"{LEAVE}\n")
    terminal.wait_for("28 days")
    terminal.interrupt()

    assert stalled.freed.wait(1)
    terminal.wait_for("cancelled")
    terminal.wait_for(PROMPT)
    assert terminal.end() == 0


def test_ctrl_c_pressed_again_at_once_ends_one_answer(library: Rag, stalled: StalledChat) -> None:
    """An impatient person, or a key that is held down, does not lose the conversation."""
    url = f"http://127.0.0.1:{stalled.server_address[1]}/v1"
    terminal = Terminal(library, {"OPENAI_BASE_URL": url})
    terminal.wait_for(PROMPT)
    terminal.type(f"{LEAVE}\n")
    terminal.wait_for("28 days")
    for _ in range(300):
        terminal.interrupt()
        time.sleep(0.001)

    terminal.wait_for("cancelled")
    terminal.wait_for(PROMPT)
    assert terminal.end() == 0


def test_an_ingest_at_a_terminal_shows_how_far_it_is(rag: Rag) -> None:
    """There is a bar before the first file is counted, and the report after the last."""
    (rag.folder / "note.md").write_text("# Pumps\n\nThe pump moves 40 litres a minute.\n")
    terminal = Terminal(rag, {"TERM": "xterm"}, "ingest", "note.md")

    terminal.wait_for("1 added")
    assert terminal.process.wait(20) == 0


def test_an_end_asked_for_ends_the_conversation(library: Rag, stalled: StalledChat) -> None:
    """SIGTERM is no Ctrl-C: it ends the process in the midst of an answer."""
    url = f"http://127.0.0.1:{stalled.server_address[1]}/v1"
    terminal = Terminal(library, {"OPENAI_BASE_URL": url})
    terminal.wait_for(PROMPT)
    terminal.type(f"{LEAVE}\n")
    terminal.wait_for("28 days")
    terminal.process.terminate()

    assert terminal.process.wait(20) == 130


def test_an_evaluation_set_may_hold_conversations(halden: Rag) -> None:
    """A question's earlier messages are its history, in answers and in retrieval alone."""
    gold = [{"doc": FILES[0], "text": "Full time is 38 hours a week in Germany"}]
    messages = [{"role": "user", "content": HOURS}, {"role": "assistant", "content": "40 hours."}]
    case = {"id": "1", "question": "And in Germany?", "answers": ["38 hours"], "evidence": gold}
    path = halden.folder / "follow.jsonl"
    path.write_text(json.dumps(case | {"messages": messages}) + "\n")

    answers = halden("eval", "run", path, "--extractive", "--json").json
    retrieval = halden("eval", "run", path, "--retrieval-only", "--json").json

    assert answers["metrics"]["contains"]["value"] == 1.0
    assert retrieval["metrics"]["hit@1"]["value"] == 1.0
