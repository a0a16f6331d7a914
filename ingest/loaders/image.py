"""Pictures: the text that is recognised in them, where that is asked for."""

from ingest.errors import LoadError, UnsupportedFile
from ingest.loaders import ocr
from ingest.loaders.builder import Builder
from ingest.loaders.options import LoadOptions
from ingest.loaders.pdf_blocks import write_pages
from ingest.loaders.pdf_layout import lines_of
from ingest.loaders.pdf_pages import lines_apart
from ingest.types import Document


def load_image(data: bytes, source: str, options: LoadOptions) -> tuple[Document, ...]:
    """One document, with a page for each picture in the file (TIFF may hold several).

    Raises UnsupportedFile without `ocr`, and LoadError where it finds no text.
    """
    if not options.ocr:
        raise UnsupportedFile("a picture: not read", "to read text in it: `rag ingest --ocr PATH`")
    pages = ocr.recognised(data, options).rstrip("\f").split("\f")
    if not any(map(str.strip, pages)):
        raise LoadError("no text found in this picture", "check `ingest.ocr_languages`")
    builder = Builder(options)
    write_pages([lines_of(lines_apart(page)) for page in pages], (), builder)
    return (builder.document(source),)
