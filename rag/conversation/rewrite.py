"""A follow-up made to stand by itself by the chat model, and what shows that it did something else.

The model is asked for one line. What is no rewriting of the question, such as an answer to it or
another question, is found by its words and dropped.
"""

import re
import secrets
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from ingest.words import terms
from rag.chat.client import ChatModel, ChatOptions
from rag.errors import ChatError
from rag.extractive.asked import codes
from rag.prompt import neutralise
from rag.types import Message, Usage

_OPTIONS = ChatOptions(temperature=0.0, max_tokens=96, deadline_s=20.0, stream=False)
_MOST_MESSAGES = 6
_ANSWER_CHARACTERS = 300
_MOST_CHARACTERS = 400
_MOST_NEW = 1 / 3
_LEAST_KEPT = 1 / 2
_LABEL = re.compile(
    r"^(?:rewritten|standalone|last)?\s*(?:message|question)?\s*:\s*", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Standalone:
    """A question as it is searched and judged: what it cost to make, and what went wrong."""

    text: str
    usage: Usage | None = None
    warning: str = ""


def rewrite(
    question: str, history: Sequence[Message], chat: ChatModel, plain: str, deadline_s: float
) -> Standalone:
    """The question as the model rewrites it; `plain` where it fails or does something else."""
    options = replace(_OPTIONS, deadline_s=min(deadline_s, _OPTIONS.deadline_s))
    text, usage, reason = "", None, None
    try:
        with closing(chat.stream(_messages(question, history), options)) as deltas:
            for delta in deltas:
                text += delta.text
                usage, reason = delta.usage or usage, delta.finish_reason or reason
    except ChatError as error:
        return Standalone(plain, usage, f"the follow-up was not rewritten: {error.message}")
    rewritten = _LABEL.sub("", text.strip().partition("\n")[0]).strip("\"' ")
    kept = reason != "length" and is_rewriting(rewritten, question, history)
    return Standalone(rewritten if kept else plain, usage)


def is_rewriting(text: str, question: str, history: Sequence[Message]) -> bool:
    """Whether a text says a question's words again, with others from its conversation."""
    said, asked = set(terms(text)), set(terms(question))
    known = asked.union(*(terms(message.content) for message in history))
    return (
        0 < len(text) <= _MOST_CHARACTERS
        and codes(question) <= codes(text)
        and len(said - known) <= _MOST_NEW * len(said)
        and len(said & asked) >= _LEAST_KEPT * len(asked)
    )


def _messages(question: str, history: Sequence[Message]) -> tuple[Message, ...]:
    fence = secrets.token_hex(6)
    lines = [f"{m.role}: {_shortened(m)}" for m in history[-_MOST_MESSAGES:]]
    spoken = neutralise("\n".join(lines)).replace(fence, "")
    user = (
        f"<conversation-{fence}>\n{spoken}\n</conversation-{fence}>\n\n"
        f"Last message: {neutralise(question)}\n\nThe last message, rewritten:"
    )
    return Message("system", _instructions()), Message("user", user)


def _shortened(message: Message) -> str:
    text = " ".join(message.content.split())
    return text if message.role == "user" else text[:_ANSWER_CHARACTERS]


@cache
def _instructions() -> str:
    return (resources.files("rag") / "prompts" / "rewrite.txt").read_text(encoding="utf-8").strip()
