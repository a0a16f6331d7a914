"""What a whole vector index consists of, written down by its writer when it lets go of it.

While a writer has the index open there is no manifest, and none is left by a kill. One that does
not fit tells of damage, or of an index of another state or another store. One that was written at
another place is not believed either: Chroma is never shown the files of a stranger.
"""

import json
from contextlib import suppress
from pathlib import Path

from ingest.records import Meta, file_sha256

_NAME = "manifest.json"


def write(index: Path, meta: Meta, place: int) -> None:
    """Say that the index in this folder is whole; `place` is that of the store's folder."""
    path = index / _NAME
    path.touch(mode=0o600)
    path.write_text(json.dumps(_described(index, meta, place)), encoding="utf-8")


def remove(index: Path) -> None:
    """Say that the index in this folder is in use."""
    (index / _NAME).unlink(missing_ok=True)


def is_there(index: Path, place: int) -> bool:
    """Whether the last writer of this index has let go of it, here."""
    return _written(index).get("place") == place


def is_whole(index: Path, meta: Meta, place: int) -> bool:
    """Whether the index is the one that was written down here, byte for byte."""
    written = _written(index)
    return written.get("place") == place and written == _described(index, meta, place)


def _written(index: Path) -> dict[str, object]:
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads((index / _NAME).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def _described(index: Path, meta: Meta, place: int) -> dict[str, object]:
    files = sorted(path for path in index.rglob("*") if path.is_file() and path.name != _NAME)
    digests = {str(path.relative_to(index)): file_sha256(path) for path in files}
    return {"store": meta.created, "generation": meta.generation, "place": place, "files": digests}
