"""Calling a question off from another thread than the one that waits for its answer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock


class Cancellation:
    """A wish to stop: whoever waits for the reply is woken, and the connection is closed."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._hooks: list[Callable[[], object]] = []
        self.wished = False

    def cancel(self) -> None:
        """Stop what is under way, and whatever would begin later. Any thread may call it."""
        with self._lock:
            self.wished, hooks = True, tuple(self._hooks)
        for hook in hooks:
            hook()

    @contextmanager
    def calling(self, hook: Callable[[], object]) -> Iterator[None]:
        """Have `hook` called on a cancellation within the block, or at once after one before it."""
        with self._lock:
            self._hooks.append(hook)
        try:
            if self.wished:
                hook()
            yield
        finally:
            with self._lock:
                self._hooks.remove(hook)
