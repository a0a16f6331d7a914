"""The batch endpoint that OpenAI and others offer beside their chat API: a file of requests goes
up, a file of replies comes down within a day, at half the price.

`POST /files`, `POST /batches`, `GET /batches/ID`, `GET /files/ID/content`, `DELETE /files/ID`
(platform.openai.com/docs/api-reference/batch).
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ingest.errors import UsageError
from rag.chat.client import OpenAIChat
from rag.chat.failures import Failed, Peer, failure, parse_problem
from rag.chat.foreign import mapping, parsed
from rag.chat.wire import Reply
from rag.errors import ChatError, ChatRejected
from rag.types import ChatDelta

MOST_REQUESTS = 50_000
MOST_BYTES = 200_000_000

_ENDPOINT = "/v1/chat/completions"
_ENDED = ("completed", "failed", "expired", "cancelled")


@dataclass(frozen=True, slots=True)
class Job:
    """A batch as the provider tells of it; its files are ids, of which some may be missing."""

    id: str
    status: str
    total: int
    done: int
    files: tuple[str, ...]
    problem: str

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.status in _ENDED


def request_line(custom_id: str, body: Mapping[str, Any]) -> bytes:
    """One request of a batch's file."""
    row = {"custom_id": custom_id, "method": "POST", "url": _ENDPOINT, "body": body}
    return json.dumps(row).encode() + b"\n"


def submit(api: OpenAIChat, lines: Sequence[bytes]) -> Job:
    """Upload requests and begin their batch. Raises ChatError, UsageError for too many."""
    size = sum(map(len, lines))
    if len(lines) > MOST_REQUESTS or size > MOST_BYTES:
        raise UsageError(
            f"{len(lines)} requests of {size / 1e6:.0f} MB are too many for one batch",
            f"{MOST_REQUESTS} and {MOST_BYTES / 1e6:.0f} MB are allowed: divide the questions",
        )
    file = mapping(parsed(api.call("POST", "/files", upload=b"".join(lines))))
    window = {"endpoint": _ENDPOINT, "completion_window": "24h"}
    return _job(api.call("POST", "/batches", {"input_file_id": file.get("id"), **window}))


def look_up(api: OpenAIChat, batch: str) -> Job:
    """How a batch stands. Raises ChatError."""
    return _job(api.call("GET", f"/batches/{batch}"))


def replies(api: OpenAIChat, job: Job) -> dict[str, Mapping[str, Any]]:
    """The replies and errors of a batch that has ended, by the ids of their requests."""
    rows: dict[str, Mapping[str, Any]] = {}
    for file in job.files[1:]:
        for line in api.call("GET", f"/files/{file}/content").split(b"\n"):
            row = mapping(parsed(line)) if line.strip() else {}
            rows[str(row.get("custom_id"))] = row
    return rows


def forget(api: OpenAIChat, job: Job) -> None:
    """Have the provider delete what was sent and what came back; it may refuse to."""
    for file in job.files:
        with suppress(ChatError):
            api.call("DELETE", f"/files/{file}")


def reply_deltas(row: Mapping[str, Any], peer: Peer) -> list[ChatDelta]:
    """A row's reply, read as the chat API's own would be. Raises ChatError."""
    response = row.get("response") or {"status_code": 500, "body": row.get("error")}
    body = json.dumps(response.get("body")).encode()
    status = response.get("status_code")
    if status != 200:
        status = status if isinstance(status, int) else 500
        raise failure(parse_problem(status, body, peer), peer).error
    reply = Reply(peer)
    try:
        return [*reply.feed(body), *reply.end()]
    except Failed as failed:
        raise failed.error from None


def _job(body: bytes) -> Job:
    row = mapping(parsed(body))
    if not isinstance(row.get("id"), str):
        raise ChatRejected("the API's batch has no id", "does it offer /v1/batches?")
    counts = row.get("request_counts") or {}
    problems = (row.get("errors") or {}).get("data") or [{}]
    names = ("input_file_id", "output_file_id", "error_file_id")
    return Job(
        id=row["id"],
        status=str(row.get("status")),
        total=counts.get("total") or 0,
        done=(counts.get("completed") or 0) + (counts.get("failed") or 0),
        files=tuple(str(row[name]) for name in names if row.get(name)),
        problem=str(problems[0].get("message") or ""),
    )
