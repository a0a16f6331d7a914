"""One question before an answerer starts: what it is asked of, and what was found for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from time import perf_counter

from ingest.embed import Embedder
from ingest.errors import UsageError
from ingest.filters import Filter
from ingest.store import Store
from ingest.words import terms
from rag.abstain import DEFAULT, Calibration, Judgement, judge
from rag.chat.cancel import Cancellation
from rag.chat.client import ChatModel
from rag.config import Settings
from rag.extractive.asked import Asked, analyse
from rag.extractive.conflicts import Conflict, find_conflict
from rag.extractive.extract import ScoredSentence, rank_sentences
from rag.grounding.verify import Idf, Verifier, inverse_frequency, prepared_passage
from rag.retrieval.query import corrected, store_languages
from rag.retrieval.rerank import Rerank
from rag.retrieval.retrieve import Retrieval, retrieve
from rag.types import Message, ModelFacts, Passage

_MAX_QUESTION_CHARACTERS = 4000
_ECHOED = 1.0  # about the weight of a word that every third passage has


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and how: `history` holds earlier turns, oldest first.

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
    is None where the settings alone say it.
    """

    store: Store
    embedder: Embedder
    settings: Settings
    chat: ChatModel | None = None
    judge: Verifier | None = None
    rerank: Rerank | None = None
    calibration: Calibration = DEFAULT
    model: Callable[[float, bool], ModelFacts] | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """One question on its way: everything that is known before an answerer starts."""

    question: Question
    resources: Resources
    retrieval: Retrieval
    asked: Asked
    ranked: tuple[ScoredSentence, ...]
    conflict: Conflict | None
    judgement: Judgement
    idf: Idf
    started: float
    retrieve_ms: float

    @property
    def warnings(self) -> list[str]:
        """What a reader of any answer to it should know."""
        conflict, judgement = self.conflict, self.judgement
        corrections = self.retrieval.query.corrected.items()
        warnings = [conflict.warning] if conflict and conflict.reason != "named" else []
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
    store, embedder = resources.store, resources.embedder
    retrieval = retrieve(
        question.text,
        store,
        embedder,
        resources.settings.retrieval,
        question.filters,
        resources.rerank,
    )
    idf = term_weights(store)
    asked = analyse(corrected(question.text, retrieval.query), idf)
    passages = retrieval.passages
    ranked = rank_sentences(asked, retrieval.query_vector, passages, embedder.embed_documents)
    return Context(
        question=question,
        resources=resources,
        retrieval=retrieval,
        asked=asked,
        ranked=tuple(ranked),
        conflict=find_conflict(asked, ranked),
        judgement=judge(asked, ranked, passages, resources.calibration),
        idf=idf,
        started=started,
        retrieve_ms=(perf_counter() - started) * 1000,
    )


def claim_weights(context: Context, passages: Sequence[Passage]) -> Idf:
    """The weight of a term in an answer to a question.

    A word of the question that no passage has is not the answer's own claim: one that repeats it
    is checked for the rest. Whether such a word speaks against answering was judged before.
    """
    evidence = [prepared_passage(passage) for passage in passages]
    held = frozenset[str]().union(*(item.heading.union(*item.terms) for item in evidence))
    echoed = {term for term in terms(context.question.text) if term.isalpha()} - held
    return lambda term: min(context.idf(term), _ECHOED) if term in echoed else context.idf(term)


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
