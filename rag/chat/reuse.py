"""A chat model of which the same is asked once: replies are kept, and shared on their way.

The same is: the same messages, apart from their random delimiter, to the same model of the same
server with the same parameters. So a kept reply is one to this very prompt, and what follows it
(checking, citing, refusing) runs as for any other. An edited document changes the prompts that show
it, and no others.
"""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import fields, replace
from hashlib import sha256
from threading import Lock

from rag.chat.cancel import Cancellation
from rag.chat.client import DEFAULT_OPTIONS, ChatModel, ChatOptions, Deltas
from rag.chat.replies import KeptReplies
from rag.types import ChatDelta, Message, Usage

# Options of how a reply comes. All others shape it.
_MANNER = {"deadline_s", "begin_s", "stream", "batch", "within", "cancellation", "fence"}


class ReusingChat:
    """A chat model around a chat model. `place` tells servers apart that share a model's name.

    Who gets a reply without a call of its own gets its usage as cached, at no cost.
    """

    def __init__(self, chat: ChatModel, place: str, kept: KeptReplies) -> None:
        self.name = chat.name
        self._chat = chat
        self._place = place
        self._kept = kept
        self._lock = Lock()
        self._flights: dict[bytes, _Flight] = {}

    def stream(self, messages: Sequence[Message], options: ChatOptions = DEFAULT_OPTIONS) -> Deltas:
        """See ChatModel. A reply that others wait for goes on when one of them leaves."""
        secret = request_secret(f"{self._place} {self.name}", messages, options)
        flight = self._join(secret, messages, options)
        try:
            with options.cancellation.calling(lambda: flight.give_up(options.cancellation)):
                place = 0
                while delta := flight.piece(place):
                    yield delta
                    place += 1
        finally:
            self._leave(secret, flight, options.cancellation)

    def _replies(self, secret: bytes, messages: Sequence[Message], options: ChatOptions) -> Deltas:
        """The kept reply, or else the model's, kept once it is whole."""
        if (kept := self._kept.get(secret)) is not None:
            yield from _unpacked(kept)
            return
        pieces = []
        with closing(self._chat.stream(messages, options)) as deltas:
            for delta in deltas:
                pieces.append(delta)
                yield delta
        # What a limit cut off, or another than the model itself gave, is no reply to keep.
        whole = bool(pieces) and pieces[-1].finish_reason == "stop"
        if whole and not any(piece.notice for piece in pieces):
            self._kept.put(secret, _packed(pieces))

    def _join(self, secret: bytes, messages: Sequence[Message], options: ChatOptions) -> "_Flight":
        with self._lock:
            flight = self._flights.get(secret)
            if flight is None or flight.ended or flight.cancellation.wished:
                own = Cancellation()  # one who calls it off does not for the others
                deltas = self._replies(secret, messages, replace(options, cancellation=own))
                flight = self._flights[secret] = _Flight(deltas, own)
            flight.readers += 1
            return flight

    def _leave(self, secret: bytes, flight: "_Flight", wish: Cancellation) -> None:
        with self._lock:
            flight.readers -= 1
            flight.given_up.discard(wish)
            if flight.readers:
                return
            if self._flights.get(secret) is flight:
                del self._flights[secret]
        flight.close()


class _Flight:
    """One reply with several readers. Whoever has read all that came fetches the next piece for
    the rest: nobody leads, so that nobody's leaving ends it for the others.
    """

    def __init__(self, source: Deltas, cancellation: Cancellation) -> None:
        self.readers = 0
        self.cancellation = cancellation
        self.given_up: set[Cancellation] = set()
        self.ended = False
        self._source = source
        self._lock = Lock()
        self._pieces: list[ChatDelta] = []
        self._error: BaseException | None = None

    def piece(self, place: int) -> ChatDelta | None:
        """The piece at a place, None at the end. Raises what the source raised, to each reader."""
        with self._lock:
            if place < len(self._pieces):
                return _free(self._pieces[place])
            if self._error is not None:
                raise self._error
            try:
                piece = next(self._source, None)
            except BaseException as error:
                self._error = error
                self.ended = True
                raise
            if piece is None:
                self.ended = True
            else:
                self._pieces.append(piece)
            return piece

    def give_up(self, wish: Cancellation) -> None:
        """Note that a reader waits no more: when none does, the upstream is freed."""
        self.given_up.add(wish)
        if len(self.given_up) >= self.readers:
            self.cancellation.cancel()

    def close(self) -> None:
        """Free the upstream; called when the last reader has gone."""
        self._source.close()


def request_secret(model: str, messages: Sequence[Message], options: ChatOptions) -> bytes:
    """32 bytes that are equal for equal requests, and that nobody knows who lacks one of them."""
    shaping = [
        [field.name, getattr(options, field.name)]
        for field in fields(options)
        if field.name not in _MANNER
    ]
    fence = options.fence
    parts = [[m.role, *(m.content.split(fence) if fence else [m.content])] for m in messages]
    return sha256(json.dumps([model, shaping, parts]).encode()).digest()


def _free(delta: ChatDelta) -> ChatDelta:
    """A piece for one who did not pay for it."""
    usage = delta.usage or (Usage(estimated=True) if delta.finish_reason else None)
    return replace(delta, usage=usage and replace(usage, cached=True, cost_usd=0.0))


def _packed(pieces: Sequence[ChatDelta]) -> str:
    usage = next((piece.usage for piece in reversed(pieces) if piece.usage), None)
    return json.dumps(
        {
            "text": "".join(piece.text for piece in pieces),
            "model": next((piece.model for piece in reversed(pieces) if piece.model), None),
            "tokens": [usage.prompt_tokens, usage.completion_tokens] if usage else None,
        }
    )


def _unpacked(kept: str) -> Deltas:
    reply = json.loads(kept)
    yield ChatDelta(reply["text"])
    tokens = reply["tokens"]
    yield _free(ChatDelta("", "stop", Usage(*tokens) if tokens else None, reply["model"]))
