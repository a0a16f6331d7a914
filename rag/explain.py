"""How an answer came about, as `--explain` and the answer's trace tell it."""

from typing import Any

from rag.context import Context
from rag.prompt import Prompt, speaks_to_model


def trace(context: Context, prompt: Prompt | None = None) -> dict[str, Any]:
    """What `--explain` shows: each candidate's scores and its fate."""
    retrieval, judgement = context.retrieval, context.judgement
    shown = {p.chunk.id for p in (prompt.shown if prompt else retrieval.passages)}
    packed_out = {p.chunk.id for p in prompt.dropped} if prompt else set()
    places = {
        p.chunk.id: f"{p.chunk.source} [{p.chunk.start}:{p.chunk.end}]" for p in retrieval.passages
    }
    rows = [
        {
            "chunk": c.chunk_id,
            "place": places.get(c.chunk_id, f"chunk {c.chunk_id}"),
            "score": c.score,
            "cosine": c.cosine,
            "bm25": c.bm25,
            "dense_rank": c.dense_rank,
            "lexical_rank": c.lexical_rank,
            "fate": _fate(c.chunk_id, shown, packed_out),
        }
        for c in retrieval.candidates[: 2 * context.resources.settings.retrieval.k]
    ]
    details: dict[str, Any] = {
        "terms": list(retrieval.query.terms),
        "corrected": dict(retrieval.query.corrected),
        "candidates": rows,
        "duplicates": [{"source": d.source, "of": d.of} for d in retrieval.duplicates],
        "confidence": judgement.confidence,
        "signals": judgement.signals._asdict(),
        "threshold": judgement.calibration.low,
        "instructions": [places[p.chunk.id] for p in retrieval.passages if speaks_to_model(p)],
    }
    if context.standalone.text != context.question.text:
        details["standalone"] = context.standalone.text
    if prompt:
        details |= {
            "prompt_tokens": prompt.tokens,
            "budget": prompt.limits.budget,
            "prompt": prompt.version,
        }
    return details


def _fate(chunk_id: int, shown: set[int], packed_out: set[int]) -> str:
    if chunk_id in shown:
        return "shown"
    return "over the budget" if chunk_id in packed_out else "below the best k"
