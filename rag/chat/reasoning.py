"""Reasoning told from answer in text that comes in pieces. Pure, standard library only."""

import re

_TAG = re.compile(r"<(/?)think(?:ing)?>")
_TAGS = ("<think>", "<thinking>", "</think>", "</thinking>")


class ReasoningShown(Exception):
    """A closing tag without its opening one: what was shown before it was reasoning."""


class ReasoningFilter:
    """Drops <think>...</think> from text that comes in pieces, tags cut in two included.

    Chat templates may open the tag in the prompt, so that a reply holds the closing one alone:
    then everything before it was reasoning. A tag in mid-answer that is never closed is a mention.
    """

    def __init__(self) -> None:
        self._pending = ""
        self._inside = False
        self._shown = False
        self._mention: list[str] | None = None

    def feed(self, text: str) -> str:
        """The part of the text so far that is safe to show. Raises ReasoningShown."""
        self._pending += text
        visible = ""
        while tag := _TAG.search(self._pending):
            before, self._pending = self._pending[: tag.start()], self._pending[tag.end() :]
            if self._inside:
                self._inside = not tag[1]
                self._hide(before + tag[0])
            elif not tag[1]:
                visible += before
                self._inside = True
                self._mention = [tag[0]] if self._shown or visible.strip() else None
            elif self._shown:
                raise ReasoningShown
            else:
                visible = ""
        return self._release(visible)

    def finish(self) -> str:
        """What was held back and turned out to be text."""
        rest = "" if self._inside else self._pending
        if self._inside and self._mention is not None:
            rest = "".join(self._mention) + self._pending
        self._pending, self._inside = "", False
        return rest

    def _release(self, visible: str) -> str:
        held = next(
            (n for n in range(len("</thinking>") - 1, 0, -1) if _tag_begins(self._pending[-n:])), 0
        )
        settled = self._pending[: len(self._pending) - held]
        self._pending = self._pending[len(settled) :]
        if self._inside:
            self._hide(settled)
        else:
            visible += settled
        self._shown = self._shown or bool(visible.strip())
        return visible

    def _hide(self, text: str) -> None:
        if self._mention is not None:
            self._mention.append(text)


def _tag_begins(tail: str) -> bool:
    return bool(tail) and any(tag.startswith(tail) for tag in _TAGS)
