"""A batch by way of the provider's own endpoint: retrieval and packing now, replies within a day.

Both ends are chat models in the place of the API, so that all that stands around it (checking,
citing, keeping replies) is as ever. One defers each request to the provider's file; the other
replays the replies. A reply belongs to a prompt by the prompt's hash: where the documents have
changed in the meantime there is none, and the question is to be asked anew.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from ingest.errors import UsageError
from ingest.report import OnProgress, Progress
from rag.app import open_app, open_chat
from rag.batch.answers import open_answers
from rag.batch.questions import Asked
from rag.batch.report import BatchReport
from rag.batch.run import Deferred, run_batch
from rag.chat import batches
from rag.chat.batches import Job
from rag.chat.client import DEFAULT_OPTIONS, ChatModel, ChatOptions, Deltas, OpenAIChat
from rag.chat.failures import Peer
from rag.chat.models import model_facts
from rag.chat.reuse import request_secret
from rag.errors import ChatRejected, ChatUnavailable
from rag.settings.config import Settings, find_store
from rag.types import Message, ModelFacts, Usage

_SHARE_OF_PRICE = 0.5  # OpenAI's, and that of those who offer its endpoint
_POLL_S = 20.0
_MOST_FAILED_POLLS = 5


class DeferringChat:
    """Sends the first request, which shows what the API takes, and collects the others as
    `lines`: asking for their replies raises Deferred.
    """

    def __init__(self, client: OpenAIChat) -> None:
        self._client = client
        self._tried = False
        self.name = client.name
        self.lines: dict[str, bytes] = {}

    def stream(self, messages: Sequence[Message], options: ChatOptions = DEFAULT_OPTIONS) -> Deltas:
        """See ChatModel."""
        if not self._tried:
            self._tried = True
            yield from self._client.stream(messages, options)
            return
        custom_id = _request_id(self.name, messages, options)
        body = self._client.body(messages, replace(options, stream=False))
        self.lines[custom_id] = batches.request_line(custom_id, body)
        raise Deferred("the question waits for its batch")


@dataclass(slots=True)
class ReplayingChat:
    """Replies from a batch that has ended, at its price."""

    name: str
    rows: Mapping[str, Mapping[str, Any]]
    facts: ModelFacts

    def stream(self, messages: Sequence[Message], options: ChatOptions = DEFAULT_OPTIONS) -> Deltas:
        """See ChatModel."""
        row = self.rows.get(_request_id(self.name, messages, options))
        if row is None:
            raise ChatRejected(
                "the batch has no reply: it ended early, or documents or settings have changed",
                "ask now: the same command with --resume in place of --provider",
            )
        for delta in batches.reply_deltas(row, Peer("the batch")):
            yield replace(delta, usage=delta.usage and self._priced(delta.usage))

    def _priced(self, usage: Usage) -> Usage:
        cost = self.facts.cost(usage.prompt_tokens, usage.completion_tokens)
        return replace(usage, cost_usd=None if cost is None else cost * _SHARE_OF_PRICE)


def _request_id(name: str, messages: Sequence[Message], options: ChatOptions) -> str:
    return sha256(request_secret(name, messages, options)).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Work:
    """A batch of questions, its output, and what is kept beside it while the provider works."""

    settings: Settings
    asked: Sequence[Asked]
    out: Path
    resume: bool

    @property
    def ticket(self) -> Path:
        """The file with the provider's id of the batch."""
        return self.out.with_name(f"{self.out.name}.batch")

    @property
    def batch(self) -> str:
        """The provider's id. Raises UsageError where there is none, or it is another API's."""
        try:
            kept = json.loads(self.ticket.read_text(encoding="utf-8"))
            batch, base_url = str(kept["batch"]), kept["base_url"]
        except (OSError, ValueError, KeyError, TypeError):
            message = f"no batch is under way: {self.ticket} is missing or cannot be read"
            raise UsageError(message, "begin one with --provider submit") from None
        if base_url != self.settings.chat.base_url:
            message = f"the batch of {self.ticket} is at {base_url or 'api.openai.com'}"
            raise UsageError(message, "set chat.base_url (OPENAI_BASE_URL) as it was")
        return batch


@contextmanager
def _client(settings: Settings) -> Iterator[OpenAIChat]:
    """The client of the model that writes."""
    with closing(open_chat(settings)) as chain:
        if chain.client is None:
            raise UsageError(
                f"{chain.name} runs on this machine, which takes no batches",
                "leave --provider out, or set chat.base_url (OPENAI_BASE_URL)",
            )
        yield chain.client


def submit(work: Work, on_progress: OnProgress) -> Job | None:
    """Write the rows that need no reply, and begin a batch for the rest; None where all is done.

    The first reply is waited for. Raises ChatError, UsageError where a batch is under way already.
    """
    if work.ticket.exists():
        hint = f"wait for it with --provider collect, or delete {work.ticket}"
        raise UsageError("a batch is under way for this output", hint)
    with _client(work.settings) as client:
        deferring = DeferringChat(client)
        _ask(work, deferring, on_progress)
        if not deferring.lines:
            return None
        job = batches.submit(client, [*deferring.lines.values()])
    kept = {"batch": job.id, "base_url": work.settings.chat.base_url}
    work.ticket.write_text(f"{json.dumps(kept)}\n", encoding="utf-8")
    return job


def look_up(work: Work) -> Job:
    """How the batch stands. Raises ChatError, UsageError."""
    with _client(work.settings) as client:
        return batches.look_up(client, work.batch)


def collect(
    work: Work, on_progress: OnProgress, sleep: Callable[[float], None] = time.sleep
) -> BatchReport:
    """Wait for the batch and write a row for each question; failures are rows too.

    Raises ChatError, UsageError.
    """
    with _client(work.settings) as client:
        job = _ended(client, work.batch, on_progress, sleep)
        if job.status == "failed":
            work.ticket.unlink()
            raise ChatRejected(f"the batch failed: {job.problem}", "mend it, and submit again")
        rows, facts = batches.replies(client, job), model_facts(work.settings.chat)
        replaying = ReplayingChat(client.name, rows, facts)
        report = _ask(replace(work, resume=True), replaying, on_progress)
        batches.forget(client, job)
    work.ticket.unlink()
    return report


def _ask(work: Work, chat: ChatModel, on_progress: OnProgress) -> BatchReport:
    """A run with a model in the API's place: one after another, for it answers at once or, the
    first time, shows what the API takes. Nothing else may answer in its stead.
    """
    settings = work.settings
    chat_alone = replace(settings.chat, concurrency=1, fallback=False, fallbacks=())
    settings = replace(settings, chat=chat_alone, small=None, fallbacks=())
    with (
        open_app(settings, find_store(settings), "batch", chat) as app,
        open_answers(work.out, work.asked, resume=work.resume) as file,
    ):
        return run_batch(app, work.asked, file, None, on_progress)


def _ended(
    client: OpenAIChat, batch: str, on_progress: OnProgress, sleep: Callable[[float], None]
) -> Job:
    """The batch once it has ended; a provider that cannot be reached now and then is borne with."""
    failed = 0
    while True:
        try:
            job, failed = batches.look_up(client, batch), 0
        except ChatUnavailable:
            failed += 1
            if failed == _MOST_FAILED_POLLS:
                raise
        else:
            on_progress(Progress("waiting", job.done, job.total, "replies", job.status))
            if job.ended:
                return job
        sleep(_POLL_S)
