"""The settings that shape a store: change one and its chunks or vectors are others."""

from dataclasses import dataclass

DEFAULT_MODEL = "all-MiniLM-L6-v2"


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """What a store was built with; it is written into the store and must match on every write.

    `chunk_tokens` is the most wordpieces of text a chunk may hold. The default model reads 256
    wordpieces and drops the rest in silence, so 220 leaves room for the heading path in front.
    """

    model: str = DEFAULT_MODEL
    dimension: int = 384
    chunk_tokens: int = 220
