"""A written answer as it comes to a terminal and to a pipe, from a chat API that takes its time."""

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest
from command import Rag, clean_environment, read_terminal

QUESTION = "How many days of paid leave does an employee have?"
GOOD = "Every employee has 28 days of paid leave a year"
INVENTED = "Every employee also receives a company yacht moored in Monaco."
STRUCK = f"\x1b[9m{INVENTED}\x1b[29m [unsupported]"


class SlowChat(ThreadingHTTPServer):
    """Streams a true sentence, and an invented one once it is told to go on."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.go_on = Event()
        self.was_told = False

    @property
    def environment(self) -> dict[str, str]:
        """What points the command at this server."""
        return {"OPENAI_BASE_URL": f"http://127.0.0.1:{self.server_address[1]}/v1"}


class _Handler(BaseHTTPRequestHandler):
    server: SlowChat

    def do_POST(self) -> None:
        """Answer one chat request."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self._send(f"{GOOD}. Every ")
        self.server.was_told = self.server.go_on.wait(30)
        self._send(INVENTED.removeprefix("Every "))
        self.wfile.write(b"data: [DONE]\n\n")

    def _send(self, text: str) -> None:
        chunk = {"choices": [{"index": 0, "delta": {"content": text}}]}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the name it has
        """Say nothing."""


@pytest.fixture
def chat() -> Iterator[SlowChat]:
    """A running server."""
    with SlowChat() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def on_terminal(library: Rag, chat: SlowChat, **environment: str) -> str:
    """What a terminal receives; the server goes on once the first citation is there."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [*library.command, "ask", QUESTION],
        cwd=library.folder,
        env=clean_environment(library.home) | chat.environment | environment,
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=subprocess.DEVNULL,
    )
    os.close(terminal)
    received = b""
    while piece := read_terminal(controller):
        received += piece
        if b"[1]" in received:
            chat.go_on.set()
    os.close(controller)
    assert process.wait(30) == 0
    return received.decode().replace("\r\n", "\n")


def test_a_terminal_shows_each_sentence_checked_as_it_ends(library: Rag, chat: SlowChat) -> None:
    """The first sentence has its citation before the second comes; that one is struck in place."""
    shown = on_terminal(library, chat)

    assert chat.was_told
    assert shown.startswith(f"{GOOD} [1]. {STRUCK}\n\n[1] ")


def test_an_interrupt_leaves_what_was_shown(library: Rag, chat: SlowChat) -> None:
    """A terminal says what is waited for, then keeps the sentence that stood there at Ctrl-C."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [*library.command, "ask", QUESTION],
        cwd=library.folder,
        env=clean_environment(library.home) | chat.environment | {"TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    received = b""
    while b"[1]" not in received:
        received += read_terminal(controller)
    interrupted = time.monotonic()
    process.send_signal(signal.SIGINT)
    while piece := read_terminal(controller):
        received += piece
    os.close(controller)

    assert process.wait() == 130
    assert time.monotonic() - interrupted < 5
    before, _, after = received.decode().replace("\r\n", "\n").partition(GOOD)
    assert "reads" in before
    assert after.startswith(" [1].")
    assert after.endswith("\ninterrupted\n")


def test_without_colour_a_failed_sentence_is_only_marked(library: Rag, chat: SlowChat) -> None:
    """NO_COLOR is honoured, and a pipe gets plain text."""
    terminal = on_terminal(library, chat, NO_COLOR="1")
    pipe = library("ask", QUESTION, environment=chat.environment)

    for shown in (terminal, pipe.out):
        assert shown.startswith(f"{GOOD} [1]. {INVENTED} [unsupported]\n\n[1] ")


def test_strict_leaves_a_failed_sentence_out_and_says_so(library: Rag, chat: SlowChat) -> None:
    """In text, as a note beside it, and in JSON."""
    chat.go_on.set()

    text = library("ask", QUESTION, "--strict", environment=chat.environment)
    as_json = library("ask", QUESTION, "--strict", "--json", environment=chat.environment).json

    assert text.out.startswith(f"{GOOD} [1].\n\n[1] ")
    assert "note: 1 unsupported sentence was left out" in text.err
    assert as_json["answer"] == f"{GOOD} [1]."
    assert as_json["warnings"] == ["1 unsupported sentence was left out"]
