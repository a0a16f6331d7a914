"""One question, from retrieval to the checked answer, as one stream of typed events.

    retrieve → judge (do the documents hold it?) → abstain
                                                 → extract, or pack → chat → ground

The command line, the server and the evaluation all consume this stream.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from time import perf_counter
from typing import Any

from ingest.embed import Embedder
from ingest.errors import UsageError
from ingest.filters import Filter
from ingest.store import Store
from ingest.tokens import count_tokens
from rag.abstain import Judgement, judge
from rag.chat import ChatModel, ChatOptions
from rag.config import Settings
from rag.errors import ChatError, ChatIncomplete, ChatOverflow
from rag.extract import ScoredSentence, extract, rank_sentences
from rag.ground import Grounder
from rag.prompt import (
    NOT_IN_DOCUMENTS,
    Prompt,
    build_prompt,
    load_template,
    looks_like_instruction,
)
from rag.retrieve import Retrieval, renumber, retrieve
from rag.stream import SentenceStream
from rag.types import (
    Answer,
    ChatDelta,
    Delta,
    Event,
    Finished,
    Message,
    Passage,
    Retrieved,
    SentenceDone,
    Status,
    Usage,
)
from rag.verify import CoverageVerifier, Idf, inverse_frequency

ABSTENTION = "Not in your documents."

_MAX_QUESTION_CHARACTERS = 4000
_OVERFLOW_RETRIES = 2


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and how: `history` holds earlier turns, oldest first."""

    text: str
    filters: tuple[Filter, ...] = ()
    history: tuple[Message, ...] = ()
    extractive: bool = False
    strict: bool = False
    stream: bool = True


@dataclass(frozen=True, slots=True)
class Resources:
    """What answering needs; `chat` is None where no chat API is configured."""

    store: Store
    embedder: Embedder
    settings: Settings
    chat: ChatModel | None = None


@dataclass(frozen=True, slots=True)
class _Context:
    """One question on its way: everything that is known before an answerer starts."""

    question: Question
    resources: Resources
    retrieval: Retrieval
    ranked: tuple[ScoredSentence, ...]
    judgement: Judgement
    idf: Idf
    started: float
    retrieve_ms: float


class _Progress:
    """What grows while an answer is written: its checked sentences, usage and timings."""

    def __init__(self, context: _Context, passages: tuple[Passage, ...]) -> None:
        self.context = context
        self.passages = passages
        self.grounder = Grounder(passages, CoverageVerifier(context.idf))
        self.usage: Usage | None = None
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.warnings: list[str] = []
        self.timings: dict[str, float] = {"retrieve": context.retrieve_ms}

    def mark(self, name: str, since: float) -> None:
        """Record the milliseconds from `since` to now."""
        self.timings[name] = (perf_counter() - since) * 1000

    def answer(self, status: Status) -> Answer:
        """The answer as it stands."""
        grounder = self.grounder
        abstained = status == "abstained"
        self.mark("total", self.context.started)
        return Answer(
            question=self.context.question.text,
            answer=ABSTENTION if abstained else grounder.answer,
            status=status,
            answerer="chat" if self.model else "extractive",
            model=self.model,
            sentences=() if abstained else grounder.sentences,
            citations=() if abstained else grounder.citations,
            passages=self.passages,
            grounding=None if abstained else grounder.grounding,
            confidence=self.context.judgement.confidence,
            usage=self.usage or Usage(),
            timings_ms=self.timings,
            warnings=tuple(self.warnings),
        )


def ask(question: Question, resources: Resources) -> Answer:
    """The whole answer at once. Raises the RagError behind an answer that failed."""
    for event in ask_stream(question, resources):
        if isinstance(event, Finished):
            if event.error is not None and event.answer.status == "failed":
                raise event.error
            return event.answer
    raise AssertionError("the stream of events ends with Finished")


def ask_stream(question: Question, resources: Resources) -> Iterator[Event]:
    """Answer a question; the last event is always Finished.

    Raises UsageError for a question that cannot be asked; failures of the chat API are not
    raised but end the stream as a failed or incomplete answer.
    """
    context = _prepare(question, resources)
    chat = None if question.extractive else resources.chat
    if context.judgement.abstains:
        yield from _abstain(context)
    elif chat is None:
        yield from _answer_extractively(context)
    else:
        yield from _answer_by_chat(context, chat)


def _prepare(question: Question, resources: Resources) -> _Context:
    started = perf_counter()
    if not question.text.strip():
        raise UsageError("the question is empty", 'ask one: `rag ask "What …?"`')
    if len(question.text) > _MAX_QUESTION_CHARACTERS:
        raise UsageError(
            f"the question has {len(question.text)} characters, "
            f"{_MAX_QUESTION_CHARACTERS} are allowed",
            "ask a shorter question",
        )
    store, embedder = resources.store, resources.embedder
    retrieval = retrieve(
        question.text, store, embedder, resources.settings.retrieval, question.filters
    )
    idf = term_weights(store)
    ranked = rank_sentences(
        question.text, retrieval.query_vector, retrieval.passages, embedder.embed_documents, idf
    )
    elapsed = (perf_counter() - started) * 1000
    judgement = judge(ranked)
    return _Context(question, resources, retrieval, tuple(ranked), judgement, idf, started, elapsed)


def term_weights(store: Store) -> Idf:
    """The weight of a term in this collection, read when first asked for."""
    total = store.chunk_count

    @cache
    def idf(term: str) -> float:
        return inverse_frequency(store.document_frequencies([term]), total)(term)

    return idf


def _abstain(context: _Context) -> Iterator[Event]:
    """Refuse before any chat call; the nearest passages are shown instead."""
    progress = _Progress(context, context.retrieval.passages)
    yield Retrieved(progress.passages, trace(context))
    yield Finished(progress.answer("abstained"))


def _answer_extractively(context: _Context, notice: str = "") -> Iterator[Event]:
    """Answer with the documents' own best sentences."""
    progress = _Progress(context, context.retrieval.passages)
    if notice:
        progress.warnings.append(notice)
    yield Retrieved(progress.passages, trace(context))
    for sentence in extract(context.ranked):
        start = len(progress.grounder.answer)
        added, new = progress.grounder.add_quote(sentence.passage, sentence.start, sentence.end)
        yield SentenceDone(added, new, progress.grounder.answer[start : added.start])
    yield Finished(progress.answer("answered"))


def _answer_by_chat(context: _Context, chat: ChatModel) -> Iterator[Event]:
    """Answer through the chat API, packing less when the model's window is smaller than thought."""
    passages = context.retrieval.passages
    for attempt in range(_OVERFLOW_RETRIES + 1):
        prompt = _prompt(context, passages)
        progress = _Progress(context, prompt.shown)
        progress.model = chat.name
        if attempt:
            progress.warnings.append(
                f"the model's window was too small: only {len(prompt.shown)} passages were sent"
            )
        try:
            yield from _converse(context, chat, prompt, progress)
        except ChatOverflow as error:
            if attempt == _OVERFLOW_RETRIES or len(prompt.shown) <= 1:
                yield from _fail(context, progress, error)
                return
            passages = prompt.shown[: len(prompt.shown) // 2]
        except ChatError as error:
            yield from _fail(context, progress, error)
            return
        else:
            return


def _prompt(context: _Context, passages: tuple[Passage, ...]) -> Prompt:
    settings = context.resources.settings
    prompt = build_prompt(
        context.question.text,
        passages,
        load_template(settings.prompt.template),
        budget=settings.prompt.budget,
        reserve=settings.chat.max_tokens,
        history=context.question.history,
    )
    return replace(prompt, shown=renumber(prompt.shown))


def _converse(
    context: _Context, chat: ChatModel, prompt: Prompt, progress: _Progress
) -> Iterator[Event]:
    """Stream one chat reply into checked sentences."""
    asked = perf_counter()
    checked = _CheckedSentences(progress, strict=context.question.strict)
    retrieved = Retrieved(prompt.shown, trace(context, prompt))
    started = False
    # Closed also when the consumer goes away: nobody then waits for the rest of the reply.
    with closing(chat.stream(prompt.messages, _options(context))) as deltas:
        for delta in deltas:
            if not started:  # an overflow is known by now: these are the passages that count
                started = True
                progress.mark("first_token", asked)
                yield retrieved
            _note(progress, delta)
            yield from checked.feed(delta.text)
    progress.mark("chat", asked)
    if progress.usage is None:
        progress.usage = Usage(prompt.tokens, count_tokens(checked.text), estimated=True)
    yield from checked.finish()
    yield Finished(_conclude(progress, checked))


class _CheckedSentences:
    """Raw text in, events out: deltas as they come, sentences once they are checked.

    Nothing is shown until a first sentence holds: an answer of which nothing is supported, or
    the agreed words for "not in the documents", is an abstention and was never an answer.
    """

    def __init__(self, progress: _Progress, *, strict: bool) -> None:
        self._progress = progress
        self._strict = strict
        self._stream = SentenceStream()
        self.text = ""
        self._held: list[Event] = []
        self._verify_seconds = 0.0
        self.refused = False
        self.dropped = 0
        self.holds = False

    def feed(self, text: str) -> Iterator[Event]:
        """Take a piece of the reply."""
        self.text += text
        if text and not NOT_IN_DOCUMENTS.startswith(self.text.strip()[: len(NOT_IN_DOCUMENTS)]):
            yield from self._emit(Delta(text))
        for piece in self._stream.feed(text):
            yield from self._check(piece)

    def finish(self) -> Iterator[Event]:
        """Take the end of the reply."""
        for piece in self._stream.finish():
            yield from self._check(piece)
        self._progress.timings["verify"] = self._verify_seconds * 1000

    def _check(self, piece: str) -> Iterator[Event]:
        if piece.strip().strip("*_`\"'.").upper() == NOT_IN_DOCUMENTS:
            self.refused = True
            return
        begun = perf_counter()
        grounder = self._progress.grounder
        end = len(grounder.answer)
        added = grounder.add(piece, drop_unsupported=self._strict)
        self._verify_seconds += perf_counter() - begun
        if added is None:
            self.dropped += bool(piece.strip())
            return
        sentence, new = added
        event = SentenceDone(sentence, new, grounder.answer[end : sentence.start])
        self.holds = self.holds or sentence.support in ("supported", "weak")
        yield from self._emit(event)

    def _emit(self, event: Event) -> Iterator[Event]:
        self._held.append(event)
        if self.holds:
            yield from self._held
            self._held.clear()


def _conclude(progress: _Progress, checked: _CheckedSentences) -> Answer:
    """What the reply amounts to once it is complete."""
    if checked.dropped and checked.holds:
        progress.warnings.append(f"{checked.dropped} unsupported sentences were left out")
    if checked.refused and not checked.holds:
        return progress.answer("abstained")
    if not checked.holds:
        progress.warnings.append("the model's answer was not supported by the documents")
        return progress.answer("abstained")
    if progress.finish_reason == "length":
        progress.warnings.append("the answer was cut at chat.max_tokens")
        return progress.answer("incomplete")
    return progress.answer("answered")


def _note(progress: _Progress, delta: ChatDelta) -> None:
    progress.usage = delta.usage or progress.usage
    progress.finish_reason = delta.finish_reason or progress.finish_reason
    progress.model = delta.model or progress.model


def _options(context: _Context) -> ChatOptions:
    chat = context.resources.settings.chat
    spent = perf_counter() - context.started
    return ChatOptions(
        temperature=chat.temperature,
        max_tokens=chat.max_tokens,
        deadline_s=max(0.0, chat.deadline - spent),
        stream=context.question.stream,
    )


def _fail(context: _Context, progress: _Progress, error: ChatError) -> Iterator[Event]:
    """The API gave no whole answer: keep what was checked, or fall back, or show the passages."""
    if isinstance(error, ChatIncomplete) and progress.grounder.sentences:
        progress.warnings.append(error.message)
        yield Finished(progress.answer("incomplete"), error)
    elif context.resources.settings.chat.fallback:
        notice = f"extractive answer, for the chat API failed: {error.message}"
        yield from _answer_extractively(context, notice)
    else:
        progress.warnings.append("the chat API failed; these are the passages it would have had")
        yield Finished(progress.answer("failed"), error)


def trace(context: _Context, prompt: Prompt | None = None) -> dict[str, Any]:
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
        "terms": list(retrieval.terms),
        "candidates": rows,
        "duplicates": [{"source": d.source, "of": d.of} for d in retrieval.duplicates],
        "confidence": judgement.confidence,
        "cosine": judgement.cosine,
        "coverage": judgement.coverage,
        "threshold": judgement.threshold,
        "instructions": [
            p.chunk.source for p in retrieval.passages if looks_like_instruction(p.chunk.text)
        ],
    }
    if prompt:
        details |= {
            "prompt_tokens": prompt.tokens,
            "budget": context.resources.settings.prompt.budget,
        }
    return details


def _fate(chunk_id: int, shown: set[int], packed_out: set[int]) -> str:
    if chunk_id in shown:
        return "shown"
    return "over the budget" if chunk_id in packed_out else "below the best k"
