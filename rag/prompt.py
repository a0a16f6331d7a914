"""Question and passages to chat messages, within a token budget.

Counted are the instructions, the question, the earlier turns, the passages and what is kept for
the answer. Tokens are those of a vocabulary at hand (ingest/tokens.py), which is rarely the
model's own: a few per cent off for English, more for other scripts.

The system message never changes, whatever the documents say. Passages go into the user message
only, each inside a delimiter that is random per request and cannot be forged by their text.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path

from ingest.errors import UsageError
from ingest.tokens import count_tokens
from ingest.types import heading_path
from rag.grounding.verify import Idf
from rag.pack import pack
from rag.retrieval.retrieve import renumber
from rag.types import Message, Passage

NOT_IN_DOCUMENTS = "NOT IN THE DOCUMENTS"

_MESSAGE_TOKENS = 4  # role and separators of one chat message
_REPLY_TOKENS = 3  # what opens the reply
_SEPARATOR_TOKENS = 2  # between passages: a token or two more than the parts counted alone
# Digits, for vocabularies cut them by threes: every fence costs the same, so that what fits does
# not depend on chance.
_FENCE_DIGITS = 12

# Invisible characters that can hide or reorder instructions: zero-width, bidirectional controls,
# tags, and the controls other than newline and tab.
_INVISIBLE = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e0fff]"
)
# Tokens with which chat templates open and close roles: <|im_start|>, [INST], <<SYS>>, </s>,
# <start_of_turn> …; and what looks like a delimiter of ours, or like reasoning.
_ROLE_TOKEN = re.compile(
    r"<[|\uff5c][^|>\n]{1,40}[|\uff5c]>|\[/?(?:INST|[A-Z]+_PROMPT|[A-Z]+_TOOLS|TOOL_[A-Z]+)\]"
    r"|<</?SYS>>|</?s>|</?(?:bos|eos|(?:start|end)_of_turn|passage[^<>\n]{0,40}|think(?:ing)?)>",
    re.IGNORECASE,
)
_INSTRUCTION = re.compile(
    r"\b(ignore|disregard|forget|override|bypass|do not follow)\b[^.\n]{0,40}"
    r"\b(previous|above|prior|earlier|all|any|system|your|these)\b[^.\n]{0,40}"
    r"\b(instructions?|prompts?|rules|messages?|guidelines)\b"
    r"|\b(ignor|vergi|oubli|olvid)\w*\b[^.\n]{0,40}"
    r"\b(anweisungen|instruktionen|consignes|instructions|instrucciones|istruzioni)\b"
    r"|\byou are now (an?|the|no longer|(?-i:[A-Z])\w*)\b|\bsystem prompt\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """The texts of a prompt; `user` holds the placeholders {passages} and {question}.

    `examples` are user and assistant messages between the two. `version` is "sha256:" and 12 hex
    digits, and tells one set of texts from another.
    """

    system: str
    user: str
    examples: tuple[Message, ...] = ()

    @property
    def version(self) -> str:
        """Equal for equal texts."""
        texts = (self.system, self.user, *(message.content for message in self.examples))
        return f"sha256:{hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True)
class Limits:
    """Tokens: `budget` for all that is sent and answered, `reserve` of it for the answer."""

    budget: int
    reserve: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """Messages ready to send, and what was left out of them.

    `shown` are its passages as they stand in it, numbered 1…n, and `costs` the tokens of each;
    `dropped` did not fit. Of the history the `forgotten` oldest messages did not fit. `tokens` is
    what all messages take, at most. `fence` is what is random in the messages.
    """

    messages: tuple[Message, ...]
    shown: tuple[Passage, ...]
    costs: tuple[int, ...]
    dropped: tuple[Passage, ...]
    forgotten: int
    tokens: int
    limits: Limits
    version: str
    fence: str

    @property
    def halved(self) -> Limits:
        """Limits that half of its passages' tokens fit."""
        spared = sum(self.costs) // 2
        return replace(self.limits, budget=self.tokens + self.limits.reserve - spared)


@cache
def load_template(
    folder: str = "", model: str = "", *, is_cautious: bool = False
) -> PromptTemplate:
    """The prompt files of a folder, or our own. Raises UsageError.

    Each is taken from the folder's sub-folder of the model's name, else from the folder, else from
    ours; for a cautious answer `user.cautious.txt` goes before the `user.txt` beside it.
    """
    own = resources.files("rag") / "prompts"
    if folder and not Path(folder).is_dir():
        raise UsageError(f"no such prompt folder: {folder}", "check the setting prompt.template")
    folders = (Path(folder) / model, Path(folder), own) if folder else (own,)

    def read(*names: str) -> str:
        files = (place / name for place in folders for name in names)
        return next((f.read_text(encoding="utf-8").strip() for f in files if f.is_file()), "")

    user = read("user.cautious.txt", "user.txt") if is_cautious else read("user.txt")
    for placeholder in ("{passages}", "{question}"):
        if placeholder not in user:
            raise UsageError(
                f"user.txt in {folder} lacks the placeholder {placeholder}",
                "add it, or remove the setting prompt.template",
            )
    return PromptTemplate(read("system.txt"), user, _examples(read("examples.jsonl")))


def _examples(lines: str) -> tuple[Message, ...]:
    """The pairs of examples.jsonl: an object with `user` and `assistant` a line."""
    messages: list[Message] = []
    for number, line in enumerate(lines.splitlines(), 1):
        try:
            pair = json.loads(line)
            if not all(isinstance(pair[role], str) for role in ("user", "assistant")):
                raise TypeError
            messages += [Message("user", pair["user"]), Message("assistant", pair["assistant"])]
        except (ValueError, LookupError, TypeError) as error:
            raise UsageError(
                f"examples.jsonl:{number} of prompt.template is no example",
                'write a line as {"user": "…", "assistant": "…"}',
            ) from error
    return tuple(messages)


def build_prompt(
    question: str,
    passages: Sequence[Passage],
    template: PromptTemplate,
    limits: Limits,
    idf: Idf,
    history: Sequence[Message] = (),
) -> Prompt:
    """Pack the passages, given best first; prompt and answer stay within the limits together.

    The best passages stand first and last, where models read best (Liu et al. 2023, "Lost in the
    Middle"). Earlier turns get what the passages leave, and half of the room at least; the oldest
    are left out first. Raises UsageError when not even a sentence of a passage fits.
    """
    fence = f"{secrets.randbelow(10**_FENCE_DIGITS):0{_FENCE_DIGITS}}"
    bare = _messages(question, (), template, fence, ())
    taken = _REPLY_TOKENS + count_messages(bare) + limits.reserve
    room = limits.budget - taken
    turns = latest(history, max(room // 2, room - sum(map(passage_tokens, passages))))
    taken += count_messages(turns)
    packed = pack(question, passages, idf, limits.budget - taken, passage_tokens)
    if taken > limits.budget or (passages and not packed):
        raise UsageError(
            f"a budget of {limits.budget} tokens has no room for a passage: instructions, question "
            f"and answer take {taken}, of which {limits.reserve} for the answer",
            "raise --budget, lower chat.max_tokens, or name a model with a larger window",
        )
    shown = renumber((*packed[::2], *packed[1::2][::-1]))
    costs = tuple(map(passage_tokens, shown))
    kept = {passage.chunk.id for passage in shown}
    return Prompt(
        messages=_messages(question, shown, template, fence, turns),
        shown=shown,
        costs=costs,
        dropped=tuple(passage for passage in passages if passage.chunk.id not in kept),
        forgotten=len(history) - len(turns),
        tokens=taken - limits.reserve + sum(costs),
        limits=limits,
        version=template.version,
        fence=fence,
    )


def passage_tokens(passage: Passage) -> int:
    """What a passage costs in a prompt, its heading path and its delimiters included."""
    return count_tokens(_block(passage, "0" * _FENCE_DIGITS)) + _SEPARATOR_TOKENS


def count_messages(messages: Sequence[Message]) -> int:
    """The tokens of messages, their roles and separators included."""
    return sum(_MESSAGE_TOKENS + count_tokens(m.content) for m in messages)


def latest(history: Sequence[Message], room: int) -> tuple[Message, ...]:
    """The latest messages that fit; they never begin with an answer to what was left out."""
    turns = list(history)
    while turns and (count_messages(turns) > room or turns[0].role == "assistant"):
        del turns[0]
    return tuple(turns)


def neutralise(text: str) -> str:
    """Documents' words as plain data: invisible characters go, role tokens lose their form."""
    return _ROLE_TOKEN.sub(_defuse, _INVISIBLE.sub("", text))


def looks_like_instruction(text: str) -> bool:
    """Whether a passage speaks to a model rather than to a reader; it is flagged, not hidden."""
    return _INSTRUCTION.search(text) is not None


def speaks_to_model(passage: Passage) -> bool:
    """Whether a passage, or what stands above it, looks like instructions."""
    chunk = passage.chunk
    return looks_like_instruction(neutralise(f"{chunk.source}\n{chunk.context}\n{chunk.text}"))


def _defuse(match: re.Match[str]) -> str:
    return re.sub("[<>\\[\\]|\uff5c]", " ", match.group())


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
    system = Message("system", template.system)
    return (system, *template.examples, *history, Message("user", user))


def _block(passage: Passage, fence: str) -> str:
    chunk = passage.chunk
    path = heading_path(chunk.title, chunk.section)
    page = f", page {chunk.page}" if chunk.page else ""
    dated = f", {chunk.date}" if chunk.date else ""
    head = " ".join(neutralise(f"{chunk.source}{page}{dated}: {path}").split())
    # The fence is random; should a text contain it all the same, it is broken up.
    above = f"{chunk.header}\n" if chunk.header else ""
    text = neutralise(above + chunk.text).replace(fence, f"{fence[:4]} {fence[4:]}")
    return f"<passage-{fence}>\n{head.replace(fence, '')}\n{text}\n</passage-{fence}>"
