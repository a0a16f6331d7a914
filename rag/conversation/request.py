"""One short request to the chat model about a conversation, which is data to it."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import resources

from rag.chat.client import ChatModel, ChatOptions
from rag.prompt import neutralise
from rag.types import Message, Usage


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model wrote, what that took, and whether a limit cut it off."""

    text: str
    usage: Usage | None
    is_cut: bool


def reply_to(
    prompt: str, conversation: Sequence[Message], wish: str, chat: ChatModel, options: ChatOptions
) -> Reply:
    """The reply to a conversation and a wish below it; `prompt` names our file of instructions.

    Raises ChatError.
    """
    lines = [f"{message.role}: {' '.join(message.content.split())}" for message in conversation]
    spoken = neutralise("\n".join(lines))
    fence = sha256(spoken.encode()).hexdigest()[:12]  # no text can hold its own hash
    user = f"<conversation-{fence}>\n{spoken}\n</conversation-{fence}>\n\n{wish}"
    messages = (Message("system", _instructions(prompt)), Message("user", user))
    text, usage, reason = "", None, None
    with closing(chat.stream(messages, options)) as deltas:
        for delta in deltas:
            text += delta.text
            usage, reason = delta.usage or usage, delta.finish_reason or reason
    return Reply(text.strip(), usage, reason == "length")


@cache
def _instructions(prompt: str) -> str:
    path = resources.files("rag") / "prompts" / f"{prompt}.txt"
    return path.read_text(encoding="utf-8").strip()
