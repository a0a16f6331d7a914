"""When a failing server is left alone: a circuit breaker, and one budget for all retries.

The breaker is the one of M. Nygard's "Release It!": after failures in a row nothing is sent for a
pause, then one request tries. The budget is that of Finagle: each request earns a part of a retry,
so that retries stay a part of the requests however many questions wait.
"""

import math
from threading import Lock

from rag.chat.failures import Failed
from rag.chat.patience import Timing
from rag.errors import ChatIncomplete, ChatUnavailable

FAILURES = 5
"""In a row, from this server; then nothing is sent to it for PAUSE_S."""
PAUSE_S = 15.0
RETRIES_SAVED = 10.0
"""So many retries at most may follow at once, and RETRIES_EARNED more for each request."""
RETRIES_EARNED = 0.2


class Breaker:
    """The state of one server, as all that ask it share it."""

    def __init__(self, host: str, timing: Timing) -> None:
        self._host = host
        self._timing = timing
        self._lock = Lock()
        self._failures = 0
        self._closed_at = -math.inf
        self._last = ""
        self._retries = RETRIES_SAVED

    def check(self, *, patient: bool = False) -> None:
        """Raise Failed while nothing is to be sent; after the pause one caller gets through.

        Who is patient may try again then.
        """
        with self._lock:
            self._retries = min(RETRIES_SAVED, self._retries + RETRIES_EARNED)
            if self._failures < FAILURES:
                return
            now = self._timing.monotonic()
            left = self._closed_at - now
            if left <= 0:
                self._closed_at = now + PAUSE_S  # for all others, should this caller go away too
                return
        message = f"{self._host} failed {self._failures} times in a row, at last: {self._last}"
        hint = f"it is not asked again for {math.ceil(left)} s: try again then"
        raise Failed(ChatUnavailable(message, hint), retry=patient, retry_after=left)

    def note(self, failed: Failed | None) -> None:
        """Take in how a request ended; whatever the server refused on purpose shows it alive."""
        with self._lock:
            if failed is None or not isinstance(failed.error, ChatUnavailable | ChatIncomplete):
                self._failures = 0
            elif failed.retry and not failed.stale:
                self._failures += 1
                self._last = failed.error.message
                self._closed_at = self._timing.monotonic() + PAUSE_S

    def grants_retry(self) -> bool:
        """Whether another try is in the budget and not sure to be refused here; it is taken."""
        with self._lock:
            granted = self._failures < FAILURES and self._retries >= 1.0
            self._retries -= granted
            return granted
