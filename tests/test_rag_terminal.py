"""What a person at a terminal sees while work goes on, and once it is done."""

import json
import re

import pytest
from command import Rag, write_documents

COLOUR = re.compile(r"\x1b\[[0-9;]*[1-9][0-9;]*m")
CURSOR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.mark.parametrize("environment", [{}, {"COLUMNS": "24"}, {"TERM": "dumb"}])
def test_an_ingest_shows_how_far_it_is(rag: Rag, environment: dict[str, str]) -> None:
    """On a terminal of any kind it ends well, and its result stands below the progress."""
    write_documents(rag.folder / "docs")

    shown = rag.at_terminal("ingest", "docs", **environment)

    assert shown.code == 0, shown.out
    assert "5 added" in shown.out
    assert "Traceback" not in shown.out
    if not environment:
        assert "5/5 files" in CURSOR.sub("", shown.out)


def test_each_long_work_shows_how_far_it_is(library: Rag, tmp_path) -> None:
    """A batch and an evaluation have the same bar as an ingest."""
    rows = [{"id": str(n), "question": f"How many days of leave, {n}?"} for n in range(3)]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))

    batch = library.at_terminal("batch", questions, "-o", tmp_path / "answers.jsonl")
    evaluation = library.at_terminal("eval", "run", questions, "--extractive")

    assert (batch.code, evaluation.code) == (0, 0), batch.out + evaluation.out
    assert "3/3 questions" in CURSOR.sub("", batch.out)
    assert "3/3 questions" in CURSOR.sub("", evaluation.out)


def test_colour_can_be_declined(library: Rag) -> None:
    """With NO_COLOR nothing is coloured; an answer is whole either way."""
    question = "How many days of paid leave does every employee have?"

    plain = library.at_terminal("ask", question, NO_COLOR="1")

    assert plain.code == 0
    assert "28 days" in plain.out
    assert not COLOUR.search(plain.out)
