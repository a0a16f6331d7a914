"""Which files of a folder are read, and why the others are not. Only metadata is looked at here.

Rules: regular files alone; a link is followed to a file inside the root, never out of it and never
to a folder; hidden, secret and tool-made names are left out; `.gitignore` and `.ragignore` count at
every level from the root down, with git's meaning, and `.ragignore` wins over its neighbour.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pathspec import GitIgnoreSpec

from ingest.errors import UsageError
from ingest.schema import DATABASE

IGNORE_FILES = (".gitignore", ".ragignore")
TOOL_FOLDERS = frozenset({"node_modules", "__pycache__", "site-packages", "__MACOSX"})
SECRET_NAMES = (
    ".env*", "*.env", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx",
    "*.ppk", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", ".netrc", ".npmrc", ".pypirc",
    ".pgpass", ".htpasswd",
)  # fmt: skip
_IGNORE_FILE_BYTES = 1 << 20

Supported = Callable[[str], bool]
"""Whether there is a loader for a file of this name."""


class SkipReason(StrEnum):
    """Why a name is not read: the value is what a person sees.

    `remedy` is what to do where it should be read all the same.
    """

    UNSUPPORTED = "unsupported type", "save it in a format of the README's table, as PDF or text"
    HIDDEN = "hidden", "name the file itself: `rag ingest PATH`"
    IGNORED = "ignored by .gitignore or .ragignore", "name the file itself, or change the rule"
    SECRET = "key or secret file", "rename it if it holds no secret"
    TOOL_FOLDER = "folder made by a tool", "name the folder itself: `rag ingest PATH`"
    LINK_OUT = "link that leaves the folder", "ingest the place it leads to"
    LINK_FOLDER = "link to a folder", "ingest the folder it leads to"
    LINK_BROKEN = "broken link", "mend or remove the link"
    SPECIAL = "not a regular file", "only regular files are read"
    NAME = "name is not valid UTF-8", "rename it"
    UNREADABLE = "no permission, or gone", "check its permissions"

    remedy: str

    def __new__(cls, value: str, remedy: str) -> "SkipReason":
        """A reason, as text its value alone."""
        reason = str.__new__(cls, value)
        reason._value_, reason.remedy = value, remedy
        return reason


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to read. `relative` is its path below the root, with `/`; `size` is in bytes."""

    path: Path
    relative: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A name that is not read; a folder's `relative` ends with `/` and stands for all below it.

    Bytes of the name that are not UTF-8 are written as `\\xNN`, so that it can be printed and kept.
    """

    relative: str
    reason: SkipReason


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to look into; `relative` ends with `/`, and so does that of each folder with rules.

    `rules` are those in force in it, each with the folder that gives them, the deepest last.
    """

    path: Path
    relative: str
    rules: tuple[tuple[str, GitIgnoreSpec], ...]


def discover(root: Path, supported: Supported) -> Iterator[FoundFile | SkippedFile]:
    """The files below `root`, or `root` itself if it is a file, in the order of their names.

    A file that is named directly is held to the rules on secrets, kind and type, not to those on
    hidden and ignored names. Raises UsageError where there is no such path.
    """
    if not os.path.lexists(root):
        raise UsageError(f"no such file or folder: {printable(str(root))}", "check the path")
    real_root = Path(os.path.realpath(root))
    if real_root.is_dir():
        return _walk(real_root, supported)
    return iter([_named(root, real_root, supported)])


def reason_to_skip(relative: str) -> SkipReason | None:
    """Why the names in a path rule it out, if they do; a folder's path ends with `/`."""
    *folders, name = relative.split("/")
    for part in (*folders, name):
        if reason := _reason_of_name(part):
            return reason
        if part.startswith("."):
            return SkipReason.HIDDEN
    return None if TOOL_FOLDERS.isdisjoint(folders) else SkipReason.TOOL_FOLDER


def printable(name: str) -> str:
    """A file name with the bytes that are not UTF-8 written as `\\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _named(path: Path, real_path: Path, supported: Supported) -> FoundFile | SkippedFile:
    """The verdict on a file that was given by name."""
    if reason := _reason_of_name(path.name):
        return SkippedFile(printable(path.name), reason)
    if _is_secret(real_path.name):
        return SkippedFile(path.name, SkipReason.SECRET)
    return _file(path.absolute(), path.name, supported)


def _file(path: Path, relative: str, supported: Supported) -> FoundFile | SkippedFile:
    """The verdict on what is no folder: by its kind, then by its type."""
    try:
        status = path.stat()
    except OSError:
        return SkippedFile(relative, SkipReason.UNREADABLE)
    if not stat.S_ISREG(status.st_mode):
        return SkippedFile(relative, SkipReason.SPECIAL)
    if not supported(path.name):
        return SkippedFile(relative, SkipReason.UNSUPPORTED)
    return FoundFile(path, relative, status.st_size, status.st_mtime_ns)


def _walk(root: Path, supported: Supported) -> Iterator[FoundFile | SkippedFile]:
    """Depth first, each folder's names in code point order; a stack instead of recursion."""
    stack: list[FoundFile | SkippedFile | _Folder] = [_Folder(root, "", ())]
    while stack:
        item = stack.pop()
        if not isinstance(item, _Folder):
            yield item
            continue
        try:
            stack += reversed(_contents(item, root, supported))
        except OSError:
            yield SkippedFile(item.relative or "/", SkipReason.UNREADABLE)


def _contents(
    folder: _Folder, root: Path, supported: Supported
) -> list[FoundFile | SkippedFile | _Folder]:
    """What to do with each name in a folder. Raises OSError where it cannot be read."""
    with os.scandir(folder.path) as scan:
        entries = sorted(scan, key=lambda entry: entry.name)
    lines = [
        line
        for entry in entries
        if entry.name in IGNORE_FILES and entry.is_file(follow_symlinks=False)
        for line in _ignore_lines(Path(entry.path))
    ]
    if lines:
        folder = replace(folder, rules=(*folder.rules, (folder.relative, _ignore_spec(lines))))
    return [_verdict(entry, folder, root, supported) for entry in entries]


def _verdict(
    entry: os.DirEntry[str], folder: _Folder, root: Path, supported: Supported
) -> FoundFile | SkippedFile | _Folder:
    """What to do with one name: read it, skip it, or look into that folder."""
    is_folder = entry.is_dir(follow_symlinks=False)
    name = entry.name + "/" * is_folder
    relative = folder.relative + name
    if reason := reason_to_skip(name):
        return SkippedFile(printable(relative), reason)
    if _is_ignored(relative, folder.rules):
        return SkippedFile(relative, SkipReason.IGNORED)
    if is_folder:
        if os.path.lexists(f"{entry.path}/{DATABASE}"):
            return SkippedFile(relative, SkipReason.TOOL_FOLDER)
        return _Folder(Path(entry.path), relative, folder.rules)
    if entry.is_symlink() and (reason := _reason_of_link(entry.path, root)):
        return SkippedFile(relative, reason)
    return _file(Path(entry.path), relative, supported)


def _reason_of_name(name: str) -> SkipReason | None:
    """Why a name alone rules a file out, if it does."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return SkipReason.NAME
    return SkipReason.SECRET if _is_secret(name) else None


def _is_secret(name: str) -> bool:
    """Whether a name is that of keys or passwords."""
    lowered = name.lower()
    return any(fnmatchcase(lowered, pattern) for pattern in SECRET_NAMES)


def _reason_of_link(path: str, root: Path) -> SkipReason | None:
    """Why a link is not followed, if it is not."""
    try:
        target = Path(path).resolve(strict=True)
    except (OSError, RuntimeError):  # missing, or a loop (RuntimeError before Python 3.13)
        return SkipReason.LINK_BROKEN
    if not target.is_relative_to(root):
        return SkipReason.LINK_OUT
    if target.is_dir():
        return SkipReason.LINK_FOLDER
    return _reason_of_name(target.name)


def _ignore_lines(path: Path) -> list[str]:
    """The lines of an ignore file; one that cannot be read ignores nothing."""
    try:
        with path.open("rb") as file:
            data = file.read(_IGNORE_FILE_BYTES)
    except OSError:
        return []
    return data.decode("utf-8-sig", "replace").splitlines()


def _ignore_spec(lines: list[str]) -> GitIgnoreSpec:
    """Compiled rules; like git, a line that is no pattern is passed over."""
    patterns: list[Any] = []
    for line in lines:
        with suppress(ValueError):
            patterns += GitIgnoreSpec.from_lines([line]).patterns
    return GitIgnoreSpec(patterns)


def _is_ignored(relative: str, rules: tuple[tuple[str, GitIgnoreSpec], ...]) -> bool:
    """Whether the deepest folder with a rule for this path says to ignore it."""
    for folder, spec in reversed(rules):
        include = spec.check_file(relative.removeprefix(folder)).include
        if include is not None:
            return include
    return False
