"""The best passages read once more, by a model that sees question and passage together.

A cross-encoder (Nogueira & Cho 2019) is more exact than two vectors and a thousand times slower:
it orders the first passages only, and is off unless a model is named.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from ingest.embed import load_cross_encoder
from rag.settings.config import Settings, refuse_project_model

Rerank = Callable[[str, Sequence[str]], list[float]]
"""A question and texts to a score for each text, higher being better."""


def open_reranker(settings: Settings) -> Rerank | None:
    """The model that the setting `retrieval.reranker` names, loaded with the first question; None
    where there is none. Raises UsageError for one that only a project's file names."""
    name = settings.retrieval.reranker
    if not name:
        return None
    refuse_project_model(settings, "retrieval.reranker")
    return CrossEncoderReranker(name)


class CrossEncoderReranker:
    """A sentence-transformers cross-encoder with one score, by its folder or hub name."""

    def __init__(self, name: str) -> None:
        self._name = name

    @cached_property
    def _model(self) -> Any:
        return load_cross_encoder(self._name, "retrieval.reranker")

    def __call__(self, question: str, texts: Sequence[str]) -> list[float]:
        """See Rerank; of a model with several labels the last one counts."""
        pairs = [(question, text) for text in texts]
        scores = self._model.predict(pairs, show_progress_bar=False)
        return [float(score) for score in (scores[:, -1] if scores.ndim > 1 else scores)]
