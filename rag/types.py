"""What is answered: passages, citations, sentences, answers, and the events of one question."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ingest.errors import RagError
from ingest.types import StoredChunk

Status = Literal["answered", "abstained", "incomplete", "failed"]
Answerer = Literal["chat", "extractive"]
Support = Literal["supported", "weak", "unsupported", "not_checked"]


@dataclass(frozen=True, slots=True)
class Passage:
    """A retrieved chunk with its rank: `number` counts from 1 in the order shown to the model.

    `score` is the fused score in 0..1; a rank is None where that leg did not return the chunk.
    """

    number: int
    chunk: StoredChunk
    score: float
    cosine: float
    dense_rank: int | None
    lexical_rank: int | None


@dataclass(frozen=True, slots=True)
class Citation:
    """The exact words a sentence rests on: `quote` is `document.text[start:end]`.

    `page_label` is what is printed on the page where that is not its number, and `header` the
    header of the table that a quoted row belongs to.
    """

    number: int
    source: str
    title: str
    page: int | None
    section: str
    start: int
    end: int
    quote: str
    sha256: str
    score: float
    repaired: bool = False
    page_label: str | None = None
    header: str | None = None


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of an answer: `answer[start:end] == text`, its markers included.

    `citations` are citation numbers; `reason` says why a sentence is weak or unsupported.
    """

    text: str
    start: int
    end: int
    citations: tuple[int, ...]
    support: Support
    score: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of the chat calls behind one answer; `estimated` where the API gave no usage.

    `retries` counts the requests that failed and were made again.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    estimated: bool = False
    cached: bool = False
    retries: int = 0

    def plus(self, other: "Usage") -> "Usage":
        """The tokens and the cost of both."""
        costs = (self.cost_usd, other.cost_usd)
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            None if None in costs else sum(filter(None, costs)),
            estimated=self.estimated or other.estimated,
            cached=self.cached,
            retries=self.retries + other.retries,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer, as `rag ask --json` prints it (see rag/render.py).

    `missing` are words of a refused question that no passage mentions. `prompt` is the version of
    the prompt that a chat model was given, "sha256:" and 12 hex digits. `standalone` is the
    question as it was searched: a follow-up with what it leaves to the turns before it. `summary`
    is one that was made for this answer.
    """

    question: str
    answer: str
    status: Status
    answerer: Answerer
    model: str | None
    sentences: tuple[Sentence, ...]
    citations: tuple[Citation, ...]
    passages: tuple[Passage, ...]
    grounding: float | None
    confidence: float
    usage: Usage
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    prompt: str | None = None
    standalone: str = ""
    summary: "Summary | None" = None


@dataclass(frozen=True, slots=True)
class Summary:
    """What stands in a prompt for the first `messages` of a history."""

    text: str
    messages: int


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message; documents' words only ever stand in a user message."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model: a window in tokens, and prices in US dollars per million tokens; 0
    is unknown.

    `as_of` is the month of listed prices; "" for prices from the settings.
    """

    window: int = 0
    price_in: float = 0.0
    price_out: float = 0.0
    as_of: str = ""
    name: str = field(default="", compare=False)

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """US dollars, None where a price is unknown."""
        if not (self.price_in and self.price_out):
            return None
        millionths = prompt_tokens * self.price_in + completion_tokens * self.price_out
        return round(millionths / 1e6, 8)


@dataclass(frozen=True, slots=True)
class ChatDelta:
    """A piece of a chat reply: text, or at the end the usage and the reason it ended.

    `notice` is a line for the reader of the answer, `progress` says what is going on before there
    is any text; both stand alone. `retries` and `facts` come with the reason: tries that had failed
    before, and what is known of the model that answered.
    """

    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None
    notice: str = ""
    progress: str = ""
    retries: int = 0
    facts: ModelFacts | None = None


@dataclass(frozen=True, slots=True)
class Working:
    """Event: what is going on while there is nothing to show yet."""

    doing: str


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Event: the passages that will be shown to the answerer."""

    passages: tuple[Passage, ...]
    trace: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delta:
    """Event: raw text from the chat API, before it is checked."""

    text: str


@dataclass(frozen=True, slots=True)
class SentenceDone:
    """Event: a sentence is complete and checked; `citations` are the ones it uses first.

    `separator` is the white space between it and the sentence before it.
    """

    sentence: Sentence
    citations: tuple[Citation, ...]
    separator: str = ""


@dataclass(frozen=True, slots=True)
class Finished:
    """Event: the whole answer; always the last one. `error` is why it failed or broke off."""

    answer: Answer
    error: RagError | None = None


Event = Working | Retrieved | Delta | SentenceDone | Finished
