"""Answers without a model, from the command line: versions, tables, and what is missing."""

import pytest
from command import Rag, write_documents

from ingest.store import Store

DOCUMENTS = {
    "meals-2022.md": (
        "---\ntitle: Meals policy\ndate: 2022-05-01\n---\n# Meals\n\n"
        "For a full day abroad every employee receives a meal allowance of 20 euros. "
        "Receipts for meals are collected by the front desk.\n"
    ),
    "meals-2024.md": (
        "---\ntitle: Meals policy\ndate: 2024-01-01\n---\n# Meals\n\n"
        "For a full day abroad every employee receives a meal allowance of 35 euros.\n"
    ),
    "codes.html": (
        "<html><head><title>Codes of the pump</title></head><body><main><h1>Codes</h1><table>"
        "<tr><th>Code</th><th>Meaning</th><th>Remedy</th></tr>"
        "<tr><td>F-11</td><td>Inlet blocked</td><td>Rinse the sieve</td></tr>"
        "<tr><td>F-12</td><td>No water</td><td>Open the tap</td></tr></table></main></body></html>"
    ),
}


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Rag:
    """The command in a folder with two versions of a policy; tests only read it."""
    folder = tmp_path_factory.mktemp("policies")
    write_documents(folder / "docs", DOCUMENTS)
    command = Rag(folder, folder / "home")
    assert command("ingest", "docs").code == 0
    return command


def test_the_newer_of_two_versions_answers(policies: Rag) -> None:
    """The older value is given too, called older, cited, and warned of."""
    answer = policies(
        "ask", "How high is the meal allowance abroad?", "--extractive", "--json"
    ).json

    assert answer["answer"].index("35 euros") < answer["answer"].index("20 euros")
    assert "An older document says: " in answer["answer"]
    assert {c["source"] for c in answer["citations"]} == {"meals-2022.md", "meals-2024.md"}
    assert "documents disagree" in answer["warnings"][0]


def test_a_version_that_is_named_is_not_contradicted(policies: Rag) -> None:
    """Asked for a year, the answer is that year's alone."""
    question = "How high was the meal allowance abroad in 2022?"

    answer = policies("ask", question, "--extractive", "--json").json

    assert "20 euros" in answer["answer"]
    assert "35 euros" not in answer["answer"]
    assert not any("disagree" in warning for warning in answer["warnings"])


def test_a_row_is_cited_with_its_header(policies: Rag) -> None:
    """The answer names the columns; the quote is the row as stored."""
    answer = policies("ask", "What does F-12 mean?", "--extractive", "--json").json

    (citation,) = answer["citations"]
    assert "Code F-12 – Meaning: No water; Remedy: Open the tap [1]" in answer["answer"]
    assert citation["header"] == "Code | Meaning | Remedy"
    with Store.open(policies.folder / ".rag") as store:
        text = store.document("codes.html").document.text
    assert text[citation["start"] : citation["end"]] == citation["quote"]


def test_a_refusal_names_what_is_missing(policies: Rag) -> None:
    """In JSON as a list, on a terminal in a sentence before the nearest passages."""
    question = "Which dental insurance covers orthodontics?"

    answer = policies("ask", question, "--extractive", "--json").json
    shown = policies("ask", question, "--extractive").out

    assert answer["status"] == "abstained"
    assert answer["missing"] == ["dental", "insurance", "covers", "orthodontics"]
    assert shown.startswith('Not in your documents. No passage mentions "dental" or "insurance"')
    assert "The nearest passages:" in shown


def test_an_answer_misses_nothing(policies: Rag) -> None:
    """The list is there, and empty, in an answer."""
    assert policies("ask", "What does F-12 mean?", "--extractive", "--json").json["missing"] == []
