"""A follow-up made to stand by itself by the chat model, and what shows that it did something else.

The model is asked for one line. What is no rewriting of the question, such as an answer to it or
another question, is found by its words and dropped.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ingest.words import terms
from rag.chat.client import ChatModel, ChatOptions
from rag.conversation.request import reply_to
from rag.conversation.summary import ASKED
from rag.errors import ChatError
from rag.extractive.asked import codes
from rag.prompt import neutralise
from rag.types import Message, Usage

_OPTIONS = ChatOptions(temperature=0.0, max_tokens=96, deadline_s=20.0, stream=False)
_MOST_MESSAGES = 4
_ANSWER_CHARACTERS = 200
_MOST_CHARACTERS = 400
_MOST_ADDED = 7
_LEAST_KEPT = 1 / 2
_LABEL = re.compile(r"(?:complete|last)? ?(?:question)?: *", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Standalone:
    """A question as it is searched and judged: what it cost to make, and what went wrong.

    `by_model` says that the chat model wrote it.
    """

    text: str
    usage: Usage | None = None
    warning: str = ""
    by_model: bool = False


def rewrite(
    question: str, history: Sequence[Message], chat: ChatModel, plain: str, deadline_s: float
) -> Standalone:
    """The question as the model rewrites it; `plain` where it fails or does something else."""
    options = replace(_OPTIONS, deadline_s=min(deadline_s, _OPTIONS.deadline_s))
    wish = f"Last question: {neutralise(question)}\nComplete question:"
    try:
        reply = reply_to("rewrite", _read(history), wish, chat, options)
    except ChatError as error:
        return Standalone(plain, warning=f"the follow-up was not rewritten: {error.message}")
    line = reply.text.partition("\n")[0]
    label = _LABEL.match(line)
    rewritten = line[label.end() if label else 0 :].strip("\"' ")
    if reply.is_cut or not is_rewriting(rewritten, question, history):
        return Standalone(plain, reply.usage)
    return Standalone(rewritten, reply.usage, by_model=True)


def is_rewriting(text: str, question: str, history: Sequence[Message]) -> bool:
    """Whether a text asks what the question asks, with a few more words of its conversation.

    A mere repetition is none: small models repeat what they cannot complete.
    """
    said, asked = set(terms(text)), set(terms(question))
    known = asked.union(*(terms(message.content) for message in history))
    return (
        0 < len(text) <= _MOST_CHARACTERS
        and (text.endswith("?") or not question.rstrip().endswith("?"))
        and codes(question) <= codes(text)
        and 0 < len(said - asked) <= _MOST_ADDED
        and len(said - known) <= 1 + len(said) / 4
        and len(said & asked) >= _LEAST_KEPT * len(asked)
    )


def _read(history: Sequence[Message]) -> tuple[Message, ...]:
    """What the model is shown: the latest messages, and what sums up those before them."""
    told = history[:2] if history[0].content == ASKED else ()
    return (*told, *map(_shortened, history[max(len(told), len(history) - _MOST_MESSAGES) :]))


def _shortened(message: Message) -> Message:
    if message.role == "user":
        return message
    return replace(message, content=" ".join(message.content.split())[:_ANSWER_CHARACTERS])
