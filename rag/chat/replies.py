"""Replies kept on disk, unreadable to anyone who does not ask the same once more.

What is asked gives a secret (rag/chat/reuse.py). A row holds the secret's hash and the reply under
a mask drawn from the secret: neither question nor answer can be read out of the file, and a reply
to passages that have since been removed or edited cannot be read at all. It can be tested whether
a guessed question was asked of these passages, which takes the passages.
"""

import sqlite3
from contextlib import suppress
from hashlib import blake2b, sha256, shake_256
from pathlib import Path
from secrets import token_bytes
from typing import Any

from rag.sidecar import Sidecar

KEPT_REPLIES = "answers.sqlite"

_NONCE_BYTES = 16
_TAG_BYTES = 16
_BUSY_S = 1.0
_SCHEMA = (
    "PRAGMA synchronous = NORMAL",
    "PRAGMA journal_mode = WAL",
    "PRAGMA trusted_schema = OFF",
    "CREATE TABLE IF NOT EXISTS replies ("
    "id BLOB PRIMARY KEY, sealed BLOB NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS by_use ON replies (used)",
)
_NEXT_USE = "(SELECT coalesce(max(used), 0) + 1 FROM replies)"
_GET = f"UPDATE replies SET used = {_NEXT_USE} WHERE id = ? RETURNING sealed"
_PUT = f"INSERT OR REPLACE INTO replies VALUES (?, ?, {_NEXT_USE})"
# The tenth whose use is longest ago goes, where more bytes are in use than allowed.
_SHRINK = """
DELETE FROM replies
WHERE used <= (SELECT used FROM replies ORDER BY used LIMIT 1 OFFSET (
                   SELECT count(*) / 10 FROM replies))
AND ? < (SELECT page_size FROM pragma_page_size)
      * ((SELECT page_count FROM pragma_page_count)
         - (SELECT freelist_count FROM pragma_freelist_count))
"""


class KeptReplies:
    """Texts by secret, in a file of at most about `most_bytes`; the longest unused go first.

    Serves any number of threads and processes. It raises nothing: what cannot be read or written
    is not kept, and a damaged file is made anew.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._file = Sidecar(path, _BUSY_S, is_renewed=True)
        self._most_bytes = most_bytes

    def get(self, secret: bytes) -> str | None:
        """The text kept under a secret."""
        rows = self._run(_GET, _id(secret))
        return _opened(secret, rows[0][0]) if rows else None

    def put(self, secret: bytes, text: str) -> None:
        """Keep a text; a full file forgets what was not used for longest."""
        self._run(_PUT, _id(secret), _sealed(secret, text.encode()))
        self._run(_SHRINK, self._most_bytes)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _run(self, sql: str, *values: object) -> list[Any]:
        with suppress(sqlite3.Error, OSError):
            return self._file.run(_SCHEMA, sql, *values)
        return []


def _id(secret: bytes) -> bytes:
    return sha256(secret).digest()


def _sealed(secret: bytes, plain: bytes) -> bytes:
    """Nonce, tag and text: masked by SHAKE-256 over secret and nonce, tagged by keyed BLAKE2b."""
    nonce = token_bytes(_NONCE_BYTES)
    masked = _masked(secret + nonce, plain)
    return nonce + _tag(secret, nonce + masked) + masked


def _opened(secret: bytes, sealed: bytes) -> str | None:
    """The text; None where a byte of it is not as it was sealed."""
    nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    tag, masked = rest[:_TAG_BYTES], rest[_TAG_BYTES:]
    whole = tag == _tag(secret, nonce + masked)
    return _masked(secret + nonce, masked).decode() if whole else None


def _masked(key: bytes, text: bytes) -> bytes:
    mask = shake_256(key).digest(len(text))
    return (int.from_bytes(text, "big") ^ int.from_bytes(mask, "big")).to_bytes(len(text), "big")


def _tag(secret: bytes, text: bytes) -> bytes:
    return blake2b(text, digest_size=_TAG_BYTES, key=secret).digest()
