"""A file to documents: the format is told by the file's name, and names the loader.

To add a format, write `load_x(data, source, options)` in ingest/loaders/x.py and give it a row in
FORMATS. The media type of its documents and their language are added here. What an archive or a
mail holds is read as if it were a file of its own.
"""

import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from ingest.discover import reason_to_skip
from ingest.errors import LoadError, UnsupportedFile
from ingest.language import language_of
from ingest.loaders import (
    archive,
    code,
    docx,
    epub,
    html,
    json,
    mail,
    markdown,
    notebook,
    ocr,
    odt,
    pdf,
    pptx,
    rst,
    sheet,
    table,
    text,
)
from ingest.loaders.decode import one_line
from ingest.loaders.options import (
    DEFAULT_OPTIONS,
    LoadOptions,
    Member,
    check_file_size,
    check_text_length,
    named,
)
from ingest.types import Document

__all__ = ["DEFAULT_OPTIONS", "FORMATS", "LoadOptions", "format_of", "load", "loader_version"]

Loader = Callable[[bytes, str, LoadOptions], Iterable[Document | Member]]


@dataclass(frozen=True, slots=True)
class Format:
    """How files of a media type are read. `names` are suffixes with their dot, or whole names.

    Raise `version` when the loader makes other text, blocks or metadata of the same file: such
    files are then loaded again by the next ingest. So they are when `variant`, which names what
    else the loader's output depends on, tells something else.
    """

    load: Loader
    version: int
    names: tuple[str, ...]
    variant: Callable[[LoadOptions], str] = field(default=lambda _options: "")


_TAR_NAMES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_EXCEL = "application/vnd.ms-excel"
_OOXML = "application/vnd.openxmlformats-officedocument"
_OASIS = "application/vnd.oasis.opendocument"
_IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")
FORMATS: Mapping[str, Format] = {
    "text/plain": Format(text.load_text, 3, (".txt", ".text", ".log", "readme", "license")),
    "text/markdown": Format(markdown.load_markdown, 2, (".md", ".markdown", ".mkd")),
    "text/html": Format(html.load_html, 2, (".html", ".htm", ".xhtml")),
    "application/pdf": Format(pdf.load_pdf, 4, (".pdf",), pdf.variant),
    "image/*": Format(ocr.load_image, 1, _IMAGES, ocr.variant),
    "text/x-source": Format(code.load_code, 1, code.NAMES),
    "text/x-rst": Format(rst.load_rst, 1, (".rst", ".rest")),
    "text/csv": Format(table.load_table, 1, (".csv", ".tsv", ".tab")),
    "application/x-ipynb+json": Format(notebook.load_notebook, 1, (".ipynb",)),
    "message/rfc822": Format(mail.load_mail, 1, (".eml",)),
    "application/mbox": Format(mail.load_mailbox, 1, (".mbox",)),
    "application/zip": Format(archive.load_zip, 1, (".zip",)),
    "application/x-tar": Format(archive.load_tar, 1, _TAR_NAMES),
    "application/gzip": Format(archive.load_compressed, 1, (".gz", ".bz2", ".xz")),
    "application/json": Format(json.load_json, 1, (".json",)),
    "application/jsonl": Format(json.load_json_lines, 3, (".jsonl", ".ndjson")),
    f"{_OOXML}.wordprocessingml.document": Format(docx.load_docx, 1, (".docx", ".docm", ".dotx")),
    f"{_OOXML}.presentationml.presentation": Format(pptx.load_pptx, 1, (".pptx", ".pptm", ".ppsx")),
    f"{_OOXML}.spreadsheetml.sheet": Format(sheet.load_sheet, 1, (".xlsx", ".xlsm")),
    _EXCEL: Format(sheet.load_sheet, 1, (".xls",)),
    f"{_EXCEL}.sheet.binary.macroenabled.12": Format(sheet.load_sheet, 1, (".xlsb",)),
    f"{_OASIS}.spreadsheet": Format(sheet.load_sheet, 1, (".ods",)),
    f"{_OASIS}.text": Format(odt.load_odt, 1, (".odt",)),
    "application/epub+zip": Format(epub.load_epub, 1, (".epub",)),
}
_MEDIA_TYPES = {name: media_type for media_type, f in FORMATS.items() for name in f.names}
# A BEIR folder's queries have the form of its corpus; read as documents, they would answer
# themselves. Lock files are long lists that no person reads.
_NOT_DOCUMENTS = frozenset({"queries.jsonl", "qrels.tsv", "package-lock.json", "pnpm-lock.yaml"})
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


Part = Reading | Document | Unread


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
    if not media_type:
        return ""
    found = FORMATS[media_type]
    return f"{media_type};version={found.version}{found.variant(options)}"


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
    check_file_size(len(data), max_file)
    return data


def load(
    data: bytes, source: str, options: LoadOptions = DEFAULT_OPTIONS, skip: Set[str] = frozenset()
) -> Iterator[Part]:
    """The documents in a file, each with text, and what could not be read of it.

    `source` names the file; what is inside an archive is named `archive.zip/path`. Parts named in
    `skip` are passed over. Nothing is raised for what a file does wrong. Time and memory are not
    limited here: for that, see `ingest.worker.Worker`.
    """
    return _load(Member(source, lambda: data), options, skip, depth=0)


def _load(file: Member, options: LoadOptions, skip: Set[str], depth: int) -> Iterator[Part]:
    if file.name in skip:
        return
    yield Reading(file.name)
    names = Counter[str]()
    empty = True
    try:
        for part in _parts(file, options):
            empty = False
            if isinstance(part, Member):
                name = _distinct(_safe(part.name), names)
                member = replace(part, name=f"{file.name}/{name}")
                yield from _load_member(member, name, options, skip, depth + 1)
            else:
                yield part
        if empty:
            raise LoadError("no text", "the file is empty or holds nothing but markup")
    except LoadError as error:
        yield Unread(file.name, error)
    except Exception as error:  # noqa: BLE001 - the border to whatever a file makes go wrong
        yield Unread(file.name, failure(error, options))


def _load_member(
    file: Member, inside: str, options: LoadOptions, skip: Set[str], depth: int
) -> Iterator[Part]:
    """Load a member by the rules for files on disk; `inside` is its path below its archive."""
    if reason := reason_to_skip(inside):
        yield Unread(file.name, UnsupportedFile(reason, "unpack it and give it another name"))
    elif depth > _DEEPEST:
        yield Unread(file.name, LoadError("too deep: an archive in an archive", "unpack it first"))
    else:
        yield from _load(file, options, skip, depth)


def _safe(name: str) -> str:
    """A member's name as a path below its file, whatever it says of roots, drives and parents."""
    parts = map(one_line, re.sub(r"^[A-Za-z]:", "", name.replace("\\", "/")).split("/"))
    return "/".join(part for part in parts if part not in ("", ".", "..")) or "unnamed"


def _distinct(name: str, taken: Counter[str]) -> str:
    """The name, with a number behind its stem if another member has it."""
    taken[name] += 1
    if taken[name] == 1:
        return name
    path = PurePosixPath(name)
    return _distinct(str(path.with_stem(f"{path.stem} ({taken[name]})")), taken)


def _parts(file: Member, options: LoadOptions) -> Iterator[Document | Member]:
    """What the loader gives, less the documents without text."""
    media_type = format_of(PurePosixPath(file.name).name)
    if not media_type:
        raise UnsupportedFile("unsupported type", f"supported: {' '.join(sorted(_MEDIA_TYPES))}")
    for part in FORMATS[media_type].load(file.read(), file.name, options):
        if isinstance(part, Member):
            yield part
            continue
        check_text_length(len(part.text), options)
        if part.blocks:
            yield _completed(part, media_type)


def _completed(document: Document, media_type: str) -> Document:
    """A document with what is told alike of all formats: its media type and its language."""
    metadata = {name: value for name, value in document.metadata.items() if name != "language"}
    if language := language_of(document):
        metadata["language"] = language
    return replace(document, media_type=media_type, metadata=metadata)


def failure(error: Exception, options: LoadOptions) -> LoadError:
    """An unforeseen error as a LoadError."""
    if isinstance(error, MemoryError):
        return LoadError(
            f"needs more than {options.max_memory / 2**20:,.0f} MiB of memory",
            "raise `ingest.max_memory` (bytes), or leave it out with .ragignore",
        )
    reason = f"could not be read: {one_line(named(error))[:200]}"
    if isinstance(error, RecursionError):
        reason = "nested too deeply to be read"
    return LoadError(reason, "leave it out with .ragignore")
