"""Sentences of a text that is still being written."""

import re

from ingest.sentences import sentence_spans

_THINK = "<think>"
_THINK_END = "</think>"
_LONGEST_PENDING = 2000
_STOPS_WITHOUT_SPACE = "\u3002\uff01\uff1f\u0964\u0965"
# What follows a stop may still be a marker that belongs before it.
_UNDECIDED = re.compile(r"[\[\u3010][^\]\u3011]*[\]\u3011]?[\s\[\u3010]*")


class SentenceStream:
    """Cuts a growing text into sentences; the same ones however the text was cut in pieces.

    Each piece that is returned begins with the white space before its sentence, and all of them
    joined are the text, without what stands in `<think>` tags. A sentence is returned as soon
    as the first word of the next one is complete.
    """

    def __init__(self) -> None:
        self._unread = ""  # may be the beginning of a tag
        self._thinking = False
        self._pending = ""  # read, and not yet returned

    def feed(self, delta: str) -> list[str]:
        """Take in more text; returns the sentences that are now complete."""
        self._unread += delta
        return self._split(self._visible())

    def finish(self) -> list[str]:
        """The text has ended: returns what is left."""
        rest = "" if self._thinking else self._unread
        pieces = self._split(rest)
        spans = sentence_spans(self._pending)
        starts = [0, *(end for _, end in spans[:-1])]
        ends = [*starts[1:], len(self._pending)]
        last = [self._pending[start:end] for start, end in zip(starts, ends)] if spans else []
        self._pending = self._unread = ""
        return pieces + last

    def _visible(self) -> str:
        """Take from the unread text what is surely outside `<think>` tags."""
        visible = ""
        while True:
            tag = _THINK_END if self._thinking else _THINK
            before, found, after = self._unread.partition(tag)
            if not found:
                break
            visible += "" if self._thinking else before
            self._thinking = not self._thinking
            self._unread = after
        keep = _tag_beginning(self._unread, tag)
        if not self._thinking:
            visible += self._unread[: len(self._unread) - keep]
        self._unread = self._unread[len(self._unread) - keep :]
        return visible

    def _split(self, text: str) -> list[str]:
        """Complete sentences, judged after each word, so that the cut into deltas is no matter."""
        pieces: list[str] = []
        for character in text:
            self._pending += character
            if character.isspace() or character in _STOPS_WITHOUT_SPACE:
                pieces.extend(self._complete())
        return pieces

    def _complete(self) -> list[str]:
        """Take from the pending text the sentences that another one follows."""
        spans = sentence_spans(self._pending)
        pieces = []
        if len(spans) > 1 and not _UNDECIDED.fullmatch(self._pending, spans[-1][0]):
            start = 0
            for _, end in spans[:-1]:
                pieces.append(self._pending[start:end])
                start = end
            self._pending = self._pending[start:]
        elif len(self._pending) > _LONGEST_PENDING:
            pieces.append(self._pending)
            self._pending = ""
        return pieces


def _tag_beginning(text: str, tag: str) -> int:
    """How many characters at the end of a text could be the beginning of a tag."""
    sizes = range(min(len(text), len(tag) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(tag[:size])), 0)
