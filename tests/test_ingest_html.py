"""HTML to the text that a reader of the page sees."""

import pytest

from ingest.loaders.html import load_html
from ingest.loaders.options import DEFAULT_OPTIONS
from ingest.types import Document


def read(markup: str | bytes) -> Document:
    data = markup if isinstance(markup, bytes) else markup.encode()
    (document,) = load_html(data, "folder/some-page.html", DEFAULT_OPTIONS)
    return document


def shapes(document: Document) -> list[tuple[str, str]]:
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


def test_inline_markup_does_not_break_words_and_blocks_do():
    """White space collapses as in a browser; `<br>` breaks a line."""
    document = read(
        "<p>One  <b>two</b>thr<i>ee</i>\n four<br>\n five&nbsp;six</p>loose<div>in</div>"
    )

    expected = [("prose", "One twothree four\nfive six"), ("prose", "loose"), ("prose", "in")]
    assert expected == shapes(document)
    assert document.text == "One twothree four\nfive six\n\nloose\n\nin"


def test_headings_carry_level_and_label():
    """The signs that link to a heading are no part of it."""
    document = read(
        "<h1>The <code>run</code> page<a class='headerlink' href='#x'>¶</a></h1>"
        "<h3><div>Third</div> §</h3><h2></h2>"
    )

    assert shapes(document) == [("heading", "The run page"), ("heading", "Third")]
    assert [(b.level, b.label) for b in document.blocks] == [(1, "The run page"), (3, "Third")]


def test_a_list_is_one_block_of_lines():
    """Nested items are indented, paragraphs of an item stay below its marker."""
    document = read(
        "<ul><li>one</li><li><p>two</p><p>more</p><ol><li>first<br>line</li><li>second</li></ol>"
        "</li></ul><ul><li>other</li></ul>"
    )

    expected = [
        ("list", "- one\n- two\n  more\n  1. first\n     line\n  2. second"),
        ("list", "- other"),
    ]
    assert expected == shapes(document)


def test_code_in_a_list_is_a_block_of_its_own():
    """The list goes on behind it."""
    document = read("<ol><li>Run<pre>a\n  b</pre>now</li><li>Done</li></ol>")

    assert shapes(document) == [("list", "1. Run"), ("code", "a\n  b"), ("list", "   now\n2. Done")]


def test_preformatted_text_is_kept_as_it_stands():
    """Spans inside it do not matter, its line ends and indentation do."""
    document = read("<pre>\n<span>def</span> f():\n    return 1<br>\n\n\n    x\n</pre><p>a")

    assert shapes(document) == [("code", "def f():\n    return 1\n\n\n\n    x"), ("prose", "a")]


def test_a_table_is_one_line_a_row():
    """The caption comes first; empty cells keep their place, empty rows go."""
    document = read(
        "<table><caption>Fees</caption><thead><tr><th>Plan<th>Price per<br>month</tr></thead>"
        "<tr><td><p>Basic</p><ul><li>a</li></ul><td>5 €<tr><td><td><tr><td><td>9 €</table><p>x"
    )

    expected = [
        ("table", "Fees\nPlan | Price per month\nBasic a | 5 €\n | 9 €"),
        ("prose", "x"),
    ]
    assert expected == shapes(document)


def test_a_table_that_arranges_the_page_is_no_table():
    """Its cells are read as parts of the page."""
    document = read(
        "<table><tr><td><h1>Title</h1><td><table><tr><td>a<td>b</table>after</table>"
        "<table><tr><td class='linenos'><pre>1\n2</pre><td><pre>x = 1\ny</pre></table>"
    )

    expected = [
        ("heading", "Title"),
        ("table", "a | b"),
        ("prose", "after"),
        ("code", "x = 1\ny"),
    ]
    assert expected == shapes(document)


def test_definitions_are_kept_apart():
    """A term and what explains it are paragraphs."""
    document = read("<dl><dt>term</dt><dd>meaning<p>more</p></dd></dl>")

    assert shapes(document) == [("prose", "term"), ("prose", "meaning"), ("prose", "more")]


@pytest.mark.parametrize(
    "hidden",
    [
        "<script>hidden()</script>",
        "<style>hidden {}</style>",
        "<template>hidden</template>",
        "<noscript>hidden</noscript>",
        "<nav>hidden</nav>",
        "<footer>hidden</footer>",
        "<p hidden>hidden</p>",
        "<p aria-hidden=true>hidden</p>",
        "<p style='color:red; DISPLAY : none'>hidden</p>",
        "<div style='visibility:hidden'><p>hidden</p></div>",
        "<span class='big sr-only'>hidden</span>",
        "<div role=navigation>hidden</div>",
        "<form role=search><input value=hidden><button>hidden</button></form>",
        "<form><label>hidden</label><select><option>hidden</select></form>",
        "<svg><title>hidden</title><text>hidden</text></svg>",
        "<!-- hidden -->",
        "<iframe>hidden</iframe><object>hidden</object>",
        "<textarea>hidden</textarea>",
        "<dialog>hidden</dialog>",
    ],
)
def test_what_a_reader_does_not_see_or_need_is_left_out(hidden):
    """Hidden text must not become evidence."""
    assert shapes(read(f"<p>before</p>{hidden}<p>after</p>")) == [
        ("prose", "before"),
        ("prose", "after"),
    ]


@pytest.mark.parametrize(
    "markup",
    [
        "<header>chrome</header><aside>chrome</aside><main>{}</main>chrome",
        "<div role=banner>chrome</div><div role=main>{}</div>",
        "<div>chrome</div><article>{}</article>",
        "<div class=sphinxsidebar>chrome</div><div class='x body'>{}</div>",
        "<header><a>chrome</a></header><aside>chrome</aside>{}<footer>chrome</footer>",
        "<main></main>{}",
        "<article></article><header>chrome</header>{}<article></article>",
    ],
)
def test_the_main_part_is_found(markup):
    """Where a page marks its main part, the rest is left out; else what is around the content."""
    assert shapes(read(markup.format("<p>content</p>"))) == [("prose", "content")]


def test_a_header_or_aside_inside_the_main_part_is_content():
    """There they hold titles and notes."""
    document = read("<main><header><h1>T</h1></header><aside>Note.</aside></main>")

    assert shapes(document) == [("heading", "T"), ("prose", "Note.")]


def test_a_pages_header_that_holds_its_title_is_kept():
    """Converters put the h1 there."""
    document = read("<header id=title-block-header><h1>Report</h1></header><p>Text.</p>")

    assert shapes(document) == [("heading", "Report"), ("prose", "Text.")]


def test_a_form_around_the_page_is_no_form():
    """Some servers wrap every page in one."""
    assert shapes(read("<form><p>content</p><input value=x></form>")) == [("prose", "content")]


@pytest.mark.parametrize(
    ("markup", "title"),
    [
        ("<title>Guide — Site 2.0</title><h1>Guide</h1>", "Guide"),
        ("<title>Guide to all</title><h1>Guide</h1>", "Guide to all"),
        ("<title> Site:\n Guide </title><h1>Other</h1>", "Site: Guide"),
        ("<h2>a</h2><h1>Only <i>h1</i></h1>", "Only h1"),
        ("<p>nothing<svg><title>icon</title></svg>", "some-page"),
    ],
)
def test_the_title(markup, title):
    """`<title>` without the site's name where an h1 shows which part that is."""
    assert title == read(markup).shown_title


def test_metadata_of_the_head():
    """Author, date and tags are kept where they are given."""
    document = read(
        "<head><meta name=author content='Ann  Lee'><meta name=keywords content=''>"
        "<meta property='article:published_time' content='2024-05-01'></head><p>x"
    )

    assert dict(document.metadata) == {"author": "Ann Lee", "date": "2024-05-01"}


@pytest.mark.parametrize(
    "head",
    [
        "<meta charset=windows-1251>",
        "<meta http-equiv='Content-Type' content='text/html; charset=windows-1251'>",
        "<?xml version='1.0' encoding='windows-1251'?>",
    ],
)
def test_the_declared_encoding_is_used(head):
    """One word is too little to guess from."""
    assert read(f"{head}<p>Отпуск".encode("cp1251")).text == "Отпуск"


def test_entities_cannot_bring_in_control_characters():
    """What is cleaned from the bytes cannot come back as a character reference."""
    assert read("<p>a&#1;b&#x1b;c&shy;d&#x9d;e&#127;f&#0;&#xD800;").text == "abcdef\ufffd\ufffd"


@pytest.mark.parametrize("tag", ["div", "table><tr><td", "ul><li"])
def test_nesting_of_any_depth_is_read(tag):
    """Neither the parser's time nor Python's stack is exhausted by 200,000 levels."""
    document = read("<body>" + f"<{tag}>" * 200_000 + "deep text")

    assert document.text.endswith("deep text")
