"""Source code and configuration: the text is the file's own, its definitions are the sections.

Python is parsed. Of other languages the lines that begin a definition are told by their shape, and
their ends by indentation, which people and formatters keep; Pygments' lexers name fewer of them.
Where a section ends before the one around it does, a heading without a label goes back to that.
"""

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import PurePosixPath

from ingest.errors import UnsupportedFile
from ingest.loaders.decode import decode, one_line
from ingest.loaders.options import LoadOptions
from ingest.loaders.text import PARAGRAPH, line_starts
from ingest.types import Block, Document

_CONTROL = (
    r"(?:if|else|elif|for|foreach|while|until|switch|case|match|when|catch|try|do|return|throw|new"
    r"|await|yield|delete|using|lock|synchronized|typeof|sizeof|with|guard|defer|go|select|unless"
    r"|assert|function|func|fun|fn|pub|echo|print|and|or|not)\b"
)
_MODIFIERS = (
    r"(?:(?:[a-z]+(?:[(\[][\w: ]*[)\]])?|@[\w.]+(?:\([^)\n]*\))?|template *<[^\n;{]*>)[ \t]+)*"
)
_PARAMETERS = r"\((?:[^;{}()]|\([^;{}()]*+\)|\{[^{}]*+\})*+\)"
_NAMED = re.compile(  # class Name, func (r *Owner) name, def name, type Name struct, impl Trait
    rf"^(?P<indent>[ \t]*){_MODIFIERS}(?:(?:class|interface|struct|union|enum|trait|object|protocol"
    r"|extension|module|mod|record|actor|fn|func|fun|function|def|sub)\b[ \t*]*(?:<[^\n]*?>[ \t]*)?"
    r"(?:\((?:\w+[ \t]+)?\*?(?P<owner>\w+)[^)\n]*\)[ \t]*)?"
    r"(?P<name>[\w$]+(?:(?:\.|::)[\w$]+)*[?!=]?)(?=[ \t]*(?:[({<:\[=]|$"
    r"|(?:extends|implements|with|for|where|permits|final|private|actual|constructor)\b))"
    r"|type[ \t]+(?P<struct>\w+)(?:\[[^\]\n]*\])?[ \t]+(?:struct|interface)\b"
    r"|(?P<impl>impl\b[^\n{;]*))",
    re.M,
)
_CALLED = re.compile(  # name(parameters) {, type name(parameters) =>
    rf"^(?P<indent>[ \t]*)(?!{_CONTROL})"
    r"(?P<type>[\w~@][\w \t<>,.*&:\[\]?~@]*?[ \t*&]|[A-Za-z][\w \t*&:<>,]*\n(?=\S))??"
    rf"(?!{_CONTROL}|async\b)(?P<name>[\w$~#]+(?:(?:<[\w, ]*>)?::~?\w+)*|operator[^\s(]*(?:\(\))?)"
    rf"(?:<[^<>()\n]*>)?[ \t]*{_PARAMETERS}[^;{{}}()=\n]*"
    r"(?:\s*(?:throws|where|:|->)[^;{}]{0,1000}+)?\s*(?:\{|(?(type)=>|\{))",
    re.M,
)
_ASSIGNED = re.compile(  # const name = (parameters) =>, name: function
    r"^(?P<indent>[ \t]*)(?:export[ \t]+)?(?:(?:const|let|var)[ \t]+)?(?P<name>[\w$.]+)[ \t]*"
    r"(?::[^=\n]+)?[=:][ \t]*(?:async\b[ \t]*)?(?:function\b|[\w$]+[ \t]*=>"
    rf"|(?:<[^\n]*?>)?{_PARAMETERS}[^;{{}}()=\n]*=>)",
    re.M,
)
_CREATED = re.compile(
    r"^(?P<indent>[ \t]*)create[ \t]+(?:\w+[ \t]+)*?(?:table|view|function|procedure|trigger|type"
    r"|package|schema)[ \t]+(?:body[ \t]+)?(?:if[ \t]+not[ \t]+exists[ \t]+)?"
    r"(?P<name>[\w.\"`\[\]$]+)",
    re.M | re.I,
)
_BRACKETED = re.compile(
    r"^(?P<indent>)[ \t]*\[\[?(?P<name>[^\[\]\n]+)\]?\][ \t]*(?:[#;].*)?$", re.M
)
_KEY = re.compile(r"^(?P<indent>)(?P<name>[\w.$/-]+):[ \t]*(?:#.*)?$", re.M)

# What a definition's end looks like: a line that is indented no more than its first one, and
# closes it or is the first that is no more of it.
_BRACE = r"\n[ \t]{0,INDENT}\}(?![^\n]*[{(][ \t]*(?:\n|\Z))[^\n]*"
_END = r"\n[ \t]{0,INDENT}end\b[^\n]*"
_SEMICOLON = r"\n(?![ \t]|(?i:end)\b)[^\n]*;[ \t]*(?=\n|\Z)"
_DEDENT = r"\n(?=[ \t]{0,INDENT}[^\s#)\]}{-])"
_NEXT = r"\Z"

_LANGUAGES: Mapping[tuple[str, ...], tuple[str, tuple[re.Pattern[str], ...]]] = {
    (".py", ".pyi", ".pyw"): (_DEDENT, (_NAMED,)),
    (".js", ".mjs", ".cjs", ".jsx", ".ts", ".tsx"): (_BRACE, (_NAMED, _CALLED, _ASSIGNED)),
    (".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".java", ".cs"): (_BRACE, (_NAMED, _CALLED)),
    (".go", ".rs", ".php", ".kt", ".kts", ".swift", ".scala"): (_BRACE, (_NAMED, _CALLED)),
    (".sh", ".bash", ".zsh", ".ps1", ".pl", ".pm", ".dart"): (_BRACE, (_NAMED, _CALLED)),
    (".rb", ".lua", "rakefile", "gemfile"): (_END, (_NAMED,)),
    (".sql",): (_SEMICOLON, (_CREATED,)),
    (".toml", ".ini", ".cfg"): (_NEXT, (_BRACKETED,)),
    (".yaml", ".yml"): (_DEDENT, (_KEY,)),
    (".json5", ".mk", "makefile", "dockerfile", "jenkinsfile"): (_NEXT, ()),
}
NAMES = tuple(chain.from_iterable(_LANGUAGES))

_ENCODING = re.compile(rb"\A(?:[^\n]*\n)?[ \t]*#[^\n]*?coding[:=][ \t]*([-\w.]+)")
_GENERATED = re.compile(r"@generated\b|Code generated .*DO NOT EDIT")
_LONG_LINE = re.compile(r"[^\n]{1000,}")
_WORD = re.compile(r"\S+")
_LINE = re.compile(r"\S(?:[^\n]*\S)?")
_CONTENT = re.compile(r"^[ \t]*(?![\s})\]]|end\b)[^\n]*\w", re.M)  # more than what closes the rest
_FEWEST_LINES = 3  # a shorter definition is no section
_OPENS = re.compile(r"\s*(?:\{|(?:where|throws|extends|implements)\b|:|->)")
_LEAD = re.compile(  # a line of a comment, decorator, annotation or attribute
    r"[ \t]*(?:#(?![ \t]*(?:include|define|undef|if|el|end|pragma|import|region|error|line)\b|!)"
    r"|//(?!!)|/\*|\*|--|;|@\w|\[[A-Z]|template\b)"
)


@dataclass(frozen=True, slots=True)
class _Section:
    """A definition with the comments and decorators on top of it; both offsets are at lines."""

    start: int
    end: int
    label: str


def load_code(data: bytes, source: str, _options: LoadOptions) -> tuple[Document, ...]:
    """One document without a title. Raises UnsupportedFile for what no person wrote."""
    declared = _ENCODING.match(data)
    text = decode(data, declared[1].decode("ascii", "replace") if declared else "")
    if _is_generated(text):
        raise UnsupportedFile("generated code", "leave it out with .ragignore")
    name = PurePosixPath(source.lower())
    end, begins = next(v for names, v in _LANGUAGES.items() if {name.suffix, name.name} & {*names})
    sections = _python_sections(text) if name.suffix in (".py", ".pyi", ".pyw") else None
    if sections is None:
        sections = _sections(text, begins, end)
    return (Document(source, "", "", text, tuple(_blocks(text, sections))),)


def _is_generated(text: str) -> bool:
    """Whether a program wrote this: it says so, or most of it stands in very long lines."""
    long_lines = sum(len(line[0]) for line in _LONG_LINE.finditer(text))
    return bool(_GENERATED.search(text[:2_000])) or 2 * long_lines > len(text)


def _python_sections(text: str) -> list[_Section] | None:
    """The functions and classes of a Python file; None if it is not valid in this version."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    starts = line_starts(text)
    sections = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min(each.lineno for each in (node, *node.decorator_list))
            start = _with_lead(text, starts[first - 1])
            sections.append(_Section(start, starts[node.end_lineno or first], node.name))
    return sections


def _sections(text: str, begins: Sequence[re.Pattern[str]], end: str) -> list[_Section]:
    """The definitions whose first lines match; each ends at the latest where one begins that is
    indented no more."""
    found = {match.start(): match for shape in reversed(begins) for match in shape.finditer(text)}
    sections = []
    below: list[tuple[int, int]] = []  # indent and start of what follows, the nearest last
    for _, match in sorted(found.items(), reverse=True):
        indent = len(match["indent"])
        while below and below[-1][0] > indent:
            below.pop()
        limit = below[-1][1] if below else len(text)
        start = _with_lead(text, match.start())
        sections.append(_Section(start, _end(text, match, limit, end), _label(match)))
        below.append((indent, start))
    return sections


def _label(match: re.Match[str]) -> str:
    """The name of what is defined, behind that of the type it belongs to."""
    parts = match.groupdict()
    name = parts.get("name") or parts.get("struct") or parts.get("impl") or ""
    return one_line(".".join(filter(None, (parts.get("owner"), name))))


def _end(text: str, match: re.Match[str], limit: int, end: str) -> int:
    """Where the definition that begins with a match ends, at most at `limit`."""
    line_end = text.find("\n", match.end(), limit)
    if line_end < 0:
        return limit
    head = text[match.start() : line_end].rstrip()
    if head.endswith((";", " end")) or (end == _BRACE and 0 < head.count("{") == head.count("}")):
        return line_end
    opens = "{" in head or head.endswith(("(", ",")) or _OPENS.match(text, line_end)
    if end == _BRACE and not opens:  # its value is an expression
        end = _DEDENT
    shape = re.compile(end.replace("INDENT", str(len(match["indent"]))))
    found = shape.search(text, line_end, limit)
    return found.end() if found else limit


def _with_lead(text: str, start: int) -> int:
    """Where a definition's lines begin together with the comments directly above it."""
    while start > 0:
        above = text.rfind("\n", 0, start - 1) + 1
        if not _LEAD.match(text, above, start):
            break
        start = above
    return start


def _blocks(text: str, sections: Iterable[_Section]) -> Iterator[Block]:
    """Paragraphs as code; the first line of each section is its heading.

    Where the section around it goes on, that is the first word: a heading needs something below
    it to be no part of the next section.
    """
    large = (s for s in sections if text[s.start : s.end].rstrip().count("\n") >= _FEWEST_LINES - 1)
    cuts = [(0, 0, ""), *_cuts(large), (len(text), 0, "")]
    for (start, level, label), (end, _, _) in pairwise(cuts):
        spans = [found.span() for found in PARAGRAPH.finditer(text, start, end)]
        if spans and level and (label or _CONTENT.search(text, start, end)):
            heading = (_LINE if label else _WORD).search(text, *spans[0])
            assert heading
            yield Block(*heading.span(), "heading", min(level, 6), label)
            spans[0] = heading.end() + 1, spans[0][1]
        yield from (Block(first, last, "code") for first, last in spans if first < last)


def _cuts(sections: Iterable[_Section]) -> Iterator[tuple[int, int, str]]:
    """Where a section begins or the one around it goes on, with the level and label to put there.

    The label is "" where the outer section goes on.
    """
    around: list[int] = []  # ends of the sections that are open
    for section in sorted(sections, key=lambda section: (section.start, -section.end)):
        while around and around[-1] <= section.start:
            yield around.pop(), len(around) + 1, ""
        yield section.start, len(around) + 1, section.label
        around.append(min([section.end, *around[-1:]]))
    while around:
        yield around.pop(), len(around) + 1, ""
