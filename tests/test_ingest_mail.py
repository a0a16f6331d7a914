"""E-mail: one document a message; what is attached is read by its own loader."""

import io
import zipfile
from email.message import EmailMessage

import pytest
from documents import blocks, read, read_all
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import LoadError, UnsupportedFile

TEXT = "Hello,\n\nthe meeting is on Monday.\n\n> When is it?\n> Ann\n\n-- \nBo\n"
HTML = "<h2>Meeting</h2><ul><li>Monday<li>Tuesday</ul><p>Bo</p>"


def message(text: str = "", html: str = "", **headers: str) -> EmailMessage:
    mail = EmailMessage()
    for name, value in headers.items():
        mail[name] = value
    if text:
        mail.set_content(text)
    if text and html:
        mail.add_alternative(html, subtype="html")
    elif html:
        mail.set_content(html, subtype="html")
    return mail


def test_a_message_becomes_one_document():
    """The subject is title and heading; who wrote to whom can be quoted; quoted lines stay."""
    mail = message(
        TEXT,
        HTML,
        Subject="Besprechung am Montag – naïve",
        From="Ann Müller <ann@example.org>",
        To="bo@example.org, Cy <cy@example.org>",
        Date="Fri, 03 May 2024 10:00:00 +0200",
    )

    (document,) = read("a.eml", mail.as_bytes())

    expected = [
        ("heading", "Besprechung am Montag – naïve"),
        (
            "list",
            "From: Ann Müller <ann@example.org>\nTo: bo@example.org, Cy <cy@example.org>\n"
            "Date: Fri, 03 May 2024 10:00:00 +0200",
        ),
        ("prose", "Hello,"),
        ("prose", "the meeting is on Monday."),
        ("prose", "> When is it?\n> Ann"),
        ("prose", "-- \nBo"),
    ]
    assert expected == blocks(document)
    assert (document.title, document.media_type) == (expected[0][1], "message/rfc822")
    assert dict(document.metadata) == {
        "author": "Ann Müller",
        "date": "2024-05-03",
        "to": "bo@example.org, Cy <cy@example.org>",
        "language": "en",
    }


@pytest.mark.parametrize("text", ["", " \n"])
def test_html_is_read_where_there_is_no_plain_text(text):
    """With its structure; a blank plain part does not hide it."""
    (document,) = read("a.eml", message(text, HTML, Subject="S").as_bytes())

    expected = [("heading", "S"), ("heading", "Meeting"), ("list", "- Monday\n- Tuesday")]
    assert expected == blocks(document)[:3]


def test_what_a_list_adds_below_an_html_message_does_not_hide_it():
    """Of alternatives one is shown; of parts in a row, all that are text."""
    mail = message(html=HTML, Subject="S")
    mail.make_mixed()
    footer = EmailMessage()
    footer.set_content("To leave the list, write to it.")
    mail.attach(footer)

    (document,) = read("a.eml", mail.as_bytes())

    assert "Tuesday" in document.text
    assert document.text.endswith("To leave the list, write to it.")


def test_attachments_are_read_by_their_own_loaders():
    """By their names, made safe and told apart; what has no loader is skipped by name."""
    mail = message("See below.", "<p>See below.</p>", Subject="S")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("inner.txt", "zipped")
    inner = message("Inner text.", Subject="Inner")
    mail.add_attachment(b"a,b\n1,2\n", "text", "csv", filename="../../tmp/ü b.csv")
    for text in (b"# One", b"# Two"):
        mail.add_attachment(text, "text", "markdown", filename="n.md")
    mail.add_attachment(archive.getvalue(), "application", "zip", filename="a.zip")
    mail.add_attachment(b"PNG", "image", "png", filename="logo.png")
    mail.add_attachment(b"key", "text", "plain", filename=".env")
    mail.add_attachment("without a name", disposition="attachment")
    mail.add_attachment(inner)

    documents, problems = read_all("m.eml", mail.as_bytes())

    found = {document.source: document.text for document in documents[1:]}
    assert found == {
        "m.eml/tmp/ü b.csv": "a | b\n1 | 2",
        "m.eml/n.md": "# One",
        "m.eml/n (2).md": "# Two",
        "m.eml/a.zip/inner.txt": "zipped",
        "m.eml/attachment.txt": "without a name\n",
        "m.eml/message.eml": "Inner\n\nInner text.",
    }
    assert {"m.eml/logo.png", "m.eml/.env"} == problems.keys()
    assert all(isinstance(error, UnsupportedFile) for error in problems.values())


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        (b"=?utf-8?q?caf=C3?= =?utf-8?q?=A9?=", "café"),
        (b"=?iso-8859-1?B?R3L832U=?= aus Bonn", "Grüße aus Bonn"),
        ("raw ümlaut".encode(), "raw ümlaut"),
        ("raw ümlaut".encode("cp1252"), "raw ümlaut"),
        (b"=?x-unknown?q?plain?= word", "plain word"),
        (b"=?utf-8?b?abcde?= word", "=?utf-8?b?abcde?= word"),
        ("=?utf-8?b?é?= word".encode(), "=?utf-8?b?é?= word"),
        (b"folded\n  line", "folded line"),
    ],
)
def test_headers_are_decoded_or_shown_as_they_are(header, shown):
    """Encoded words, raw bytes and what only looks encoded."""
    (document,) = read("a.eml", b"Subject: " + header + b"\n\nText.\n")

    assert document.title == shown


@pytest.mark.parametrize(
    "head",
    [
        b"From: @@@\nDate: nonsense\nTo: :;<>,@",
        b"From: a@[\nCc: " + b"(" * 5_000,
        b"Content-Type: ;;;\nContent-Transfer-Encoding: (((",
        b"Content-Type: text/plain; charset*=x'y'z%",
        b"Content-Type: text/plain; charset=no-such",
        b"Content-Type: multipart/mixed; boundary=missing",
        b"Content-Type: multipart/mixed",
        b"Content-Type: multipart/alternative; boundary=\xff",
        b"Content-Transfer-Encoding: x-uuencode",
        b"no header at all",
    ],
)
def test_broken_headers_never_lose_the_text(head):
    """Whatever is wrong above it, the text below is read."""
    (document,) = read("a.eml", head + "\n\nGrüße.\n".encode())

    assert document.text.endswith("Grüße.")


def test_a_body_that_is_no_text_does_not_lose_the_headers():
    """It is left out."""
    (document,) = read("a.eml", b"Subject: S\n\n" + bytes(range(256)) * 9)

    assert blocks(document) == [("heading", "S")]


def nested(levels: int) -> bytes:
    parts = (
        b"Content-Type: multipart/mixed; boundary=%d\n\n--%d\n" % (n, n) for n in range(levels)
    )
    return b"".join(parts) + b"Content-Type: text/plain\n\ndeep\n"


def test_deep_nesting_is_read_or_refused():
    """The stack is not exhausted."""
    assert read("a.eml", nested(50))[0].text == "deep"
    with pytest.raises(LoadError, match="nested too deeply"):
        read("a.eml", nested(2_000))


@pytest.mark.parametrize("data", [b"", b"\n\n", bytes(range(256)) * 4])
def test_a_message_without_text_is_reported(data):
    """An empty file is never taken as fine."""
    with pytest.raises(LoadError, match="no text"):
        read("a.eml", data)


def test_a_mailbox_holds_messages():
    """Each is read as a file of its own; a line of the text that began with From is restored."""
    one = message(
        "Text.\n\n>From here on.\nFrom is quoted only at a line's start: From x\n", Subject="1"
    )
    two = message("Zwei.", Subject="2")
    two.add_attachment(b"a", "text", "plain", filename="a.txt")
    data = b"From a@b Fri May  3\n" + one.as_bytes() + b"\nFrom b@c\n" + two.as_bytes() + b"\n"

    documents = read("in.mbox", data)

    assert [d.source for d in documents] == [
        "in.mbox/1.eml",
        "in.mbox/2.eml",
        "in.mbox/2.eml/a.txt",
    ]
    assert blocks(documents[0])[2][1].startswith("From here on.")
    with pytest.raises(LoadError, match="no mailbox"):
        read("in.mbox", b"text")


PIECES = st.sampled_from((
    "From: a\n", "Subject: ", "=?utf-8?q?=C3=A9?=", "\n", "\n\n", "--x\n", "--x--\n", "é", "\0",
    "Content-Type: multipart/mixed; boundary=x\n", "Content-Type: message/rfc822\n", "begin 6 a\n",
    "Content-Transfer-Encoding: base64\n", "Content-Disposition: attachment; filename=a.txt\n",
))  # fmt: skip


@given(pieces=st.lists(PIECES | st.text(max_size=5), max_size=30))
def test_any_message_is_read_or_refused(pieces):
    """Whatever stands in it, every part becomes a document or an error of this program."""
    documents, problems = read_all("a.eml", "".join(pieces).encode("utf-8", "surrogatepass"))

    assert documents or problems
    assert not any("could not be read" in error.message for error in problems.values())
