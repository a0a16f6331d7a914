"""Text and its blocks, written piece by piece: what most loaders make a document with.

    builder = Builder()
    builder.heading(1, "Prices")
    builder.table([("Plan", "Price"), ("Basic", "5")], header_rows=1)
    return builder.document(source)

Blocks are parted by blank lines. The lines of a list and the rows of a table are added one by one
and join into one block; a row is its cells joined by " | ".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ingest.loaders.decode import clean, one_line
from ingest.loaders.metadata import described
from ingest.loaders.options import DEFAULT_OPTIONS, LoadOptions, check_text_length
from ingest.loaders.text import paragraphs
from ingest.types import Block, BlockKind, Document

_DEEPEST_ITEM = 8  # lists in lists: what is deeper is indented no more
_JOINED: tuple[BlockKind, ...] = ("list", "table")


class Builder:
    """A document's text so far; every method adds to its end, and adds nothing for blank text.

    Each raises LoadError as soon as there is more text than `options` allow.
    """

    def __init__(self, options: LoadOptions = DEFAULT_OPTIONS) -> None:
        self._options = options
        self._pieces: list[str] = []
        self._length = 0
        self._joins = False
        self._page_starts: list[int] = []
        self.blocks: list[Block] = []

    @property
    def first_heading(self) -> str:
        """The label of the first heading of level 1, or ""."""
        return next((b.label for b in self.blocks if b.level == 1), "")

    def heading(self, level: int, text: str) -> None:
        """A heading of level 1 to 6; deeper ones count as 6."""
        label = one_line(text)
        self._add("heading", label, level=min(max(level, 1), 6), label=label)

    def prose(self, text: str) -> None:
        """A paragraph; its line breaks stay."""
        self._add("prose", clean(text).strip())

    def text(self, text: str) -> None:
        """Plain text: each of its paragraphs a block of the kind that its shape suggests."""
        text = clean(text)
        for block in paragraphs(text):
            self.end()
            self._add(block.kind, text[block.start : block.end])
        self.end()

    def code(self, text: str) -> None:
        """Preformatted text, its indentation kept."""
        self._add("code", clean(text).strip("\n").rstrip())

    def line(self, text: str) -> None:
        """A line of a list, its indentation and marker in front; it joins the line before it."""
        self._add("list", clean(text).rstrip())

    def item(self, text: str, marker: str = "- ", depth: int = 0) -> None:
        """An item of a list, `depth` lists deep in others; its lines stand below each other."""
        first = "  " * min(depth, _DEEPEST_ITEM) + marker
        self.line(first + text.replace("\n", "\n" + " " * len(first)) if text else "")

    def table(
        self, rows: Iterable[Sequence[str]], *, header_rows: int = 0, caption: str = ""
    ) -> None:
        """A whole table: `header_rows` of its rows, and its caption, go with every part of it."""
        self.end()
        if caption:
            self.row([caption], header=True)
        for number, row in enumerate(rows):
            self.row(row, header=number < header_rows)
        self.end()

    def row(self, cells: Sequence[str], *, header: bool = False) -> None:
        """A row of a table; it joins the row before it. Empty cells at its end are left out."""
        text = " | ".join(map(one_line, cells)).rstrip(" |")
        begun = self._joins and self.blocks[-1].kind == "table"
        if not text:
            return
        # A header below other rows (of a table within the table) is a row like any other.
        goes_on = not begun or self.blocks[-1].header == self._length - self.blocks[-1].start
        self._add("table", text)
        if header and goes_on:
            block = self.blocks[-1]
            self.blocks[-1] = replace(block, header=block.end - block.start)

    def end(self) -> None:
        """End the list or table: what follows begins a block of its own."""
        self._joins = False

    def page(self) -> None:
        """Begin a page (or a slide); a document either has pages from its start or none."""
        self.end()
        self._page_starts.append(self._length + (2 if self.blocks else 0))

    def document(
        self,
        source: str,
        title: str = "",
        metadata: Mapping[str, str] = {},
        page_labels: Sequence[str] = (),
    ) -> Document:
        """The document as written; `metadata` is brought into the form of all formats."""
        # A page without text ends where the document ends.
        starts = tuple(min(start, self._length) for start in self._page_starts)
        text, blocks, about = "".join(self._pieces), tuple(self.blocks), described(metadata)
        return Document(
            source, one_line(title), "", text, blocks, starts, tuple(page_labels), about
        )

    def _add(self, kind: BlockKind, text: str, *, level: int = 0, label: str = "") -> None:
        if not text.strip():
            return
        joins = self._joins and self.blocks[-1].kind == kind
        separator = "\n" if joins else "\n\n" if self.blocks else ""
        start = self._length + len(separator)
        self._pieces += (separator, text)
        self._length = start + len(text)
        check_text_length(self._length, self._options)
        if joins:
            self.blocks[-1] = replace(self.blocks[-1], end=self._length)
        else:
            self.blocks.append(Block(start, self._length, kind, level, label))
        self._joins = kind in _JOINED
