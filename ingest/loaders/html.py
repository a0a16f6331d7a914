"""HTML: what a reader of the page's main part sees, as text with its structure.

Lists become lines that begin with "- " or "1. ", tables one line a row with cells joined by " | ".
Navigation, forms, scripts and hidden elements are left out. selectolax (lexbor) parses as browsers
do; the walk keeps its own stack, so no depth of nesting can exhaust Python's.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ingest.loaders.builder import Builder
from ingest.loaders.decode import decode, one_line
from ingest.loaders.options import LoadOptions
from ingest.types import Document

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

# The first of these that is there and holds text is the main part; `article` only if it is alone.
_MAIN = ("main", "[role=main]", "article", "div.body", "#content")
_DROPPED_TAGS = frozenset((
    "script", "style", "template", "noscript", "nav", "footer", "svg", "canvas", "iframe",
    "object", "embed", "audio", "video", "select", "option", "button", "input", "textarea",
    "datalist", "dialog", "head",
))  # fmt: skip
_DROPPED_ROLES = frozenset({"navigation", "search", "menu", "menubar", "toolbar", "dialog"})
_DROPPED_CLASSES = frozenset((
    "headerlink", "hash-link", "linenos", "sphinxsidebar", "related", "breadcrumb", "breadcrumbs",
    "skip-link", "sr-only", "visually-hidden", "screen-reader-text", "copybtn",
))  # fmt: skip
_CHROME_TAGS = frozenset({"header", "aside"})  # dropped only where no main part is marked
_CHROME_ROLES = frozenset({"banner", "contentinfo", "complementary"})
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.I)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCK_TAGS = frozenset((
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details",
    "dialog", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header",
    "hgroup", "hr", "legend", "li", "main", "p", "section", "summary", "table", "tbody", "td",
    "tfoot", "th", "thead", "tr",
))  # fmt: skip
_LISTS = frozenset({"ul", "ol", "menu", "dir"})
_LAYOUT = "table, h1, h2, h3, h4, h5, h6, pre"  # a table around these arranges the page
_FORM_CONTENT = "p, h1, h2, article, main, table"  # some sites wrap the whole page in a form
_BREAK = "\0"  # stands for <br> until white space is collapsed; no text holds it
_CHARSET = re.compile(
    rb"""(?:<meta[^>]{0,200}?charset|<\?xml[^>]{0,100}?encoding)\s*=\s*["']?([\w.:-]+)""", re.I
)
# lexbor's time grows with the square of the depth; browsers stop nesting at 512.
_DEEPEST = 2_000
_NESTING_TAG = re.compile(
    r"<(/?)(?!(?:p|li|dt|dd|tr|td|th|thead|tbody|tfoot|option|br|hr|img|input|meta|link|col|area"
    r"|base|embed|source|track|wbr|param)\b)[a-z][^<>]*(?<!/)>",
    re.I,
)
_SEPARATORS = ("|", "-", "–", "—", "·", "•", ":", "»", "::")
# What to say of a page, and the attribute of the first element that says it.
_METADATA = {
    "author": ("head meta[name=author]", "content"),
    "date": ("head meta[name=date], head meta[property='article:published_time']", "content"),
    "tags": ("head meta[name=keywords]", "content"),
    "language": ("html", "lang"),
}


def load_html(data: bytes, source: str, options: LoadOptions) -> tuple[Document, ...]:
    """One document, titled by `<title>` without the site's name, else its first h1."""
    builder = Builder(options)
    declared = _CHARSET.search(data[:4096])
    tree = write_html(decode(data, declared[1].decode() if declared else ""), builder)
    title = _title(tree, builder.first_heading)
    return (builder.document(source, title, _metadata(tree)),)


def write_html(markup: str, builder: Builder, *, whole: bool = False) -> "LexborHTMLParser":
    """Add what a page shows to a document; returned is the parsed page.

    Of a `whole` page no part is taken for the main one, and none for what is around it.
    """
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(_flattened(markup))
    before = len(builder.blocks)
    for root, is_main in [(tree.body, True)] if whole and tree.body else _roots(tree):
        page = _Page(builder)
        for node, opens in _steps(root, is_main):
            page.take(node, opens)
        page.flush()
        if len(builder.blocks) > before:
            break
    builder.end()
    return tree


def _flattened(markup: str) -> str:
    """Markup without the tags that nest deeper than any real page does; no text is lost."""
    if markup.count("<") <= _DEEPEST:
        return markup
    depth = 0

    def kept(tag: re.Match[str]) -> str:
        nonlocal depth
        depth = max(0, depth - 1) if tag[1] else depth + 1
        return tag[0] if depth + bool(tag[1]) <= _DEEPEST else ""

    return _NESTING_TAG.sub(kept, markup)


def _roots(tree: "LexborHTMLParser") -> Iterator[tuple["LexborNode", bool]]:
    """Where the main part may be, likeliest first, and whether it is marked as such."""
    for selector in _MAIN:
        found = tree.css(selector)
        if len(found) == 1 or (found and selector != "article"):
            yield found[0], True
    if tree.body:
        yield tree.body, False


def _steps(root: "LexborNode", is_main: bool) -> Iterator[tuple["LexborNode", bool]]:
    """Walk the shown nodes below `root` in document order; each element opens and then closes."""
    open_nodes = [root]
    node = root.first_child
    while open_nodes:
        if node is None:
            node = open_nodes.pop()
            yield node, False
            node = node.next if open_nodes else None
            continue
        if node.is_text_node:
            yield node, True
        elif node.is_element_node and not _is_dropped(node, is_main):
            yield node, True
            open_nodes.append(node)
            node = node.first_child
            continue
        node = node.next


def _is_dropped(node: "LexborNode", is_main: bool) -> bool:
    """Whether an element is hidden, or no part of what the page says."""
    tag = node.tag
    if tag in _DROPPED_TAGS:
        return True
    if tag == "form" and not node.css_first(_FORM_CONTENT):
        return True
    if tag in _CHROME_TAGS and not is_main and not _is_title_header(node):
        return True
    attributes = node.attributes
    return bool(attributes) and _is_marked_dropped(attributes, is_main)


def _is_marked_dropped(attributes: dict[str, str | None], is_main: bool) -> bool:
    """Whether an element's attributes say that it is hidden or no content."""
    if "hidden" in attributes or attributes.get("aria-hidden") == "true":
        return True
    if _HIDDEN_STYLE.search(attributes.get("style") or ""):
        return True
    role = attributes.get("role")
    if role in _DROPPED_ROLES or (role in _CHROME_ROLES and not is_main):
        return True
    return not _DROPPED_CLASSES.isdisjoint((attributes.get("class") or "").split())


def _is_title_header(node: "LexborNode") -> bool:
    """Whether a header holds the page's title and no navigation."""
    return bool(node.css_first("h1")) and not node.css_first("nav, form, ul")


@dataclass(slots=True)
class _Page:
    """Where in the page's structure the walk stands."""

    builder: Builder
    inline: list[str] = field(default_factory=list)  # of the line that is being read
    level: int = 0  # of the heading around it, else 0
    in_pre: bool = False
    in_table: bool = False
    in_head: bool = False  # of a table
    cells: list[str] = field(default_factory=list)
    data_cells: int = 0  # of the row, outside the table's head
    lists: list[int | None] = field(default_factory=list)  # the last number of an ol, None for ul
    marker: str = ""  # what the next line of a list begins with

    def take(self, node: "LexborNode", opens: bool) -> None:
        """Take one step of the walk: text, or an element that opens or closes."""
        tag = node.tag or ""
        if node.is_text_node:
            self.inline.append(node.text_content or "")
        elif tag == "br":
            self.inline.append("" if not opens else "\n" if self.in_pre else _BREAK)
        elif self.in_table:
            self._take_in_table(tag, opens)
        elif tag in _HEADINGS or tag == "pre":
            self.flush()
            self.level = _HEADINGS.get(tag, 0) if opens else 0
            self.in_pre = opens and tag == "pre"
        elif self.level or self.in_pre:
            # A block inside a heading or preformatted text only keeps words apart.
            if tag in _BLOCK_TAGS and not (opens and self.in_pre):
                self.inline.append("\n" if self.in_pre else " ")
        elif tag in _LISTS or tag == "li":
            self._take_list(tag, opens)
        elif tag == "table":
            self._take_table(node, opens)
        elif tag in _BLOCK_TAGS:
            self.flush()

    def flush(self) -> None:
        """End the line that is being read."""
        raw = "".join(self.inline)
        self.inline.clear()
        if self.in_pre:
            self.builder.code(raw)
        elif lines := _shown_lines(raw):
            self._add_lines(lines)

    def _add_lines(self, lines: Sequence[str]) -> None:
        if self.level:
            label = re.sub(r"\s*[¶§#]$", "", " ".join(lines)) or " ".join(lines)
            self.builder.heading(self.level, label)
        elif self.lists:
            self.builder.item("\n".join(lines), self.marker, len(self.lists) - 1)
            self.marker = " " * len(self.marker)
        else:
            self.builder.prose("\n".join(lines))

    def _take_list(self, tag: str, opens: bool) -> None:
        self.flush()
        if tag == "li":
            self.marker = self._next_marker() if opens and self.lists else ""
        elif opens:
            self.lists.append(0 if tag == "ol" else None)
        else:
            self.lists.pop()
            if not self.lists:
                self.builder.end()

    def _next_marker(self) -> str:
        """The marker of the next item of the innermost list."""
        number = self.lists[-1]
        if number is None:
            return "- "
        self.lists[-1] = number + 1
        return f"{number + 1}. "

    def _take_table(self, table: "LexborNode", opens: bool) -> None:
        """A table starts, or one that only arranges the page ends."""
        self.flush()
        self.builder.end()
        # Asked of the children, because a node is among its own matches.
        self.in_table = opens and not any(child.css_first(_LAYOUT) for child in table.iter())

    def _take_in_table(self, tag: str, opens: bool) -> None:
        if tag in ("td", "th", "caption"):
            if not opens:
                self.cells.append(" ".join(_shown_lines("".join(self.inline))))
                self.data_cells += tag == "td" and not self.in_head
            self.inline.clear()
        elif tag == "thead":
            self.in_head = opens
        elif tag in _BLOCK_TAGS or tag in _LISTS:
            self.inline.append(" ")
        if not opens and tag in ("tr", "caption", "table"):
            self.builder.row(self.cells, header=not self.data_cells)
            self.cells.clear()
            self.data_cells = 0
        if not opens and tag == "table":
            self.inline.clear()
            self.in_table = self.in_head = False
            self.builder.end()


def _shown_lines(raw: str) -> list[str]:
    """Text as a browser shows it: white space collapsed, lines broken only at `<br>`."""
    return list(filter(None, map(one_line, raw.split(_BREAK))))


def _title(tree: "LexborHTMLParser", heading: str) -> str:
    """The page's title without the site's name, which is told by its h1; "" if there is none."""
    node = tree.css_first("head title")
    title = one_line(node.text()) if node else ""
    if heading and title.startswith(heading):
        rest = title[len(heading) :].strip()
        return heading if rest.startswith(_SEPARATORS) else title
    return title or heading


def _metadata(tree: "LexborHTMLParser") -> dict[str, str]:
    """Author, date and tags where the page's head gives them, and the language it declares."""
    return {
        name: node.attributes.get(attribute) or ""
        for name, (selector, attribute) in _METADATA.items()
        if (node := tree.css_first(selector))
    }
