"""The door to docutils: reStructuredText to its tree of nodes, whatever it was written for.

Directives and roles that docutils lacks (Sphinx has hundreds) are taken for what they look like: a
line, and text below it. Nothing that a file names is opened. Import this only to read such a file:
docutils takes a while to load.
"""

import re
from itertools import takewhile
from typing import Any

from docutils import nodes
from docutils.frontend import get_default_settings
from docutils.parsers.rst import Directive, Parser, directives, roles
from docutils.parsers.rst.languages import en
from docutils.transforms.references import Footnotes
from docutils.utils import new_document, unescape

_SETTINGS = {
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "report_level": 5,
    "halt_level": 5,
    "line_length_limit": 1 << 40,
    "syntax_highlight": "none",
}
_LONGEST_SUBSTITUTE = 1_000  # characters
_DIRECTIVE = re.compile(r"^[ \t]*\.\.[ \t]+(?:\|[^|\n]+\|[ \t]+)?([\w.+:-]*\w) ?::(?!\S)", re.M)
_ROLE = re.compile(r":([\w.+:-]*\w):`|`:([\w.+:-]*\w):")
_OPTION = re.compile(r":[\w.-]+:(?:\s|$)")
_TARGETED = re.compile(r"(.+?)\s*<[^<>]*>", re.S)

# Of docutils' own, those that make something else of the text than the text itself.
_OWN_ROLES = frozenset(("math", "code", "pep", "pep-reference", "rfc", "rfc-reference"))
_DROPPED = frozenset((
    "toctree", "index", "contents", "meta", "include", "literalinclude", "raw", "highlight", "role",
    "default-role", "default-domain", "module", "currentmodule", "tabularcolumns", "sectnum",
    "section-numbering", "sectionauthor", "codeauthor", "moduleauthor", "header", "footer", "title",
    "target-notes", "date", "graphviz", "plot",
))  # fmt: skip
_CODE = frozenset((
    "code", "code-block", "sourcecode", "parsed-code", "prompt", "console", "ipython", "doctest",
    "testcode", "testoutput", "testsetup", "productionlist", "command-output", "mermaid", "uml",
))  # fmt: skip
_ARRANGING = frozenset(("only", "ifconfig", "rst-class", "cssclass", "tab-set", "tabs", "grid"))
_LABELS = {
    "seealso": "See also",
    "todo": "To do",
    "availability": "Availability",
    "impl-detail": "Implementation detail",
    "versionadded": "Added in version {}",
    "versionchanged": "Changed in version {}",
    "versionremoved": "Removed in version {}",
    "deprecated": "Deprecated since version {}",
    "deprecated-removed": "Deprecated since version {}, removed in version {}",
}


def parse(text: str) -> Any:
    """The document node of a text. Raises RecursionError where it is nested too deeply."""
    _register(text)
    settings = get_default_settings(Parser)
    vars(settings).update(_SETTINGS)
    document = new_document("", settings)
    Parser().parse(text, document)
    Footnotes(document).apply()
    _substitute(document)
    return document


def _substitute(document: Any) -> None:
    """Put in the texts that |names| stand for. Names in those texts stay, since they could use each
    other and multiply without end."""
    definitions = {
        nodes.fully_normalize_name(name): "".join(
            part.astext() for part in definition.children if part.tagname != "image"
        )[:_LONGEST_SUBSTITUTE]
        for name, definition in document.substitution_defs.items()
    }
    for reference in list(document.findall(nodes.substitution_reference)):
        name = reference.astext()
        text = definitions.get(nodes.fully_normalize_name(name), f"|{name}|")
        reference.replace_self(nodes.Text(text))


def _register(text: str) -> None:
    """Make known to docutils what the text uses; its registers are the whole process's."""
    ours = _DROPPED | _CODE
    for name in set(map(str.lower, _DIRECTIVE.findall(text))):
        if name in ours or name not in en.directives:
            directives.register_directive(name, _Directive)
    for names in set(_ROLE.findall(text)):
        if (name := "".join(names).lower()) not in _OWN_ROLES:
            roles.register_local_role(name, _role)


class _Directive(Directive):  # type: ignore[misc]  # docutils is untyped
    """Any directive; what is argument, option or content is told by the shape of its lines."""

    has_content = True

    def run(self) -> list[Any]:
        """The nodes of what a reader would see."""
        name = self.name.lower().rpartition(":")[2]
        if name in _DROPPED:
            return []
        argument, skipped = self._head()
        below = self.content[skipped:]
        if name in _CODE:
            code = "\n".join((*argument[1:], *below))
            return [nodes.literal_block(code, code)]
        container = nodes.container()
        if name in _LABELS:
            container = self._labelled(_LABELS[name], " ".join(argument))
        elif argument and name not in _ARRANGING:
            container += nodes.paragraph("", "\n".join(argument))
        self.state.nested_parse(below, self.content_offset + skipped, container)
        return [container]

    def _head(self) -> tuple[list[str], int]:
        """The lines of the argument, and how many lines they and the options take."""
        first_line = self.block_text.partition("\n")[0]
        head = list(takewhile(str.strip, self.content))
        argument = []
        if first_line.partition("::")[2].strip():
            argument = list(takewhile(lambda line: not _OPTION.match(line), head))
        has_options = len(head) > len(argument) and _OPTION.match(head[len(argument)])
        return argument, len(head) if has_options else len(argument)

    def _labelled(self, label: str, argument: str) -> Any:
        """An admonition; the argument's first words fill the gaps in its label."""
        gaps = label.count("{}")
        *words, text = [*argument.split(None, gaps), *[""] * (gaps + 1)][: gaps + 1]
        title = nodes.title("", label.format(*words))
        inline, messages = self.state.inline_text(text, self.lineno)
        body = [nodes.paragraph("", "", *inline, *messages)] if text else []
        return nodes.admonition("", title, *body)


def _role(_name: str, raw: str, text: str, *_place: Any) -> tuple[list[Any], list[Any]]:
    """Any role: the text it shows, as Sphinx does for `text <target>`, `~package.name`, `!name`."""
    shown = unescape(text)
    if targeted := _TARGETED.fullmatch(shown):
        shown = targeted[1]
    elif shown.startswith("~"):
        shown = shown.rpartition(".")[2].removeprefix("~")
    return [nodes.inline(raw, shown.removeprefix("!"))], []
