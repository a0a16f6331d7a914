"""Words that must not leave are exchanged for placeholders before a request, and put back into the
reply as it streams: what checks and cites the answer reads the documents' own words.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import count

from rag.chat.client import DEFAULT_OPTIONS, ChatModel, ChatOptions, Deltas
from rag.errors import ChatIncomplete
from rag.safety.names import names_in
from rag.safety.personal import NAME, TERM, Find, finder
from rag.settings.config import Settings, refuse_project_model
from rag.types import ChatDelta, Message

# What finds what must not leave in the texts of a request, once it has read them all.
FindWithin = Callable[[str], Find]

_IN_ANY_CASE = (NAME, TERM)
# As models write a placeholder back: with or without its brackets, its underscore escaped.
_WRITTEN = re.compile(r"\[?\b([A-Z]{2,12})\\?_(\d{1,6})\b\]?")
_BEGUN = re.compile(r"\[?(?:\b[A-Z]{1,12}(?:\\|\\?_\d{0,6})?)?\Z")


class Placeholders:
    """What stands for what within one request: the same value for the same placeholder.

    `taken` is all text of the request: a placeholder that it holds already is not used.
    """

    def __init__(self, find: Find, taken: str = "") -> None:
        self._find = find
        self._taken = taken
        self._names: dict[tuple[str, str], str] = {}
        self._values: dict[str, str] = {}

    def hide(self, text: str) -> str:
        """The text with placeholders in place of values."""
        parts, end = [], 0
        for one in self._find(text):
            parts += [text[end : one.start], f"[{self._name(one.kind, text[one.start : one.end])}]"]
            end = one.end
        return "".join((*parts, text[end:]))

    def restore(self, text: str) -> str:
        """The text with values in place of placeholders; what only looks like one stays."""
        return _WRITTEN.sub(lambda m: self._values.get(f"{m[1]}_{m[2]}", m[0]), text)

    @property
    def summary(self) -> str:
        """What was hidden, for a person: "2 × email, 1 × API key"; "" for nothing."""
        counts = Counter(kind for kind, _ in self._names)
        return ", ".join(f"{times} × {kind}" for kind, times in counts.items())

    def _name(self, kind: str, value: str) -> str:
        """The placeholder of a value; a word that a person wrote in small letters is the same."""
        key = (kind, value.casefold() if kind in _IN_ANY_CASE else value)
        name = self._names.get(key)
        if name is None:
            label = kind.upper() if kind.isalpha() else "SECRET"
            free = (f"{label}_{number}" for number in count(1))
            name = next(n for n in free if n not in self._taken and n not in self._values)
            self._names[key], self._values[name] = name, value
        elif self._values[name].islower():
            self._values[name] = value
        return name


class RedactingChat:
    """A chat model that is shown no value that is found, save in the system message, which is the
    same for all requests.
    """

    def __init__(self, chat: ChatModel, find_within: FindWithin) -> None:
        self.name = chat.name
        self._chat = chat
        self._find_within = find_within

    def stream(self, messages: Sequence[Message], options: ChatOptions = DEFAULT_OPTIONS) -> Deltas:
        """See ChatModel; a placeholder split over deltas is held back until it is whole."""
        own = "\n\n".join(message.content for message in messages if message.role != "system")
        hidden = Placeholders(self._find_within(own), own)
        sent = [
            message
            if message.role == "system"
            else replace(message, content=hidden.hide(message.content))
            for message in messages
        ]
        return self._restored(self._chat.stream(sent, options), hidden)

    def _restored(self, deltas: Deltas, hidden: Placeholders) -> Deltas:
        with closing(deltas):
            try:
                for place, delta in enumerate(_whole_placeholders(deltas, hidden)):
                    if not place and hidden.summary:
                        yield ChatDelta(notice=f"kept from the model: {hidden.summary}")
                    yield delta
            except ChatIncomplete as error:
                error.partial = hidden.restore(error.partial)
                raise


def _whole_placeholders(deltas: Iterator[ChatDelta], hidden: Placeholders) -> Iterator[ChatDelta]:
    held = ""
    for delta in deltas:
        text = held + delta.text
        begun = None if delta.finish_reason else _BEGUN.search(text)
        at = begun.start() if begun else len(text)
        held = text[at:]
        yield replace(delta, text=hidden.restore(text[:at]))
    if held:
        yield ChatDelta(hidden.restore(held))


def kept_back(settings: Settings) -> FindWithin | None:
    """What finds what the settings keep from leaving; None where that is nothing.

    Raises UsageError for an unknown kind, and for a model of names that only a project's file
    names; what is returned raises it where the model or its library is missing.
    """
    privacy = settings.privacy
    if not (privacy.redact or privacy.terms or privacy.mask_secrets):
        return None
    find = partial(finder, privacy.redact, privacy.terms, secrets=privacy.mask_secrets)
    by_form = find()
    if NAME not in privacy.redact:
        return lambda _: by_form
    refuse_project_model(settings, "privacy.name_model")
    return lambda request: find(names=names_in(request, privacy.name_model))
