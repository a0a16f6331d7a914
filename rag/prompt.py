"""Question and passages to chat messages, within a token budget.

The system message never changes, whatever the documents say. Passages go into the user message
only, each inside a delimiter that is random per request and cannot be forged by their text.
"""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from ingest.errors import UsageError
from ingest.tokens import count_tokens
from ingest.types import heading_path
from rag.types import Message, Passage

NOT_IN_DOCUMENTS = "NOT IN THE DOCUMENTS"

_MESSAGE_TOKENS = 4  # role and separators of one chat message
_REPLY_TOKENS = 3  # what opens the reply

# Invisible characters that can hide or reorder instructions: zero-width, bidirectional controls,
# tags, and the controls other than newline and tab.
_INVISIBLE = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064"
    "\u2066-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
# Tokens with which chat templates open and close roles: <|im_start|>, [INST], <<SYS>>, </s> …
_ROLE_TOKEN = re.compile(r"<\|[^|>\n]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?s>", re.IGNORECASE)
_INSTRUCTION = re.compile(
    r"\b(ignore|disregard|forget|override)\b[^.\n]{0,40}"
    r"\b(previous|above|prior|earlier|all|any|system)\b[^.\n]{0,40}"
    r"\b(instructions?|prompts?|rules|messages?)\b|\byou are now\b|\bsystem prompt\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """The two texts of a prompt; `user` holds the placeholders {passages} and {question}."""

    system: str
    user: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """Messages ready to send: `shown` are their passages, numbered 1…n; `dropped` did not fit."""

    messages: tuple[Message, ...]
    shown: tuple[Passage, ...]
    dropped: tuple[Passage, ...]
    tokens: int


@cache
def load_template(folder: str = "") -> PromptTemplate:
    """The prompt files of a folder, or our own; a file that is absent falls back to ours."""
    own = resources.files("rag") / "prompts"
    texts = {}
    for name in ("system.txt", "user.txt"):
        custom = Path(folder) / name
        source = custom if folder and custom.is_file() else own / name
        texts[name] = source.read_text(encoding="utf-8").strip()
    if folder and not Path(folder).is_dir():
        raise UsageError(f"no such prompt folder: {folder}", "check the setting prompt.template")
    for placeholder in ("{passages}", "{question}"):
        if placeholder not in texts["user.txt"]:
            raise UsageError(
                f"user.txt in {folder} lacks the placeholder {placeholder}",
                "add it, or remove the setting prompt.template",
            )
    return PromptTemplate(texts["system.txt"], texts["user.txt"])


def build_prompt(
    question: str,
    passages: Sequence[Passage],
    template: PromptTemplate,
    *,
    budget: int,
    reserve: int,
    history: Sequence[Message] = (),
) -> Prompt:
    """Pack the best passages that fit; prompt, history and answer stay within `budget` tokens.

    `reserve` is kept for the answer. Raises UsageError when not even the question fits.
    """
    fence = secrets.token_hex(4)
    fixed = _messages(question, [], template, fence, history)
    room = budget - reserve - _count(fixed)
    if room < 0:
        raise UsageError(
            f"the question needs {_count(fixed) + reserve} tokens, the budget is {budget}",
            "ask a shorter question or raise --budget",
        )
    shown: list[Passage] = []
    dropped: list[Passage] = []
    for passage in passages:
        # The separator costs a token or two more than the parts counted alone.
        cost = count_tokens(_block(passage, fence)) + 2
        (shown if cost <= room else dropped).append(passage)
        room -= cost if cost <= room else 0
    messages = _messages(question, shown, template, fence, history)
    return Prompt(messages, tuple(shown), tuple(dropped), _count(messages))


def neutralise(text: str) -> str:
    """Documents' words as plain data: invisible characters go, role tokens lose their form."""
    return _ROLE_TOKEN.sub(_defuse, _INVISIBLE.sub("", text))


def looks_like_instruction(text: str) -> bool:
    """Whether a passage speaks to a model rather than to a reader; it is flagged, not hidden."""
    return _INSTRUCTION.search(text) is not None


def _defuse(match: re.Match[str]) -> str:
    return re.sub(r"[<>\[\]|]", " ", match.group())


def _messages(
    question: str,
    passages: Sequence[Passage],
    template: PromptTemplate,
    fence: str,
    history: Sequence[Message],
) -> tuple[Message, ...]:
    blocks = "\n\n".join(_block(passage, fence) for passage in passages)
    values = {"passages": blocks, "question": neutralise(question)}
    # One pass over the template: a passage that contains "{question}" stays as it is.
    user = re.sub(r"\{(passages|question)\}", lambda m: values[m.group(1)], template.user)
    return (Message("system", template.system), *history, Message("user", user))


def _block(passage: Passage, fence: str) -> str:
    chunk = passage.chunk
    path = heading_path(chunk.title, chunk.section)
    page = f", page {chunk.page}" if chunk.page else ""
    head = " ".join(neutralise(f"{chunk.source}{page}: {path}").split())
    # The fence is random; should a text contain it all the same, it is broken up.
    above = f"{chunk.header}\n" if chunk.header else ""
    text = neutralise(above + chunk.text).replace(fence, f"{fence[:4]} {fence[4:]}")
    return f"<passage-{fence}>\n{head.replace(fence, '')}\n{text}\n</passage-{fence}>"


def _count(messages: Sequence[Message]) -> int:
    return _REPLY_TOKENS + sum(_MESSAGE_TOKENS + count_tokens(m.content) for m in messages)
