"""Models that give a sentence its score in place of counted words: an entailment model run here,
or the chat model as judge. What is cited is still found by words (rag/grounding/verify.py).
"""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from importlib import resources
from typing import Any

import numpy as np

from ingest.embed import load_cross_encoder
from ingest.errors import UsageError
from rag.chat.client import ChatModel, ChatOptions
from rag.errors import ChatError, ChatRejected
from rag.grounding.verify import Verifier
from rag.prompt import neutralise
from rag.settings.config import Settings, refuse_project_model
from rag.types import Message

COUNTED = "coverage"
CHAT = "chat"

_VERDICTS = {"SUPPORTED": 1.0, "PARTLY": 0.5, "UNSUPPORTED": 0.0}
_OPTIONS = ChatOptions(temperature=0.0, max_tokens=256, deadline_s=20.0, stream=False, within=True)
_REMEMBERED = 1024
_ENTAILED = ("entail", "support", "consistent", "faithful")


def open_judge(settings: Settings, chat: ChatModel | None) -> Verifier | None:
    """The verifier that the setting `ground.verifier` names; None where words are counted, or no
    chat model writes.

    No model is loaded before the first sentence. Raises UsageError for a model that only a
    project's file names: it is files that are loaded, or fetched from the hub.
    """
    name = settings.ground.verifier
    if name == COUNTED or chat is None:
        return None
    if name == CHAT:
        return ChatJudge(chat)
    refuse_project_model(settings, "ground.verifier")
    return CrossEncoderVerifier(name)


class CrossEncoderVerifier:
    """A sequence classifier over (text, claim), by its folder or hub name: entailment models with
    a label for each relation, and models with one score or two labels such as MiniCheck's (Tang
    et al. 2024).
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @cached_property
    def _model(self) -> Any:
        return load_cross_encoder(self._name, "ground.verifier")

    @cached_property
    def _label(self) -> int:
        """The place of the label that means yes; UsageError where the model does not name it."""
        labels = self._model.config.id2label
        for place, label in labels.items():
            if str(label).lower().startswith(_ENTAILED):
                return int(place)
        if len(labels) > 2:
            raise UsageError(
                f"the labels of {self._name!r} do not say which means entailment",
                "name it in id2label of the model's config.json, or use another model",
            )
        return len(labels) - 1

    def score(self, claim: str, evidence: Sequence[str]) -> float:
        """The highest probability of support by one of the texts, or by all together."""
        if not evidence:
            return 0.0
        together = ["\n\n".join(evidence)] if len(evidence) > 1 else []
        pairs = [(text, claim) for text in (*evidence, *together)]
        logits = self._model.predict(
            pairs, activation_fn=lambda scores: scores, show_progress_bar=False
        )
        return float(_probabilities(logits, self._label).max())


def _probabilities(logits: Any, label: int) -> Any:
    """Of one label, for each row of logits, shape (n, labels); or of one score each, shape (n,)."""
    if logits.ndim == 1:
        return 1.0 / (1.0 + np.exp(-logits))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers[:, label] / powers.sum(axis=1)


class ChatJudge:
    """The chat model, asked for one word about each sentence; verdicts are remembered by content.

    A failed call or another word is no verdict.
    """

    def __init__(self, chat: ChatModel) -> None:
        self._chat = chat
        self._system = (resources.files("rag") / "prompts" / "judge.txt").read_text("utf-8").strip()
        self._verdict = lru_cache(_REMEMBERED)(self._ask)

    def score(self, claim: str, evidence: Sequence[str]) -> float | None:
        """1 where the texts support the claim, .5 where they do in part, 0 where they do not."""
        try:
            return self._verdict(claim, tuple(evidence))
        except ChatError:  # is not remembered
            return None

    def _ask(self, claim: str, evidence: tuple[str, ...]) -> float:
        """One call. Raises ChatError, also for a reply that is no verdict."""
        fence = secrets.token_hex(4)
        named = [*(("passage", text) for text in evidence), ("claim", claim)]
        content = "\n\n".join(
            f"<{name}-{fence}>\n{neutralise(text).replace(fence, '')}\n</{name}-{fence}>"
            for name, text in named
        )
        messages = (Message("system", self._system), Message("user", content))
        options = replace(_OPTIONS, fence=fence)
        reply = "".join(delta.text for delta in self._chat.stream(messages, options))
        verdict = _VERDICTS.get(reply.strip().strip("*_`\"'.").upper())
        if verdict is None:
            raise ChatRejected("the judge gave no verdict")
        return verdict
