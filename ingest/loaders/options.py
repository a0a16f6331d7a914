"""What a loader is told and how much one file may cost; what it gives besides documents."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ingest.errors import LoadError
from ingest.loaders.decode import one_line


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Limits for one file, or one file inside an archive; each is the setting `ingest.<name>`.

    `max_seconds` and `max_memory` (bytes beyond what the idle worker holds) are kept by the worker
    process; the others by the loaders: `max_file` (bytes), `max_pages`, `max_text` (characters of
    one document), and for archives, office files and all else that unpacks `max_unpacked` (bytes)
    and `max_members`. `ocr` reads the text off pages that are pictures, in the languages of
    `ocr_languages` (tesseract's names, joined by +).
    """

    max_seconds: float = 60.0
    max_memory: int = 1 << 30
    max_pages: int = 5_000
    max_text: int = 20_000_000
    max_file: int = 200_000_000
    max_unpacked: int = 1_000_000_000
    max_members: int = 10_000
    ocr: bool = False
    ocr_languages: str = "eng"


DEFAULT_OPTIONS = LoadOptions()


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside a file (an archive, a mail), to be read by its own loader.

    `name` is its path inside as the file gives it. `read` unpacks it, or raises LoadError; it is
    called before the next member is asked for, and only if there is a loader for the name.
    """

    name: str
    read: Callable[[], bytes]


def check_file_size(size: int, max_file: int) -> None:
    """Raise LoadError if a file has more bytes than allowed."""
    if size > max_file:
        raise LoadError(f"larger than {max_file / 1e6:g} MB", "raise `ingest.max_file` (bytes)")


def check_members(count: int, options: LoadOptions) -> None:
    """Raise LoadError if a file holds more files than allowed."""
    if count > options.max_members:
        raise LoadError(
            f"holds more than {options.max_members:,} files", "raise `ingest.max_members`"
        )


def check_text_length(length: int, options: LoadOptions) -> None:
    """Raise LoadError if a document's text is longer than allowed."""
    if length > options.max_text:
        raise LoadError(
            f"more than {options.max_text:,} characters of text",
            "raise `ingest.max_text` (characters), or split the file",
        )


@contextmanager
def border(what: str, hint: str, shown: Callable[[BaseException], str] = str) -> Iterator[None]:
    """Whatever a library raises for a damaged file, as a LoadError that tells `what` it is."""
    try:
        yield
    except (LoadError, MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a panic of Rust code is no Exception
        raise LoadError(f"{what}: {one_line(shown(error))[:200]}", hint) from None


def named(error: BaseException) -> str:
    """An error with its class, for those that say little without it."""
    return f"{type(error).__name__}: {error}"
