"""Clocks, and one deadline for every wait on a socket, under httpx. Standard library only.

httpx applies a read time-out to each read alone, fixed when the request goes out: a server that
sends one byte now and then would never be late, and the first byte could not be given more time
than the next. A `Patience` is a time-out that the socket asks anew before each wait.
"""

import random
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from ssl import SSLContext
from threading import Condition
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from httpcore import NetworkBackend, NetworkStream

SHORTEST_WAIT_S = 0.001  # a time-out of 0 would mean "do not block" to a socket

_Transport = TypeVar("_Transport")


@dataclass(frozen=True, slots=True)
class Timing:
    """The clocks, the waits and the random number in 0..1 that requests use."""

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    random: Callable[[], float] = random.random
    wait: Callable[[Condition, float], object] = Condition.wait


REAL_TIMING = Timing()


class Patience(float):
    """A time-out in seconds that shrinks as the deadline nears and may change during a reply.

    It is a float, so that it passes through httpx, and means the right thing to a transport that
    knows nothing of it.
    """

    seconds: float
    deadline: float
    clock: Callable[[], float]
    stream: "NetworkStream | None"
    over: bool

    def __new__(cls, seconds: float, deadline: float, clock: Callable[[], float]) -> "Patience":
        """`deadline` is a reading of `clock`; neither is looked at again but through methods."""
        self = super().__new__(cls, max(SHORTEST_WAIT_S, min(seconds, deadline - clock())))
        self.seconds, self.deadline, self.clock = seconds, deadline, clock
        self.stream, self.over = None, False
        return self

    def left(self) -> float:
        """Seconds to the deadline; negative after it."""
        return self.deadline - self.clock()

    def current(self) -> float:
        """How long the next wait may take."""
        return (
            SHORTEST_WAIT_S if self.over else max(SHORTEST_WAIT_S, min(self.seconds, self.left()))
        )

    def limited(self, seconds: float) -> "Patience":
        """Another time-out under the same deadline."""
        return Patience(seconds, self.deadline, self.clock)

    def shorten(self, seconds: float) -> None:
        """Bring the deadline nearer: `seconds` from now at the latest."""
        self.seconds = min(self.seconds, seconds)
        self.deadline = min(self.deadline, self.clock() + seconds)

    def hang_up(self) -> None:
        """End a wait in another thread, as if the peer had gone, and every later one."""
        self.over = True
        if self.stream is not None:
            wire = self.stream.get_extra_info("socket")
            with suppress(OSError):  # not connected any more
                # Not the method of an SSL socket, which would take the session from a reader.
                socket.socket.shutdown(wire, socket.SHUT_RDWR)


class _Socket:
    """A network stream of httpcore, which httpx stands on, whose waits follow `Patience`."""

    def __init__(self, stream: "NetworkStream") -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if isinstance(timeout, Patience):
            timeout.stream = self._stream
        return self._stream.read(max_bytes, _current(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _current(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> "_Socket":
        return _Socket(self._stream.start_tls(ssl_context, server_hostname, _current(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _BoundedBackend:
    """Opens network streams as `_Socket`s."""

    def __init__(self, backend: "NetworkBackend") -> None:
        self._backend = backend

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> _Socket:
        wait = _current(timeout)
        return _Socket(self._backend.connect_tcp(host, port, wait, local_address, socket_options))


def bounded(transport: _Transport) -> _Transport:
    """Let the sockets of an httpx transport follow `Patience`; others are left as they are.

    httpcore has a public place for this, which httpx does not pass on. Where its private place
    moves, plain time-outs remain, and the test of the dripping server fails.
    """
    pool: Any = getattr(transport, "_pool", None)
    backend = getattr(pool, "_network_backend", None)
    if backend is not None:
        pool._network_backend = _BoundedBackend(backend)
    return transport


def _current(timeout: float | None) -> float | None:
    return timeout.current() if isinstance(timeout, Patience) else timeout
