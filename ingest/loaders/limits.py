"""How much one file may cost before it is given up."""

from dataclasses import dataclass

from ingest.errors import LoadError


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """Limits for one file; each is the setting `ingest.<name>`.

    `max_seconds` and `max_memory` (bytes beyond what the idle worker holds) are kept by the worker
    process; `max_file` (bytes), `max_pages` and `max_text` (characters of one document) by the
    loaders.
    """

    max_seconds: float = 60.0
    max_memory: int = 1 << 30
    max_pages: int = 5_000
    max_text: int = 20_000_000
    max_file: int = 200_000_000


DEFAULT_LIMITS = LoadLimits()


def check_text_length(length: int, limits: LoadLimits) -> None:
    """Raise LoadError if a document's text is longer than allowed."""
    if length > limits.max_text:
        raise LoadError(
            f"more than {limits.max_text:,} characters of text",
            "raise `ingest.max_text` (characters), or split the file",
        )
