"""Markdown (CommonMark with tables). The text kept is the source, so offsets are exact in it.

Front matter and HTML comments are taken out first. The parser tells only where blocks lie; what it
does not report (link definitions) is kept as prose.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import takewhile
from typing import TYPE_CHECKING

from ingest.loaders.decode import decode, one_line
from ingest.loaders.metadata import described
from ingest.loaders.options import LoadOptions
from ingest.loaders.text import line_starts, paragraphs, trimmed
from ingest.types import Block, BlockKind, Document

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_KINDS: dict[str, BlockKind] = {
    "heading_open": "heading",
    "fence": "code",
    "code_block": "code",
    "table_open": "table",
    "bullet_list_open": "list",
    "ordered_list_open": "list",
}
_FRONT_MATTER = re.compile(
    r"(?:---[ \t]*\n(?P<yaml>(?:.*\n)*?)(?:---|\.\.\.)|\+\+\+[ \t]*\n(?P<toml>(?:.*\n)*?)\+\+\+)"
    r"[ \t]*(?:\n|\Z)"
)
_ENTRY = re.compile(r"(?P<key>[A-Za-z_][\w-]*)[ \t]*[:=](?:[ \t]+(?P<value>.*)|[ \t]*)")
_ITEM = re.compile(r"[ \t]*-[ \t]+(?P<value>.*)")
_ATTRIBUTES = re.compile(r"\s+\{:?\s*[#.][^{}]*\}\s*$")
_TABLE_HEADER = re.compile(r".*\n.*")  # the header row and the dashes below it
_METADATA_KEYS = {
    "authors": "author",
    "author": "author",
    "date": "date",
    "tags": "tags",
    "lang": "language",
    "language": "language",
}


def load_markdown(data: bytes, source: str, _options: LoadOptions) -> tuple[Document, ...]:
    """One document, titled by its front matter, else its first h1."""
    entries, text = split_front_matter(decode(data))
    text = _without_comments(text)
    blocks = tuple(_blocks(text))
    metadata = described({n: entries[key] for key, n in _METADATA_KEYS.items() if entries.get(key)})
    title = entries.get("title") or next((b.label for b in blocks if b.level == 1 and b.label), "")
    return (Document(source, title, "", text, blocks, metadata=metadata),)


def split_front_matter(text: str) -> tuple[dict[str, str], str]:
    """The entries of YAML or TOML front matter and the text below it.

    Only flat entries are read: `key: value`, `key: [a, b]` and a list of `- item` lines, the last
    two joined by ", ". A rule (`---`) that opens a document without entries stays in the text.
    """
    found = _FRONT_MATTER.match(text)
    entries = _entries((found["yaml"] or found["toml"] or "").split("\n")) if found else {}
    return entries, text[found.end() :] if found and entries else text


def _entries(lines: Sequence[str]) -> dict[str, str]:
    """The flat entries of front matter, keys in lower case; none if the first line is no entry."""
    content = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not content or not _ENTRY.fullmatch(content[0]):
        return {}
    entries = {}
    for index, line in enumerate(content):
        if entry := _ENTRY.fullmatch(line):
            items = takewhile(bool, (_ITEM.fullmatch(item) for item in content[index + 1 :]))
            value = (entry["value"] or "").strip()
            values = [value] if value else [item["value"] for item in items if item]
            entries[entry["key"].lower()] = ", ".join(filter(None, map(_scalar, values)))
    return entries


def _scalar(value: str) -> str:
    """A value without quotes or list brackets; "" for a block that goes on in other lines."""
    value = value.strip()
    if value.startswith("[") and value.endswith("]"):
        return ", ".join(filter(None, map(_scalar, value[1:-1].split(","))))
    if value[:1] in ("|", ">", "{"):
        return ""
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return one_line(value)


@cache
def _parser() -> "MarkdownIt":
    """A parser of block structure alone: leaving inline markup unparsed makes it much faster."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table").disable("inline")


def _inline(content: str) -> list["Token"]:
    """The inline markup of a block, which is parsed for this one alone."""
    tokens: list[Token] = []
    _parser().inline.parse(content, _parser(), {}, tokens)
    return tokens


def _without_comments(text: str) -> str:
    """The text without HTML comments, save those inside code. An unclosed one stays."""
    pieces, kept, at = [], 0, text.find("<!--")
    code = _code_spans(text) if at >= 0 else []
    while at >= 0 and (stop := text.find("-->", at + 4)) >= 0:
        while code and code[0][1] <= at:
            code.pop(0)
        if code and code[0][0] <= at:
            at = text.find("<!--", code[0][1])
            continue
        pieces.append(text[kept:at])
        kept = stop + 3
        at = text.find("<!--", kept)
    return "".join(pieces) + text[kept:]


def _code_spans(text: str) -> list[tuple[int, int]]:
    """Ascending spans of code blocks and of inline code that holds the start of a comment."""
    starts = line_starts(text)
    spans = []
    for token in _parser().parse(text):
        if token.map and _KINDS.get(token.type) == "code":
            spans.append((starts[token.map[0]], starts[token.map[1]]))
        elif token.map and token.type == "inline" and "<!--" in token.content:
            spans.extend(_inline_code(text, token, starts))
    return sorted(spans)


def _inline_code(text: str, token: "Token", starts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where the inline code of one paragraph lies."""
    assert token.map
    at, stop = starts[token.map[0]], starts[token.map[1]]
    for child in _inline(token.content):
        if child.type == "code_inline":
            found = text.find(child.content, at, stop)
            if found >= 0:
                at = found + len(child.content)
                yield found, at


def _blocks(text: str) -> Iterator[Block]:
    """The outermost blocks; lines that no token accounts for become paragraphs."""
    starts = line_starts(text)
    covered = 0
    tokens = _parser().parse(text)
    for index, token in enumerate(tokens):
        if token.level or not token.map or token.nesting < 0:
            continue
        start, end = starts[token.map[0]], starts[token.map[1]]
        yield from paragraphs(text, covered, start)
        covered = end
        if block := _block(text, (start, end), tokens[index : index + 2]):
            yield block
    yield from paragraphs(text, covered)


def _block(text: str, span: tuple[int, int], tokens: Sequence["Token"]) -> Block | None:
    """The block of a token (and, for a heading's words, the one after it); None if it is blank."""
    start, end = trimmed(text, *span)
    if start >= end:
        return None
    kind = _KINDS.get(tokens[0].type, "prose")
    if kind == "heading":
        return Block(start, end, kind, int(tokens[0].tag[1:]), _label(tokens[1].content))
    if kind == "code":
        start = text.rfind("\n", span[0], start) + 1 or span[0]  # keep the first line's indentation
    header = _TABLE_HEADER.match(text, start, end) if kind == "table" else None
    return Block(start, end, kind, header=header.end() - start if header else 0)


def _label(content: str) -> str:
    """A heading's words without markup and without the attributes some dialects put behind them."""
    content = _ATTRIBUTES.sub("", content)
    shown = (token for token in _inline(content) if token.type not in ("html_inline", "image"))
    return one_line("".join(" " if "break" in token.type else token.content for token in shown))
