"""A chat API on a real socket for tests: it answers from a function and keeps what it was asked."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

USAGE = {"prompt_tokens": 100, "completion_tokens": 10}


@dataclass(frozen=True)
class Refusal:
    """A reply with this status in place of an answer."""

    status: int


class ChatApi(ThreadingHTTPServer):
    """Streams `reply(question)`, whole; `asked` are the questions in the order they came."""

    daemon_threads = True

    def __init__(self, reply: Callable[[str], str | Refusal], handler: type["Handler"]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.reply = reply
        self.asked: list[str] = []
        self.lock = Lock()
        self.at_once = self.most_at_once = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone is no error here."""

    def answer(self, body: dict[str, Any]) -> str | Refusal:
        """Note a request, and reply to it."""
        content = body["messages"][-1]["content"]
        question = content.rpartition("Question: ")[2].partition("\n")[0]
        with self.lock:
            self.asked.append(question)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return self.reply(question)
        finally:
            with self.lock:
                self.at_once -= 1


class Handler(BaseHTTPRequestHandler):
    """One request of a ChatApi."""

    server: ChatApi

    def do_POST(self) -> None:
        """Chat completions as a stream of one piece."""
        reply = self.server.answer(json.loads(self.body()))
        if isinstance(reply, Refusal):
            self.send(reply.status, json.dumps({"error": {"message": "no"}}).encode())
            return
        pieces = (
            {"choices": [{"index": 0, "delta": {"content": reply}}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": USAGE},
        )
        events = "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces)
        self.send(200, f"{events}data: [DONE]\n\n".encode(), "text/event-stream")

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the name it has
        """Say nothing."""


@contextmanager
def serving(
    reply: Callable[[str], str | Refusal], handler: type[Handler] = Handler
) -> Iterator[ChatApi]:
    """A running server."""
    with ChatApi(reply, handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.shutdown()
