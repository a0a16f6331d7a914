"""Documents that are zip files inside: office files, books, and archives themselves.

A package is measured before any of it is unpacked, and no member gives more bytes than it declares.
XML is read only without a DOCTYPE: there is none in office files, and it is what defines entities
that multiply (the "billion laughs") or fetch other files.
"""

import io
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.parsers import expat

from ingest.errors import LoadError
from ingest.loaders.options import LoadOptions, border

AGAIN = "open and save it again"
OLE_MAGIC = bytes.fromhex("D0CF11E0A1B11AE1")  # a file system in a file, older than zip packages
_OLE_STREAMS = {
    "WordDocument": ("an old Word file (.doc)", "save it as .docx"),
    "PowerPoint Document": ("an old PowerPoint file (.ppt)", "save it as .pptx"),
    "Workbook": ("an old Excel file (.xls)", "give it the suffix .xls"),
}
_ENCRYPTED = 1  # the flag of a member
# Others unpack without a bound in between, and office programs use none of them.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)
_LOCAL_HEADER = 30  # the fewest bytes before a member's data
# What libraries read of a document: pictures and films are not unpacked for them.
_XML = (".xml", ".rels")
_OTHERS = (".bin", "mimetype")
_CUSTOM = "customXml/"  # of other programs; anything may be in it
# By what they are called here, the elements of Office and OpenDocument files, likeliest first.
_PROPERTIES = {
    "title": ("title",),
    "author": ("initial-creator", "creator"),
    "date": ("modified", "date", "created", "creation-date"),
    "tags": ("keywords", "keyword"),
    "language": ("language",),
}


@dataclass(frozen=True, slots=True)
class Package:
    """The files in an open zip file, by name; every method raises LoadError for what is damaged."""

    names: tuple[str, ...]
    _zip: zipfile.ZipFile

    def read(self, name: str) -> bytes:
        """A file in the package, at most as long as it declares to be."""
        try:
            info = self._zip.getinfo(name)
        except KeyError:
            raise LoadError(f"damaged: {name} is missing", AGAIN) from None
        if info.flag_bits & _ENCRYPTED:
            raise encrypted()
        if info.compress_type not in _METHODS:
            raise LoadError(f"{name} is packed in an unusual way", "pack it again as a plain zip")
        try:
            with self._zip.open(info) as file:
                # With the length, for without it a damaged file is unpacked whole before it is cut.
                return file.read(info.file_size)
        except _DAMAGE as error:
            raise LoadError(f"damaged: {name} cannot be unpacked ({error})", AGAIN) from None

    def xml(self, name: str) -> Element:
        """The root of an XML file; names of elements and attributes are without namespaces.

        Of attributes that then have the same name, the one that had a namespace is kept.
        """
        data = self.read(name)
        _check_xml(name, data)
        root = ElementTree.fromstring(data)
        for element in root.iter():
            element.tag = _local(element.tag)
            # "{" sorts behind all letters.
            element.attrib = {_local(key): value for key, value in sorted(element.items())}
        return root

    def related(self, part: str = "") -> dict[str, str]:
        """The parts that a part of an Office file refers to, by kind ("styles"); "" is the whole.

        Parts that are not there are left out; of several of a kind, the first is kept.
        """
        folder, name = posixpath.split(part)
        relations = posixpath.join(folder, "_rels", f"{name}.rels")
        found: dict[str, str] = {}
        for relation in self.xml(relations) if relations in self.names else ():
            path = posixpath.join("/", folder, relation.get("Target", ""))
            target = posixpath.normpath(path).lstrip("/")
            if target in self.names:
                found.setdefault(relation.get("Type", "").rpartition("/")[2], target)
        return found

    def properties(self) -> tuple[str, dict[str, str]]:
        """The title of an office file, and its author, date, tags and language; "" for none."""
        name = "meta.xml" if "meta.xml" in self.names else self.related().get("core-properties")
        values: dict[str, str] = {}
        for element in self.xml(name).iter() if name else ():
            values.setdefault(element.tag, "")
            values[element.tag] += ", " * bool(values[element.tag]) + (element.text or "").strip()
        found = {
            field: next(filter(None, (values.get(tag) for tag in tags)), "")
            for field, tags in _PROPERTIES.items()
        }
        found["tags"] = re.sub(r"\s*[,;]\s*", ", ", found["tags"])
        return found.pop("title"), found

    def check_open_document(self) -> None:
        """Raise LoadError for an OpenDocument file with a password: its parts are noise."""
        manifest = "META-INF/manifest.xml"
        if manifest in self.names and b"encryption-data" in self.read(manifest):
            raise encrypted()

    def repacked(self) -> io.BytesIO:
        """A new package of the parts that libraries read, each checked and as long as it says."""
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as package:
            for name in self.names:
                if name.startswith(_CUSTOM) or not name.lower().endswith(_XML + _OTHERS):
                    continue
                data = self.read(name)
                if name.lower().endswith(_XML):
                    _check_xml(name, data)
                package.writestr(name, data)
        file.seek(0)
        return file


def open_package(data: bytes, options: LoadOptions) -> Package:
    """The package that a zip file's bytes hold, measured but not unpacked.

    Raises LoadError for bytes that are no zip file, and where the files in it are too many, too
    large or lie over each other.
    """
    if data.startswith(OLE_MAGIC):
        raise _ole_error(data)
    if not data.startswith(b"PK"):
        raise LoadError("not what its name says: it is no zip file", "check what the file is")
    with border("damaged or cut off", AGAIN):
        package = zipfile.ZipFile(io.BytesIO(data))
    _measure(package.infolist(), options)
    names = dict.fromkeys(info.filename for info in package.infolist())
    return Package(tuple(name for name in names if name and not name.endswith("/")), package)


def encrypted() -> LoadError:
    """The error for a file that is locked."""
    return LoadError("encrypted: it needs a password", "save a copy without a password")


def _measure(members: list[zipfile.ZipInfo], options: LoadOptions) -> None:
    """Raise LoadError unless the members keep the limits and each has its own place."""
    if len(members) > options.max_members:
        raise LoadError(
            f"{len(members):,} files in it, more than {options.max_members:,}",
            "raise `ingest.max_members`",
        )
    size = sum(member.file_size for member in members)
    if size > options.max_unpacked:
        raise LoadError(
            f"{size / 1e6:,.0f} MB unpacked, more than {options.max_unpacked / 1e6:,.0f} MB",
            "raise `ingest.max_unpacked` (bytes)",
        )
    if share_bytes(members):
        raise LoadError("files in it share their bytes, as in a zip bomb", "leave it out")


def share_bytes(members: Iterable[zipfile.ZipInfo]) -> bool:
    """Whether files lie over each other: so a small archive would hold petabytes.

    Fifield 2019: a better zip bomb, https://www.bamsoftware.com/hacks/zipbomb/
    """
    spans = sorted((member.header_offset, member.compress_size) for member in members)
    return any(
        start + _LOCAL_HEADER + size > below for (start, size), (below, _) in pairwise(spans)
    )


def _ole_error(data: bytes) -> LoadError:
    """What to say of a file of the kind that was there before zip packages."""
    if "EncryptedPackage".encode("utf-16-le") in data:
        return encrypted()
    for stream, error in _OLE_STREAMS.items():
        if stream.encode("utf-16-le") in data:
            return LoadError(*error)
    return LoadError("not what its name says: an old Office file", "save it in its new format")


def _check_xml(name: str, data: bytes) -> None:
    """Raise LoadError for XML that has a DOCTYPE, or is damaged: libraries may hang on it."""

    def refuse(*_: object) -> None:
        raise LoadError(f"{name} has a DOCTYPE: XML that has one is refused", AGAIN)

    parser = expat.ParserCreate(None, "}")
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise LoadError(f"damaged: {name} is no XML ({error})", AGAIN) from None


def _local(name: str) -> str:
    return name.rpartition("}")[2]
