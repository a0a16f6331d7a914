"""reStructuredText: sections, paragraphs, lists, notes, tables and code, as docutils parts them.

A list's items are lines that begin with "- " or "1. ", what belongs to one indented below it; notes
begin with the word that names them. A paragraph is one line, however the source was wrapped.
"""

from dataclasses import dataclass
from typing import Any

from ingest.loaders.builder import Builder
from ingest.loaders.decode import decode, one_line, tidy_lines
from ingest.loaders.options import LoadOptions
from ingest.types import Document

# Nodes are known here by the names of docutils' classes.
_HIDDEN = frozenset((
    "comment", "substitution_definition", "target", "image", "pending", "decoration", "meta", "raw",
    "label", "colspec",
))  # fmt: skip
_METADATA = {
    "author": "author",
    "authors": "author",
    "date": "date",
    "tags": "tags",
    "keywords": "tags",
    "language": "language",
}
_DEEPEST_INDENT = 8  # levels of lists
_DEEPEST_MARKER = 4  # columns that lines below a marker are indented


def load_rst(data: bytes, source: str, options: LoadOptions) -> tuple[Document, ...]:
    """One document, titled by its first heading."""
    from ingest.loaders import doctree  # docutils takes a while to load

    builder = Builder(options)
    tree = doctree.parse(decode(data))
    _Walk(builder).take(tree)
    return (builder.document(source, builder.first_heading, _metadata(tree)),)


@dataclass(slots=True)
class _Walk:
    """Where in the document the walk stands."""

    builder: Builder
    level: int = 0  # of the section around it
    depth: int = 0  # of the lists around it
    marker: str = ""  # what the next line begins with

    def take(self, node: Any) -> None:
        """Add what a node shows, by the method that is called like docutils' class for it."""
        if node.tagname not in _HIDDEN:
            getattr(self, f"take_{node.tagname}", self.take_inside)(node)

    def take_inside(self, node: Any) -> None:
        """Add the nodes in another."""
        for inner in node.children:
            self.take(inner)

    def take_line(self, node: Any) -> None:
        """Add a paragraph or another node of inline text."""
        self._add(one_line(_words(node)))

    take_paragraph = take_rubric = take_caption = take_subtitle = take_line

    def take_section(self, node: Any) -> None:
        """Add a section."""
        self.level += 1
        self.take_inside(node)
        self.level -= 1

    def take_title(self, node: Any) -> None:
        """Add the title of a section, or that of a topic as a line."""
        if node.parent.tagname == "section":
            self.builder.heading(self.level, _words(node))
        else:
            self.take_line(node)

    def take_list(self, node: Any) -> None:
        """Add a list of any kind."""
        self._flush()
        outer = self.marker
        self.depth += 1
        for number, item in enumerate(node.children, start=node.get("start", 1)):
            self.marker = f"{number}. " if node.tagname == "enumerated_list" else "- "
            self.take(item)
        self.marker = outer
        self.depth -= 1
        if not self.depth:
            self.builder.end()

    take_bullet_list = take_enumerated_list = take_definition_list = take_list
    take_field_list = take_option_list = take_list

    def take_definition_list_item(self, node: Any) -> None:
        """Add terms, and what they mean indented below them."""
        *terms, meaning = node.children
        self.marker = ""
        self._add(" : ".join(one_line(_words(term)) for term in terms))
        self.depth += 1
        self.take(meaning)
        self.depth -= 1

    def take_named(self, node: Any) -> None:
        """Add a field, an option or a footnote: its name, and behind that its text."""
        name, *rest = node.children
        words = one_line(name.astext())
        self.marker = f"[{words}] " if name.tagname == "label" else f"{words}: "
        for inner in rest:
            self.take(inner)
        self.marker = ""

    take_field = take_option_list_item = take_footnote = take_citation = take_named

    def take_note(self, node: Any) -> None:
        """Add an admonition."""
        titled = node.tagname == "admonition"
        label = one_line(_words(node.children[0])) if titled else node.tagname.capitalize()
        self.marker += f"{label}: "
        for inner in node.children[titled:]:
            self.take(inner)
        self._flush()

    take_attention = take_caution = take_danger = take_error = take_hint = take_note
    take_important = take_tip = take_warning = take_admonition = take_note

    def take_line_block(self, node: Any) -> None:
        """Add lines that are kept apart."""
        self._add(tidy_lines(node.astext()))

    def take_attribution(self, node: Any) -> None:
        """Add who said what stands above."""
        self._add(f"— {one_line(_words(node))}")

    def take_code(self, node: Any) -> None:
        """Add preformatted text."""
        self._flush()
        self.builder.code(node.astext())

    take_literal_block = take_doctest_block = take_math_block = take_code

    def take_table(self, node: Any) -> None:
        """Add a table with its caption."""
        self._flush()
        rows = list(node.findall(lambda inner: inner.tagname == "row"))
        captions = [_words(inner) for inner in node.children if inner.tagname == "title"]
        self.builder.table(
            ([_words(cell) for cell in row.children] for row in rows),
            header_rows=sum(row.parent.tagname == "thead" for row in rows),
            caption="".join(captions),
        )

    def take_system_message(self, node: Any) -> None:
        """Add the source of what docutils could not parse."""
        for inner in node.children:
            if inner.tagname == "literal_block":
                self.take_code(inner)

    def _add(self, text: str) -> None:
        """Add a line of a list, or a paragraph outside of lists."""
        line = self.marker + text if text else self.marker.rstrip(": ")
        if self.depth:
            self.builder.line("  " * min(self.depth - 1, _DEEPEST_INDENT) + line)
            self.marker = " " * min(len(self.marker), _DEEPEST_MARKER)
        else:
            self.builder.prose(line)
            self.marker = ""

    def _flush(self) -> None:
        """Let a marker stand alone where no line of text follows it."""
        if self.marker.strip():
            self._add("")


def _words(node: Any) -> str:
    """The text in a node, with the names of footnotes in brackets."""
    if node.tagname == "#text":
        return str(node)
    if node.tagname in ("image", "system_message"):
        return ""
    words = str(node.child_text_separator).join(map(_words, node.children))
    numbered = node.tagname in ("footnote_reference", "citation_reference")
    return f"[{words}]" if numbered else words


def _metadata(tree: Any) -> dict[str, str]:
    """What the fields below the title say: author, date, tags and language."""
    first = _first(tree)
    if first is not None and first.tagname == "section":
        first = _first(first)
    if first is None or first.tagname != "field_list":
        return {}
    fields = {field[0].astext().lower(): field[1].astext() for field in first.children}
    return {_METADATA[name]: fields[name] for name in _METADATA if name in fields}


def _first(node: Any) -> Any:
    """The first node in another that is shown below its title; None if there is none."""
    before = _HIDDEN | {"title", "system_message"}
    return next((inner for inner in node.children if inner.tagname not in before), None)
