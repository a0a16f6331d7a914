"""One question before an answerer starts: what it is asked of, and what was found for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from time import perf_counter

from ingest.embed import Embedder
from ingest.errors import UsageError
from ingest.filters import Filter
from ingest.store import Store
from ingest.words import terms
from rag.abstain import Calibration, Judgement, judge, shipped, terms_of
from rag.chat.cancel import Cancellation
from rag.chat.client import ChatModel
from rag.conversation.rewrite import Standalone, rewrite
from rag.conversation.standalone import belongs, standalone
from rag.conversation.summary import NOT_SUMMARISED, Summarised
from rag.extractive.asked import Asked, analyse
from rag.extractive.conflicts import Conflict, find_conflict
from rag.extractive.extract import ScoredSentence, rank_sentences
from rag.grounding.verify import Idf, Verifier, inverse_frequency, prepared_passage
from rag.retrieval.query import corrected, store_languages
from rag.retrieval.rerank import Rerank
from rag.retrieval.retrieve import Retrieval, retrieve
from rag.settings.config import Settings
from rag.types import Message, ModelFacts, Passage

_MAX_QUESTION_CHARACTERS = 4000
_ECHOED = 1.0  # about the weight of a word that every third passage has


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and how: `text` may lean on the earlier turns, `history`, oldest first.

    `batch` lets other questions go first; `cancellation` calls it off from any thread.
    """

    text: str
    filters: tuple[Filter, ...] = ()
    history: tuple[Message, ...] = ()
    extractive: bool = False
    strict: bool = False
    stream: bool = True
    batch: bool = False
    cancellation: Cancellation = field(default_factory=Cancellation, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Resources:
    """What answering needs; `chat` is None where no chat API is configured.

    `judge` is None where counted words alone decide what is supported. `model` says what is known
    of the model for an easy question or another, and how many seconds it may take to find out; it
    is None where the settings alone say it. `calibration` is the store's own.
    """

    store: Store
    embedder: Embedder
    settings: Settings
    chat: ChatModel | None = None
    judge: Verifier | None = None
    rerank: Rerank | None = None
    calibration: Calibration | None = None
    model: Callable[[float, bool], ModelFacts] | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """One question on its way: everything that is known before an answerer starts.

    `standalone` is the question as it was searched and judged, and as the model is shown it.
    """

    question: Question
    standalone: Standalone
    resources: Resources
    retrieval: Retrieval
    asked: Asked
    ranked: tuple[ScoredSentence, ...]
    conflict: Conflict | None
    judgement: Judgement
    idf: Idf
    started: float
    rewrite_ms: float
    retrieve_ms: float
    summarised: Summarised = NOT_SUMMARISED

    @property
    def warnings(self) -> list[str]:
        """What a reader of any answer to it should know."""
        conflict, judgement = self.conflict, self.judgement
        corrections = self.retrieval.query.corrected.items()
        warnings = list(filter(None, (self.standalone.warning, self.summarised.warning)))
        warnings += [conflict.warning] if conflict and conflict.reason != "named" else []
        warnings += [f"no document has {word!r}: searched for {t!r}" for word, t in corrections]
        if judgement.is_cautious:
            warnings.append(
                f"the documents may not hold the answer (confidence {judgement.confidence:.2f})"
            )
        return warnings


def check_question(text: str) -> None:
    """Raises UsageError for a question that cannot be asked."""
    if not text.strip():
        raise UsageError("the question is empty", 'ask one: `rag ask "What …?"`')
    if len(text) > _MAX_QUESTION_CHARACTERS:
        raise UsageError(
            f"the question has {len(text)} characters, {_MAX_QUESTION_CHARACTERS} are allowed",
            "ask a shorter question",
        )


def prepare(question: Question, resources: Resources) -> Context:
    """Retrieve, and judge whether the documents hold an answer. Raises UsageError."""
    started = perf_counter()
    check_question(question.text)
    embedder, idf = resources.embedder, term_weights(resources.store)
    alone = stand_alone(question, resources, idf)
    rewritten = perf_counter()
    alone, retrieval = look_up(question, alone, resources)
    asked = analyse(corrected(alone.text, retrieval.query), idf)
    passages, readily = retrieval.passages, resources.settings.ground.refusal
    vector, embed, model = retrieval.query_vector, embedder.embed_documents, embedder.name
    ranked = rank_sentences(asked, vector, passages, embed, model)
    calibration = resources.calibration or shipped(passages, model)
    return Context(
        question=question,
        standalone=alone,
        resources=resources,
        retrieval=retrieval,
        asked=asked,
        ranked=tuple(ranked),
        conflict=find_conflict(asked, ranked),
        judgement=judge(asked, ranked, passages, calibration.refusing(readily)),
        idf=idf,
        started=started,
        rewrite_ms=(rewritten - started) * 1000,
        retrieve_ms=(perf_counter() - rewritten) * 1000,
    )


def claim_weights(context: Context, passages: Sequence[Passage]) -> Idf:
    """The weight of a term in an answer to a question.

    A word of the question that no passage has is not the answer's own claim: one that repeats it
    is checked for the rest. Whether such a word speaks against answering was judged before.
    """
    evidence = [prepared_passage(passage) for passage in passages]
    held = frozenset[str]().union(*(item.heading.union(*item.terms) for item in evidence))
    echoed = {term for term in terms(context.standalone.text) if term.isalpha()} - held
    return lambda term: min(context.idf(term), _ECHOED) if term in echoed else context.idf(term)


def look_up(
    question: Question, alone: Standalone, resources: Resources
) -> tuple[Standalone, Retrieval]:
    """The passages for a question so completed; for itself where no passage bears that out."""
    retrieval = retrieve(
        alone.text,
        resources.store,
        resources.embedder,
        resources.settings.retrieval,
        question.filters,
        resources.rerank,
    )
    if alone.by_model or alone.text == question.text:
        return alone, retrieval
    best = frozenset[str]().union(*map(terms_of, retrieval.passages[:1]))
    if belongs(question.text, alone.text, best):
        return alone, retrieval
    return look_up(question, replace(alone, text=question.text), resources)


def stand_alone(question: Question, resources: Resources, idf: Idf) -> Standalone:
    """The question with what it leaves to its history, by the chat model where there is one.

    A question that leaves nothing open costs no request.
    """
    if not question.history:
        return Standalone(question.text)
    rarest = inverse_frequency({"": 1}, resources.store.chunk_count)("")
    plain = standalone(question.text, question.history, idf, rarest)
    chat, settings = resources.chat, resources.settings.chat
    if question.extractive or chat is None or not settings.rewrite or plain == question.text:
        return Standalone(plain)
    return rewrite(question.text, question.history, chat, plain, settings.deadline)


def term_weights(store: Store) -> Idf:
    """The weight of a term in this collection, read when first asked for.

    A term with an English ending left or taken off is looked up as the index has it, stemmed by
    the languages of the documents.
    """
    total, languages = store.chunk_count, store_languages(store)

    @cache
    def idf(term: str) -> float:
        variants = [term, *(stem for language in languages for stem in terms(term, language))]
        frequencies = store.document_frequencies(variants)
        return inverse_frequency({term: max(frequencies.values())}, total)(term)

    return idf
