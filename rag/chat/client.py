"""The chat API: the `ChatModel` seam, and its implementation for OpenAI-compatible servers, which
gives embeddings too.

httpx is imported only here, and only when a client is opened. The rules are: at most
`attempts` tries within one deadline; a stream is tried again only while nothing of it was shown;
the key goes to the base URL alone (redirects are not followed).
"""

import random
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from ingest.errors import UsageError
from rag.chat.failures import BASE_URL_HINT, Failed, Peer, failure, parse_problem, retry_after
from rag.chat.patience import SHORTEST_WAIT_S, Patience, bounded
from rag.chat.wire import ChatOptions, EmbeddingReply, Reply, embedding_body, request_body
from rag.errors import ChatIncomplete, ChatRejected, ChatUnavailable
from rag.types import ChatDelta, Message

if TYPE_CHECKING:
    import httpx

__all__ = ["ChatModel", "ChatOptions", "ChatSettings", "OpenAIChat", "Timing"]

_LONGEST_DEADLINE_S = 86_400.0  # "inf" would not fit a socket's time-out
_FIRST_BACKOFF_S = 0.5
_LONGEST_BACKOFF_S = 8.0
_LONGEST_RETRY_AFTER_S = 120.0
_AFTER_FINISH_S = 5.0  # for a last chunk with usage, and [DONE], which some servers never send
_DRAIN_S = 0.2  # to the end of the body after [DONE]: then the connection can be used again
_ERROR_BODY_S = 5.0
_ERROR_BODY_BYTES = 64 * 1024
_KEEP_ALIVE_S = 30.0
_CALL_S = 600.0
_CALL_BYTES = 1 << 30
_DEFAULT_OPTIONS = ChatOptions()


class ChatModel(Protocol):
    """Whatever answers messages: a server, or a script in a test."""

    @property
    def name(self) -> str:
        """The model's name, as answers report it."""

    def stream(
        self, messages: Sequence[Message], options: ChatOptions = _DEFAULT_OPTIONS
    ) -> Generator[ChatDelta]:
        """Yield the reply's text as it comes, then one delta with its finish reason and usage.

        That last delta's `finish_reason` is "length" where a limit cut the answer off; `usage` is
        None where the API gave none. Reasoning is never yielded. Raises ChatError. Closing the
        generator frees the connection at once.
        """


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """Where the API is and how long it may take; times are in seconds.

    `first_byte_s` bounds the wait for a streamed reply's first byte, `idle_s` each wait after it;
    a reply that is not streamed is bounded by the deadline alone.
    """

    base_url: str = "https://api.openai.com/v1"
    api_key: str = field(default="", repr=False)
    model: str = "gpt-4o-mini"
    connect_s: float = 5.0
    first_byte_s: float = 60.0
    idle_s: float = 30.0
    attempts: int = 3


@dataclass(frozen=True, slots=True)
class Timing:
    """The clocks, the sleep and the random number in 0..1 that retries use."""

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random


_REAL_TIMING = Timing()


class OpenAIChat:
    """A chat model behind the chat completions API. One client serves any number of threads."""

    def __init__(
        self,
        settings: ChatSettings,
        transport: "httpx.BaseTransport | None" = None,
        timing: Timing = _REAL_TIMING,
    ) -> None:
        """Connect to nothing yet. Raises UsageError for a base URL or key that cannot be used."""
        import httpx

        self._settings = settings
        self._timing = timing
        key = _checked_key(settings.api_key)
        self._url, host = _endpoint(settings.base_url)
        self._peer = Peer(host, key)
        self._dropped: frozenset[str] = frozenset()
        headers = {"Accept-Encoding": "identity", "User-Agent": "ragcite"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._client = httpx.Client(
            transport=bounded(transport or _open_transport(self._url)),
            headers=headers,
            trust_env=False,  # the proxy is chosen below, and no other setting is wanted
        )

    @property
    def name(self) -> str:
        """The configured model."""
        return self._settings.model

    def close(self) -> None:
        """Close the connections that are kept for the next question."""
        self._client.close()

    def __enter__(self) -> "OpenAIChat":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def stream(
        self, messages: Sequence[Message], options: ChatOptions = _DEFAULT_OPTIONS
    ) -> Generator[ChatDelta, None, None]:
        """See ChatModel. The deadline runs from this call on, not from the first `next`."""
        deadline = self._timing.monotonic() + min(options.deadline_s, _LONGEST_DEADLINE_S)
        return self._deltas(messages, options, deadline)

    def embeddings(self, texts: Sequence[str], deadline_s: float = 120.0) -> list[list[float]]:
        """The model's vector of each text, by one request and the same rules. Raises ChatError."""
        deadline = self._timing.monotonic() + deadline_s
        vectors: list[list[float]] = []

        def attempt() -> _Attempt:
            vectors.clear()
            reply = EmbeddingReply(self._peer, len(texts), vectors)
            return self._attempt("/embeddings", reply, deadline_s, deadline)

        body = embedding_body(self.name, texts)
        for _ in self._exchanges(lambda: body, attempt, deadline):
            pass
        return vectors

    def body(self, messages: Sequence[Message], options: ChatOptions) -> dict[str, Any]:
        """What would be sent, without the fields that this API has refused so far."""
        return request_body(self.name, messages, options, self._dropped)

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        upload: bytes | None = None,
    ) -> bytes:
        """One plain request beside the chat endpoint, not tried again: its reply's body.

        `upload` goes as the file of a batch. Raises ChatError.
        """
        import httpx

        attempt = self._attempt(
            path, Reply(self._peer), _CALL_S, self._timing.monotonic() + _CALL_S
        )
        request = self._client.build_request(
            method,
            self._url.replace("/chat/completions", path),
            json=body,
            data={"purpose": "batch"} if upload else None,
            files={"file": ("batch.jsonl", upload, "application/jsonl")} if upload else None,
            timeout=httpx.Timeout(attempt.patience),
        )
        received = bytearray()
        try:
            with closing(self._client.send(request, stream=True)) as response:
                if not response.is_success:
                    raise self._refused(response, attempt).error
                for piece in response.iter_bytes():
                    received += piece
                    if len(received) > _CALL_BYTES:
                        raise ChatRejected(f"{self._peer.host} sent an over-long file")
        except httpx.HTTPError as error:
            raise self._interrupted(error, attempt).error from error
        return bytes(received)

    def _deltas(
        self, messages: Sequence[Message], options: ChatOptions, deadline: float
    ) -> Generator[ChatDelta, None, None]:
        def attempt() -> _Attempt:
            left = deadline - self._timing.monotonic()
            first_byte = self._settings.first_byte_s if options.stream else left
            return self._attempt("/chat/completions", Reply(self._peer), first_byte, deadline)

        yield from self._exchanges(
            lambda: request_body(self.name, messages, options, self._dropped), attempt, deadline
        )

    def _exchanges(
        self,
        make_body: Callable[[], dict[str, Any]],
        make_attempt: Callable[[], "_Attempt"],
        deadline: float,
    ) -> Generator[ChatDelta, None, None]:
        """Try until a reply is whole, or until another try is no use."""
        failures, reconnected = 0, False
        while True:
            body, attempt = make_body(), make_attempt()
            try:
                yield from self._exchange(body, attempt)
            except Failed as failed:
                refused = next((name for name in failed.unsupported if name in body), None)
                if text := attempt.reply.text:
                    error = failed.error
                    raise ChatIncomplete(error.message, error.hint, text) from failed.__cause__
                if refused:
                    self._dropped |= {refused}
                elif attempt.stale and not reconnected:
                    reconnected = True
                else:
                    failures += 1
                    self._pause(failed, failures, deadline)
            else:
                return

    def _attempt(
        self, path: str, reply: "Reply | EmbeddingReply", first_byte_s: float, deadline: float
    ) -> "_Attempt":
        if deadline - self._timing.monotonic() <= 0:
            raise self._overdue()
        return _Attempt(path, reply, Patience(first_byte_s, deadline, self._timing.monotonic))

    def _pause(self, failed: Failed, failures: int, deadline: float) -> None:
        """Wait before the next try, or raise the error where another try is no use or too late."""
        longest = min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2 ** (failures - 1))
        asked = failed.retry_after or 0.0
        wait = asked + self._timing.random() * longest
        given_up = not failed.retry or failures >= self._settings.attempts
        if given_up or asked > _LONGEST_RETRY_AFTER_S:
            raise failed.error from failed.__cause__
        if wait >= deadline - self._timing.monotonic():
            raise failed.error from failed.__cause__
        self._timing.sleep(wait)

    def _exchange(self, body: dict[str, Any], attempt: "_Attempt") -> Iterator[ChatDelta]:
        """One request and its reply. Every way in which it can fail leaves here as a Failed."""
        import httpx

        try:
            with closing(self._send(body, attempt)) as response:
                attempt.answered = True
                if not response.is_success:
                    raise self._refused(response, attempt)
                yield from self._read(response, attempt)
        except httpx.HTTPError as error:
            raise self._interrupted(error, attempt) from error

    def _send(self, body: dict[str, Any], attempt: "_Attempt") -> "httpx.Response":
        import httpx

        settings, patience = self._settings, attempt.patience
        request = self._client.build_request(
            "POST",
            self._url.replace("/chat/completions", attempt.path),
            json=body,
            timeout=httpx.Timeout(
                connect=patience.limited(settings.connect_s),
                read=patience,
                write=patience.limited(settings.idle_s),
                pool=patience.left(),
            ),
            extensions={"trace": attempt.trace},
        )
        return self._client.send(request, stream=True)

    def _read(self, response: "httpx.Response", attempt: "_Attempt") -> Iterator[ChatDelta]:
        import httpx

        reply, patience = attempt.reply, attempt.patience
        pieces = response.iter_bytes()
        try:
            for piece in pieces:
                yield from reply.feed(piece)
                if reply.ended or reply.full:
                    break
                patience.seconds = _AFTER_FINISH_S if reply.complete else self._settings.idle_s
                if patience.left() <= 0:
                    raise httpx.ReadTimeout("")
        except httpx.HTTPError:
            if not reply.complete:
                raise
        yield from reply.end()
        if reply.ended:
            patience.seconds = _DRAIN_S
            with suppress(httpx.HTTPError):
                for _ in islice(pieces, 2):
                    pass

    def _refused(self, response: "httpx.Response", attempt: "_Attempt") -> Failed:
        import httpx

        body = bytearray()
        attempt.patience.shorten(_ERROR_BODY_S)
        with suppress(httpx.HTTPError):  # half an error message is better than none
            for piece in response.iter_bytes():
                body += piece
                if len(body) > _ERROR_BODY_BYTES or attempt.patience.left() <= 0:
                    break
        problem = parse_problem(response.status_code, bytes(body[:_ERROR_BODY_BYTES]), self._peer)
        return failure(problem, self._peer, retry_after(response.headers, self._timing.now()))

    def _interrupted(self, error: "httpx.HTTPError", attempt: "_Attempt") -> Failed:
        """What a failure of the connection means; httpx's own words may hold what was sent."""
        import httpx

        host = self._peer.host
        if attempt.patience.left() <= SHORTEST_WAIT_S:
            return Failed(self._overdue())
        if isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol):
            return Failed(ChatRejected(f"the request to {host} cannot be sent", BASE_URL_HINT))
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
            reason = "no answer" if isinstance(error, httpx.TimeoutException) else str(error)
            hint = f"is the server running? {BASE_URL_HINT}"
            return Failed(ChatUnavailable(f"cannot connect to {host}: {reason}", hint), retry=True)
        if isinstance(error, httpx.TimeoutException):
            message = f"{host} sent nothing for {attempt.patience.seconds:g} s"
            return Failed(ChatUnavailable(message, "try again later"), retry=True)
        attempt.stale = not attempt.answered and attempt.reused
        broken = isinstance(error, httpx.DecodingError)
        happened = "cannot be decoded" if broken else "ended before it was complete"
        message = f"the reply of {host} {happened}"
        return Failed(ChatUnavailable(message, "try again later"), retry=True)

    def _overdue(self) -> ChatUnavailable:
        message = f"{self._peer.host} did not answer within the deadline"
        return ChatUnavailable(message, "raise chat.deadline, or name a faster model: chat.model")


@dataclass(slots=True)
class _Attempt:
    """One try, and what became known of it on the way."""

    path: str
    reply: Reply | EmbeddingReply
    patience: Patience
    answered: bool = False
    stale: bool = False
    events: list[str] = field(default_factory=list)

    def trace(self, event: str, _: object) -> None:
        """Note what httpx does: it tells of a connection opened, not of one used again."""
        self.events.append(event)

    @property
    def reused(self) -> bool:
        """Whether the request went out on a connection that an earlier one had opened."""
        return bool(self.events) and not any("connect_tcp" in event for event in self.events)


def _open_transport(url: str) -> "httpx.BaseTransport":
    """A transport through the environment's proxy, if there is one for this host."""
    import httpx

    limits = httpx.Limits(keepalive_expiry=_KEEP_ALIVE_S)
    try:
        return httpx.HTTPTransport(proxy=_proxy(url), limits=limits)
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        hint = "check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY"
        raise UsageError("the proxy of the environment cannot be used", hint) from error
    except OSError as error:
        hint = "check SSL_CERT_FILE and SSL_CERT_DIR"
        raise UsageError("the certificates to trust cannot be loaded", hint) from error


def _proxy(url: str) -> str | None:
    """The environment's proxy for a URL; never one for this machine itself.

    A company's proxy cannot reach a model server on the user's own machine, and few who set
    HTTP_PROXY think of NO_PROXY=localhost.
    """
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    if _is_loopback(parts.hostname or "") or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _checked_key(key: str) -> str:
    """A key that fits a header; the libraries below would quote it in their complaint."""
    key = key.strip()
    if not all("!" <= character <= "~" for character in key):
        message = "the API key holds characters that no key has"
        raise UsageError(message, "set OPENAI_API_KEY again, without quotes or line breaks")
    return key


def _endpoint(base_url: str) -> tuple[str, str]:
    """The address of the chat completions, and the host as messages name it."""
    base, mark, query = base_url.strip().partition("?")
    try:
        parts = urlsplit(base)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        parts, port = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not parts.hostname:
        message = "chat.base_url is not an http or https address"
        raise UsageError(message, "for example http://127.0.0.1:8080/v1 (OPENAI_BASE_URL)")
    base = base.rstrip("/").removesuffix("/chat/completions")
    return f"{base}/chat/completions{mark}{query}", f"{parts.hostname}{port}"
