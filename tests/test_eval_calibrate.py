"""`rag eval calibrate`: the refusal fitted to a person's own questions."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import Rag, write_documents

from eval.calibrate import Example, fitted, held_out, measured
from ingest.types import StoredChunk
from rag.abstain import DEFAULT, Signals, read_calibration
from rag.types import Passage

SUBJECTS = (
    "pump", "boiler", "lift", "printer", "kettle", "garden", "archive", "kitchen", "cellar", "roof",
)  # fmt: skip


def examples(shift: float, count: int = 200) -> list[Example]:
    """Answered questions with signals above those of the others, all moved by `shift`."""
    random = np.random.default_rng(3)
    return [
        Example(str(n), Signals(*random.normal(0.4 + shift + 0.3 * (n % 2), 0.1, 4)), bool(n % 2))
        for n in range(count)
    ]


def test_a_fit_moves_to_where_the_questions_are() -> None:
    """Documents whose answers score lower than usual get a lower bar, kept to few refusals."""
    low = examples(-0.35)

    before, after = measured(low, lambda e: DEFAULT), measured(low, lambda e: fitted(low))

    assert before["false_refusal_rate"].value > 0.9
    assert after["false_refusal_rate"].value <= 0.05
    assert after["ece"].value < before["ece"].value
    assert after["auroc"].value > 0.95


def test_a_strong_prior_leaves_the_weights() -> None:
    """Few questions do not overturn what many have taught."""
    weak, strong = fitted(examples(0.0, 20), 1e-3), fitted(examples(0.0, 20), 1e6)

    assert np.allclose(strong.weights, DEFAULT.weights, atol=1e-3)
    assert not np.allclose(weak.weights, DEFAULT.weights, atol=0.5)


def test_copies_are_held_out_with_their_document() -> None:
    """What is held out takes its near-duplicates along, in other documents too."""
    chunk = StoredChunk(1, "a.md", "", 0, 1, "x", None, "", 1, family=7)
    chunks = (
        chunk,
        replace(chunk, source="copy.md"),
        replace(chunk, source="b.md", family=9),
        replace(chunk, source="c.md", family=0),
    )
    passages = [Passage(n, c, 0.5, 0.5, n, None) for n, c in enumerate(chunks, 1)]

    assert [p.chunk.source for p in held_out(passages, {"a.md"})] == ["b.md", "c.md"]


def write_set(folder: Path) -> Path:
    texts = {
        f"{s}.md": f"# The {s}\n\nThe {s} is {n + 3} years old.\n" for n, s in enumerate(SUBJECTS)
    }
    write_documents(folder / "docs", texts)
    rows = [
        {
            "id": subject,
            "question": f"How old is the {subject}?",
            "answers": [f"{n + 3} years"],
            "evidence": [{"doc": f"{subject}.md"}],
        }
        for n, subject in enumerate(SUBJECTS)
    ]
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def test_a_calibration_is_written_and_used(rag: Rag, tmp_path: Path) -> None:
    """The store that was asked keeps it, and its answers follow it."""
    folder = write_set(tmp_path / "set")
    assert rag("ingest", folder / "docs").code == 0

    done = rag("eval", "calibrate", folder / "questions.jsonl", "--json")

    assert done.code == 0, done.err
    kept = read_calibration(rag.folder / ".rag")
    assert kept != DEFAULT
    assert done.json["calibration"]["low"] == kept.low
    assert (done.json["questions"], done.json["path"]) == (
        10,
        str(rag.folder / ".rag/calibration.json"),
    )
    assert {"auroc", "ece", "false_refusal_rate", "rejection_rate"} == done.json["after"].keys()
    explained = rag("ask", "How old is the boiler?", "--extractive", "--explain")
    assert f"abstains below {kept.low:.2f}" in explained.err


def test_before_and_after_are_shown(rag: Rag, tmp_path: Path) -> None:
    """A person reads a table, and where the result went."""
    folder = write_set(tmp_path / "set")
    rag("ingest", folder / "docs")

    result = rag("eval", "calibrate", folder / "questions.jsonl")

    assert result.out.startswith("calibrated with 10 questions; abstains below 0.")
    assert any(line.split()[:1] == ["auroc"] for line in result.out.splitlines())
    assert result.out.rstrip().endswith("calibration.json")


@pytest.mark.parametrize("limit", [0, 1])
def test_too_few_questions_are_refused(rag: Rag, tmp_path: Path, limit: int) -> None:
    """A fit to nothing is a usage error, and nothing is written."""
    folder = write_set(tmp_path / "set")
    rag("ingest", folder / "docs")
    path = folder / "questions.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:limit]), encoding="utf-8")

    result = rag("eval", "calibrate", path)

    assert result.code == 2
    assert not (rag.folder / ".rag" / "calibration.json").exists()
