"""Several models as one: a small one for easy questions, and others for when one cannot answer."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from itertools import zip_longest

from rag.chat.client import DEFAULT_OPTIONS, ChatModel, ChatOptions, Deltas, OpenAIChat
from rag.chat.local import LocalChat
from rag.chat.models import listed_window, model_facts, tells_window
from rag.chat.patience import REAL_TIMING, Timing
from rag.errors import ChatAuthError, ChatIncomplete, ChatRateLimited, ChatUnavailable
from rag.settings.config import ChatSection
from rag.types import ChatDelta, Message, ModelFacts

# What another model can mend. A prompt that is too long, or that a filter refuses, stays so.
_MENDABLE = (ChatUnavailable, ChatIncomplete, ChatRateLimited, ChatAuthError)
_LISTING_S = 2.0


class Link:
    """One model of a chain: its client, the model that is asked through it, and what is known."""

    def __init__(
        self, section: ChatSection, client: OpenAIChat | LocalChat, chat: ChatModel
    ) -> None:
        self.client = client
        self.chat = chat
        self._facts = model_facts(section)
        self._asks = not self._facts.window and tells_window(section)

    def facts(self, seconds: float = 0.0) -> ModelFacts:
        """What the settings say, the list, or else the server: asked once, within so long."""
        if isinstance(self.client, OpenAIChat) and self._asks and seconds > 0:
            self._asks = False
            window = listed_window(self.client.listing(min(seconds, _LISTING_S)), self.client.name)
            self._facts = replace(self._facts, window=window)
        return self._facts


class ModelChain:
    """A ChatModel that asks its links in turn, while nothing of an answer was shown.

    `small`, if there is one, is asked first where the options say that the question is easy. `name`
    is the model that is asked else, `client` its own, None for a file of this machine.
    """

    def __init__(
        self, links: Sequence[Link], small: Link | None = None, timing: Timing = REAL_TIMING
    ) -> None:
        first = links[0].client
        self.name = first.name
        self.client = first if isinstance(first, OpenAIChat) else None
        self._links = tuple(links)
        self._small = small
        self._timing = timing

    def facts(self, seconds: float, easy: bool) -> ModelFacts:
        """What is known of the model that will be asked; finding out takes no longer than given."""
        return self._order(easy)[0].facts(seconds)

    def close(self) -> None:
        """Close all connections."""
        for link in self._order(True):
            link.client.close()

    def stream(self, messages: Sequence[Message], options: ChatOptions = DEFAULT_OPTIONS) -> Deltas:
        """See ChatModel. Where another model stands behind one, it has half the time to begin."""
        return self._deltas(messages, options, self._timing.monotonic() + options.deadline_s)

    def _order(self, easy: bool) -> tuple[Link, ...]:
        return (self._small, *self._links) if easy and self._small else self._links

    def _deltas(self, messages: Sequence[Message], options: ChatOptions, deadline: float) -> Deltas:
        links = self._order(options.easy)
        for link, following in zip_longest(links, links[1:]):
            left = deadline - self._timing.monotonic()
            begin = min(options.begin_s, left / 2) if following else options.begin_s
            shown = False
            try:
                asked = replace(options, deadline_s=left, begin_s=begin)
                with closing(link.chat.stream(messages, asked)) as deltas:
                    for delta in deltas:
                        shown = shown or bool(delta.text)
                        yield replace(delta, facts=link.facts()) if delta.finish_reason else delta
            except _MENDABLE as error:
                if shown or not following or options.cancellation.wished:
                    raise
                told = f"{following.client.name} was asked, for {link.client.name} failed"
                notice = ChatDelta(notice=f"{told}: {error.message}")
            else:
                return
            yield notice
