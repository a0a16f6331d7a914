"""One request to an OpenAI-compatible API and its reply, over HTTP; httpx is imported only here,
and this module only when a connection is made.

The key goes to the base URL alone: redirects are not followed. Every way in which an exchange can
fail leaves here as a `Failed`.
"""

from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from ipaddress import ip_address
from itertools import islice
from urllib.parse import urlsplit

import httpx

from ingest.errors import UsageError
from rag.chat.failures import BASE_URL_HINT, Failed, Peer, failure, parse_problem, retry_after
from rag.chat.patience import REAL_TIMING, SHORTEST_WAIT_S, Patience, Timing, bounded
from rag.chat.wire import ChatSettings, Exchange, Reply, WholeReply
from rag.errors import ChatRejected, ChatUnavailable
from rag.settings.sources import http_address
from rag.types import ChatDelta

Transport = httpx.BaseTransport

_AFTER_FINISH_S = 5.0  # for a last chunk with usage, and [DONE], which some servers never send
_DRAIN_S = 0.2  # to the end of the body after [DONE]: then the connection can be used again
_ERROR_BODY_S = 5.0
_ERROR_BODY_BYTES = 64 * 1024
_KEEP_ALIVE_S = 30.0
# A piece is unpacked whole before it is measured: one layer of these grows 1,000 times at most.
_ENCODINGS = ("", "identity", "gzip", "deflate")
_AZURE = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")
_AZURE_VERSION = "api-version=2024-10-21"


class Connection:
    """The way to one API; it serves any number of threads."""

    def __init__(
        self,
        settings: ChatSettings,
        transport: Transport | None = None,
        timing: Timing = REAL_TIMING,
    ) -> None:
        """Connect to nothing yet. Raises UsageError for a base URL or key that cannot be used."""
        self._settings = settings
        self._timing = timing
        self._base, self._query, host = _endpoint(settings.base_url)
        self.peer = Peer(host)
        if isinstance(settings.api_key, str):
            self.use_key()
        self._client = httpx.Client(
            transport=bounded(transport or _open_transport(self._base)),
            headers={"Accept-Encoding": "identity", "User-Agent": "ragcite"},
            trust_env=False,  # the proxy is chosen below, and no other setting is wanted
        )

    def use_key(self) -> Peer:
        """Take the key as it is now, and return whom it is for. Raises UsageError."""
        given = self._settings.api_key
        key = _checked_key(given if isinstance(given, str) else given())
        if key != self.peer.key:
            self.peer = replace(self.peer, key=key)
        return self.peer

    def close(self) -> None:
        """Close the connections that are kept for the next request."""
        self._client.close()

    def exchange(self, exchange: Exchange, patience: Patience) -> Iterator[ChatDelta]:
        """Send a request and yield its reply; no wait is longer than `patience`. Raises Failed."""
        exchange.sent = True
        try:
            with closing(self._send(exchange, patience)) as response:
                exchange.answered = True
                exchange.learn(response.headers)
                if not response.is_success:
                    raise self._refused(response, exchange.peer, patience)
                yield from self._read(response, exchange.reply, patience)
        except httpx.HTTPError as error:
            raise self._interrupted(error, exchange, patience) from error

    def _send(self, exchange: Exchange, patience: Patience) -> httpx.Response:
        settings, file = self._settings, exchange.upload
        request = self._client.build_request(
            exchange.method,
            f"{self._base}{exchange.path}{self._query}",
            json=exchange.body or None,
            data={"purpose": "batch"} if file else None,
            files={"file": ("batch.jsonl", file, "application/jsonl")} if file else None,
            headers=_key_headers(exchange.peer),
            timeout=httpx.Timeout(
                connect=patience.limited(settings.connect_s),
                read=patience,
                write=patience.limited(settings.idle_s),
                pool=patience.left(),
            ),
            extensions={"trace": exchange.trace},
        )
        return self._client.send(request, stream=True)

    def _read(
        self, response: httpx.Response, reply: Reply | WholeReply, patience: Patience
    ) -> Iterator[ChatDelta]:
        pieces = _unpacked(response)
        try:
            for piece in pieces:
                yield from reply.feed(piece)
                if reply.ended or reply.full:
                    break
                if reply.complete:
                    patience.seconds = _AFTER_FINISH_S
                elif reply.text:  # pings, while a long prompt is read, are not the first byte
                    patience.seconds = self._settings.idle_s
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

    def _refused(self, response: httpx.Response, peer: Peer, patience: Patience) -> Failed:
        body = b""
        patience.shorten(_ERROR_BODY_S)
        with suppress(httpx.HTTPError):  # half an error message is better than none
            for piece in _unpacked(response):
                body += piece
                if len(body) > _ERROR_BODY_BYTES or patience.left() <= 0:
                    break
        problem = parse_problem(response.status_code, body[:_ERROR_BODY_BYTES], peer)
        return failure(problem, peer, retry_after(response.headers, self._timing.now()))

    def _interrupted(
        self, error: httpx.HTTPError, exchange: Exchange, patience: Patience
    ) -> Failed:
        """What a failure of the connection means; httpx's own words may hold what was sent."""
        host = exchange.peer.host
        if patience.left() <= SHORTEST_WAIT_S:
            hint = "raise chat.deadline, or name a faster model: chat.model"
            return Failed(ChatUnavailable(f"{host} did not answer within the deadline", hint))
        if isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol):
            return Failed(ChatRejected(f"the request to {host} cannot be sent", BASE_URL_HINT))
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
            reason = "no answer" if isinstance(error, httpx.TimeoutException) else str(error)
            hint = f"is the server running? {BASE_URL_HINT}"
            return Failed(ChatUnavailable(f"cannot connect to {host}: {reason}", hint), retry=True)
        if isinstance(error, httpx.TimeoutException):
            message = f"{host} sent nothing for {patience.seconds:g} s"
            return Failed(ChatUnavailable(message, "try again later"), retry=True)
        broken = isinstance(error, httpx.DecodingError)
        happened = "cannot be decoded" if broken else "ended before it was complete"
        unread = ChatUnavailable(f"the reply of {host} {happened}", "try again later")
        return Failed(unread, retry=True, stale=not exchange.answered and exchange.reused)


def _key_headers(peer: Peer) -> dict[str, str]:
    azure, other = {"api-key": peer.key}, {"Authorization": f"Bearer {peer.key}"}
    return (azure if _is_azure(peer.host) else other) if peer.key else {}


def _unpacked(response: httpx.Response) -> Iterator[bytes]:
    """The pieces of a body. Raises DecodingError for one packed as was not asked for."""
    if response.headers.get("content-encoding", "").lower() not in _ENCODINGS:
        raise httpx.DecodingError("")
    yield from response.iter_bytes()


def _open_transport(url: str) -> Transport:
    """A transport through the environment's proxy, if there is one for this host."""
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


def _endpoint(base_url: str) -> tuple[str, str, str]:
    """The address that paths are put behind, the query that follows them, and the host as messages
    name it.

    Azure has two forms: `/openai/v1`, which a bare host stands for, and one address for each
    deployment, which needs a version of the API.
    """
    base, mark, query = base_url.strip().partition("?")
    parts = http_address(base, "chat.base_url", "http://127.0.0.1:8080/v1 (OPENAI_BASE_URL)")
    host = parts.hostname or ""
    base = base.rstrip("/").removesuffix("/chat/completions")
    if _is_azure(host):
        if not parts.path.strip("/"):
            base += "/openai/v1"
        elif "/deployments/" in base and not query:
            mark, query = "?", _AZURE_VERSION
    return base, f"{mark}{query}", f"{host}:{parts.port}" if parts.port else host


def _is_azure(host: str) -> bool:
    return host.endswith(_AZURE)
