"""Chat errors, by what a person can do about them.

RagError
└── ChatError             5
    ├── ChatAuthError     4   the key was refused
    ├── ChatUnavailable   5   no connection, a time-out, or a server error after the retries
    ├── ChatIncomplete    5   the stream broke; `partial` keeps what had arrived
    ├── ChatRateLimited   6   rate limit or quota
    ├── ChatOverflow      5   the prompt does not fit the model's window
    └── ChatRejected      5   the API refused the request, or the model gave no answer
"""

from ingest.errors import RagError


class ChatError(RagError):
    """The chat API did not give an answer."""

    exit_code = 5


class ChatAuthError(ChatError):
    """The chat API refused the key."""

    exit_code = 4


class ChatUnavailable(ChatError):
    """The chat API could not be reached in time."""


class ChatIncomplete(ChatError):
    """The reply broke off; `partial` is the text that had arrived."""

    def __init__(self, message: str, hint: str = "", partial: str = "") -> None:
        super().__init__(message, hint)
        self.partial = partial


class ChatRateLimited(ChatError):
    """Rate limit or quota; `retry_after` is in seconds where the API gave it."""

    exit_code = 6

    def __init__(self, message: str, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class ChatOverflow(ChatError):
    """The prompt is longer than the model's window."""


class ChatRejected(ChatError):
    """The API refused the request, or the model returned nothing that can be shown."""
