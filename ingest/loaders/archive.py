"""Archives and compressed files: what they hold, one file after the other, and never on disk.

No more is unpacked than is allowed, whatever sizes an archive declares.
"""

import bz2
import gzip
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from io import BufferedIOBase, BytesIO
from pathlib import PurePosixPath
from typing import IO, NoReturn

from ingest.errors import LoadError, UnsupportedFile
from ingest.loaders.options import LoadOptions, Member, border, check_file_size, check_members
from ingest.loaders.package import share_bytes

_COMPRESSIONS = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open))
_ENCRYPTED, _UTF8_NAME = 0x1, 0x800  # flags of a file in a zip archive
_HINT = "unpack it yourself, or leave it out with .ragignore"
_border = partial(border, "cannot be unpacked", _HINT)


def load_zip(data: bytes, _source: str, options: LoadOptions) -> Iterator[Member]:
    """The files of a zip archive."""
    with checked_zip(data, options) as archive:
        for info in archive.infolist():
            name = info.filename
            if not info.flag_bits & _UTF8_NAME:
                name = _name(name.encode("cp437"), "cp437")
            if stat.S_ISLNK(info.external_attr >> 16):
                yield Member(name, _refuse_link)
            elif not info.is_dir():
                yield Member(name, partial(_unpacked, partial(_opened, archive, info), options))


def load_tar(data: bytes, _source: str, options: LoadOptions) -> Iterator[Member]:
    """The files of a tar archive, compressed or not. Raises LoadError where it is damaged, after
    what comes before that."""
    stream = _Metered(_decompressed(data), options.max_unpacked)
    # Read block by block: the last one then shows whether the archive ended where it should.
    with _border(), tarfile.open(fileobj=stream, mode="r|", bufsize=tarfile.BLOCKSIZE) as archive:
        for count, info in enumerate(archive, start=1):
            check_members(count, options)
            name = _name(info.name.encode("utf-8", "surrogateescape"), "cp1252")
            if info.isreg():
                yield Member(name, partial(_unpacked, partial(archive.extractfile, info), options))
            elif not info.isdir():
                yield Member(name, _refuse_link)
    if stream.last.strip(b"\0") or stream.count % tarfile.BLOCKSIZE:
        raise LoadError("damaged: a part of it is no archive", _HINT)


def load_compressed(data: bytes, source: str, options: LoadOptions) -> Iterator[Member]:
    """The one file in a compressed file, which has its name without the last suffix."""
    yield Member(
        PurePosixPath(source).stem, partial(_unpacked, partial(_decompressed, data), options)
    )


def checked_zip(data: bytes, options: LoadOptions) -> zipfile.ZipFile:
    """An open zip archive within the limits. Raises LoadError.

    The sizes it declares can be counted, because no more than them is ever read.
    """
    with _border():
        archive = zipfile.ZipFile(BytesIO(data))
    files = archive.infolist()
    check_members(len(files), options)
    if sum(file.file_size for file in files) > options.max_unpacked:
        raise _too_large(options.max_unpacked)
    if share_bytes(files):
        raise LoadError("damaged: files in it overlap", _HINT)
    return archive


class _Metered(BufferedIOBase):
    """A stream of which no more than `limit` bytes can be read.

    `count` says how many were read, and `last` is what came last.
    """

    def __init__(self, stream: BufferedIOBase, limit: int) -> None:
        self.count = 0
        self.last = b""
        self._stream = stream
        self._limit = limit

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes; raises LoadError beyond the limit."""
        self.last = self._stream.read(size)
        self.count += len(self.last)
        if self.count > self._limit:
            raise _too_large(self._limit)
        return self.last


def _decompressed(data: bytes) -> BufferedIOBase:
    """A stream of what was compressed, in the way that the first bytes tell; else of the bytes."""
    for mark, opened in _COMPRESSIONS:
        if data.startswith(mark):
            return opened(BytesIO(data))
    return BytesIO(data)


def _opened(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    if info.flag_bits & _ENCRYPTED:
        raise LoadError("encrypted", "unpack it with its password")
    return archive.open(info)


def _unpacked(
    opened: Callable[[], IO[bytes] | BufferedIOBase | None], options: LoadOptions
) -> bytes:
    """All of a file, if it is no larger than allowed."""
    with _border():
        file = opened()
        data = file.read(options.max_file + 1) if file else b""
    check_file_size(len(data), options.max_file)
    return data


def _refuse_link() -> NoReturn:
    raise UnsupportedFile("not a regular file", "only regular files are read")


def _name(raw: bytes, legacy: str) -> str:
    """A file's name, in UTF-8 or else in the encoding that was usual before."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode(legacy, "replace")


def _too_large(limit: int) -> LoadError:
    return LoadError(
        f"unpacks to more than {limit / 1e6:g} MB", "raise `ingest.max_unpacked` (bytes)"
    )
