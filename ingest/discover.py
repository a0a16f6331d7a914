"""Which files of a folder are read, and why the others are not. Only metadata is looked at here.

Rules: regular files alone; a link is followed to a file inside the root, never out of it and never
to a folder; hidden, secret and tool-made names are left out; `.gitignore` and `.ragignore` count at
every level from the root down, with git's meaning, and `.ragignore` wins over its neighbour.
"""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path

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


class SkipReason(StrEnum):
    """Why a name is not read; the value is what a person sees."""

    UNSUPPORTED = "unsupported type"
    HIDDEN = "hidden"
    IGNORED = "ignored by .gitignore or .ragignore"
    SECRET = "key or secret file"
    TOOL_FOLDER = "folder made by a tool"
    LINK_OUT = "link that leaves the folder"
    LINK_FOLDER = "link to a folder"
    LINK_BROKEN = "broken link"
    SPECIAL = "not a regular file"
    NAME = "name is not valid UTF-8"
    UNREADABLE = "no permission, or gone"

    @property
    def remedy(self) -> str:
        """What to do where it should be read all the same."""
        return _REMEDIES[self]


_REMEDIES = {
    SkipReason.UNSUPPORTED: "save it in a format of the README's table, as PDF or text",
    SkipReason.HIDDEN: "name the file itself: `rag ingest PATH`",
    SkipReason.IGNORED: "name the file itself, or change the rule",
    SkipReason.SECRET: "rename it if it holds no secret",
    SkipReason.TOOL_FOLDER: "name the folder itself: `rag ingest PATH`",
    SkipReason.LINK_OUT: "ingest the place it leads to",
    SkipReason.LINK_FOLDER: "ingest the folder it leads to",
    SkipReason.LINK_BROKEN: "mend or remove the link",
    SkipReason.SPECIAL: "only regular files are read",
    SkipReason.NAME: "rename it",
    SkipReason.UNREADABLE: "check its permissions",
}


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
class _Ignores:
    """The ignore rules of one folder; `folder` is relative to the root and ends with `/`."""

    folder: str
    spec: GitIgnoreSpec


@dataclass(frozen=True, slots=True)
class _Walk:
    """What stays the same during one walk; `real_root` is the root without links."""

    root: Path
    real_root: Path
    supported: Callable[[str], bool]


def discover(root: Path, supported: Callable[[str], bool]) -> Iterator[FoundFile | SkippedFile]:
    """The files below `root`, or `root` itself if it is a file, in the order of their names.

    `supported` tells from a file's name whether there is a loader for it. A file that is named
    directly is held to the rules on secrets, kind and type, not to those on hidden and ignored
    names. Raises UsageError where there is no such path.
    """
    if not os.path.lexists(root):
        raise UsageError(f"no such file or folder: {printable(str(root))}", "check the path")
    real_root = Path(os.path.realpath(root))
    if real_root.is_dir():
        return _walk(_Walk(real_root, real_root, supported))
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


def _named(
    path: Path, real_path: Path, supported: Callable[[str], bool]
) -> FoundFile | SkippedFile:
    """The verdict on a file that was given by name."""
    if reason := _reason_of_name(path.name):
        return SkippedFile(printable(path.name), reason)
    if _is_secret(real_path.name):
        return SkippedFile(path.name, SkipReason.SECRET)
    try:
        status = real_path.stat()
    except OSError:
        return SkippedFile(path.name, SkipReason.UNREADABLE)
    if not stat.S_ISREG(status.st_mode):
        return SkippedFile(path.name, SkipReason.SPECIAL)
    if not supported(path.name):
        return SkippedFile(path.name, SkipReason.UNSUPPORTED)
    return FoundFile(path.absolute(), path.name, status.st_size, status.st_mtime_ns)


def _walk(walk: _Walk) -> Iterator[FoundFile | SkippedFile]:
    """Depth first, each folder's names in code point order; a stack instead of recursion."""
    stack: list[tuple[str, tuple[_Ignores, ...], Iterator[os.DirEntry[str]]]] = []
    opened = _open_folder(walk.root, "", ())
    if opened is None:
        yield SkippedFile("/", SkipReason.UNREADABLE)
        return
    stack.append(opened)
    while stack:
        folder, ignores, entries = stack[-1]
        entry = next(entries, None)
        if entry is None:
            stack.pop()
            continue
        verdict = _verdict(walk, entry, folder, ignores)
        if not isinstance(verdict, str):
            yield verdict
        elif opened := _open_folder(Path(entry.path), verdict, ignores):
            stack.append(opened)
        else:
            yield SkippedFile(verdict, SkipReason.UNREADABLE)


def _open_folder(
    path: Path, folder: str, ignores: tuple[_Ignores, ...]
) -> tuple[str, tuple[_Ignores, ...], Iterator[os.DirEntry[str]]] | None:
    """A folder's sorted entries with the ignore rules in force; None if it cannot be read."""
    try:
        with os.scandir(path) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError:
        return None
    lines = [
        line
        for entry in entries
        if entry.name in IGNORE_FILES and entry.is_file(follow_symlinks=False)
        for line in _ignore_lines(Path(entry.path))
    ]
    if lines:
        ignores = (*ignores, _Ignores(folder, _ignore_spec(lines)))
    return folder, ignores, iter(entries)


def _verdict(
    walk: _Walk, entry: os.DirEntry[str], folder: str, ignores: tuple[_Ignores, ...]
) -> FoundFile | SkippedFile | str:
    """What to do with one name: read it, skip it, or (a string) descend into that folder."""
    is_folder = entry.is_dir(follow_symlinks=False)
    relative = folder + entry.name + ("/" if is_folder else "")
    if reason := reason_to_skip(relative.removeprefix(folder)):
        return SkippedFile(printable(relative), reason)
    if _is_ignored(relative, ignores):
        return SkippedFile(relative, SkipReason.IGNORED)
    if is_folder:
        is_store = os.path.lexists(f"{entry.path}/{DATABASE}")
        return SkippedFile(relative, SkipReason.TOOL_FOLDER) if is_store else relative
    return _file_verdict(walk, entry, relative)


def _file_verdict(walk: _Walk, entry: os.DirEntry[str], relative: str) -> FoundFile | SkippedFile:
    """The verdict on something that is no folder: its link first, then its kind, then its type."""
    if entry.is_symlink() and (reason := _reason_of_link(walk, entry.path)):
        return SkippedFile(relative, reason)
    try:
        status = entry.stat()
    except OSError:
        return SkippedFile(relative, SkipReason.UNREADABLE)
    if not stat.S_ISREG(status.st_mode):
        return SkippedFile(relative, SkipReason.SPECIAL)
    if not walk.supported(entry.name):
        return SkippedFile(relative, SkipReason.UNSUPPORTED)
    return FoundFile(Path(entry.path), relative, status.st_size, status.st_mtime_ns)


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


def _reason_of_link(walk: _Walk, path: str) -> SkipReason | None:
    """Why a link is not followed, if it is not."""
    try:
        target = Path(path).resolve(strict=True)
    except (OSError, RuntimeError):  # missing, or a loop (RuntimeError before Python 3.13)
        return SkipReason.LINK_BROKEN
    if not target.is_relative_to(walk.real_root):
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
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError:
        return GitIgnoreSpec.from_lines([line for line in lines if _is_pattern(line)])


def _is_pattern(line: str) -> bool:
    """Whether one line of an ignore file compiles."""
    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True


def _is_ignored(relative: str, ignores: tuple[_Ignores, ...]) -> bool:
    """Whether the deepest folder with a rule for this path says to ignore it."""
    for rules in reversed(ignores):
        include = rules.spec.check_file(relative.removeprefix(rules.folder)).include
        if include is not None:
            return include
    return False
