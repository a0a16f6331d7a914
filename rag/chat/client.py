"""The chat API: the `ChatModel` seam, and its implementation for OpenAI-compatible servers, which
gives embeddings too.

The rules are: at most `attempts` tries within one deadline, each behind the server's gate
(rag/chat/gate.py) and breaker (rag/chat/breaker.py); a stream is tried again only while nothing of
it was shown.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from rag.chat.breaker import Breaker
from rag.chat.failures import BASE_URL_HINT, Failed, Peer
from rag.chat.foreign import parsed
from rag.chat.gate import Gate, Wish
from rag.chat.pace import Pace
from rag.chat.patience import REAL_TIMING, Patience, Timing
from rag.chat.wire import ChatOptions, ChatSettings, Exchange, Reply, WholeReply, request_body
from rag.errors import ChatAuthError, ChatError, ChatIncomplete, ChatRateLimited
from rag.types import ChatDelta, Message

if TYPE_CHECKING:
    from rag.chat.http import Transport

__all__ = ["ChatModel", "ChatOptions", "ChatSettings", "OpenAIChat", "Timing", "Upstream"]

DEFAULT_CONCURRENCY = 8
_LONGEST_DEADLINE_S = 86_400.0  # "inf" would not fit a socket's time-out
_FIRST_BACKOFF_S = 0.5
_LONGEST_BACKOFF_S = 8.0
_LONGEST_RETRY_AFTER_S = 120.0
_CALL_S = 600.0
_CALL_BYTES = 1 << 30
_LISTING_BYTES = 8 << 20
_CHARACTERS_A_TOKEN = 4  # as APIs estimate when they count a request against a limit
DEFAULT_OPTIONS = ChatOptions()

Deltas = Generator[ChatDelta, None, None]
"""A reply as it comes; closing it frees the connection."""
_Result = TypeVar("_Result")


class ChatModel(Protocol):
    """Whatever answers messages: a server, or a script in a test."""

    @property
    def name(self) -> str:
        """The model's name, as answers report it."""

    def stream(self, messages: Sequence[Message], options: ChatOptions = DEFAULT_OPTIONS) -> Deltas:
        """Yield the reply's text as it comes, then one delta with its finish reason and usage.

        That last delta's `finish_reason` is "length" where a limit cut the answer off; `usage` is
        None where the API gave none. Reasoning is never yielded. A delta with a `notice` holds
        nothing else: it tells what a reader of the answer should know. Raises ChatError. Closing
        the generator frees the connection at once; `options.cancellation` does from any thread.
        """


class Upstream:
    """What all questions to one server share, whichever model of it they ask."""

    def __init__(self, host: str, concurrency: int, timing: Timing = REAL_TIMING) -> None:
        self.gate = Gate(host, concurrency, timing)
        self.breaker = Breaker(host, timing)
        self._timing = timing

    @contextmanager
    def turn(self, wish: Wish) -> Iterator[None]:
        """Hold a turn within the block, which asks the server once. Raises Failed."""
        with self.gate.turn(wish):
            self.breaker.check(patient=wish.batch)
            began = self._timing.monotonic()
            try:
                yield
            except Failed as failed:
                self.breaker.note(failed)
                if isinstance(failed.error, ChatRateLimited):
                    self.gate.slow_down(wish, began, failed.retry_after)
                raise
            self.breaker.note(None)
            self.gate.speed_up()


class OpenAIChat:
    """A chat model behind the chat completions API, `name` at it. One client serves any number of
    threads.
    """

    def __init__(
        self,
        settings: ChatSettings,
        transport: "Transport | None" = None,
        timing: Timing = REAL_TIMING,
        upstream: Upstream | None = None,
    ) -> None:
        """Connect to nothing yet; `upstream` is shared with other clients of the same server.

        Raises UsageError for a base URL or key that cannot be used.
        """
        from rag.chat.http import Connection

        self.name = settings.model
        self._settings = settings
        self._timing = timing
        self._connection = Connection(settings, transport, timing)
        host = self._connection.peer.host
        self._upstream = upstream or Upstream(host, DEFAULT_CONCURRENCY, timing)
        self._pace = Pace(settings.rpm, settings.tpm)
        self._dropped: frozenset[str] = frozenset()

    def close(self) -> None:
        """Close the connections that are kept for the next question."""
        self._connection.close()

    def __enter__(self) -> "OpenAIChat":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stream(self, messages: Sequence[Message], options: ChatOptions = DEFAULT_OPTIONS) -> Deltas:
        """See ChatModel. The deadline runs from this call on, not from the first `next`."""
        return self._deltas(messages, options, self._timing.monotonic())

    def listing(self, seconds: float) -> object:
        """What the API says of its models, as JSON; None where it does not in that time."""
        with suppress(ChatError):
            return parsed(self.call("GET", "/models", seconds=seconds, most=_LISTING_BYTES))
        return None

    def post(
        self,
        path: str,
        body: dict[str, Any],
        read: Callable[[bytes, Peer], _Result],
        deadline_s: float,
        hint: str = BASE_URL_HINT,
    ) -> _Result:
        """Another request than for a chat reply, by the same rules: what `read` makes of the reply;
        it may raise Failed. Raises ChatError.
        """
        results: list[_Result] = []
        options = ChatOptions(max_tokens=1, deadline_s=deadline_s, stream=False)
        wish = self._wish([str(body["input"])], options, self._timing.monotonic())

        def exchange() -> Exchange:
            peer = self._connection.use_key()
            reply = WholeReply(peer.host, lambda raw: results.append(read(raw, peer)), hint)
            return Exchange(path, body, peer, reply, self._learn)

        for _ in self._tries(exchange, wish):
            pass
        return results[0]

    def body(self, messages: Sequence[Message], options: ChatOptions) -> dict[str, Any]:
        """What would be sent, without the fields that this API has refused so far."""
        return request_body(self.name, messages, options, self._dropped)

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        upload: bytes | None = None,
        seconds: float = _CALL_S,
        most: int = _CALL_BYTES,
    ) -> bytes:
        """One plain request beside the chat endpoint, not tried again: its reply's body.

        `upload` goes as the file of a batch. Raises ChatError.
        """
        received: list[bytes] = []
        peer, now = self._connection.use_key(), self._timing.monotonic
        reply = WholeReply(peer.host, received.append, most=most)
        exchange = Exchange(path, body or {}, peer, reply, method=method, upload=upload)
        try:
            for _ in self._connection.exchange(exchange, Patience(seconds, now() + seconds, now)):
                pass
        except Failed as failed:
            raise failed.error from failed.__cause__
        return received[0]

    def _deltas(self, messages: Sequence[Message], options: ChatOptions, asked: float) -> Deltas:
        def exchange() -> Exchange:
            body, peer = self.body(messages, options), self._connection.use_key()
            return Exchange("/chat/completions", body, peer, Reply(peer), self._learn)

        wish = self._wish([message.content for message in messages], options, asked)
        yield from self._tries(exchange, wish)

    def _wish(self, texts: Sequence[str], options: ChatOptions, asked: float) -> Wish:
        deadline = asked + min(options.deadline_s, _LONGEST_DEADLINE_S)
        return Wish(
            pace=self._pace,
            tokens=sum(map(len, texts)) // _CHARACTERS_A_TOKEN + options.answer_tokens,
            asked=asked,
            until=min(deadline, asked + options.begin_s),
            deadline=deadline,
            batch=options.batch,
            within=options.within,
            cancellation=options.cancellation,
        )

    def _tries(self, make_exchange: Callable[[], Exchange], wish: Wish) -> Deltas:
        """Try until a reply is whole, or until another try is no use."""
        failures, reconnected, other_key = 0, False, False
        while True:
            exchange = make_exchange()
            try:
                for delta in self._asked(exchange, wish):
                    yield replace(delta, retries=failures) if delta.finish_reason else delta
            except Failed as failed:
                refused = next((name for name in failed.unsupported if name in exchange.body), None)
                if text := exchange.reply.text:
                    error = failed.error
                    raise ChatIncomplete(error.message, error.hint, text) from failed.__cause__
                if refused:
                    self._dropped |= {refused}
                elif failed.stale and not reconnected:
                    reconnected = True
                elif not other_key and self._has_new_key(failed, exchange):
                    other_key = True
                else:
                    failures += exchange.sent
                    wish = self._again(wish, failed, failures)
            else:
                return

    def _has_new_key(self, failed: Failed, exchange: Exchange) -> bool:
        """Whether a key was refused that is not the one to use any more."""
        refused = isinstance(failed.error, ChatAuthError)
        return refused and self._connection.use_key() != exchange.peer

    def _asked(self, exchange: Exchange, wish: Wish) -> Iterator[ChatDelta]:
        """One try: wait for a turn, send, and yield the reply. Raises Failed."""
        with self._upstream.turn(wish):
            left = wish.until - self._timing.monotonic()
            longest = self._settings.first_byte_s if exchange.body.get("stream") else left
            patience = Patience(min(longest, left), wish.deadline, self._timing.monotonic)
            with wish.cancellation.calling(patience.hang_up):
                yield from self._connection.exchange(exchange, patience)

    def _again(self, wish: Wish, failed: Failed, failures: int) -> Wish:
        """When to try again; raises the error where another try is no use or comes too late."""
        longest = min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2.0 ** (failures - 1))
        asked_for = failed.retry_after or 0.0
        earliest = self._timing.monotonic() + asked_for + self._timing.random() * longest
        if (
            not failed.retry
            or wish.cancellation.wished
            or failures >= self._settings.attempts
            or asked_for > _LONGEST_RETRY_AFTER_S
            or earliest >= wish.until
            or not (_is_asked_for(failed) or self._upstream.breaker.grants_retry())
        ):
            raise failed.error from failed.__cause__
        return replace(wish, earliest=earliest)

    def _learn(self, headers: Mapping[str, str]) -> None:
        self._upstream.gate.learn(self._pace, headers)


def _is_asked_for(failed: Failed) -> bool:
    """Whether to come later is the server's own wish: then it needs no budget."""
    return failed.retry_after is not None or isinstance(failed.error, ChatRateLimited)
