"""The gate before a server: so many requests at once, in a fair order, no faster than it allows.

How many may be under way follows the server: half as many after it answered "too many requests",
and slowly more again while it answers (additive increase, multiplicative decrease, as in TCP;
Chiu and Jain 1989), never more than the setting says.
"""

import math
from bisect import insort
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition, RLock

from rag.chat.cancel import Cancellation
from rag.chat.failures import Failed
from rag.chat.pace import Pace
from rag.chat.patience import Timing
from rag.errors import ChatRateLimited, ChatUnavailable


@dataclass(frozen=True, slots=True)
class Wish:
    """A request that wants to go out, not before `earliest` and not after `until`; its reply must
    end at the `deadline`.

    Requests of a batch go after all others; else the question that was asked first is first. One
    `within` an answer that is under way needs no place of its own: it would wait for itself. All
    times are readings of the clock.
    """

    pace: Pace
    tokens: int
    asked: float
    until: float
    earliest: float = 0.0
    deadline: float = math.inf
    batch: bool = False
    within: bool = False
    cancellation: Cancellation = field(default_factory=Cancellation)

    def wait_s(self, now: float) -> float:
        """Seconds until it may go, a place at the server provided."""
        return max(self.earliest - now, self.pace.wait_s(self.tokens, now))


class _Ticket:
    """A place in the queue."""

    def __init__(self, wish: Wish, lock: RLock) -> None:
        self.wish = wish
        self.order = (not wish.within, wish.batch, wish.asked)
        self.called = Condition(lock)
        self.admitted = False


class Gate:
    """One server's queue, shared by all threads that ask it."""

    def __init__(self, host: str, concurrency: int, timing: Timing) -> None:
        self._host = host
        self._most = concurrency
        self._timing = timing
        self._lock = RLock()
        self._waiting: list[_Ticket] = []
        self._under_way = 0
        self._allowed = float(concurrency)
        self._slowed_at = -math.inf

    @contextmanager
    def turn(self, wish: Wish) -> Iterator[None]:
        """Wait for a turn and hold it within the block.

        Raises Failed where the turn would come too late, or the wish is called off.
        """
        with self._lock:
            self._wait(_Ticket(wish, self._lock))
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1
                self._admit()

    def learn(self, pace: Pace, headers: Mapping[str, str]) -> None:
        """Take in a reply's headers."""
        with self._lock:
            pace.learn(headers, self._timing.monotonic(), self._timing.now())
            self._admit()

    def slow_down(self, wish: Wish, began: float, retry_after: float | None) -> None:
        """The server answered "too many": once for all requests that were then under way."""
        with self._lock:
            now = self._timing.monotonic()
            wish.pace.close(now + (retry_after or 0.0))
            if began >= self._slowed_at:
                self._slowed_at = now
                self._allowed = max(1.0, self._allowed / 2)

    def speed_up(self) -> None:
        """The server answered: as many answers as are allowed at once allow one more."""
        with self._lock:
            self._allowed = min(self._most, self._allowed + 1 / self._allowed)

    def _wait(self, ticket: _Ticket) -> None:
        insort(self._waiting, ticket, key=lambda t: t.order)
        try:
            with ticket.wish.cancellation.calling(lambda: self._wake(ticket)):
                while not ticket.admitted:
                    self._patience(ticket)
                    self._admit()
                    if not ticket.admitted:
                        self._timing.wait(ticket.called, self._patience(ticket))
        except BaseException:
            # Also when interrupted just as the turn came: it goes to the next.
            if ticket.admitted:
                self._under_way -= 1
            else:
                self._waiting.remove(ticket)
            self._admit()
            raise

    def _patience(self, ticket: _Ticket) -> float:
        """How long to wait until looking again. Raises Failed where waiting is no use."""
        wish, now = ticket.wish, self._timing.monotonic()
        if wish.cancellation.wished:
            raise Failed(ChatUnavailable("the question was called off"))
        left, paced = wish.until - now, wish.wait_s(now)
        if paced > max(left, 0.0):
            hint = f"try again in {math.ceil(paced)} s"
            message = f"the rate limit of {self._host} lets no request through in time"
            raise Failed(ChatRateLimited(message, hint, paced))
        if left <= 0:
            message = f"the deadline passed before {self._host} could be asked"
            raise Failed(ChatUnavailable(message, "raise chat.deadline or chat.concurrency"))
        return paced or left

    def _admit(self) -> None:
        """Let in, in order, whoever may go; a model's later requests never overtake its first."""
        now, held = self._timing.monotonic(), set[Pace]()
        for ticket in tuple(self._waiting):
            wish = ticket.wish
            if self._under_way >= int(self._allowed) and not wish.within:
                return
            if wish.earliest > now or wish.pace in held:
                continue
            if wish.wait_s(now) > 0:
                held.add(wish.pace)
                continue
            self._waiting.remove(ticket)
            wish.pace.take(wish.tokens, now)
            self._under_way += 1
            ticket.admitted = True
            ticket.called.notify()

    def _wake(self, ticket: _Ticket) -> None:
        with self._lock:
            ticket.called.notify()
