"""A summary by the chat model in the place of the earliest turns, where they no longer fit.

It stands where they stood, as one more turn, and is as little evidence as they were. Half of what
fits is kept as it was said, so that it takes several turns until the next summary, which takes the
last one in.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from rag.chat.client import ChatModel, ChatOptions
from rag.conversation.request import reply_to
from rag.errors import ChatError, ChatRejected
from rag.prompt import Prompt, count_messages, latest, neutralise
from rag.types import Message, Summary, Usage

# No word of it is a topic that a follow-up could be completed with.
ASKED = "What was all this about?"
_OPTIONS = ChatOptions(temperature=0.0, max_tokens=160, deadline_s=30.0, stream=False)
_MOST_CHARACTERS = 800


@dataclass(frozen=True, slots=True)
class Summarised:
    """A summary, None where there is none: what it cost in tokens and time, and what went wrong."""

    summary: Summary | None = None
    usage: Usage | None = None
    warning: str = ""
    milliseconds: float = 0.0


NOT_SUMMARISED = Summarised()


def recalled(summary: Summary, history: Sequence[Message]) -> tuple[Message, ...]:
    """The history with a summary in the place of the messages that it stands for."""
    told = (Message("user", ASKED), Message("assistant", summary.text))
    return (*told, *history[summary.messages :])


def summarise(
    history: Sequence[Message], prompt: Prompt, chat: ChatModel, deadline_s: float
) -> Summarised:
    """A summary of what of a history did not fit a prompt, and of the older half of what did.

    The last turn is never part of it. Of a history longer than the prompt, the oldest is lost.
    """
    begun = perf_counter()
    fitting = history[prompt.forgotten :]
    kept = latest(fitting, count_messages(fitting) // 2)
    last = max(i for i, message in enumerate(history) if message.role == "user")
    told = history[: min(len(history) - len(kept), last)]
    read = latest(told, prompt.limits.budget - prompt.limits.reserve)
    options = replace(_OPTIONS, deadline_s=min(deadline_s, _OPTIONS.deadline_s))
    try:
        reply = reply_to("summary", read, "Summary:", chat, options)
        if not reply.text:
            raise ChatRejected("the model wrote nothing")
    except ChatError as error:
        return Summarised(warning=f"the earlier turns were not summarised: {error.message}")
    text = neutralise(" ".join(reply.text.split()))[:_MOST_CHARACTERS]
    spent = (perf_counter() - begun) * 1000
    return Summarised(Summary(text, len(told)), reply.usage, milliseconds=spent)
