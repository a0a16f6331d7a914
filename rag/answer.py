"""One question, from retrieval to the checked answer, as one stream of typed events.

    retrieve → judge (do the documents hold it?) → abstain
                                                 → extract, or pack → chat → ground

The command line, the server and the evaluation all consume this stream.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import reduce
from time import perf_counter

from ingest.tokens import count_tokens
from rag.chat.client import ChatModel, ChatOptions
from rag.choice import chosen_model, is_easy
from rag.context import Context, Question, Resources, claim_weights, prepare
from rag.conversation.summary import recalled, summarise
from rag.errors import ChatError, ChatIncomplete, ChatOverflow
from rag.explain import trace
from rag.extractive.conflicts import statements
from rag.grounding.ground import Grounder
from rag.grounding.sentences import SentenceStream
from rag.grounding.verify import CoverageVerifier
from rag.prompt import (
    NOT_IN_DOCUMENTS,
    Limits,
    Prompt,
    build_prompt,
    load_template,
    speaks_to_model,
)
from rag.types import (
    Answer,
    ChatDelta,
    Delta,
    Event,
    Finished,
    Passage,
    Retrieved,
    SentenceDone,
    Status,
    Usage,
    Working,
)

ABSTENTION = "Not in your documents."

_OVERFLOW_RETRIES = 2


class _Progress:
    """What grows while an answer is written: its checked sentences, usage and timings."""

    def __init__(self, context: Context, passages: tuple[Passage, ...]) -> None:
        self.context = context
        self.passages = passages
        weights = claim_weights(context, passages)
        judge, question = context.resources.judge, context.question.text
        verifier = CoverageVerifier(weights, judge, question)
        self.grounder = Grounder(passages, verifier)
        self.usage: Usage | None = None
        self.retries = 0
        self.model: str | None = None
        self.facts = chosen_model(context)
        self.prompt: str | None = None
        self.finish_reason: str | None = None
        self.warnings = list(context.warnings)
        self.timings: dict[str, float] = {"retrieve": context.retrieve_ms}
        if context.standalone.usage:
            self.timings["rewrite"] = context.rewrite_ms
        if context.summarised.summary:
            self.timings["summarise"] = context.summarised.milliseconds

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
            usage=self._priced_usage(),
            timings_ms=self.timings,
            warnings=tuple(self.warnings),
            missing=self.context.judgement.missing if abstained else (),
            prompt=self.prompt,
            standalone=self.context.standalone.text,
            summary=self.context.summarised.summary,
        )

    def _priced_usage(self) -> Usage:
        """What the answer took, the completion of its question and the summary included."""
        context = self.context
        parts = (self.usage, context.standalone.usage, context.summarised.usage)
        priced = [self._priced(usage) for usage in parts if usage is not None]
        used = reduce(Usage.plus, priced) if priced else Usage()
        return replace(used, retries=self.retries)

    def _priced(self, usage: Usage) -> Usage:
        if usage.cost_usd is not None:
            return usage
        cost = self.facts.cost(usage.prompt_tokens, usage.completion_tokens)
        return replace(usage, cost_usd=cost)


def ask(question: Question, resources: Resources) -> Answer:
    """The whole answer at once. Raises the RagError behind an answer that failed."""
    return whole(ask_stream(question, resources))


def whole(events: Iterator[Event]) -> Answer:
    """The answer at the end of its events. Raises the RagError behind one that failed."""
    for event in events:
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
    context = prepare(question, resources)
    chat = None if question.extractive else resources.chat
    if context.judgement.abstains:
        yield from _abstain(context)
    elif chat is None:
        yield from _answer_extractively(context)
    else:
        yield from _answer_by_chat(_summarised(context, chat), chat)


def _abstain(context: Context) -> Iterator[Event]:
    """Refuse before any chat call; the nearest passages are shown instead."""
    progress = _Progress(context, context.retrieval.passages)
    nothing = context.question.filters and not progress.passages
    progress.warnings = ["no document passes the filters"] if nothing else []
    yield Retrieved(progress.passages, trace(context))
    yield Finished(progress.answer("abstained"))


def _answer_extractively(context: Context, notices: Sequence[str] = ()) -> Iterator[Event]:
    """Answer with the documents' own best sentences."""
    progress = _Progress(context, context.retrieval.passages)
    progress.warnings += notices
    yield Retrieved(progress.passages, trace(context))
    quoted = []
    for sentence, shown in statements(context.asked, context.ranked, context.conflict):
        quoted.append(sentence.passage)
        start = len(progress.grounder.answer)
        place = (sentence.passage, sentence.start, sentence.end)
        added, new = progress.grounder.add_quote(*place, shown, sentence.header)
        yield SentenceDone(added, new, progress.grounder.answer[start : added.start])
    progress.warnings += _instructing(quoted, "quoted")
    yield Finished(progress.answer("answered"))


def _instructing(passages: Sequence[Passage], done: str) -> list[str]:
    """A warning for each document that speaks to a model in these passages."""
    sources = dict.fromkeys(p.chunk.source for p in passages if speaks_to_model(p))
    reads = "holds what reads like instructions to a model"
    return [f"{source} {reads}: it was {done} as data" for source in sources]


def _summarised(context: Context, chat: ChatModel) -> Context:
    """With a summary of the earlier turns that do not fit, where that is wished and any fits."""
    history = context.question.history
    if not (history and context.resources.settings.chat.summarise):
        return context
    prompt = packed_prompt(context, seconds=_seconds_left(context))
    if not 0 < prompt.forgotten < len(history):
        return context
    made = summarise(history, prompt, chat, _seconds_left(context))
    shorter = recalled(made.summary, history) if made.summary else history
    return replace(context, question=replace(context.question, history=shorter), summarised=made)


def _answer_by_chat(context: Context, chat: ChatModel) -> Iterator[Event]:
    """Answer through the chat API, packing less when the model's window is smaller than thought."""
    limits = None
    for attempt in range(_OVERFLOW_RETRIES + 1):
        prompt = packed_prompt(context, limits, seconds=_seconds_left(context))
        progress = _Progress(context, prompt.shown)
        progress.model, progress.prompt = chat.name, prompt.version
        progress.warnings += _instructing(prompt.shown, "sent")
        if attempt:
            progress.warnings.append(
                f"the model's window was too small: only {sum(prompt.costs)} tokens of "
                f"{len(prompt.shown)} passages were sent (set chat.window)"
            )
        if prompt.forgotten:
            progress.warnings.append(f"{prompt.forgotten} earlier messages did not fit the budget")
        try:
            yield from _converse(context, chat, prompt, progress)
        except ChatError as error:
            overflows = isinstance(error, ChatOverflow) and len(prompt.shown) > 1
            if overflows and attempt < _OVERFLOW_RETRIES:
                limits = prompt.halved
                continue
            yield from _fail(context, progress, error)
        return


def packed_prompt(
    context: Context, limits: Limits | None = None, *, seconds: float = 0.0
) -> Prompt:
    """The passages packed, by default within the budget and the model's window, to find out which
    may take so many seconds.
    """
    settings = context.resources.settings
    budget, window = settings.prompt.budget, chosen_model(context, seconds).window
    return build_prompt(
        context.standalone.text,
        context.retrieval.passages,
        load_template(
            settings.prompt.template,
            settings.chat.model,
            is_cautious=context.judgement.is_cautious,
        ),
        limits or Limits(min(budget, window or budget), reserve=settings.chat.max_tokens),
        context.idf,
        context.question.history,
    )


def _converse(
    context: Context, chat: ChatModel, prompt: Prompt, progress: _Progress
) -> Iterator[Event]:
    """Stream one chat reply into checked sentences."""
    asked = perf_counter()
    checked = _CheckedSentences(progress, strict=context.question.strict)
    retrieved = Retrieved(prompt.shown, trace(context, prompt))
    started = False
    # Closed also when the consumer goes away: nobody then waits for the rest of the reply.
    yield Working(f"{chat.name} reads {prompt.tokens:,} tokens")
    with closing(chat.stream(prompt.messages, _options(context, prompt.fence))) as deltas:
        for delta in deltas:
            if delta.notice:
                progress.warnings.append(delta.notice)
                continue
            if delta.progress:
                yield Working(f"{delta.progress}, to read {prompt.tokens:,} tokens")
                continue
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
        refusal = NOT_IN_DOCUMENTS.startswith(self.text.strip()[: len(NOT_IN_DOCUMENTS)])
        if text and not refusal and not self._strict:  # raw text may be what strict leaves out
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
        several = "sentence was" if checked.dropped == 1 else "sentences were"
        progress.warnings.append(f"{checked.dropped} unsupported {several} left out")
    if not checked.holds:
        if not checked.refused:
            progress.warnings.append("the model's answer was not supported by the documents")
        return progress.answer("abstained")
    if progress.finish_reason == "length":
        progress.warnings.append("the answer was cut at chat.max_tokens")
        return progress.answer("incomplete")
    return progress.answer("answered")


def _note(progress: _Progress, delta: ChatDelta) -> None:
    progress.retries += delta.retries
    progress.usage = delta.usage or progress.usage
    progress.finish_reason = delta.finish_reason or progress.finish_reason
    progress.model = delta.model or progress.model
    progress.facts = delta.facts or progress.facts


def _options(context: Context, fence: str) -> ChatOptions:
    chat, question = context.resources.settings.chat, context.question
    return ChatOptions(
        temperature=chat.temperature,
        max_tokens=chat.max_tokens,
        deadline_s=_seconds_left(context),
        stream=question.stream,
        batch=question.batch,
        easy=is_easy(context),
        cancellation=question.cancellation,
        fence=fence,
    )


def _seconds_left(context: Context) -> float:
    spent = perf_counter() - context.started
    return max(0.0, context.resources.settings.chat.deadline - spent)


def _fail(context: Context, progress: _Progress, error: ChatError) -> Iterator[Event]:
    """The API gave no whole answer: keep what was checked, or fall back, or show the passages."""
    if isinstance(error, ChatIncomplete) and progress.grounder.sentences:
        progress.warnings.append(error.message)
        yield Finished(progress.answer("incomplete"), error)
    elif context.resources.settings.falls_back:
        notice = f"extractive answer, for the chat API failed: {error.message}"
        told = [line for line in progress.warnings if line not in context.warnings]
        yield from _answer_extractively(context, [*told, notice])
    else:
        progress.warnings.append("the chat API failed; these are the passages it would have had")
        yield Finished(progress.answer("failed"), error)
