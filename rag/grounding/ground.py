"""From a model's words to a cited, checked answer, sentence by sentence as it arrives.

The model's own markers are a hint: each is kept where its passage covers the sentence, replaced
where another passage does, and dropped where none does. Markers in the answer are written here,
so each has a citation, and each citation is a slice of a stored document.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ingest.types import text_sha256
from rag.grounding.verify import (
    SECOND_SOURCE_GAIN,
    Claim,
    CoverageVerifier,
    Verdict,
    Window,
    found_in,
    prepared_passage,
    tightest_run,
)
from rag.markup import parse_markers, plain_text, with_markers
from rag.types import Citation, Passage, Sentence

KEEP_MARKER = 0.60
"""What a passage's best window must cover of a sentence to be cited for it."""

_NOT_ENOUGH = "no passage alone holds enough of it"
_FENCES = ("```", "~~~")
_STOP = re.compile(r"[.!?\u2026\u3002\uff01][\"')\]\u201d\u2019\u00bb*_]*$")


@dataclass(frozen=True, slots=True)
class _Source:
    """A window that will be cited, and whether the model had pointed elsewhere."""

    window: Window
    repaired: bool


class Grounder:
    """Gathers an answer sentence by sentence; `passages` are those shown to the model.

    `answer` is what has been gathered so far, markers included: every sentence in it at its
    offsets, with the white space that the model wrote between them.
    """

    def __init__(self, passages: Sequence[Passage], verifier: CoverageVerifier) -> None:
        self._passages = tuple(passages)
        self._verifier = verifier
        self._fence = ""
        self.answer = ""
        self.sentences: tuple[Sentence, ...] = ()
        self.citations: tuple[Citation, ...] = ()

    @property
    def grounding(self) -> float | None:
        """The share of checked sentences that are supported; None when none needed a check."""
        checked = [s for s in self.sentences if s.support != "not_checked"]
        supported = sum(sentence.support == "supported" for sentence in checked)
        return supported / len(checked) if checked else None

    def add(
        self, piece: str, *, drop_unsupported: bool = False
    ) -> tuple[Sentence, tuple[Citation, ...]] | None:
        """Check one sentence of the model, the white space before it included.

        Returned are the finished sentence and the citations it uses first; None where nothing
        is left to show, as for a marker standing alone, or a sentence that was to be dropped.
        """
        fenced = self._enter_or_leave_fence(piece)
        text, cited = (plain_text(piece, code=True), ()) if fenced else parse_markers(piece)
        if not text.strip():
            return None
        if fenced:
            return self._append(text, (), Verdict(None, "not_checked"))
        verdict = self._verifier.check(text.strip(), self._passages)
        sources = self._sources(text, cited, verdict)
        if verdict.score is not None and not sources and verdict.support != "unsupported":
            verdict = replace(verdict, support="unsupported", reason=verdict.reason or _NOT_ENOUGH)
        if drop_unsupported and verdict.support == "unsupported":
            return None
        return self._append(text, sources, verdict)

    def add_quote(
        self, passage: Passage, start: int, end: int, shown: str, header: str = ""
    ) -> tuple[Sentence, tuple[Citation, ...]]:
        """Add a sentence of a document, as `shown`: supported by itself.

        `start` and `end` are offsets in the document, inside the passage; `header` is that of the
        table that it is a row of.
        """
        # The document's own markers would read as ours.
        text, _ = parse_markers(shown)
        # A sentence is shown on one line; with the code or list that it announces, as it stands.
        text = text.strip() if "\n\n" in text else " ".join(text.split())
        ends = not self.sentences or _STOP.search(self.sentences[-1].text)
        separator = "\n\n" if "\n\n" in text + self.answer else " " if ends else "\n"
        separator = separator if self.answer else ""
        citation = self._citation(passage, start, end, 1.0)
        citation = replace(citation, header=header or citation.header)
        return self._finish(separator, text, (citation,), Verdict(1.0, "supported"))

    def _enter_or_leave_fence(self, piece: str) -> bool:
        """Whether a piece is code or its fence; keeps track of which fence is open."""
        line = piece.strip()
        if self._fence:
            if line.startswith(self._fence):
                self._fence = ""
            return True
        if line.startswith(_FENCES):
            self._fence = line[:3]
            return True
        return False

    def _sources(self, text: str, cited: tuple[int, ...], verdict: Verdict) -> tuple[_Source, ...]:
        """The windows to cite: the model's where they hold, else the best, else none."""
        if verdict.score is None or verdict.support == "unsupported":
            return ()
        claim = self._verifier.claim(text)
        shown = {number - 1 for number in cited}
        own = [w for w in verdict.best if w.passage in shown and w.coverage >= KEEP_MARKER]
        kept = own
        # What a judge finds supported in other words is cited by the nearest words.
        if not own and (verdict.judged or claim.coverage(found_in(verdict.windows)) >= KEEP_MARKER):
            kept = list(verdict.windows)
        repaired = bool(cited) and not own
        return tuple(_Source(w, repaired) for w in _with_second(claim, kept, verdict))

    def _append(
        self, text: str, sources: tuple[_Source, ...], verdict: Verdict
    ) -> tuple[Sentence, tuple[Citation, ...]]:
        body = text.strip()
        separator = text[: len(text) - len(text.lstrip())] if self.answer else ""
        claim = self._verifier.claim(body)
        citations = tuple(self._cite(claim, source) for source in sources)
        return self._finish(separator, body, citations, verdict)

    def _cite(self, claim: Claim, source: _Source) -> Citation:
        """The citation of a window: its tightest run of sentences."""
        passage = self._passages[source.window.passage]
        evidence = prepared_passage(passage)
        first, last, score = tightest_run(claim, evidence, source.window)
        base = passage.chunk.start
        start, end = base + evidence.spans[first][0], base + evidence.spans[last - 1][1]
        citation = self._citation(passage, start, end, score)
        header = evidence.headers[first]
        if header is not None:  # a row of a table that begins in the passage itself
            citation = replace(citation, header=evidence.slice(header, header + 1))
        return replace(citation, repaired=source.repaired)

    def _citation(self, passage: Passage, start: int, end: int, score: float) -> Citation:
        """A citation of document text, not numbered yet."""
        chunk = passage.chunk
        quote = chunk.text[start - chunk.start : end - chunk.start]
        return Citation(
            number=0,
            source=chunk.source,
            title=chunk.title,
            page=chunk.page,
            section=chunk.section,
            start=start,
            end=end,
            quote=quote,
            sha256=text_sha256(quote),
            score=score,
            page_label=chunk.page_label or None,
            header=chunk.header or None,
        )

    def _finish(
        self, separator: str, text: str, citations: tuple[Citation, ...], verdict: Verdict
    ) -> tuple[Sentence, tuple[Citation, ...]]:
        """Number the citations, write the markers, and add the sentence to the answer."""
        numbers: list[int] = []
        new: list[Citation] = []
        for citation in citations:
            number, is_new = self._numbered(citation)
            if number not in numbers:
                numbers.append(number)
            if is_new:
                new.append(self.citations[-1])
        marked = with_markers(text, numbers)
        start = len(self.answer) + len(separator)
        sentence = Sentence(
            text=marked,
            start=start,
            end=start + len(marked),
            citations=tuple(numbers),
            support=verdict.support,
            score=verdict.score,
            reason=verdict.reason,
        )
        self.answer += separator + marked
        self.sentences += (sentence,)
        return sentence, tuple(new)

    def _numbered(self, citation: Citation) -> tuple[int, bool]:
        """The number of a citation, and whether it is used for the first time."""
        for known in self.citations:
            if (known.source, known.start, known.end) == (
                citation.source,
                citation.start,
                citation.end,
            ):
                return known.number, False
        number = len(self.citations) + 1
        self.citations += (replace(citation, number=number),)
        return number, True


def _with_second(claim: Claim, kept: list[Window], verdict: Verdict) -> list[Window]:
    """The windows kept, and the one that adds most where it adds enough."""
    if len(kept) != 1:
        return kept
    covered = kept[0].coverage
    gains = [
        (claim.coverage(kept[0].found | window.found) - covered, -index, window)
        for index, window in enumerate((*verdict.windows, *verdict.best))
    ]
    gain, _, second = max(gains)
    return [*kept, second] if gain >= SECOND_SOURCE_GAIN else kept
