"""What goes over the wire to an OpenAI-compatible API and what comes back. Pure: no I/O, no clock.

A request body from messages and options, and replies, whole or streamed, as deltas. What can go
wrong inside a reply is raised as a `Failed` (rag/chat/failures.py).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rag.chat.cancel import Cancellation
from rag.chat.failures import BASE_URL_HINT, NO_ANSWER, Failed, Peer, clean, failure_inside
from rag.chat.foreign import mapping, mappings, parsed
from rag.chat.reasoning import ReasoningFilter, ReasoningShown
from rag.chat.sse import EventParser, EventTooLong, ServerEvent
from rag.errors import ChatIncomplete, ChatRejected, ChatUnavailable
from rag.types import ChatDelta, Message, Usage

MAX_ANSWER_BYTES = 64 * 1024
MAX_ANSWER_TOKENS = 4_000
MAX_VECTOR_BYTES = 64 << 20
MAX_BODY_BYTES = 16 << 20  # a long reasoning stream holds about 300 bytes for each token

# Why there may be none, by the finish reason, and what mends it.
_NO_ANSWERS = {
    "content_filter": (": the API's content filter stopped it", "put the question differently"),
    "length": (": its reasoning used up all tokens", "raise chat.max_tokens"),
}


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """Where the API is and how long it may take; times are in seconds.

    `first_byte_s` bounds the wait for a streamed reply's first byte, `idle_s` each wait after it;
    a reply that is not streamed is bounded by the deadline alone. `rpm` and `tpm` are requests and
    tokens a minute, 0 for what the API tells. An `api_key` that may change is a function: it is
    asked before each request, and a refused key is tried again if it has changed.
    """

    base_url: str = "https://api.openai.com/v1"
    api_key: str | Callable[[], str] = field(default="", repr=False)
    model: str = "gpt-4o-mini"
    connect_s: float = 5.0
    first_byte_s: float = 60.0
    idle_s: float = 30.0
    attempts: int = 3
    rpm: int = 0
    tpm: int = 0


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How one reply is made. `deadline_s` bounds every wait for it, retries included, and `begin_s`
    those for its first byte.

    At most MAX_ANSWER_TOKENS are asked for; None leaves a choice to the server. `schema` is a JSON
    schema for the reply, left out where the API does not know it. `batch` lets the questions of
    people go first; `within` is a request made while the reply to another is read; `easy` allows
    a smaller model, where there is one. `fence` is the random delimiter in the messages: two
    requests that differ in it alone ask the same.
    """

    temperature: float | None = 0.0
    max_tokens: int | None = 500
    deadline_s: float = 120.0
    stream: bool = True
    stop: tuple[str, ...] = ()
    seed: int | None = None
    schema: Mapping[str, Any] | None = None
    batch: bool = False
    within: bool = False
    easy: bool = False
    begin_s: float = math.inf
    cancellation: Cancellation = field(default_factory=Cancellation, compare=False, repr=False)
    fence: str = ""

    @property
    def answer_tokens(self) -> int:
        """The tokens that are asked for at most."""
        return min(self.max_tokens or MAX_ANSWER_TOKENS, MAX_ANSWER_TOKENS)


def request_body(
    model: str, messages: Sequence[Message], options: ChatOptions, dropped: frozenset[str]
) -> dict[str, Any]:
    """The JSON body of a request; `dropped` are fields this API has refused before.

    A refused max_tokens goes as max_completion_tokens, where reasoning counts as well: it is not
    capped, for the cap is meant for answers.
    """
    limit, schema = options.max_tokens, options.schema
    named = {"name": "reply", "strict": True, "schema": schema}
    fields: dict[str, Any] = {
        "max_tokens": None if limit is None else min(limit, MAX_ANSWER_TOKENS),
        "temperature": options.temperature,
        "stop": list(options.stop) or None,
        "seed": options.seed,
        "stream_options": {"include_usage": True} if options.stream else None,
        "response_format": {"type": "json_schema", "json_schema": named} if schema else None,
    }
    if "max_tokens" in dropped:
        fields["max_completion_tokens"] = limit
    wanted = {n: v for n, v in fields.items() if v is not None and n not in dropped}
    texts = [{"role": m.role, "content": encodable(m.content)} for m in messages]
    return {"model": model, "messages": texts, "stream": options.stream, **wanted}


def encodable(text: str) -> str:
    """A lone surrogate, from a badly encoded command line, would make the body unreadable."""
    return text.encode("utf-8", errors="replace").decode()


class WholeReply:
    """A reply of at most `most` bytes, read whole, which `take` is given at the end."""

    text = ""
    complete = ended = full = False

    def __init__(
        self,
        host: str,
        take: Callable[[bytes], object],
        hint: str = "",
        most: int = MAX_VECTOR_BYTES,
    ) -> None:
        self._host = host
        self._take = take
        self._most = most
        self._hint = hint
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[ChatDelta]:
        """Take a piece of it; nothing is yielded. Raises Failed."""
        self._bytes += data
        if len(self._bytes) > self._most:
            raise Failed(ChatRejected(f"{self._host} sent an over-long reply", self._hint))
        yield from ()

    def end(self) -> Iterator[ChatDelta]:
        """Take its end. Raises Failed."""
        self._take(bytes(self._bytes))
        yield from ()


def read_object(raw: bytes, peer: Peer) -> Mapping[str, Any]:
    """The JSON object of a whole reply. Raises Failed for an error in its place."""
    payload = mapping(parsed(raw))
    if payload.get("error"):
        raise failure_inside(payload, peer)
    return payload


class Reply:
    """One reply as it comes in: bytes to deltas, streamed events and a plain JSON body alike.

    Which of the two it is shows in the first byte; what was asked for and the content type do not
    decide, because servers ignore the one and mislabel the other. `text` is what has been yielded:
    the answer so far, without reasoning.
    """

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._parser = EventParser()
        self._reasoning = ReasoningFilter()
        self._bytes = bytearray()  # the white space before the first byte, then a JSON body
        self._received = 0
        self._form: str = ""
        self._room = MAX_ANSWER_BYTES
        self._refusal = ""
        self._usage: Usage | None = None
        self._model: str | None = None
        self.text = ""
        self.finish_reason: str | None = None
        self.ended = False

    @property
    def complete(self) -> bool:
        """Whether the server said that the answer is at its end."""
        return self.ended or self.finish_reason is not None

    @property
    def full(self) -> bool:
        """Whether the cap on answers is reached: nothing more is wanted."""
        return self._room < 0

    def feed(self, data: bytes) -> Iterator[ChatDelta]:
        """Yield the text that `data` completes. Raises Failed."""
        self._received += len(data)
        if self._received > MAX_BODY_BYTES:
            raise Failed(
                ChatUnavailable(f"{self._peer.host} sent an over-long reply", BASE_URL_HINT)
            )
        if self._form != "events":
            self._bytes += data
        if not self._form:
            data = self._settle_form()
        if self._form == "events":
            yield from self._events(self._parser.feed(data))

    def end(self) -> Iterator[ChatDelta]:
        """Yield what is left and at last the delta with finish reason and usage. Raises Failed."""
        if self._form == "json":
            yield from self._payload(parsed(bytes(self._bytes)), "message")
        elif self._form == "events" and not self.ended:
            yield from self._events(self._parser.close())
        yield from self._show(self._reasoning.finish())
        if not self.complete and self._form != "json":
            raise self._broken("ended its reply too early")
        if not self.text:
            raise self._no_answer()
        if self.finish_reason == "content_filter":
            raise Failed(ChatIncomplete("the API's content filter cut the answer off"))
        yield ChatDelta("", self.finish_reason or "stop", self._usage, self._model)

    def _settle_form(self) -> bytes:
        first = bytes(self._bytes).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
        if first == b"<":
            message = f"{self._peer.host} answered with a web page instead of a reply"
            raise Failed(ChatRejected(message, f"{BASE_URL_HINT}: most end in /v1"))
        if not first:
            return b""
        self._form = "json" if first in (b"{", b"[") else "events"
        return bytes(self._bytes)

    def _events(self, events: Iterator[ServerEvent]) -> Iterator[ChatDelta]:
        try:
            for event in events:
                data = event.data.strip()
                self.ended = data == "[DONE]"
                if self.ended or self.full:
                    return
                if data:
                    yield from self._payload(parsed(data), event.name)
        except EventTooLong as error:
            raise Failed(
                ChatUnavailable(f"{self._peer.host} sent {error}", BASE_URL_HINT)
            ) from error

    def _payload(self, payload: object, event: str) -> Iterator[ChatDelta]:
        """Take one chunk or body; only its first choice counts, for one is asked for."""
        if not isinstance(payload, dict):
            if payload is not None and not self.complete:
                raise self._broken("sent a reply that is not valid JSON")
            return
        if payload.get("error") or event == "error":
            raise failure_inside(payload, self._peer)
        self._usage = _usage(payload.get("usage")) or self._usage
        self._model = _string(payload.get("model")) or self._model
        choice = next(iter(mappings(payload.get("choices"))), {})
        body = mapping(choice.get("delta") or choice.get("message"))
        self.finish_reason = _string(choice.get("finish_reason")) or self.finish_reason
        self._refusal += _content_text(body.get("refusal"))
        yield from self._show(self._visible(_content_text(body.get("content"))))
        if self.finish_reason == "error":
            raise self._broken("broke off its reply with an error")

    def _visible(self, text: str) -> str:
        try:
            return self._reasoning.feed(text)
        except ReasoningShown:
            self.text = ""  # it was not the answer: it must not be kept as a partial one
            message = "the model's reasoning came unmarked, as if it were the answer"
            hint = (
                "ask with --no-stream, or let the server send reasoning apart (reasoning_content)"
            )
            raise Failed(ChatRejected(message, hint)) from None

    def _show(self, text: str) -> Iterator[ChatDelta]:
        if self.full:
            return
        if not self.text:
            text = text.lstrip()
        raw = text.encode("utf-8", errors="replace")
        if len(raw) > self._room:
            text = raw[: self._room].decode("utf-8", errors="ignore")
            self.finish_reason = "length"
        self._room -= len(raw)
        if text:
            self.text += text
            yield ChatDelta(text)

    def _broken(self, happened: str) -> Failed:
        # Some servers end an empty stream where the prompt does not fit.
        hint = "ask again; if it happens every time, lower prompt.budget"
        return Failed(ChatIncomplete(f"{self._peer.host} {happened}", hint), retry=True)

    def _no_answer(self) -> Failed:
        if self._refusal:
            told = f": it refused: {clean(self._refusal, self._peer.key)}"
            return Failed(ChatRejected(f"{NO_ANSWER}{told}", "put the question differently"))
        told, hint = _NO_ANSWERS.get(
            self.finish_reason or "",
            ("", "ask again, lower prompt.budget, or name another model with chat.model"),
        )
        return Failed(ChatRejected(f"{NO_ANSWER}{told}", hint))


@dataclass(slots=True)
class Exchange:
    """One request, and what became known of its reply on the way.

    `learn` is given the reply's headers, by names in lower case, as soon as they are there.
    `upload` goes as the file of a batch.
    """

    path: str
    body: Mapping[str, Any]
    peer: Peer
    reply: Reply | WholeReply
    learn: Callable[[Mapping[str, str]], None] = lambda headers: None
    method: str = "POST"
    upload: bytes | None = None
    sent: bool = False
    answered: bool = False
    events: list[str] = field(default_factory=list)

    def trace(self, event: str, _: object) -> None:
        """Note what httpx does: it tells of a connection opened, not of one used again."""
        self.events.append(event)

    @property
    def reused(self) -> bool:
        """Whether the request went out on a connection that an earlier one had opened."""
        return bool(self.events) and not any("connect_tcp" in event for event in self.events)


def _content_text(content: object) -> str:
    """The text of a content: a string, nothing, or a list of parts of which some are text."""
    if isinstance(content, str):
        return content
    return "".join(
        part["text"]
        for part in mappings(content)
        if part.get("type", "text") == "text" and isinstance(part.get("text"), str)
    )


def _usage(value: object) -> Usage | None:
    counts = mapping(value)
    prompt, completion = counts.get("prompt_tokens"), counts.get("completion_tokens")
    if type(prompt) is not int or type(completion) is not int or min(prompt, completion) < 0:
        return None
    return Usage(prompt, completion)


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None
