"""E-mail: the subject as heading, below it who wrote to whom, then what a reader sees of the text.

What is attached is read by its own loader; so is each message of a mailbox (.mbox). Messages are
parsed in the standard library's old way: its new one fails at some broken headers.
"""

import re
from collections.abc import Iterator, Sequence
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from email.utils import parseaddr, parsedate
from functools import partial
from itertools import chain, islice
from mimetypes import guess_extension

from ingest.errors import LoadError
from ingest.loaders.builder import Builder
from ingest.loaders.decode import decode, one_line
from ingest.loaders.html import write_html
from ingest.loaders.options import LoadOptions, Member, check_members
from ingest.types import Document

_SHOWN = ("From", "To", "Cc", "Date")
_WORD = r"=\?[!->@-~]+\?[bq]\?[ ->@-~]*\?="
_ENCODED_WORDS = re.compile(rf"{_WORD}(?:\s*{_WORD})*", re.I)
_MESSAGE = re.compile(rb"(?:\A|\n\r?\n)From [^\n]*\n")  # what stands above each in a mailbox
_QUOTED_FROM = re.compile(rb"(?m)^>(>*From )")


def load_mail(data: bytes, source: str, options: LoadOptions) -> Iterator[Document | Member]:
    """The message as one document, titled by its subject, then its attachments."""
    message = message_from_bytes(data)
    body = _body(message)
    parts = [part for part in _leaves(message) if part not in body]
    yield _document(message, body, source, options)
    for part in parts:
        if name := _name(part):
            yield Member(name, partial(_content, part))


def load_mailbox(data: bytes, _source: str, options: LoadOptions) -> Iterator[Member]:
    """Each message of a mailbox as a file, named by its number."""
    lines = [found.span() for found in _MESSAGE.finditer(data)]
    if not lines:
        raise LoadError(
            "no mailbox: no message begins with `From `", "leave it out with .ragignore"
        )
    check_members(len(lines), options)
    ends = [start for start, _ in lines[1:]] + [len(data)]
    for number, ((_, start), end) in enumerate(zip(lines, ends), start=1):
        yield Member(f"{number}.eml", partial(_QUOTED_FROM.sub, rb"\1", data[start:end]))


def _document(
    message: Message, body: Sequence[Message], source: str, options: LoadOptions
) -> Document:
    """Headers and text of a message; `body` are the parts to show."""
    builder = Builder(options)
    subject = _words(_header(message, "Subject"))
    shown = {name: _words(_header(message, name)) for name in _SHOWN}
    builder.heading(1, subject)
    for name, value in shown.items():
        if value:
            builder.line(f"{name}: {value}")
    builder.end()
    for part in body:
        if part.get_content_type() == "text/html":
            write_html(_text(part), builder)
        else:
            builder.text(_text(part))
    name, address = parseaddr(_header(message, "From"))
    sent = parsedate(shown["Date"])
    date = "{:04}-{:02}-{:02}".format(*sent) if sent else ""
    values = {"author": _words(name) or address, "to": shown["To"], "date": date}
    return builder.document(source, subject, values)


def _inner(part: Message) -> list[Message]:
    """The parts of a multipart; a message in a message is none of them."""
    held = part.get_payload() if part.get_content_maintype() == "multipart" else ""
    return [inner for inner in held if isinstance(inner, Message)]


def _leaves(part: Message) -> Iterator[Message]:
    """The parts that have no others."""
    inner = _inner(part)
    if not inner:
        yield part
    for each in inner:
        yield from _leaves(each)


def _body(part: Message) -> list[Message]:
    """The text parts that a reader sees: of alternatives the plain one, else the first."""
    if inner := _inner(part):
        choices = list(filter(None, map(_body, inner)))
        if part.get_content_subtype() == "alternative":
            choices.sort(key=lambda choice: choice[0].get_content_type() != "text/plain")
            del choices[1:]
        return list(chain.from_iterable(choices))
    # A multipart without parts is one whose boundary is wrong: it is shown as it is.
    is_text = re.fullmatch("text/plain|text/html|multipart/.*", part.get_content_type())
    return [part] if is_text and not _name(part) and _text(part).strip() else []


def _text(part: Message) -> str:
    """The text of a part; "" if it is none."""
    try:
        return decode(_content(part), part.get_content_charset() or "")
    except LoadError:
        return ""


def _content(part: Message) -> bytes:
    """The bytes of a part, unpacked; those of the message in it, if it holds one."""
    held = part.get_payload(decode=True)
    if isinstance(held, bytes):
        return held
    return b"".join(message.as_bytes() for message in islice(part.walk(), 1, 2))


def _name(part: Message) -> str:
    """The file name of an attachment; "" for what is none, as an alternative of the text."""
    name, kind = _words(part.get_filename() or ""), part.get_content_type()
    if kind == "message/rfc822":
        return f"{name.removesuffix('.eml') or 'message'}.eml"
    if name or part.get_content_disposition() != "attachment":
        return name
    return f"attachment{guess_extension(kind) or ''}"


def _header(message: Message, name: str) -> str:
    """A header as it was sent, bytes beyond ASCII decoded; "" if there is none."""
    values = (value for key, value in message.raw_items() if key.lower() == name.lower())
    return one_line(decode(next(values, "").encode("utf-8", "surrogateescape")))


def _words(header: str) -> str:
    """A header's words, those that were encoded (=?utf-8?q?caf=C3=A9?=) as they are meant."""
    return _ENCODED_WORDS.sub(_decoded, header)


def _decoded(found: re.Match[str]) -> str:
    try:
        return "".join(decode(word, charset or "") for word, charset in decode_header(found[0]))
    except (HeaderParseError, LoadError, ValueError):
        return found[0]
