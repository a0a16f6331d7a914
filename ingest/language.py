"""The language of a document, told from its letters (py3langid, after Lui & Baldwin 2012)."""

from collections.abc import Iterator
from functools import cache
from typing import Any

from ingest.types import Document

# Those in which people write documents: of dialects and kin the detector is less sure.
_LANGUAGES = (
    "af ar bg bn ca cs da de el en es et eu fa fi fr ga gl he hi hr hu hy id is it ja ka kk km kn "
    "ko lt lv mk ml mr ms nl no pl pt ro ru sk sl sq sr sv sw ta te th tl tr uk ur vi zh"
)
_SAMPLE = 4_000  # characters; more adds nothing
_FEWEST = 24  # bytes of letters: a script of more signs needs fewer of them


def language_of(document: Document) -> str:
    """The ISO 639-1 code of the language of a document's prose; what it declares if that is short.

    It is "" where neither tells.
    """
    sample = " ".join(_prose(document))[:_SAMPLE]
    if len("".join(filter(str.isalpha, sample)).encode()) < _FEWEST:
        return document.metadata.get("language", "").lower().partition("-")[0][:3]
    return str(_identifier().classify(sample)[0])


def _prose(document: Document) -> Iterator[str]:
    """The text outside code and headings, from the start on: the headings of code are code too."""
    length = 0
    for block in document.blocks:
        if block.kind not in ("code", "heading") and length < _SAMPLE:
            length += min(block.end - block.start, _SAMPLE)
            yield document.text[block.start : min(block.end, block.start + _SAMPLE)]


@cache
def _identifier() -> Any:
    import py3langid

    py3langid.set_languages(_LANGUAGES.split())
    return py3langid
