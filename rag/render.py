"""Answers, passages and reports as JSON objects and as text for a terminal."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from ingest.errors import RagError
from ingest.types import StoredChunk, StoredDocument
from rag.types import Answer, Citation, Passage, Sentence

if TYPE_CHECKING:  # they would bring all of ingesting and answering along
    from ingest.rebuild import Rebuilt
    from ingest.records import SourceInfo, StoreStatus
    from ingest.report import SyncReport
    from rag.preview import Preview

_UNPRINTABLE = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]"
)
_STRUCK = "\x1b[9m{}\x1b[29m"
_QUOTE_CHARACTERS = 400
_PASSAGE_CHARACTERS = 300
_NEAREST = 3


def answer_json(answer: Answer) -> dict[str, Any]:
    """The object that `rag ask --json` prints; a follow-up also says how it was understood, and
    what its earlier turns were summed up to.
    """
    data = asdict(replace(answer, passages=())) | {
        "sentences": [_sentence_json(sentence) for sentence in answer.sentences],
        "passages": passages_json(answer.passages),
        "confidence": round(answer.confidence, 4),
        "timings_ms": {name: round(ms, 2) for name, ms in answer.timings_ms.items()},
    }
    if answer.standalone in ("", answer.question):
        del data["standalone"]
    if answer.summary is None:
        del data["summary"]
    return data


def _sentence_json(sentence: Sentence) -> dict[str, Any]:
    score = None if sentence.score is None else round(sentence.score, 4)
    return asdict(sentence) | {"citations": list(sentence.citations), "score": score}


def passages_json(passages: Sequence[Passage]) -> list[dict[str, Any]]:
    """Passages in the shape that ask and search share."""
    names = ("source", "title", "page", "page_label", "section", "header", "start", "end", "text")
    return [
        {
            "number": passage.number,
            **_picked(passage.chunk, *names),
            "page_label": passage.chunk.page_label or None,
            "header": passage.chunk.header or None,
            "score": round(passage.score, 4),
            **_picked(passage, "dense_rank", "lexical_rank"),
        }
        for passage in passages
    ]


def _picked(value: object, *names: str) -> dict[str, Any]:
    return {name: getattr(value, name) for name in names}


def preview_json(preview: "Preview") -> dict[str, Any]:
    """The object that `rag ask --dry-run --json` prints."""
    prompt = preview.prompt
    rows = zip(passages_json(prompt.shown), prompt.costs, strict=True)
    return {
        **_picked(preview, "question", "action"),
        "confidence": round(preview.confidence, 4),
        "model": preview.model,
        "window": preview.facts.window or None,
        "passages": [row | {"tokens": tokens} for row, tokens in rows],
        "dropped": len(prompt.dropped),
        "prompt_tokens": prompt.tokens,
        "reserve": prompt.limits.reserve,
        "budget": prompt.limits.budget,
        "cost_usd": preview.cost_usd,
        "estimated": True,
    }


def report_json(report: "SyncReport") -> dict[str, Any]:
    """The object that `rag ingest --json` prints."""
    return {
        **_picked(report, "added", "updated", "removed", "unchanged"),
        "skipped": [
            {"source": s.source, "reason": s.message, "hint": s.hint} for s in report.skipped
        ],
        "failed": [{"source": f.source, "error": f.message, "hint": f.hint} for f in report.failed],
        **_picked(report, "chunks", "tokens", "truncated", "notes"),
        "seconds": round(report.seconds, 3),
    }


def document_json(stored: StoredDocument) -> dict[str, Any]:
    """The object that `rag show --json` prints."""
    document = stored.document
    return {
        "source": document.source,
        "title": document.shown_title,
        "media_type": document.media_type,
        "sha256": document.sha256,
        "pages": len(document.page_starts) or None,
        "page_labels": list(document.page_labels) or None,
        "metadata": dict(document.metadata),
        "text": document.text,
        "chunks": [_picked(chunk, "start", "end", "page", "section") for chunk in stored.chunks],
    }


def status_text(status: "StoreStatus") -> str:
    """A store at a glance."""
    return "\n".join(
        [
            f"documents   {status.documents}",
            f"chunks      {status.chunks}",
            f"size        {status.bytes / 1e6:.1f} MB",
            f"model       {status.embedding_model}",
            f"format      {status.format}, generation {status.generation}",
            *(f"root        {printable(root)}" for root in status.roots),
        ]
    )


def rebuilt_text(rebuilt: "Rebuilt") -> str:
    """What a rebuild saved, and what it could not."""
    lines = [f"rebuilt: {rebuilt.documents} documents, {rebuilt.chunks} chunks"]
    lines += [f"  lost: {printable(source)}" for source in rebuilt.lost]
    if rebuilt.damaged:
        lines.append("the store was damaged: run `rag ingest` to read its files again")
    return "\n".join(lines)


def sources_json(sources: "Sequence[SourceInfo]") -> dict[str, Any]:
    """The object that `rag list --json` prints."""
    names = ("id", "source", "title", "media_type", "chunks", "pages", "path")
    return {"sources": [{**_picked(s, *names), "pages": s.pages or None} for s in sources]}


def sources_text(sources: "Sequence[SourceInfo]") -> str:
    """Sources with their size in chunks and their title."""
    width = min(60, max((len(s.source) for s in sources), default=0))
    rows = (
        f"{printable(s.source):<{width}}  {s.chunks:>5} chunks  {printable(s.title)}"
        for s in sources
    )
    return "\n".join(row.rstrip() for row in rows)


def error_json(error: RagError) -> dict[str, Any]:
    """A failure in the shape that every command shares."""
    return {"error": {"type": error.name, "message": error.message, "hint": error.hint}}


def printable(text: str) -> str:
    """Text from a document or a file name, safe for a terminal: control characters are shown."""
    return _UNPRINTABLE.sub(lambda m: f"\\x{ord(m.group()):02x}", text)


def place(at: Citation | StoredChunk) -> str:
    """Where a passage or a quote stands: source, section and page on one line."""
    parts = [at.source, at.section] if at.section else [at.source]
    where = " · ".join(" ".join(printable(part).split()) for part in parts)
    return f"{where}, p. {printable(at.page_label or str(at.page))}" if at.page else where


def sentence_text(sentence: Sentence, *, styled: bool = False) -> str:
    """A sentence as the terminal shows it: one that failed its check is marked, and struck out
    where `styled`.
    """
    text = printable(sentence.text)
    if sentence.support == "unsupported":
        # Not every terminal can strike: the mark stands there too.
        return f"{_STRUCK.format(text) if styled else text} [unsupported]"
    return f"{text} [weakly supported]" if sentence.support == "weak" else text


def citations_text(citations: Iterable[Citation]) -> str:
    """The numbered sources below an answer, each with the words it rests on."""
    lines = []
    for citation in citations:
        lines.append(f"[{citation.number}] {place(citation)}")
        if citation.header:
            lines.append(f"    {_one_line(citation.header, _QUOTE_CHARACTERS)}")
        lines.append(f"    “{_one_line(citation.quote, _QUOTE_CHARACTERS)}”")
    return "\n".join(lines)


def passages_text(passages: Iterable[Passage]) -> str:
    """Ranked passages with the beginning of their text."""
    lines = []
    for passage in passages:
        chunk = passage.chunk
        lines.append(f"{passage.number:>2}. {place(chunk)}  ({passage.score:.2f})")
        lines.append(f"    {_one_line(chunk.text, _PASSAGE_CHARACTERS)}")
    return "\n".join(lines)


def ending_text(answer: Answer) -> str:
    """What stands below an answer's sentences: its sources, or instead of an answer, the nearest
    passages.
    """
    nearest = passages_text(answer.passages[:_NEAREST])
    if answer.status == "abstained":
        refusal = f"{answer.answer}{_lacking(answer.missing)}"
        return f"{refusal} The nearest passages:\n{nearest}" if nearest else refusal
    if answer.status == "failed":
        return f"No answer. The passages found:\n{nearest}"
    broken = "\n(the answer broke off here)" if answer.status == "incomplete" else ""
    return f"{broken}\n\n{citations_text(answer.citations)}".rstrip()


def _lacking(words: Sequence[str]) -> str:
    """What no passage mentions, as the end of a refusal."""
    quoted = [f'"{printable(word)}"' for word in words]
    return f" No passage mentions {' or '.join(quoted)}." if quoted else ""


def explain_text(trace: Mapping[str, Any]) -> str:
    """What each leg retrieved, what was packed, what was dropped and why."""
    signals = ", ".join(f"{name} {value:.2f}" for name, value in trace["signals"].items())
    lines = [f"understood as: {printable(trace['standalone'])}"] if "standalone" in trace else []
    lines += [
        f"terms: {' '.join(trace['terms']) or '(none)'}",
        f"confidence: {trace['confidence']:.2f} ({signals}; abstains below "
        f"{trace['threshold']:.2f})",
        "  score  cosine   bm25  dense  lexical  fate",
    ]
    for row in trace["candidates"]:
        lines.append(
            f"  {row['score']:5.3f}  {row['cosine']:6.3f}  {row['bm25']:5.1f}  "
            f"{row['dense_rank'] or '-':>5}  {row['lexical_rank'] or '-':>7}  "
            f"{row['fate']}: {printable(row['place'])}"
        )
    lines += [
        f"  left out: {printable(d['source'])} repeats {printable(d['of'])}"
        for d in trace["duplicates"]
    ]
    lines += [f"  reads like instructions: {printable(p)}" for p in trace["instructions"]]
    if "prompt_tokens" in trace:
        tokens = f"{trace['prompt_tokens']} tokens of a budget of {trace['budget']}"
        lines.append(f"prompt: {trace['prompt']}, {tokens}")
    return "\n".join(lines)


def preview_text(preview: "Preview") -> str:
    """What would be sent, passage by passage, its tokens and its cost."""
    prompt, facts = preview.prompt, preview.facts
    fate = {
        "ask": f"Would be sent to {preview.model}:",
        "extract": "Nothing would be sent: the answer would be the documents' own sentences. "
        f"{preview.model} would get:",
        "abstain": f"Nothing would be sent: refused at a confidence of {preview.confidence:.2f}. "
        f"{preview.model} would get:",
    }
    lines = [printable(fate[preview.action])]
    for passage, tokens in zip(prompt.shown, prompt.costs, strict=True):
        lines.append(f"{passage.number:>2}. {place(passage.chunk)}  ({tokens} tokens)")
    if prompt.dropped:
        lines.append(f"    {len(prompt.dropped)} passages are over the budget")
    lines.append(
        f"about {prompt.tokens} tokens, and at most {prompt.limits.reserve} for the answer, "
        f"of a budget of {prompt.limits.budget}"
    )
    if preview.cost_usd is None:
        lines.append("price unknown: set chat.price_in and chat.price_out")
    else:
        dated = f" (list price of {facts.as_of})" if facts.as_of else ""
        lines.append(f"about ${preview.cost_usd:.6f} at most{dated}")
    return "\n".join(lines)


def report_text(report: "SyncReport", *, verbose: bool = False) -> str:
    """One line of what an ingest did, then a line for each file that failed or, with `verbose`,
    was skipped.
    """
    counts = [f"{len(getattr(report, name))} {name}" for name in ("added", "updated", "removed")]
    counts.append(f"{report.unchanged} unchanged")
    problems = {"skipped": report.skipped, "failed": report.failed}
    counts += [f"{len(listed)} {name}" for name, listed in problems.items() if listed]
    verb = "Would be: " if report.dry_run else ""
    lines = [f"{verb}{', '.join(counts)}; {report.chunks} chunks in {report.seconds:.1f} s"]
    changes = {"add": report.added, "update": report.updated, "remove": report.removed}
    for name, sources in changes.items() if report.dry_run or verbose else ():
        lines += [f"  {name}: {printable(source)}" for source in sources]
    for found in (*report.failed, *(report.skipped if verbose else ())):
        name = "skipped" if found.skipped else "failed"
        hint = f" ({found.hint})" if found.hint else ""
        lines.append(f"  {name}: {printable(found.source)}: {printable(found.message)}{hint}")
    return "\n".join(lines)


def _one_line(text: str, limit: int) -> str:
    flat = " ".join(printable(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1].rstrip() + "…"
