"""The settings that shape a store: change one and its chunks, terms or vectors are others."""

from dataclasses import dataclass

DEFAULT_MODEL = "all-MiniLM-L6-v2"
# Raise it when ingest/chunk.py or ingest/sentences.py cuts the same document in other places.
CHUNKER = 5
# Raise it when ingest/words.py makes other terms of the same text.
ANALYSIS = 3


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """What a store was built with; it is written into the store. An ingest with other settings
    brings the whole store over to them, so that two kinds of chunks or vectors are never mixed.

    `chunk_tokens` is the most wordpieces of text a chunk may hold. The default model reads 256
    wordpieces and drops the rest in silence, so 220 leaves room for the heading path in front.
    """

    model: str = DEFAULT_MODEL
    dimension: int = 384
    chunk_tokens: int = 220
    chunker: int = CHUNKER
    analysis: int = ANALYSIS
