"""A chat API on a real socket that keeps what it was sent and replies as it is told."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class ChatServer(ThreadingHTTPServer):
    """`reply` makes the text of an answer from the request's user message; `flagged` tells which
    texts its moderation endpoint flags, or a status with which that fails."""

    daemon_threads = True

    def __init__(self, reply: Callable[[str], str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply = reply
        self.flagged: Callable[[str], bool] | int = lambda text: False
        self.keys: tuple[str, ...] | None = None  # that are accepted; None for any
        self.bodies: list[dict[str, Any]] = []
        self.moderated: list[str] = []
        self.authorizations: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def environment(self) -> dict[str, str]:
        """What points the command at this server."""
        return {"OPENAI_BASE_URL": self.url}

    def messages(self, number: int = -1) -> list[Mapping[str, str]]:
        """The messages of a request."""
        return self.bodies[number]["messages"]


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        """Answer one request."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.headers["Authorization"]
        self.server.authorizations.append(key)
        if self.server.keys is not None and (key or "").removeprefix("Bearer ") not in (
            self.server.keys
        ):
            self._send(401, {"error": {"message": f"Incorrect API key provided: {key}"}})
        elif self.path.endswith("/moderations"):
            self._moderate(body["input"])
        else:
            self.server.bodies.append(body)
            self._stream(self.server.reply(body["messages"][-1]["content"]))

    def _moderate(self, text: str) -> None:
        self.server.moderated.append(text)
        if isinstance(self.server.flagged, int):
            self._send(self.server.flagged, {"error": {"message": "no moderation today"}})
            return
        flagged = self.server.flagged(text)
        result = {"flagged": flagged, "categories": {"violence": flagged, "hate": False}}
        self._send(200, {"id": "modr-1", "model": "m", "results": [result]})

    def _stream(self, text: str) -> None:
        """Five characters an event, so that whatever is longer comes in pieces."""
        pieces = [text[i : i + 5] for i in range(0, len(text), 5)]
        chunks = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
        self._send(200, f"{events}data: [DONE]\n\n".encode(), "text/event-stream")

    def _send(self, status: int, body: object, kind: str = "application/json") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the name it has
        """Say nothing."""


@contextmanager
def chat_server(reply: Callable[[str], str] | str) -> Iterator[ChatServer]:
    """A running server."""
    with ChatServer(reply if callable(reply) else lambda _: reply) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
