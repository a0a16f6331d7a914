"""A chat API on a real socket that does as it is told, and what such APIs send."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

Step = bytes | float | str

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def piece(text: object = None, finish: str | None = None, **extra: object) -> dict[str, object]:
    """One chunk of a stream; further fields of the delta by name."""
    delta = {**({} if text is None else {"content": text}), **extra}
    return {"model": "m-1", "choices": [{"delta": delta, "finish_reason": finish}]}


def events(*payloads: object, done: bool = True) -> bytes:
    """A stream of server-sent events."""
    lines = [f"data: {json.dumps(payload)}\n\n" for payload in payloads]
    return "".join(lines + ["data: [DONE]\n\n"] * done).encode()


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def streamed(*payloads: object) -> bytes:
    """A whole response with a stream of events; the connection can be used again."""
    return CHUNKED + chunk(events(*payloads)) + b"0\r\n\r\n"


def response(body: object, status: int = 200, **headers: object) -> bytes:
    """A whole response with JSON, or with bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any

    @property
    def question(self) -> str:
        """The last message."""
        return str(self.body["messages"][-1]["content"])


class Wire:
    """A server that plays a script of steps for each request: bytes to send, seconds to sleep,
    "close", "reset", or "watch" to wait for the client to hang up.

    `answer` makes the script of a request; without it `scripts` are played one after another.
    """

    def __init__(
        self, *scripts: list[Step], answer: Callable[[Request], Iterable[Step]] | None = None
    ) -> None:
        self.scripts = list(scripts)
        self.answer = answer or (lambda _: self.scripts.pop(0))
        self.endless = answer is not None
        self.connections = 0
        self.completed = 0
        self.asked: list[Request] = []
        self.hung_up = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def requests(self) -> int:
        """How many came."""
        return len(self.asked)

    def _accept(self) -> None:
        with suppress(OSError):  # the listener is closed at the end
            while True:
                connection, _ = self.listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            while (self.endless or self.scripts) and (request := read_request(connection)):
                self.asked.append(request)
                if not all(self._play(connection, step) for step in self.answer(request)):
                    return
                self.completed += 1

    def _play(self, connection: socket.socket, step: Step) -> bool:
        if isinstance(step, bytes):
            connection.sendall(step)
        elif isinstance(step, float):
            time.sleep(step)
        elif step == "watch":
            connection.settimeout(10)
            with suppress(ConnectionError):
                connection.recv(1)
            self.hung_up.set()
        elif step == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        return step not in ("close", "reset")


def read_request(connection: socket.socket) -> Request | None:
    """Read one whole request; None when the client has gone."""
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(65536)
        if not received:
            return None
        data += received
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (s.partition(":") for s in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    method, path, _ = first.split(" ")
    return Request(method, path, headers, json.loads(body or b"null"))
