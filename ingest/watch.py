"""Waits for changes below folders, so that the store can follow them (watchfiles, by notify)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ingest.discover import IGNORE_FILES

_QUIET_MS = 800  # without a further change before a burst of them counts as over


def changes(roots: Sequence[Path]) -> Iterator[None]:
    """One item for each burst of changes below the roots; Ctrl-C ends the wait.

    Hidden names are not watched: the store itself, when it lies below a root, is one of them.
    """
    from watchfiles import Change, watch

    def is_seen(change: Change, path: str) -> bool:
        below = (Path(path).relative_to(root) for root in roots if Path(path).is_relative_to(root))
        return any(all(map(_is_shown, relative.parts)) for relative in below)

    for _ in watch(*roots, watch_filter=is_seen, step=_QUIET_MS, raise_interrupt=True):
        yield


def _is_shown(name: str) -> bool:
    return not name.startswith(".") or name in IGNORE_FILES
