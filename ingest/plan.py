"""What an ingest has to do, decided from names, sizes and dates before any file is read."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ingest.discover import FoundFile, SkippedFile, SkipReason, discover, printable
from ingest.errors import UsageError
from ingest.load import format_of, loader_version
from ingest.loaders.options import LoadOptions
from ingest.records import FileRecord, Problem


@dataclass(frozen=True, slots=True)
class Target:
    """A file to load: new, changed, or once read by another version of its loader."""

    file: FoundFile
    root: Path
    known: FileRecord | None


@dataclass(frozen=True, slots=True)
class Plan:
    """`vanished` are paths the store knows and the disk no longer has; `unchanged` those that are
    as they were. `problems` are those of names that are not read, and of unchanged files.
    """

    targets: tuple[Target, ...]
    vanished: tuple[str, ...]
    unchanged: tuple[str, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def make_plan(
    roots: Sequence[Path],
    known: Mapping[str, FileRecord],
    prune: bool | None,
    options: LoadOptions,
) -> Plan:
    """Compare the files under `roots` with what the store knows; a root that is gone is noted.

    `prune` False keeps what vanished, True always removes it, and None removes it unless a whole
    root looks empty: an unmounted folder must not empty a store.
    """
    notes: list[str] = []
    found: dict[str, tuple[Path, FoundFile]] = {}
    problems: list[Problem] = []
    vanished: list[str] = []
    for root in roots:
        if not os.path.lexists(root):
            notes.append(f"{root} is gone; its files stay in the store (see `rag remove`)")
            continue
        entries = list(discover(root, lambda name: bool(format_of(name))))
        files = [entry for entry in entries if isinstance(entry, FoundFile)]
        passed = [entry for entry in entries if isinstance(entry, SkippedFile)]
        found |= {str(file.path): (root, file) for file in files if str(file.path) not in found}
        problems += [
            Problem(p.relative, str(p.reason), p.reason.remedy, skipped=True) for p in passed
        ]
        gone = list(_vanished(root, known, {str(file.path) for file in files}, passed))
        if gone and prune is None and not files:
            notes.append(
                f"{printable(str(root))} is empty now; its {len(gone)} files stay in the store "
                "(`--prune` removes them)"
            )
        elif prune is not False:
            vanished += gone
    targets = []
    unchanged = []
    for root, file in found.values():
        record = known.get(str(file.path))
        if record is None or not _same(record, file, options):
            targets.append(Target(file, root, record))
        else:
            problems += record.problems
            unchanged.append(record.path)
    if not found and not vanished:
        notes.append("no files to ingest were found; `-v` lists what was skipped")
    return Plan(
        tuple(targets),
        tuple(dict.fromkeys(vanished)),
        tuple(unchanged),
        tuple(problems),
        tuple(notes),
    )


def absolute(path: Path) -> Path:
    """A path given by a person, made absolute; raises UsageError where there is nothing."""
    if not os.path.lexists(path):
        raise UsageError(f"no such file or folder: {printable(str(path))}", "check the path")
    return Path(os.path.realpath(path) if path.is_dir() else path.absolute())


def _vanished(
    root: Path,
    known: Mapping[str, FileRecord],
    present: set[str],
    passed: Iterable[SkippedFile],
) -> Iterator[str]:
    """Known paths under a root that were not found; what cannot be looked into has not vanished."""
    unreadable = tuple(
        os.path.join(root, entry.relative.lstrip("/"))  # noqa: PTH118  # names may end in "/"
        for entry in passed
        if entry.reason == SkipReason.UNREADABLE
    )
    for path in known:
        below = path == str(root) or path.startswith(f"{str(root).rstrip('/')}/")
        if below and path not in present and not path.startswith(unreadable):
            yield path


def _same(record: FileRecord, file: FoundFile, options: LoadOptions) -> bool:
    """Whether size, date and loader are those of the last look."""
    seen = (record.size, record.mtime_ns, record.loader)
    return seen == (file.size, file.mtime_ns, loader_version(file.path.name, options))
