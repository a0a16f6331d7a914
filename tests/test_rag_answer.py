"""One question to a checked answer: every way a chat reply can turn out."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from command import Rag
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.errors import UsageError
from ingest.filters import parse_filters
from rag.answer import ABSTENTION, ask, ask_stream
from rag.app import open_app
from rag.chat.client import ChatOptions
from rag.choice import is_easy
from rag.context import Question, Resources, prepare
from rag.errors import ChatError, ChatIncomplete, ChatOverflow, ChatUnavailable
from rag.settings.config import load_settings
from rag.types import (
    ChatDelta,
    Delta,
    Finished,
    Message,
    ModelFacts,
    Retrieved,
    SentenceDone,
    Usage,
    Working,
)

LEAVE = "How many days of paid leave does an employee have?"
GOOD = "Every employee has 28 days of paid leave a year."
INVENTED = "Every employee also receives a company yacht moored in Monaco."


_OPTIONS = ChatOptions()


class ScriptedChat:
    """A chat model that says what it was told to, piece by piece, or raises it."""

    name = "scripted"

    def __init__(self, *replies: Sequence[str | ChatDelta | ChatError]) -> None:
        self._replies = list(replies)
        self.prompts: list[Sequence[Message]] = []

    def stream(
        self, messages: Sequence[Message], options: ChatOptions = _OPTIONS
    ) -> Generator[ChatDelta]:
        """The next scripted reply."""
        self.prompts.append(messages)
        for piece in self._replies.pop(0):
            if isinstance(piece, ChatError):
                raise piece
            yield ChatDelta(piece) if isinstance(piece, str) else piece


@pytest.fixture(scope="module")
def resources(library: Rag) -> Iterator[Resources]:
    """The shared collection, opened as the command line opens it."""
    settings = load_settings(folder=library.folder, environment={})
    with open_app(settings, library.folder / ".rag") as app:
        yield app.resources


def answer_of(resources: Resources, *pieces: str | ChatDelta | ChatError, **options: bool):
    """The answer to the leave question when the model replies with these pieces."""
    chat = ScriptedChat(pieces)
    return ask(Question(LEAVE, **options), replace(resources, chat=chat))


def with_chat(resources: Resources, **options: object) -> Resources:
    """The same resources with other settings of the chat API."""
    settings = resources.settings
    return replace(resources, settings=replace(settings, chat=replace(settings.chat, **options)))


def test_a_true_sentence_is_cited_in_code(resources: Resources) -> None:
    """The model gives no marker; the citation is found and is a slice of the document."""
    answer = answer_of(resources, GOOD)

    assert (answer.status, answer.answerer, answer.grounding) == ("answered", "chat", 1.0)
    (citation,) = answer.citations
    text = resources.store.document(citation.source).document.text
    assert text[citation.start : citation.end] == citation.quote
    assert "28 days" in citation.quote
    assert answer.answer == GOOD.replace(".", " [1].")


def test_an_invented_sentence_is_marked(resources: Resources) -> None:
    """What no passage says stays without citation and is called unsupported."""
    answer = answer_of(resources, f"{GOOD} {INVENTED}")

    assert [s.support for s in answer.sentences] == ["supported", "unsupported"]
    assert answer.sentences[1].citations == ()
    assert answer.grounding == 0.5


def test_strict_leaves_invented_sentences_out(resources: Resources) -> None:
    """With strict, an unsupported sentence is in no event, and the answer says how many were."""
    chat = ScriptedChat([f"{GOOD} {INVENTED} ", INVENTED])

    events = list(ask_stream(Question(LEAVE, strict=True), replace(resources, chat=chat)))

    assert "yacht" not in repr(events)
    assert events[-1].answer.warnings == ("2 unsupported sentences were left out",)


def refusing(resources: Resources, readily: float) -> Resources:
    """The same resources, refusing so readily."""
    settings = resources.settings
    ground = replace(settings.ground, refusal=readily)
    return replace(resources, settings=replace(settings, ground=ground))


def test_what_is_hardly_there_can_be_tried_nevertheless(resources: Resources) -> None:
    """A question in other words is refused unasked, unless refusing is off: then the model tries,
    and what it invents is still no answer."""
    asked = Question("Time off for staff: what is the allotment?")
    chat = ScriptedChat([GOOD], [INVENTED])
    written = replace(resources, chat=chat)

    refused = ask(asked, written)
    tried, invented = (ask(asked, refusing(written, 0.0)) for _ in range(2))

    assert (refused.status, refused.model) == ("abstained", None)
    assert (tried.status, tried.grounding) == ("answered", 1.0)
    assert tried.confidence == refused.confidence
    assert any("may not hold the answer" in warning for warning in tried.warnings)
    assert invented.status == "abstained"


def test_without_a_model_the_best_sentences_are_tried(resources: Resources) -> None:
    """With refusing off an extractive answer is given too; where no passage is, it is refused."""
    asked = Question("Time off for staff: what is the allotment?", extractive=True)
    nowhere = replace(asked, filters=parse_filters(["source=nowhere/"]))

    assert ask(asked, refusing(resources, 0.0)).status == "answered"
    assert ask(nowhere, refusing(resources, 0.0)).status == "abstained"


def test_a_judge_decides_what_is_supported(resources: Resources) -> None:
    """With a judge among the resources, its word counts, also against the passages' words."""

    class Doubting:
        def score(self, claim: str, evidence: Sequence[str]) -> float:
            return 0.0 if "28" in claim else 1.0

    chat = ScriptedChat([f"{GOOD} Unused days expire on 31 March."])

    answer = ask(Question(LEAVE), replace(resources, chat=chat, judge=Doubting()))

    assert [s.support for s in answer.sentences] == ["unsupported", "supported"]


def test_words_of_the_question_are_no_claim_of_the_answer(resources: Resources) -> None:
    """A reply may repeat what only the question says; its own unknown words still count."""
    asked = LEAVE.replace("?", ", unless told otherwise?")
    echo = GOOD.replace("Every", "Unless told otherwise, every")
    chat = ScriptedChat([echo], [GOOD.replace("Every", "Unless hired offshore, every")])
    written = replace(resources, chat=chat)

    repeated, invented = (ask(Question(asked), written) for _ in range(2))

    assert [sentence.support for sentence in repeated.sentences] == ["supported"]
    assert invented.status == "abstained"


def test_a_wrong_number_is_unsupported(resources: Resources) -> None:
    """A figure that no passage holds fails its sentence, and with it the answer."""
    answer = answer_of(resources, "Every employee has 35 days of paid leave a year.")

    assert (answer.status, answer.sentences) == ("abstained", ())


@pytest.mark.parametrize("reply", ["NOT IN THE DOCUMENTS", "**Not in the documents.**\n"])
def test_the_agreed_refusal_is_an_abstention(resources: Resources, reply: str) -> None:
    """The model's refusal never shows as a sentence."""
    events = list(ask_stream(Question(LEAVE), replace(resources, chat=ScriptedChat([*reply]))))

    assert events[-1].answer.status == "abstained"
    assert events[-1].answer.answer == ABSTENTION
    assert not any(isinstance(event, Delta | SentenceDone) for event in events)


def test_an_answer_of_inventions_was_never_shown(resources: Resources) -> None:
    """If nothing holds, no event carried a word of it."""
    chat = ScriptedChat([INVENTED, " ", INVENTED])

    events = list(ask_stream(Question(LEAVE), replace(resources, chat=chat)))

    assert [type(event) for event in events] == [Working, Retrieved, Finished]
    assert events[-1].answer.status == "abstained"


def test_an_off_topic_question_never_reaches_the_model(resources: Resources) -> None:
    """The refusal comes before the chat call and costs nothing."""
    chat = ScriptedChat()

    answer = ask(Question("Which composer wrote the opera Tosca?"), replace(resources, chat=chat))

    assert (answer.status, chat.prompts) == ("abstained", [])


def test_a_broken_stream_is_incomplete(resources: Resources) -> None:
    """What arrived and was checked is kept, and never shown as whole."""
    chat = ScriptedChat([f"{GOOD} ", "Unused days ", ChatIncomplete("the stream broke off")])

    *_, last = ask_stream(Question(LEAVE), replace(resources, chat=chat))

    assert isinstance(last, Finished)
    assert (last.answer.status, len(last.answer.sentences)) == ("incomplete", 1)
    assert isinstance(last.error, ChatIncomplete)


def test_a_cut_answer_is_incomplete(resources: Resources) -> None:
    """The token limit ended it: the reader is told."""
    answer = answer_of(resources, GOOD, ChatDelta(finish_reason="length"))

    assert answer.status == "incomplete"
    assert any("max_tokens" in warning for warning in answer.warnings)


def test_an_unreachable_api_fails_with_the_passages(resources: Resources) -> None:
    """The error ends the stream; what was found is there."""
    chat = ScriptedChat([ChatUnavailable("no connection", "start it")])

    *_, last = ask_stream(Question(LEAVE), replace(resources, chat=chat))

    assert isinstance(last, Finished)
    assert (last.answer.status, last.error.exit_code) == ("failed", 5)
    assert last.answer.passages


def test_a_configured_fallback_answers_extractively(resources: Resources) -> None:
    """With the fallback set, the documents' own sentences stand in, and the answer says so."""
    failing = ScriptedChat([ChatUnavailable("no connection", "start it")])
    chat_settings = replace(resources.settings.chat, fallback=True)
    changed = replace(resources.settings, chat=chat_settings)

    answer = ask(Question(LEAVE), replace(resources, chat=failing, settings=changed))

    assert (answer.status, answer.answerer) == ("answered", "extractive")
    assert "no connection" in answer.warnings[0]


def test_who_stood_in_is_a_warning_and_sets_the_price(resources: Resources) -> None:
    """A notice is no part of the text; tokens cost what the model that answered charges."""
    facts = ModelFacts(price_in=1.0, price_out=2.0)
    last = ChatDelta("", "stop", Usage(1000, 100), "m-2", facts=facts)

    answer = answer_of(resources, ChatDelta(notice="m-2 was asked"), GOOD, last)

    assert answer.answer == GOOD[:-1] + " [1]."
    assert (answer.model, answer.usage.cost_usd) == ("m-2", 0.0012)
    assert answer.warnings == ("m-2 was asked",)


def test_the_extractive_answer_may_stand_last(resources: Resources) -> None:
    """Where no model answered, the answer says of each why."""
    chat = ScriptedChat([ChatDelta(notice="m-2 was asked"), ChatUnavailable("m-2 is down")])
    last_resort = with_chat(resources, fallbacks=("extractive",))

    answer = ask(Question(LEAVE), replace(last_resort, chat=chat))

    assert (answer.status, answer.answerer) == ("answered", "extractive")
    assert answer.warnings == (
        "m-2 was asked",
        "extractive answer, for the chat API failed: m-2 is down",
    )


@pytest.mark.parametrize(
    ("question", "easy"),
    [
        (LEAVE, True),
        ("What does the board of safety think of the colour of the pump in first class?", False),
        (f"{LEAVE} {'And what else should they know? ' * 4}", False),
    ],
    ids=["one passage", "many passages", "long"],
)
def test_a_small_model_gets_what_one_passage_surely_answers(
    resources: Resources, question: str, easy: bool
) -> None:
    """Short, sure, and in one place: else the question goes to the large model."""
    history = (Message("user", "Hello."), Message("assistant", "Hello."))

    assert is_easy(prepare(Question(question), resources)) is easy
    assert not is_easy(prepare(Question(question, history=history), resources))


def test_overflow_packs_less_and_says_so(resources: Resources) -> None:
    """A window smaller than thought: half of the passages' tokens, asked again."""
    overflow = [ChatOverflow("too long")]
    chat = ScriptedChat(overflow, [GOOD])

    answer = ask(Question(LEAVE), replace(resources, chat=chat))

    assert answer.status == "answered"
    assert len(chat.prompts[1][-1].content) < len(chat.prompts[0][-1].content)
    assert any("window" in warning for warning in answer.warnings)


def test_overflow_ends_after_three_attempts(resources: Resources) -> None:
    """A window that fits nothing is an error, not a loop."""
    chat = ScriptedChat(*[[ChatOverflow("too long")]] * 3)

    *_, last = ask_stream(Question(LEAVE), replace(resources, chat=chat))

    assert isinstance(last.error, ChatOverflow)
    assert len(chat.prompts) <= 3


def test_usage_is_counted_where_the_api_gives_none(resources: Resources) -> None:
    """Counted tokens are called estimated; the API's own are not."""
    counted = answer_of(resources, GOOD).usage
    given_usage = Usage(prompt_tokens=4000, completion_tokens=1000)
    reported = answer_of(resources, GOOD, ChatDelta(usage=given_usage)).usage

    assert counted.estimated
    assert counted.prompt_tokens > 100
    assert replace(reported, cost_usd=None) == given_usage


def test_an_answer_says_what_it_cost(resources: Resources) -> None:
    """Tokens times prices, where these are known; without a chat call there is no cost."""
    delta = ChatDelta(usage=Usage(prompt_tokens=4000, completion_tokens=1000))
    priced = with_chat(resources, price_in=1.0, price_out=2.0)
    unknown = with_chat(resources, model="of-my-own")

    assert answer_of(priced, GOOD, delta).usage.cost_usd == 0.006
    assert answer_of(unknown, GOOD, delta).usage.cost_usd is None
    assert ask(Question(LEAVE, extractive=True), priced).usage.cost_usd is None


def test_a_known_window_bounds_the_budget(resources: Resources) -> None:
    """No more is sent than the model can read, whatever the budget."""
    wide, narrow = ScriptedChat([GOOD]), ScriptedChat([GOOD])
    ask(Question(LEAVE), replace(resources, chat=wide))

    answer = ask(Question(LEAVE), replace(with_chat(resources, window=850), chat=narrow))

    assert answer.status == "answered"
    assert len(narrow.prompts[0][-1].content) < len(wide.prompts[0][-1].content)


def test_only_what_was_shown_is_cited(resources: Resources) -> None:
    """A sentence that was trimmed away supports nothing."""
    trimmed = with_chat(resources, window=745)
    chat = ScriptedChat([f"{GOOD} Unused days expire on 31 March of the following year."])

    answer = ask(Question(LEAVE), replace(trimmed, chat=chat))

    assert "31 March" not in chat.prompts[0][-1].content
    assert [s.support for s in answer.sentences] == ["supported", "unsupported"]
    (citation,) = answer.citations
    text = resources.store.document(citation.source).document.text
    assert text[citation.start : citation.end] == citation.quote


def test_forgotten_turns_are_named(resources: Resources) -> None:
    """Earlier turns that do not fit are left out, and the answer says so."""
    history = tuple(Message("user", f"{n} " + "talk " * 500) for n in range(12))
    chat = ScriptedChat([GOOD])

    answer = ask(Question(LEAVE, history=history), replace(resources, chat=chat))

    assert history[-1] in chat.prompts[0]
    assert history[0] not in chat.prompts[0]
    assert any("earlier messages" in warning for warning in answer.warnings)


@given(cuts=st.lists(st.integers(0, 120), max_size=8))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_answer_does_not_depend_on_the_deltas(resources: Resources, cuts: list[int]) -> None:
    """However the reply is cut into pieces, sentences and citations are the same."""
    reply = f"{GOOD} Unused days expire on 31 March of the following year [2]. {INVENTED}"
    borders = [0, *sorted(min(c, len(reply)) for c in cuts), len(reply)]
    pieces = [reply[a:b] for a, b in pairwise(borders)]

    whole, cut = answer_of(resources, reply), answer_of(resources, *pieces)

    assert (cut.answer, cut.citations) == (whole.answer, whole.citations)
    assert cut.sentences == whole.sentences


def test_events_arrive_in_order_and_agree_with_the_answer(resources: Resources) -> None:
    """Passages first, then deltas and sentences, then the whole; the pieces make the answer."""
    chat = ScriptedChat([f"{GOOD}\n\n- Unused days expire ", "on 31 March.\n"])

    events = list(ask_stream(Question(LEAVE), replace(resources, chat=chat)))

    sentences = [event for event in events if isinstance(event, SentenceDone)]
    final = events[-1].answer
    assert [type(event) for event in events[:2]] == [Working, Retrieved]
    assert final.answer == "".join(e.separator + e.sentence.text for e in sentences)
    assert all(final.answer[s.start : s.end] == s.text for s in final.sentences)
    assert tuple(c for e in sentences for c in e.citations) == final.citations


def test_hanging_up_closes_the_reply(resources: Resources) -> None:
    """A consumer that goes away ends the chat call at once."""
    closed = []

    class Endless(ScriptedChat):
        def stream(self, messages, options=None):
            try:
                while True:
                    yield ChatDelta(f"{GOOD} ")
            finally:
                closed.append(True)

    events = ask_stream(Question(LEAVE), replace(resources, chat=Endless()))
    next(events)
    next(events)
    events.close()

    assert closed == [True]


@pytest.mark.parametrize("text", ["", " \n\t", "why " * 1001], ids=["empty", "blank", "too-long"])
def test_a_question_that_cannot_be_asked(resources: Resources, text: str) -> None:
    """Empty and oversized questions are refused with a hint."""
    with pytest.raises(UsageError) as caught:
        ask(Question(text), resources)

    assert caught.value.hint
