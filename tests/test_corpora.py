"""The sample collection: every piece of evidence is where its question says it is."""

import json
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from pypdf import PdfReader
from selectolax.lexbor import LexborHTMLParser

COLLECTION = Path(__file__).parent.parent / "corpora" / "halden"
DOCS = COLLECTION / "docs"
QUESTIONS = [
    json.loads(line)
    for line in (COLLECTION / "questions.jsonl").read_text(encoding="utf-8").splitlines()
]
PDFS = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.pdf"))
HTML_CHROME = ["script", "style", "nav", "header", "footer", "aside", "form", "noscript"]
GERMAN = {
    "manuals/br12-reinigung.txt",
    "manuals/kl20-kurzanleitung.md",
    "meetings/2025-06-18-betriebsversammlung.md",
    "office/anfahrt-und-warenannahme.txt",
    "office/brandschutzordnung.html",
    "policies/reiserichtlinie-2025.md",
    "support/haeufige-fragen-luftentfeuchter.md",
}
KEYS = {"id", "question", "answers", "answerable", "evidence", "tags"}


def collapse(text: str) -> str:
    return " ".join(text.split())


@cache
def pdf_pages(source: str) -> tuple[str, ...]:
    return tuple(page.extract_text() for page in PdfReader(DOCS / source).pages)


@cache
def visible_text(source: str) -> str:
    """What a reader sees of a document: for HTML the main content, for a PDF all its pages."""
    path = DOCS / source
    if path.suffix == ".pdf":
        return "\n".join(pdf_pages(source))
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".html":
        return text
    tree = LexborHTMLParser(text)
    tree.strip_tags(HTML_CHROME)
    return tree.body.text(separator="")


def searched_text(evidence: dict) -> str:
    if "page" in evidence:
        return collapse(pdf_pages(evidence["doc"])[evidence["page"] - 1])
    return collapse(visible_text(evidence["doc"]))


def tagged(tag: str) -> list[dict]:
    return [question for question in QUESTIONS if tag in question["tags"]]


def test_the_collection_holds_every_kind_of_document():
    """Counts by type: enough of each format for the loaders to be tried on."""
    counts = Counter(path.suffix for path in DOCS.rglob("*") if path.is_file())
    assert counts == {".md": 36, ".html": 12, ".txt": 8, ".pdf": 6}


def test_the_collection_is_long_enough_for_retrieval_to_matter():
    """35,000 words or more in all, and some documents of 1,500 and more."""
    sources = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*") if path.is_file()]
    lengths = [len(visible_text(source).split()) for source in sources]
    assert sum(lengths) >= 35_000
    assert sum(length >= 1_500 for length in lengths) >= 4


def test_german_documents_are_in_the_collection():
    """Seven documents are German, one of them the twin of an English one."""
    german = {source for source in GERMAN if " und " in visible_text(source)}
    assert german == GERMAN


def test_question_ids_are_unique_and_every_line_has_the_contract_keys():
    """Ids are stable names, so none may occur twice."""
    assert len({question["id"] for question in QUESTIONS}) == len(QUESTIONS)
    assert [set(question) for question in QUESTIONS] == [KEYS] * len(QUESTIONS)
    assert len({question["question"] for question in QUESTIONS}) == len(QUESTIONS)


@pytest.mark.parametrize(
    ("tag", "least"),
    [
        ("direct", 35),
        ("two-document", 15),
        ("table", 15),
        ("paraphrase", 20),
        ("version", 8),
        ("contradiction", 5),
        ("near-duplicate", 5),
        ("german", 5),
        ("cross-language", 5),
        ("pdf-page", 10),
        ("unanswerable", 34),
        ("near-miss", 17),
        ("off-topic", 17),
    ],
)
def test_each_tag_has_enough_questions(tag, least):
    """A per-tag figure means little on a handful of questions."""
    assert len(tagged(tag)) >= least


def test_there_are_enough_questions_in_all():
    """The set is large enough for an interval to be worth printing."""
    assert len(QUESTIONS) >= 130


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question["id"])
def test_evidence_occurs_exactly_once_where_the_question_says(question):
    """Evidence is copied word for word and cannot be taken for another place of the document."""
    occurrences = [
        searched_text(evidence).count(collapse(evidence["text"]))
        for evidence in question["evidence"]
    ]
    assert [1] * len(question["evidence"]) == occurrences


@pytest.mark.parametrize(
    "evidence",
    [
        pytest.param(evidence, id=question["id"])
        for question in QUESTIONS
        for evidence in question["evidence"]
        if evidence["doc"].endswith((".md", ".txt"))
    ],
)
def test_evidence_of_a_text_file_is_literally_in_it(evidence):
    """Markdown and plain text hold the evidence with its own line breaks."""
    assert evidence["text"] in (DOCS / evidence["doc"]).read_text(encoding="utf-8")


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question["id"])
def test_answers_and_evidence_agree_with_answerable(question):
    """Answerable questions have a gold answer and evidence; the others have neither."""
    assert question["answerable"] == bool(question["answers"])
    assert question["answerable"] == bool(question["evidence"])
    assert question["answerable"] != ("unanswerable" in question["tags"])


def test_gold_answers_occur_in_their_evidence():
    """At least one variant is found in the evidence, save for sums and for translated answers."""
    missing = [
        question["id"]
        for question in QUESTIONS
        if question["answerable"]
        and not any(
            answer.casefold() in collapse(evidence["text"]).casefold()
            for answer in question["answers"]
            for evidence in question["evidence"]
        )
    ]
    assert missing == []


def test_two_document_questions_name_two_documents():
    """The tag is true only if the evidence comes from different files."""
    counts = {
        question["id"]: len({evidence["doc"] for evidence in question["evidence"]})
        for question in tagged("two-document")
    }
    assert dict.fromkeys(counts, 2) == counts


def test_unanswerable_questions_are_half_near_misses_and_half_off_topic():
    """Each unanswerable question is exactly one of the two kinds."""
    kinds = [
        {"near-miss", "off-topic"} & set(question["tags"]) for question in tagged("unanswerable")
    ]
    assert {1} == {len(kind) for kind in kinds}
    assert len(tagged("near-miss")) == len(tagged("off-topic"))


def test_every_pdf_page_question_names_pages():
    """The tag promises a page for each piece of evidence from a PDF."""
    pages = [
        evidence.get("page")
        for question in tagged("pdf-page")
        for evidence in question["evidence"]
        if evidence["doc"].endswith(".pdf")
    ]
    assert len(pages) >= 10
    assert None not in pages


@pytest.mark.parametrize("source", PDFS)
def test_pdfs_have_three_pages_or_more_with_a_running_header(source):
    """Each page begins with the same header, as a printed manual does."""
    first_lines = {page.splitlines()[0] for page in pdf_pages(source)}
    assert len(pdf_pages(source)) >= 3
    assert len(first_lines) == 1


def test_pdfs_rebuild_byte_for_byte(tmp_path):
    """Setting the PDFs again gives the very files in docs/."""
    pytest.importorskip("reportlab")
    subprocess.run([sys.executable, COLLECTION / "build_pdfs.py", tmp_path], check=True)
    rebuilt = {source: (tmp_path / source).read_bytes() for source in PDFS}
    assert {source: (DOCS / source).read_bytes() for source in PDFS} == rebuilt


def test_mail_and_web_addresses_are_reserved_ones():
    """Nothing points at a real host: addresses end in .example or .local."""
    words = [
        word.strip("<>()[]|.,;:\"'`")
        for path in DOCS.rglob("*")
        if path.is_file()
        for word in visible_text(path.relative_to(DOCS).as_posix()).split()
    ]
    addresses = [word for word in words if "@" in word or "://" in word]
    strangers = [word for word in addresses if ".example" not in word and ".local" not in word]
    assert len(addresses) > 10
    assert strangers == []
