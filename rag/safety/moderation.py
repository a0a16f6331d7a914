"""Questions checked before they are asked, and answers before anything of them is shown: by a list
of rules, or by the moderation endpoint that OpenAI's API and its likes have.
"""

import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from ingest.errors import RagError, UsageError
from rag.chat.client import OpenAIChat
from rag.chat.failures import Failed, Peer
from rag.chat.foreign import mapping, mappings
from rag.chat.wire import read_object
from rag.context import Question
from rag.errors import ChatError, ChatRejected
from rag.safety.redact import FindWithin, Placeholders
from rag.settings.config import SafetySection
from rag.types import Answer, Event, Finished

# Why a text is not to be asked or shown; "" for no reason. Raises ChatError where it cannot tell.
Check = Callable[[str], str]
Ask = Callable[[Question], Iterator[Event]]
_SECONDS = 20.0
_HINT = "safety.moderation is set: see `rag config show`"


class QuestionRefused(UsageError):
    """Moderation does not let the question be asked."""


class AnswerWithheld(ChatError):
    """Moderation does not let the answer be shown."""


def moderated(question: Question, ask: Ask, check: Check, *, is_open: bool) -> Iterator[Event]:
    """Ask only what passes the check, and show only an answer that passes it, when it is whole.

    A check that fails stops both, or with `is_open` neither: then the answer's warnings say so.
    Raises QuestionRefused, or the error of a check that failed.
    """
    reason, failure = _verdict(check, question.text, is_open=is_open)
    if reason:
        raise QuestionRefused(f"the question was refused by moderation: {reason}", _HINT)
    events = list(ask(question))
    *_, last = events
    assert isinstance(last, Finished)
    try:
        reason, unchecked = _verdict(check, last.answer.answer, is_open=is_open)
        withheld = f"the answer was withheld by moderation: {reason}" if reason else ""
    except ChatError as failed:
        withheld, unchecked = f"the answer was withheld: {failed.message}", ""
    if withheld:
        yield _withheld(last.answer, AnswerWithheld(withheld, _HINT))
        return
    yield from events[:-1]
    warnings = (*last.answer.warnings, *dict.fromkeys(filter(None, (failure, unchecked))))
    yield replace(last, answer=replace(last.answer, warnings=warnings))


def _verdict(check: Check, text: str, *, is_open: bool) -> tuple[str, str]:
    """The reason against a text, and a warning where there is none only because of a failure."""
    try:
        return check(text) if text.strip() else "", ""
    except ChatError as error:
        message = f"moderation failed: {error.message}"
        if is_open:
            return "", f"not moderated: {message}"
        hint = f'{error.hint}; safety.on_failure = "open" goes on without'
        raise type(error)(message, hint) from error


def _withheld(answer: Answer, error: RagError) -> Finished:
    """The answer without a word of it: nor are passages shown that it may have been made of."""
    bare = replace(
        answer,
        answer="",
        status="failed",
        sentences=(),
        citations=(),
        passages=(),
        grounding=None,
        warnings=(error.message,),
    )
    return Finished(bare, error)


def open_check(
    safety: SafetySection, chat: OpenAIChat | None, hidden: FindWithin | None
) -> Check | None:
    """The check that the settings name. Raises UsageError for one that cannot be made.

    What `hidden` finds does not leave for the moderation endpoint either.
    """
    if safety.moderation == "off":
        return None
    if safety.moderation == "rules":
        return rules_check(Path(safety.rules).expanduser())
    if chat is None:
        raise UsageError(
            "safety.moderation asks the chat API, and none is configured",
            'set OPENAI_API_KEY or OPENAI_BASE_URL, or safety.moderation = "rules"',
        )
    return partial(_asked, chat, safety.model, hidden)


def rules_check(path: Path) -> Check:
    """The rules of a file: in TOML a table of patterns and messages for each (`[[rule]]`), else a
    pattern a line. Raises UsageError.
    """
    rules = [(_compiled(pattern, path), message) for pattern, message in _read_rules(path)]

    def check(text: str) -> str:
        return next((message for pattern, message in rules if pattern.search(text)), "")

    return check


def _read_rules(path: Path) -> list[tuple[str, str]]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            return [
                (str(rule["pattern"]), str(rule.get("message", "a rule")))
                for rule in tomllib.loads(text)["rule"]
            ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(
            f"safety.rules: {str(path)!r} cannot be read: {type(error).__name__}",
            "name a file with a pattern a line, or TOML with [[rule]], pattern and message",
        ) from error
    lines = (line.strip() for line in text.splitlines())
    return [(line, "a rule") for line in lines if line and not line.startswith("#")]


def _compiled(pattern: str, path: Path) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        message = f"safety.rules: {pattern!r} in {path} is no pattern: {error}"
        raise UsageError(message, "mend it; patterns are Python regular expressions") from error


def _categories(raw: bytes, peer: Peer) -> list[str]:
    """The categories that a reply of `/moderations` flags. Raises Failed."""
    results = mappings(read_object(raw, peer).get("results"))
    if not results or not all(isinstance(each.get("flagged"), bool) for each in results):
        raise Failed(ChatRejected(f"{peer.host} gave no verdict", "check safety.model"))
    flagged = [mapping(each.get("categories")) for each in results if each["flagged"]]
    named = [[name for name, is_so in each.items() if is_so is True] for each in flagged]
    return [name for names in named for name in names or ["flagged"]]


def _asked(chat: OpenAIChat, model: str, hidden: FindWithin | None, text: str) -> str:
    """The endpoint's categories for a text."""
    sent = Placeholders(hidden(text), text).hide(text) if hidden else text
    body = {"model": model, "input": sent}
    return ", ".join(chat.post("/moderations", body, _categories, _SECONDS))
