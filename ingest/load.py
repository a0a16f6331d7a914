"""A file to documents: the format is told by the file's name, and names the loader.

To add a format, write `load_x(data, source, options)` in ingest/loaders/x.py and give it a row in
FORMATS. What an archive or a mail holds is read as if it were a file of its own.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ingest.errors import LoadError, UnsupportedFile
from ingest.language import language_of
from ingest.loaders import corpus, docx, epub, html, markdown, odt, pdf, pptx, sheet, text
from ingest.loaders.decode import one_line
from ingest.loaders.options import DEFAULT_OPTIONS, LoadOptions, Member, check_text_length
from ingest.types import Document

__all__ = ["DEFAULT_OPTIONS", "FORMATS", "LoadOptions", "format_of", "load", "loader_version"]

Loader = Callable[[bytes, str, LoadOptions], Iterable[Document | Member]]


@dataclass(frozen=True, slots=True)
class Format:
    """How files of a media type are read. `names` are suffixes with their dot, or whole names.

    Raise `version` when the loader makes other text, blocks or metadata of the same file: such
    files are then loaded again by the next ingest.
    """

    load: Loader
    version: int
    names: tuple[str, ...]


FORMATS: Mapping[str, Format] = {
    "text/plain": Format(text.load_text, 2, (".txt", ".text", ".log", "readme", "license")),
    "text/markdown": Format(markdown.load_markdown, 2, (".md", ".markdown", ".mkd")),
    "text/html": Format(html.load_html, 2, (".html", ".htm", ".xhtml")),
    "application/pdf": Format(pdf.load_pdf, 2, (".pdf",)),
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": Format(
        docx.load_docx, 1, (".docx", ".docm", ".dotx")
    ),
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": Format(
        pptx.load_pptx, 1, (".pptx", ".pptm", ".ppsx")
    ),
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": Format(
        sheet.load_sheet, 1, (".xlsx", ".xlsm")
    ),
    "application/vnd.ms-excel.sheet.binary.macroenabled.12": Format(
        sheet.load_sheet, 1, (".xlsb",)
    ),
    "application/vnd.ms-excel": Format(sheet.load_sheet, 1, (".xls",)),
    "application/vnd.oasis.opendocument.spreadsheet": Format(sheet.load_sheet, 1, (".ods",)),
    "application/vnd.oasis.opendocument.text": Format(odt.load_odt, 1, (".odt",)),
    "application/epub+zip": Format(epub.load_epub, 1, (".epub",)),
    "application/jsonl": Format(corpus.load_corpus, 2, (".jsonl",)),
}
_MEDIA_TYPES = {name: media_type for media_type, f in FORMATS.items() for name in f.names}
# A BEIR folder's queries have the form of its corpus; read as documents, they would answer
# themselves.
_NOT_DOCUMENTS = frozenset({"queries.jsonl"})
_DEEPEST = 3  # archives in archives: a bomb may nest without end


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read next: should it be the last that is heard, this is what went wrong."""

    source: str


@dataclass(frozen=True, slots=True)
class Unread:
    """A file, or a part of one, that gave no document."""

    source: str
    error: LoadError


def format_of(name: str) -> str:
    """The media type of files of this name, or "" where there is no loader for them."""
    lowered = name.lower()
    if lowered in _NOT_DOCUMENTS:
        return ""
    suffixes = PurePosixPath(lowered).suffixes
    candidates = ("".join(suffixes[-2:]), "".join(suffixes[-1:]), lowered)
    return next((_MEDIA_TYPES[c] for c in candidates if c in _MEDIA_TYPES), "")


def loader_version(name: str, options: LoadOptions = DEFAULT_OPTIONS) -> str:
    """A fingerprint of the loader for files of this name: another one, and its output may differ.

    It is "" where there is no loader.
    """
    media_type = format_of(name)
    return f"{media_type};version={FORMATS[media_type].version}" if media_type else ""


def read_file(path: Path, max_file: int) -> bytes:
    """The bytes of a regular file; what became a pipe or device since it was found is not read.

    Raises LoadError, whose message does not repeat the file's name.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise LoadError("not a regular file", "only regular files are read")
            data = file.read(max_file + 1)
    except OSError as error:
        raise LoadError(f"cannot be read: {error.strerror}", "check its permissions") from None
    if len(data) > max_file:
        raise LoadError(f"larger than {max_file / 1e6:g} MB", "raise `ingest.max_file` (bytes)")
    return data


def load(
    data: bytes, source: str, options: LoadOptions = DEFAULT_OPTIONS, skip: Set[str] = frozenset()
) -> Iterator[Reading | Document | Unread]:
    """The documents in a file, each with text, and what could not be read of it.

    `source` names the file; what is inside an archive is named `archive.zip/path`. Parts named in
    `skip` are passed over. Nothing is raised for what a file does wrong. Time and memory are not
    limited here: for that, see `ingest.worker.Worker`.
    """
    return _load(data, source, options, skip, depth=0)


def _load(
    data: bytes, source: str, options: LoadOptions, skip: Set[str], depth: int
) -> Iterator[Reading | Document | Unread]:
    if source in skip:
        return
    yield Reading(source)
    empty = True
    try:
        for part in _parts(data, source, options):
            empty = False
            if isinstance(part, Member):
                yield from _load_member(part, source, options, skip, depth + 1)
            else:
                yield _with_language(part)
        if empty:
            raise LoadError("no text", "the file is empty or holds nothing but markup")
    except LoadError as error:
        yield Unread(source, error)
    except Exception as error:  # noqa: BLE001 - the border to whatever a file makes go wrong
        yield Unread(source, _failure(error, options))


def _load_member(
    member: Member, source: str, options: LoadOptions, skip: Set[str], depth: int
) -> Iterator[Reading | Document | Unread]:
    name = f"{source}/{member.name}"
    if member.error:
        yield Unread(name, member.error)
    elif depth > _DEEPEST:
        yield Unread(name, LoadError("too deep: an archive in an archive", "unpack it first"))
    else:
        yield from _load(member.data, name, options, skip, depth)


def _parts(data: bytes, source: str, options: LoadOptions) -> Iterator[Document | Member]:
    """What the loader gives, less the documents without text."""
    media_type = format_of(PurePosixPath(source).name)
    if not media_type:
        raise UnsupportedFile("unsupported type", f"supported: {' '.join(sorted(_MEDIA_TYPES))}")
    for part in FORMATS[media_type].load(data, source, options):
        if isinstance(part, Document):
            check_text_length(len(part.text), options)
        if isinstance(part, Member) or part.blocks:
            yield part


def _with_language(document: Document) -> Document:
    metadata = {name: value for name, value in document.metadata.items() if name != "language"}
    if language := language_of(document):
        metadata["language"] = language
    return replace(document, metadata=metadata)


def _failure(error: Exception, options: LoadOptions) -> LoadError:
    """An unforeseen error as a LoadError."""
    if isinstance(error, MemoryError):
        return LoadError(
            f"needs more than {options.max_memory / 2**20:,.0f} MiB of memory",
            "raise `ingest.max_memory` (bytes), or leave it out with .ragignore",
        )
    reason = one_line(f"{type(error).__name__}: {error}")[:200]
    return LoadError(f"could not be read: {reason}", "leave it out with .ragignore")
