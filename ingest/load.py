"""A file to documents: the loader is chosen by the file's suffix.

To add a format, write `load_x(data, source, limits)` in ingest/loaders and give it a media type in
LOADERS, a version in VERSIONS and its suffixes in SUFFIXES.
"""

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath

from ingest.errors import LoadError, UnsupportedFile
from ingest.loaders import corpus, html, markdown, pdf, text
from ingest.loaders.limits import DEFAULT_LIMITS, LoadLimits, check_text_length
from ingest.types import Document

__all__ = ["DEFAULT_LIMITS", "LOADERS", "LoadLimits", "is_supported", "load", "loader_version"]

Loader = Callable[[bytes, str, LoadLimits], tuple[Document, ...]]

LOADERS: Mapping[str, Loader] = {
    "text/plain": text.load_text,
    "text/markdown": markdown.load_markdown,
    "text/html": html.load_html,
    "application/pdf": pdf.load_pdf,
    "application/jsonl": corpus.load_corpus,
}
# Raise a loader's version when it makes other text or blocks of the same file: such files are then
# loaded again by the next ingest.
VERSIONS: Mapping[str, int] = {
    "text/plain": text.VERSION,
    "text/markdown": markdown.VERSION,
    "text/html": html.VERSION,
    "application/pdf": pdf.VERSION,
    "application/jsonl": corpus.VERSION,
}
SUFFIXES: Mapping[str, str] = {
    ".txt": "text/plain",
    ".text": "text/plain",
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".mkd": "text/markdown",
    ".html": "text/html",
    ".htm": "text/html",
    ".xhtml": "text/html",
    ".pdf": "application/pdf",
    ".jsonl": "application/jsonl",
}
# A BEIR folder's queries have the form of its corpus; read as documents, they would answer
# themselves.
_NOT_DOCUMENTS = frozenset({"queries.jsonl"})


def is_supported(name: str) -> bool:
    """Whether there is a loader for files of this name."""
    return name.lower() not in _NOT_DOCUMENTS and PurePath(name).suffix.lower() in SUFFIXES


def loader_version(name: str) -> str:
    """A fingerprint of the loader for files of this name: another one, and its output may differ.

    It is "" where there is no loader.
    """
    if not is_supported(name):
        return ""
    media_type = SUFFIXES[PurePath(name).suffix.lower()]
    return f"{media_type};version={VERSIONS[media_type]}"


def load(path: Path, source: str, limits: LoadLimits = DEFAULT_LIMITS) -> tuple[Document, ...]:
    """The documents in a file, each with text; `source` names a file that holds just one.

    Raises LoadError (UnsupportedFile where there is no loader), whose message does not repeat the
    file's name. Time and memory are not limited here: for that, see `ingest.worker.Worker`.
    """
    if not is_supported(path.name):
        raise UnsupportedFile("unsupported type", f"supported: {' '.join(SUFFIXES)}")
    loader = LOADERS[SUFFIXES[path.suffix.lower()]]
    documents = loader(_read(path, limits.max_file), source, limits)
    if not any(document.blocks for document in documents):
        raise LoadError("no text", "the file is empty or holds nothing but markup")
    check_text_length(max(len(document.text) for document in documents), limits)
    return documents


def _read(path: Path, max_file: int) -> bytes:
    """The bytes of a regular file; what became a pipe or device since it was found is not read."""
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
