"""The errors a person can do something about.

RagError                  1   anything below; `hint` names the command or setting that mends it
├── UsageError            2   bad usage or configuration
├── StoreError            3   no store, or one that cannot be used
│   ├── StoreMissing
│   ├── StoreMismatch         another format, or other chunk or model settings
│   ├── StoreDamaged
│   └── StoreBusy             another process is writing
├── LoadError                 one file could not be read; collected in the report, run goes on
│   └── UnsupportedFile       it is readable, but no document: skipped, not failed
└── EmbeddingError        2   the embedding model is missing or not the one expected
"""

import re
from typing import ClassVar


class RagError(Exception):
    """Base of every error shown to a person: what happened, and in `hint` what to do next."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def name(self) -> str:
        """The class as scripts know it: StoreMissing is store_missing."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(self).__name__).lower()


class UsageError(RagError):
    """The command or its configuration cannot be carried out as given."""

    exit_code = 2


class StoreError(RagError):
    """The store cannot be used."""

    exit_code = 3


class StoreMissing(StoreError):
    """No store where one was looked for."""


class StoreMismatch(StoreError):
    """The store was made by another format version or with other settings."""


class StoreDamaged(StoreError):
    """The store's content contradicts itself."""

    def __init__(self, message: str, hint: str = "run `rag rebuild`") -> None:
        super().__init__(message, hint)


class StoreBusy(StoreError):
    """Another process holds the writer lock."""


class LoadError(RagError):
    """One file could not be turned into text."""


class UnsupportedFile(LoadError):
    """A file that is of a known type but holds no document, as JSON lines of other things."""


class EmbeddingError(RagError):
    """The embedding model cannot be loaded or is not the one that was expected."""

    exit_code = 2
