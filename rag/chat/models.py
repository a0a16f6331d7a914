"""What is known of chat models: how much they read at once, and what they charge.

The list is models.toml. It holds for the makers' own APIs: what another server calls by one of
these names has a window and a price of its own. Many servers tell the window; a price only the
settings can say.
"""

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from rag.chat.foreign import mapping, mappings
from rag.settings.config import ChatSection
from rag.types import ModelFacts

# The window in an entry of `GET /models`: llama.cpp (of a slot), vLLM and SGLang, OpenRouter and
# Together, Groq, Mistral, and what a llama.cpp model was trained with.
_WINDOW_NAMES = (
    "n_ctx",
    "max_model_len",
    "context_length",
    "context_window",
    "max_context_length",
    "n_ctx_train",
)

FILE_WINDOW = 1280
"""Tokens for a model in a file: on this machine every token of a prompt is waited for, and about
600 of passages hold nearly every answer that all of them do."""

# A name with a date is the same model: gpt-4o-mini-2024-07-18, claude-opus-4-1-20250805.
_DATED = re.compile(r"-(?:\d{4}-\d\d-\d\d|\d{8}|\d{4}|latest)$")


def model_facts(chat: ChatSection) -> ModelFacts:
    """What the settings say of the configured model, and what is listed for the rest."""
    listed = _listed()
    models = listed.get(urlsplit(chat.url).hostname or "", {})
    known = models.get(chat.model) or models.get(_DATED.sub("", chat.model)) or {}
    own_price = chat.price_in or chat.price_out
    return ModelFacts(
        window=chat.window or known.get("window", 0) or (FILE_WINDOW if chat.is_file else 0),
        price_in=chat.price_in or known.get("price_in", 0.0),
        price_out=chat.price_out or known.get("price_out", 0.0),
        as_of=listed["as_of"] if known and not own_price else "",
        name=chat.model,
    )


def tells_window(chat: ChatSection) -> bool:
    """Whether the server may be asked for a window: the makers' own APIs do not tell it."""
    return (urlsplit(chat.url).hostname or "") not in _listed()


def listed_window(listing: object, model: str) -> int:
    """The model's window by a server's list of models, 0 where it does not say.

    A list of one model means that one, by whatever name it is asked for.
    """
    rows = mappings(mapping(listing).get("data", listing))
    row = next((row for row in rows if row.get("id") == model), rows[0] if len(rows) == 1 else {})
    told = {**row, **mapping(row.get("meta"))}
    windows = (told.get(name) for name in _WINDOW_NAMES)
    return next((window for window in windows if type(window) is int and window > 0), 0)


@cache
def _listed() -> Mapping[str, Any]:
    text = (resources.files("rag.chat") / "models.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
