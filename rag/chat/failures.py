"""What an API's error means: what the caller is told, and whether another try can help. Pure.

The table of what is retried:

    retried        connection errors, time-outs, 408, 409, 429, 5xx, in-stream errors of these kinds
    not retried    400, 401, 403, 404, 413, 422, redirects, insufficient_quota, content filter
    sent changed   400 or 422 that names an optional field of the request: once without the field
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Any

from rag.chat.foreign import number, parsed, seconds_until
from rag.errors import (
    ChatAuthError,
    ChatError,
    ChatOverflow,
    ChatRateLimited,
    ChatRejected,
    ChatUnavailable,
)

_SHOWN_MESSAGE = 300
_SHORTEST_SECRET = 4
BASE_URL_HINT = "check chat.base_url (OPENAI_BASE_URL)"
NO_ANSWER = "the model gave no answer"
_DROPPABLE = (
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "stream_options",
    "stop",
    "seed",
    "response_format",
)
_DROPPABLE_NAME = re.compile(rf"\b({'|'.join(_DROPPABLE)})\b")
_UNSUPPORTED = re.compile(
    r"unsupported|not support|unrecogni[sz]ed|unknown|unexpected|extra|not permitted|not allowed",
    re.IGNORECASE,
)
_OVERFLOW_NAMES = {"context_length_exceeded", "exceed_context_size_error"}
_OVERFLOW = re.compile(
    r"context[ _](?:length|size|window)|maximum context|(?:prompt|input) is too long"
    r"|too many (?:input )?tokens|exceeds? the maximum number of tokens",
    re.IGNORECASE,
)
_ERROR_STATUS = re.compile("[45][0-9][0-9]")
# Errors inside a reply have no status of their own: their names stand for one.
_STATUS_OF_NAME = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "insufficient_quota": 429,
    "overloaded_error": 529,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "invalid_request_error": 400,
    "content_filter": 400,
    "context_length_exceeded": 400,
    "exceed_context_size_error": 400,
}


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom we talk to: the host for messages, and the key so that it can be kept out of them."""

    host: str
    key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Problem:
    """An API's error, from whatever body it came in; the names are "" where it gave none.

    `inside` means that it came inside a reply whose own status was 200.
    """

    status: int
    message: str = ""
    kind: str = ""
    code: str = ""
    param: str = ""
    inside: bool = False


@dataclass(eq=False)
class Failed(Exception):
    """A verdict on one try, seen by no user: `error` is what to tell if it is not retried.

    `unsupported` are request fields the API may have objected to, the likeliest first. `stale` is
    a kept connection that the server had closed meanwhile: the request was never taken.
    """

    error: ChatError
    _: KW_ONLY
    retry: bool = False
    retry_after: float | None = None
    unsupported: tuple[str, ...] = ()
    stale: bool = False


def parse_problem(status: int, body: bytes, peer: Peer) -> Problem:
    """An API's error from its body: JSON of any common shape, plain text or a web page."""
    text = body.decode("utf-8", errors="replace").strip()
    value = parsed(text)
    if isinstance(value, list) and value:  # Gemini's endpoint wraps its error in a list
        value = value[0]
    if isinstance(value, dict):
        return _problem(status, value, peer)
    if text.startswith("<"):
        title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
        text = title[1] if title else "a web page"
    return Problem(status, clean(text, peer.key))


def _problem(status: int, payload: Mapping[str, Any], peer: Peer) -> Problem:
    """The shapes of OpenAI, llama.cpp, vLLM, FastAPI (`detail`) and Ollama (a string)."""
    error = payload.get("error") or payload
    if not isinstance(error, dict):
        return Problem(status, clean(str(error), peer.key))
    told = error.get("message") or error.get("detail") or ""
    message = told if isinstance(told, str) else json.dumps(told)
    kind, code, param = (str(error.get(name) or "") for name in ("type", "code", "param"))
    return Problem(status, clean(message, peer.key), kind, code, param)


def failure_inside(payload: Mapping[str, Any], peer: Peer) -> Failed:
    """What an error object inside a reply means: its code or its names stand for a status."""
    problem = replace(_problem(500, payload, peer), inside=True)
    for name in (problem.code, problem.kind):
        status = int(name) if _ERROR_STATUS.fullmatch(name) else _STATUS_OF_NAME.get(name)
        if status:
            return failure(replace(problem, status=status), peer)
    return failure(problem, peer)


def failure(problem: Problem, peer: Peer, retry_after: float | None = None) -> Failed:
    """What an API's error means. `retry_after` is in seconds, where the API said so."""
    status, names = problem.status, {problem.code, problem.kind}
    told = f"{peer.host} {'broke off with an error' if problem.inside else f'answered {status}'}"
    if problem.message:
        told += f": {problem.message}"
    if _is_overflow(problem, names):
        hint = "lower prompt.budget, or name a model with a larger window (chat.model)"
        return Failed(ChatOverflow(told, hint))
    if status in (401, 403):
        return Failed(ChatAuthError(told, "check the key: OPENAI_API_KEY, or chat.api_key"))
    if status == 402 or "insufficient_quota" in names:
        return Failed(ChatRateLimited(told, "check the plan and billing of this key"))
    if status in (408, 409, 429) or status >= 500:
        return _transient(problem, told, retry_after)
    return _rejected(problem, names, told)


def _is_overflow(problem: Problem, names: set[str]) -> bool:
    if names & _OVERFLOW_NAMES or problem.status == 413:
        return True
    return problem.status in (400, 422) and bool(_OVERFLOW.search(problem.message))


def _transient(problem: Problem, told: str, retry_after: float | None) -> Failed:
    again = "try again later" if retry_after is None else f"try again in {math.ceil(retry_after)} s"
    error: ChatError
    if problem.status == 429:
        error = ChatRateLimited(told, again, retry_after)
    else:
        error = ChatUnavailable(told, f"{again}, or name another server with chat.base_url")
    return Failed(error, retry=True, retry_after=retry_after)


def _rejected(problem: Problem, names: set[str], told: str) -> Failed:
    status = problem.status
    if names & {"content_filter", "content_policy_violation"}:
        message = f"{NO_ANSWER}: the API's content filter stopped the question"
        return Failed(ChatRejected(message, "put the question differently"))
    if status < 400:
        hint = f"{BASE_URL_HINT}: redirects are not followed, for the key must not travel"
        return Failed(ChatRejected(told, hint))
    if status == 404:
        return Failed(
            ChatRejected(told, f"{BASE_URL_HINT}, which often ends in /v1, and chat.model")
        )
    unsupported: tuple[str, ...] = ()
    if _UNSUPPORTED.search(f"{problem.code} {problem.message}"):
        mentioned = _DROPPABLE_NAME.findall(f"{problem.param} {problem.message}")
        unsupported = tuple(dict.fromkeys(mentioned))
    hint = "check chat.model and the other chat settings with `rag config show`"
    return Failed(ChatRejected(told, hint), unsupported=unsupported)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait as the API asks: retry-after-ms, or Retry-After as seconds or a date.

    `headers` are looked up in lower case; `now` is in seconds since the epoch.
    """
    milliseconds = number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = number(value)
    if seconds is not None or value is None:
        return seconds
    return seconds_until(value, now, parsedate_to_datetime)


def clean(text: str, key: str) -> str:
    """A server's words as one printable line, without the key it may have echoed."""
    if len(key) >= _SHORTEST_SECRET:
        text = text.replace(key, "***")
    text = re.sub(r"\bsk-[\w-]{8,}", "sk-***", text)
    printable = "".join(c if c.isprintable() else " " for c in text)
    line = " ".join(printable.split())
    return line if len(line) <= _SHOWN_MESSAGE else line[: _SHOWN_MESSAGE - 1] + "…"
