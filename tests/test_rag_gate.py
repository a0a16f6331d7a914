"""Many questions through one client: turns, fairness, limits, and servers that fail."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace

import pytest
from wire import CHUNKED, Request, Step, Wire, chunk, events, piece, response, streamed

from rag.chat import breaker
from rag.chat.cancel import Cancellation
from rag.chat.client import ChatOptions, ChatSettings, OpenAIChat, Timing, Upstream
from rag.chat.failures import Failed
from rag.chat.gate import Gate, Wish
from rag.chat.pace import Pace
from rag.chat.patience import Patience
from rag.errors import ChatError, ChatIncomplete, ChatRateLimited, ChatUnavailable
from rag.types import Message

OPTIONS = ChatOptions(deadline_s=60.0)
AT_ONCE = Timing(random=lambda: 0.0)  # no time between tries


@contextmanager
def served(
    answer: Callable[[Request], Iterable[Step]], concurrency: int = 8, **settings: float
) -> Iterator[tuple[Wire, OpenAIChat]]:
    """A server that answers by the request, and a client of it."""
    wire = Wire(answer=answer)
    upstream = Upstream("the server", concurrency, AT_ONCE)
    with (
        closing(wire.listener),
        OpenAIChat(ChatSettings(wire.url, **settings), None, AT_ONCE, upstream) as chat,
    ):
        yield wire, chat


def ask(chat: OpenAIChat, question: str = "Who?", options: ChatOptions = OPTIONS) -> str:
    deltas = chat.stream([Message("user", question)], options)
    return "".join(delta.text for delta in deltas)


class Echo:
    """Answers with the question after a while, and counts how many it answers at once."""

    def __init__(self, seconds: float = 0.02) -> None:
        self.seconds = seconds
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Iterator[Step]:
        self._count(1)
        yield CHUNKED + chunk(events(piece(request.question[:5]), done=False))
        yield self.seconds
        self._count(-1)  # before its client can know that it is over
        yield chunk(events(piece(request.question[5:], "stop"))) + b"0\r\n\r\n"

    def _count(self, change: int) -> None:
        with self._lock:
            self._now += change
            self.most = max(self.most, self._now)


def wish(asked: float = 0.0, until: float = 1e9, **fields: object) -> Wish:
    return replace(Wish(Pace(), 1, asked, until), **fields)


def test_two_hundred_questions_through_eight_places() -> None:
    """Never more than the limit are under way; none is lost, none gets another's answer."""
    questions = [f"Question {number}?" for number in range(200)]
    echo = Echo()

    with served(echo) as (wire, chat), ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda question: ask(chat, question), questions))

    assert answers == questions
    assert echo.most == 8
    assert len(wire.asked) == 200
    assert wire.connections <= 8


def test_models_of_one_server_share_its_places() -> None:
    """The limit is the server's, whichever model is asked."""
    echo = Echo()
    with served(echo, 2) as (wire, chat), ThreadPoolExecutor(16) as pool:
        settings = ChatSettings(wire.url, model="other")
        with OpenAIChat(settings, None, AT_ONCE, chat._upstream) as other:
            answers = list(pool.map(lambda i: ask((chat, other)[i % 2], f"No. {i}"), range(16)))

    assert answers == [f"No. {i}" for i in range(16)]
    assert echo.most == 2


@contextmanager
def queued(gate: Gate, wishes: Iterable[Wish]) -> Iterator[list[int]]:
    """Threads that wait for a turn each; the list tells, by number, who got it when."""
    order: list[int] = []

    def wait(number: int, wanted: Wish) -> None:
        with gate.turn(wanted):
            order.append(number)

    with ExitStack() as stack:
        threads = [threading.Thread(target=wait, args=pair) for pair in enumerate(wishes)]
        for count, thread in enumerate(threads, 1):
            thread.start()
            while len(gate._waiting) < count:
                time.sleep(0.001)
            stack.callback(thread.join)
        yield order


def test_interactive_questions_go_before_a_batch_and_else_by_age() -> None:
    """The oldest first, whoever came to the gate first: a question that is tried again is old."""
    gate = Gate("host", 1, Timing())
    ages = [(3.0, True), (4.0, False), (1.0, True), (2.0, False)]

    with ExitStack() as stack:
        first = stack.enter_context(gate.turn(wish()))
        assert first is None
        with queued(gate, [wish(asked, batch=batch) for asked, batch in ages]) as order:
            stack.close()

    assert order == [3, 1, 2, 0]


def test_a_turn_that_came_is_not_lost_again() -> None:
    """The last request that a limit allows takes the turn that another thread gave it."""
    gate = Gate("host", 1, Timing())

    with ExitStack() as stack:
        stack.enter_context(gate.turn(wish()))
        soon = wish(until=time.monotonic() + 20.0, pace=Pace(rpm=1))
        with queued(gate, [soon]) as order:
            stack.close()

    assert order == [0]


def test_a_question_that_is_called_off_leaves_the_queue_at_once() -> None:
    """From another thread, long before its deadline, and the next in the queue is not held up."""
    gate, cancellation = Gate("host", 1, Timing()), Cancellation()
    failures: list[Failed] = []

    def wait() -> None:
        try:
            with gate.turn(wish(cancellation=cancellation)):
                raise AssertionError("it was called off")
        except Failed as failed:
            failures.append(failed)

    with gate.turn(wish()):
        thread = threading.Thread(target=wait)
        thread.start()
        while not gate._waiting:
            time.sleep(0.001)
        cancellation.cancel()
        thread.join(1.0)
        left = (thread.is_alive(), gate._waiting)

    assert left == (False, [])
    assert "called off" in failures[0].error.message


def test_waiting_counts_against_the_deadline() -> None:
    """Who does not get a turn in time is told so, and does not reach the server."""
    with served(Echo(5.0), 1) as (wire, chat):
        held = chat.stream([Message("user", "Question one?")], OPTIONS)
        next(held)
        begun = time.monotonic()
        with pytest.raises(ChatUnavailable, match="deadline passed before") as caught:
            ask(chat, options=ChatOptions(deadline_s=0.2))
        waited = time.monotonic() - begun
        held.close()

    assert 0.2 <= waited < 2.0
    assert "chat.concurrency" in caught.value.hint
    assert len(wire.asked) == 1


def test_a_request_within_an_answer_does_not_wait_for_it() -> None:
    """A judge asks while the answer that it judges is still read: it must not wait for its end."""
    with served(Echo(), 1) as (_, chat):
        outer = chat.stream([Message("user", "Question one?")], OPTIONS)
        next(outer)
        inner = ask(chat, "Is it so?", ChatOptions(deadline_s=5.0, within=True))
        rest = "".join(delta.text for delta in outer)

    assert (inner, rest) == ("Is it so?", "ion one?")


def test_a_limit_of_the_settings_is_kept() -> None:
    """The third request of a minute that allows two is not sent, and it is said when it can be."""
    with served(Echo(0.0), rpm=2) as (wire, chat):
        for _ in range(2):
            ask(chat)
        with pytest.raises(ChatRateLimited, match="rate limit") as caught:
            ask(chat, options=ChatOptions(deadline_s=5.0))

    assert len(wire.asked) == 2
    assert 55 < (caught.value.retry_after or 0) <= 60


def test_a_limit_of_the_headers_is_kept() -> None:
    """Where the server says that nothing is left until a reset, the next question waits for it."""
    headers = {"x_ratelimit_remaining_requests": 0, "x_ratelimit_reset_requests": "400ms"}
    body = {"choices": [{"message": {"content": "A pen."}, "finish_reason": "stop"}]}
    with served(lambda _: [response(body, **headers)]) as (_, chat):
        ask(chat)
        begun = time.monotonic()
        ask(chat)
        waited = time.monotonic() - begun

    assert 0.35 <= waited < 2.0


def test_too_many_requests_hold_all_back() -> None:
    """One 429 with a Retry-After: nobody asks before it is over, and nobody fails."""
    times: list[float] = []

    def answer(request: Request) -> Iterator[Step]:
        times.append(time.monotonic())
        yield response(b"", 429, Retry_After=0.4) if len(times) == 1 else streamed(piece("x"))

    with served(answer) as (_, chat), ThreadPoolExecutor(8) as pool:
        first = pool.submit(ask, chat)
        time.sleep(0.1)
        answers = list(pool.map(lambda _: ask(chat), range(7)))

    assert [first.result(), *answers] == ["x"] * 8
    assert min(times[1:]) - times[0] >= 0.39


def test_places_are_halved_by_429_and_grow_back() -> None:
    """Once for all that were under way; then one more for as many answers, up to the setting."""
    gate = Gate("host", 8, Timing(monotonic=lambda: 100.0))
    allowed = []
    for began in (100.0, 99.0, 100.0):
        gate.slow_down(wish(), began, None)
        allowed.append(gate._allowed)
    for _ in range(4):
        gate.speed_up()
        allowed.append(round(gate._allowed, 2))
    for _ in range(40):
        gate.speed_up()

    assert allowed == [4.0, 4.0, 2.0, 2.5, 2.9, 3.24, 3.55]
    assert gate._allowed == 8.0


@pytest.mark.parametrize("questions", [40])
def test_a_dying_server_is_not_hammered(questions: int) -> None:
    """After a few failures in a row nothing is sent; everybody hears why and until when."""
    with served(lambda _: [response(b"", 500)], 4) as (wire, chat):

        def failure(_: int) -> ChatError:
            with pytest.raises(ChatUnavailable) as caught:
                ask(chat)
            return caught.value

        with ThreadPoolExecutor(questions) as pool:
            errors = list(pool.map(failure, range(questions)))
        told = [error for error in errors if "times in a row" in error.message]

    assert breaker.FAILURES <= len(wire.asked) <= breaker.FAILURES + 4
    assert len(told) >= questions - breaker.FAILURES - 4
    assert all("answered 500" in error.message for error in errors)
    assert all("not asked again for" in error.hint for error in told)


def test_a_batch_waits_until_a_server_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its questions outlast the pause, where those of people are told at once to come again."""
    monkeypatch.setattr(breaker, "PAUSE_S", 0.3)
    down = [response(b"", 500)] * breaker.FAILURES

    def answer(_: Request) -> list[Step]:
        return [down.pop()] if down else [streamed(piece("A pen."))]

    with served(answer, attempts=1) as (_, chat):
        for _ in range(breaker.FAILURES):
            with pytest.raises(ChatUnavailable):
                ask(chat)
        with pytest.raises(ChatUnavailable, match="times in a row"):
            ask(chat)
        with ThreadPoolExecutor(4) as pool:
            patient = replace(OPTIONS, batch=True)
            answers = list(pool.map(lambda _: ask(chat, options=patient), range(4)))

    assert answers == ["A pen."] * 4


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def failed(error: ChatError) -> Failed:
    return Failed(error, retry=True)


def test_after_the_pause_one_request_tries() -> None:
    """If it succeeds all go again; if it fails, or is never heard of, the pause begins anew."""
    clock = Clock()
    state = breaker.Breaker("host", Timing(monotonic=clock))
    for _ in range(breaker.FAILURES):
        state.check()
        state.note(failed(ChatUnavailable("it is down")))
    with pytest.raises(Failed, match="it is down"):
        state.check()

    clock.time += breaker.PAUSE_S
    state.check()
    with pytest.raises(Failed):
        state.check()
    clock.time += breaker.PAUSE_S
    state.check()
    state.note(None)

    state.check()
    state.check()


def test_a_server_that_refuses_is_alive() -> None:
    """Neither a 429 nor a stale connection opens the breaker, and a refusal closes it."""
    state = breaker.Breaker("host", Timing())
    stale = Failed(ChatUnavailable("gone"), retry=True, stale=True)
    for _ in range(2 * breaker.FAILURES):
        state.note(stale)
        state.note(failed(ChatRateLimited("slow down")))

    state.check()
    assert state.grants_retry()


def test_retries_are_a_part_of_the_requests() -> None:
    """A reserve, and after it one for five requests, however many fail."""
    state = breaker.Breaker("host", Timing())
    reserve = sum(state.grants_retry() for _ in range(100))
    granted = 0
    for _ in range(100):
        state.check()
        granted += state.grants_retry()

    assert (reserve, granted) == (10, 20)


def test_calling_off_frees_the_upstream() -> None:
    """A reply that does not begin is hung up on within a second, from another thread."""
    cancellation = Cancellation()
    with served(lambda _: [CHUNKED, "watch"]) as (wire, chat), ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, chat, "Who?", replace(OPTIONS, cancellation=cancellation))
        while not wire.asked:
            time.sleep(0.001)
        time.sleep(0.05)
        begun = time.monotonic()
        cancellation.cancel()
        with pytest.raises(ChatUnavailable):
            asked.result(5)
        assert wire.hung_up.wait(5)
        took = time.monotonic() - begun

    assert took < 1.0
    assert len(wire.asked) == 1


def test_calling_off_before_the_connection_is_not_missed() -> None:
    """A wish that comes between the turn and the first wait ends that wait."""
    patience = Patience(60.0, 1e9, lambda: 0.0)
    patience.hang_up()

    assert patience.current() < 0.01


def test_calling_off_midway_keeps_what_came() -> None:
    """What was shown stays, marked as incomplete."""
    cancellation = Cancellation()
    script: list[Step] = [CHUNKED, chunk(events(piece("A p"), done=False)), "watch"]
    with served(lambda _: script) as (_, chat):
        deltas = chat.stream([Message("user", "?")], replace(OPTIONS, cancellation=cancellation))
        next(deltas)
        threading.Timer(0.05, cancellation.cancel).start()
        with pytest.raises(ChatIncomplete) as caught:
            list(deltas)

    assert caught.value.partial == "A p"
