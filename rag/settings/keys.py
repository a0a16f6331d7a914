"""Keys of chat APIs that a person has put away: each belongs to the base URL it was given for.

`keys.json` in the user's configuration folder lists the base URLs, with the key itself, or with
null where the system's keyring (the extra `ragcite[keyring]`) holds it. Key files are refused where
others can read them.
"""

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from ingest.errors import UsageError
from rag.settings.sources import http_address

Place = Literal["", "keyring", "keys.json"]
KEYRING: Place = "keyring"
KEYS_FILE: Place = "keys.json"
_SERVICE = "ragcite"


def place_of_key(folder: Path, base_url: str) -> Place:
    """Where the key of a base URL is: the keyring, keys.json, or "" for nowhere.

    No key is read, and a file that cannot be used says nothing yet: most commands need none.
    """
    try:
        kept = json.loads((folder / KEYS_FILE).read_bytes())[_address(base_url)]
    except (OSError, ValueError, LookupError, TypeError, UsageError):
        return ""
    return KEYRING if kept is None else KEYS_FILE


def kept_key(folder: Path, base_url: str) -> str:
    """The key that was given for a base URL; "" for none. Raises UsageError.

    The file is read anew each time; the keyring, which is slow, once the file has changed.
    """
    path = folder / KEYS_FILE
    if not path.is_file():
        return ""
    key = _read_keys(path).get(_address(base_url), "")
    return key if key is not None else _from_keyring(_address(base_url), path.stat().st_mtime_ns)


def keep_key(folder: Path, base_url: str, key: str) -> str:
    """Put a key away for a base URL, and say where it is. Raises UsageError."""
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError("that is no key", "paste the key alone, without quotes or line breaks")
    path, address = folder / KEYS_FILE, _address(base_url)
    with _keyring() as keyring:
        if keyring is not None:
            keyring.set_password(_SERVICE, address, key)
            _write_keys(path, {**_read_keys(path), address: None})
            return f"{KEYRING} ({keyring.get_keyring().name})"
    _write_keys(path, {**_read_keys(path), address: key})
    return str(path)


def drop_key(folder: Path, base_url: str) -> None:
    """Forget the key of a base URL. Raises UsageError where there is none."""
    path, address = folder / KEYS_FILE, _address(base_url)
    keys = _read_keys(path)
    if address not in keys:
        raise UsageError(f"no key is kept for {address}", "name its base URL: --base-url")
    if keys.pop(address) is None:
        with _keyring() as keyring:
            if keyring is not None:
                keyring.delete_password(_SERVICE, address)
    _write_keys(path, keys)


def read_key_file(path: Path) -> str:
    """The key that a file holds alone. Raises UsageError, also where others can read the file."""
    return _private_text(path).strip()


def _address(base_url: str) -> str:
    """A base URL in one form, whatever its letters' case and end."""
    parts = http_address(base_url, repr(base_url), "https://api.openai.com/v1")
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return f"{parts.scheme}://{parts.netloc.lower()}{path}"


def _private_text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise UsageError(f"others can read the key file {path}", f"run `chmod 600 {path}`")
            return file.read()
    except (OSError, ValueError) as error:
        # The reason of a UnicodeDecodeError would quote what the file holds.
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        hint = "check chat.api_key_file, or run `rag config set-key`"
        raise UsageError(f"cannot read the key file {path}: {reason}", hint) from None


def _read_keys(path: Path) -> dict[str, str | None]:
    if not path.is_file():
        return {}
    try:
        keys = json.loads(_private_text(path))
        if not all(isinstance(key, str | None) for key in keys.values()):
            raise ValueError
    except (ValueError, AttributeError):
        hint = f"remove {path}, and run `rag config set-key` again"
        raise UsageError(f"{path} is damaged", hint) from None
    return dict(keys)


def _write_keys(path: Path, keys: Mapping[str, str | None]) -> None:
    """In one step, readable for its owner alone from the start."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(keys, file, indent=1)
        fresh.replace(path)
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}", "set OPENAI_API_KEY instead"
        ) from None


@lru_cache(maxsize=16)
def _from_keyring(address: str, changed: int) -> str:
    """The key as it is in the keyring since the list of keys was last changed."""
    with _keyring() as keyring:
        key = keyring.get_password(_SERVICE, address) if keyring is not None else None
    if key is None:
        hint = f"unlock it, or run `rag config set-key --base-url {address}`"
        raise UsageError(f"the keyring does not give the key of {address}", hint)
    return str(key)


@contextmanager
def _keyring() -> Iterator[Any]:
    """The keyring library; None where it is not installed or finds no keyring to use."""
    try:
        import keyring
        from keyring.backends.fail import Keyring as NoKeyring
        from keyring.errors import KeyringError
    except ImportError:
        yield None
        return
    try:
        yield None if isinstance(keyring.get_keyring(), NoKeyring) else keyring
    except KeyringError as error:
        hint = "unlock it, or set OPENAI_API_KEY"
        raise UsageError(f"the keyring cannot be used: {type(error).__name__}", hint) from None
