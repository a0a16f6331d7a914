"""The verifier's benchmark, on a small set of our own."""

import json
from pathlib import Path

import pytest

from eval.benchmarks.verifier import main

FACTS = [
    ("Every employee has 28 days of paid leave", "Staff may take a sabbatical in the third year"),
    ("The pump moves 1,200 litres of water an hour", "The pump can be used with salt water"),
    ("Meals are refunded up to 45 euros a day", "Hotels are booked by the travel office"),
    ("The fire drill takes place on 12 May", "The stairs were closed for repairs in 2019"),
]


def test_one_command_compares_three_scores(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Ours, the cosine and plain coverage are measured on the same claims, with differences."""
    folder = tmp_path / "grounding_scifact"
    folder.mkdir()
    context = [f"{held} and nobody objects." for held, _ in FACTS] + ["Nothing else is known."]
    rows = [
        {"id": f"{number}", "claim": f"{claim}.", "label": label, "context": context}
        for number in range(12)
        for claim, label in zip(FACTS[number % 4], ("supported", "not_supported"))
    ]
    (folder / "claims.jsonl").write_text("\n".join(map(json.dumps, rows)))

    assert main([str(tmp_path), "--sets", "scifact"]) == 0

    figures = json.loads(capsys.readouterr().out)["scifact"]
    assert figures["claims"] == len(rows)
    assert figures["auroc"].keys() == figures["macro_f1"].keys() == {"ours", "cosine", "coverage"}
    assert figures["auroc"]["ours"] == 1.0
    assert figures["numbers"]["false_alarms"] == 0.0
    gain, low, high = figures["ours_over"]["cosine"]["auroc"]
    assert low <= gain <= high
    assert figures["milliseconds_per_answer"] > 0
