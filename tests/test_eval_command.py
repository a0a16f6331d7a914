"""`rag eval run` end to end: real processes, real model, real stores."""

import json
from pathlib import Path

from command import Rag, write_documents

from eval.command import place_reader
from eval.report import report_from_json
from eval.types import CitedPlace
from ingest.store import Store
from rag.types import Citation

QUESTIONS = (
    {
        "id": "leave",
        "question": "How many days of paid leave does an employee have?",
        "answers": ["28 days"],
        "evidence": [{"doc": "handbook/leave.md", "text": "28 days of paid leave a year"}],
        "tags": ["direct"],
    },
    {
        "id": "error",
        "question": "What does error E-1042 of the pump mean?",
        "answers": ["inlet valve is blocked"],
        "evidence": [{"doc": "manual.html"}],
        "tags": ["direct"],
    },
    {
        "id": "opera",
        "question": "Which composer wrote the opera Tosca?",
        "answerable": False,
        "tags": ["absent"],
    },
)


def write_questions(path: Path, questions=QUESTIONS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in questions), encoding="utf-8")
    return path


def values(data):
    return {name: (summary["value"], summary["n"]) for name, summary in data["metrics"].items()}


def test_questions_are_asked_of_the_store_at_hand(library: Rag, tmp_path: Path) -> None:
    """A file of questions alone uses the nearest store; every metric has the n of its rows."""
    questions = write_questions(tmp_path / "questions.jsonl")

    result = library("eval", "run", questions, "--extractive", "--json")

    scores = values(result.json)
    assert result.code == 0, result.err
    assert scores["hit@1"] == (1.0, 2)
    assert scores["contains"] == (1.0, 2)
    assert scores["faithfulness"] == (1.0, 2)
    assert scores["citation_validity"] == (1.0, 2)
    assert scores["citation_recall"] == (1.0, 2)
    assert scores["citation_precision"] == (1.0, 2)
    assert scores["rejection_rate"] == (1.0, 1)
    assert scores["false_refusal_rate"] == (0.0, 2)
    assert result.json["settings"]["answerer"] == "extractive"
    assert [row.id for row in report_from_json(result.out).results] == ["leave", "error", "opera"]


def test_the_table_shows_metrics_and_tags(library: Rag, tmp_path: Path) -> None:
    """Without --json a person reads a table; without a chat API answers are extractive."""
    questions = write_questions(tmp_path / "questions.jsonl")

    result = library("eval", "run", questions, "--limit", "2")

    lines = result.out.splitlines()
    assert lines[0].startswith("questions (2 questions) answerer=extractive")
    assert any(line.split()[:3] == ["hit@1", "1.000", "2"] for line in lines)
    assert any(line.split()[:2] == ["direct", "2"] for line in lines)


def test_a_set_brings_its_own_documents(rag: Rag, tmp_path: Path) -> None:
    """A folder's documents get a store in the cache, kept up to date, away from the user's own."""
    folder = tmp_path / "set"
    write_documents(folder / "docs")
    write_questions(folder / "questions.jsonl")

    first = rag("eval", "run", folder, "--retrieval-only", "--json").json
    (folder / "docs" / "manual.html").write_text("Nothing about errors any more.")
    (folder / "docs" / "copy.txt").write_text("Error E-1042 of the pump: the inlet is blocked.")
    second = rag("eval", "run", folder, "--retrieval-only", "--json").json

    assert values(first)["hit@1"] == (1.0, 2)
    assert "contains" not in first["metrics"]
    assert values(second)["hit@1"] == (0.5, 2)
    assert first["fingerprint"] != second["fingerprint"]
    assert len(list((rag.home / "ragcite" / "eval").iterdir())) == 1
    assert not (rag.folder / ".rag").exists()


def test_a_store_named_by_a_flag_is_used(library: Rag, tmp_path: Path) -> None:
    """`--store` wins over the documents that the set brings."""
    folder = tmp_path / "set"
    write_documents(folder / "docs", {"other.md": "Nothing of use."})
    write_questions(folder / "questions.jsonl")

    result = library(
        "eval", "run", folder, "--retrieval-only", "--json", "--store", library.folder / ".rag"
    )

    assert values(result.json)["hit@1"] == (1.0, 2)


def test_a_bad_set_is_a_usage_error(rag: Rag, tmp_path: Path) -> None:
    """File and line reach the terminal, with the exit code of bad usage."""
    questions = write_questions(tmp_path / "questions.jsonl", [{"answers": ["x"]}])

    result = rag("eval", "run", questions)

    assert result.code == 2
    assert f"{questions}:1: no question" in result.err


def test_no_store_is_said_once(rag: Rag, tmp_path: Path) -> None:
    """A missing store ends the run with its own exit code instead of a report of errors."""
    questions = write_questions(tmp_path / "questions.jsonl")

    result = rag("eval", "run", questions)

    assert result.code == 3
    assert "no store found" in result.err


def test_cited_places_are_read_from_the_store(library: Rag) -> None:
    """What an answer claims about a place is not trusted: words and heading are the store's."""
    with Store.open(library.folder / ".rag") as store:
        document = store.document("handbook/leave.md").document
        start = document.text.index("Parents receive")
        end = start + len("Parents receive 16 weeks")
        claim = Citation(
            1, "handbook/leave.md", "Forged", None, "Forged", start, end, "Forged", "", 1.0
        )
        unknown = Citation(1, "no.md", "", None, "", 0, 5, "Words", "", 1.0)
        read = place_reader(store)

        assert read(claim) == CitedPlace(
            "Leave policy > Annual leave > Parental leave", "Parents receive 16 weeks"
        )
        assert read(unknown) is None
