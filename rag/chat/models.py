"""What is known of chat models: how much they read at once, and what they charge.

The list is models.toml. It holds for the makers' own APIs: what another server calls by one of
these names has a window and a price of its own, which only the settings can say.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from rag.config import OPENAI_URL, ChatSection

FILE_WINDOW = 1280
"""Tokens for a model in a file: on this machine every token of a prompt is waited for, and about
600 of passages hold nearly every answer that all of them do."""

# A name with a date is the same model: gpt-4o-mini-2024-07-18, claude-opus-4-1-20250805.
_DATED = re.compile(r"-(?:\d{4}-\d\d-\d\d|\d{8}|\d{4}|latest)$")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A window in tokens, and prices in US dollars per million tokens; 0 is unknown.

    `as_of` is the month of listed prices; "" for prices from the settings.
    """

    window: int = 0
    price_in: float = 0.0
    price_out: float = 0.0
    as_of: str = ""

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """US dollars, None where a price is unknown."""
        if not (self.price_in and self.price_out):
            return None
        millionths = prompt_tokens * self.price_in + completion_tokens * self.price_out
        return round(millionths / 1e6, 8)


def model_facts(chat: ChatSection) -> ModelFacts:
    """What the settings say of the configured model, and what is listed for the rest."""
    listed = _listed()
    models = listed.get(urlsplit(chat.base_url or OPENAI_URL).hostname or "", {})
    known = models.get(chat.model) or models.get(_DATED.sub("", chat.model)) or {}
    own_price = chat.price_in or chat.price_out
    return ModelFacts(
        window=chat.window or known.get("window", 0) or (FILE_WINDOW if chat.is_file else 0),
        price_in=chat.price_in or known.get("price_in", 0.0),
        price_out=chat.price_out or known.get("price_out", 0.0),
        as_of=listed["as_of"] if known and not own_price else "",
    )


@cache
def _listed() -> Mapping[str, Any]:
    text = (resources.files("rag.chat") / "models.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
