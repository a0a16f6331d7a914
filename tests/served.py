"""A small HTTP server on a real socket, whose replies a test makes up."""

from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Self


@dataclass(frozen=True)
class Request:
    """What was asked of the server."""

    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Response:
    """What it says."""

    body: bytes
    status: int = 200
    kind: str = "application/json"


class Served(ThreadingHTTPServer):
    """Serves until the `with` block ends; `requests` are those so far."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, respond: Callable[[Request], Response]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.respond = respond
        self.requests: list[Request] = []

    @property
    def url(self) -> str:
        """The address without a path."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Served

    def do_POST(self) -> None:
        """Answer one request."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = Request(self.path, body, dict(self.headers))
        self.server.requests.append(request)
        response = self.server.respond(request)
        self.send_response(response.status)
        self.send_header("Content-Type", response.kind)
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        self.wfile.write(response.body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the name it has
        """Say nothing."""
