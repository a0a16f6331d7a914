"""What must not leave is replaced before a request and restored in the reply."""

from collections.abc import Generator, Sequence

import pytest
from chat_server import chat_server
from command import Rag, write_documents
from hypothesis import given
from hypothesis import strategies as st

from rag.chat.client import ChatOptions
from rag.errors import ChatIncomplete
from rag.safety.personal import Find, finder
from rag.safety.redact import Placeholders, RedactingChat, kept_back
from rag.settings.config import PrivacySection, Settings
from rag.types import ChatDelta, Message, Usage

FIND = finder(["all"], ["Anna Berg"], secrets=True)


def find_within(request: str) -> Find:
    """The same for every request."""
    return FIND


_OPTIONS = ChatOptions()


class Echo:
    """A chat model that replies with the last message, in pieces of a size."""

    name = "echo"

    def __init__(self, size: int = 3, error: ChatIncomplete | None = None) -> None:
        self.size = size
        self.error = error
        self.sent: Sequence[Message] = ()
        self.closed = False

    def stream(
        self, messages: Sequence[Message], options: ChatOptions = _OPTIONS
    ) -> Generator[ChatDelta]:
        self.sent = messages
        text = messages[-1].content
        try:
            for start in range(0, len(text), self.size):
                yield ChatDelta(text[start : start + self.size])
            if self.error:
                raise self.error
            yield ChatDelta("", "stop", Usage(1, 2), "echo-1")
        finally:
            self.closed = True


def replied(chat: RedactingChat, text: str) -> tuple[str, list[ChatDelta]]:
    deltas = list(chat.stream([Message("user", text)]))
    return "".join(delta.text for delta in deltas), deltas


VALUES = st.sampled_from(
    ["a@b.example", "anna@x.example", "+49 421 555 0123", "4111 1111 1111 1111", "Anna Berg",
     "203.0.113.27", "password=hunter22", " and ", "USA ", "[1] ", "[EMAIL_1] ", "EMAIL_", "\\"]
)  # fmt: skip


@given(st.lists(VALUES, max_size=12).map(" ".join), st.integers(1, 30))
def test_an_echo_comes_back_as_it_was(text: str, size: int) -> None:
    """Whatever is replaced is restored, wherever the reply is cut into deltas."""
    echo = Echo(size)

    back, deltas = replied(RedactingChat(echo, find_within), text)

    assert back == text
    assert not FIND(echo.sent[-1].content)
    assert next(delta for delta in deltas if delta.finish_reason).usage == Usage(1, 2)


def test_the_same_value_has_the_same_placeholder() -> None:
    """In all messages of a request; the system message is left as it is."""
    echo = Echo()
    system = Message("system", "Write to office@x.example.")
    asked = [
        Message("user", "Who is a@b.example?"),
        Message("assistant", "a@b.example is Anna Berg."),
    ]

    list(
        RedactingChat(echo, find_within).stream(
            [system, *asked, Message("user", "c@d.example, a@b.example?")]
        )
    )

    assert [message.content for message in echo.sent] == [
        system.content,
        "Who is [EMAIL_1]?",
        "[EMAIL_1] is [TERM_1].",
        "[EMAIL_2], [EMAIL_1]?",
    ]


def test_a_word_in_small_letters_has_the_same_placeholder() -> None:
    """A term as a person types it is that of the documents, and comes back as they write it."""
    placeholders = Placeholders(FIND)

    assert placeholders.hide("anna berg, Anna Berg") == "[TERM_1], [TERM_1]"
    assert placeholders.restore("[TERM_1] reads.") == "Anna Berg reads."


@pytest.mark.parametrize("written", ["[EMAIL_1]", "EMAIL_1", "**EMAIL_1**", "[EMAIL\\_1]"])
def test_placeholders_are_known_as_models_write_them(written: str) -> None:
    """Brackets left out, an underscore escaped."""
    placeholders = Placeholders(FIND)
    placeholders.hide("a@b.example")

    assert placeholders.restore(f"Ask {written}.").replace("*", "") == "Ask a@b.example."
    assert placeholders.restore("[EMAIL_2] [IP_1] EMAIL_12") == "[EMAIL_2] [IP_1] EMAIL_12"


def test_text_flows_while_no_placeholder_is_begun() -> None:
    """Only what may be a placeholder's beginning is held back."""
    _, deltas = replied(RedactingChat(Echo(6), find_within), "Anna Berg reads a long book in bed")

    assert [delta.text for delta in deltas][2:4] == ["Anna Berg rea", "ds a l"]


def test_what_was_kept_back_is_said_by_kind() -> None:
    """One notice, which names no value, once the reply has begun; none where none was hidden."""
    _, deltas = replied(RedactingChat(Echo(), find_within), "a@b.example, c@d.example, Anna Berg")
    notices = [delta.notice for delta in deltas if delta.notice]

    assert notices == ["kept from the model: 2 × email, 1 × term"]
    _, deltas = replied(RedactingChat(Echo(), find_within), "nothing")
    assert not any(delta.notice for delta in deltas)


def test_a_broken_reply_is_restored_too() -> None:
    """What had arrived reads as the documents do."""
    chat = RedactingChat(Echo(error=ChatIncomplete("broke", partial="ask [EMAIL_1]")), find_within)

    with pytest.raises(ChatIncomplete) as caught:
        replied(chat, "a@b.example")

    assert caught.value.partial == "ask a@b.example"


def test_hanging_up_reaches_the_model() -> None:
    """Closing the reply closes the one behind it."""
    echo = Echo()
    deltas = RedactingChat(echo, find_within).stream([Message("user", "a long reply")])
    next(deltas)

    deltas.close()

    assert echo.closed


def test_settings_say_what_is_kept_back() -> None:
    """Secrets by default, personal data where asked for, and nothing if that is wished."""
    text = "a@b.example password=hunter22"

    def kinds(**settings: object) -> list[str]:
        find = kept_back(Settings(privacy=PrivacySection(**settings)))
        return [one.kind for one in find(text)(text)] if find else []

    assert kinds() == ["password"]
    assert kinds(redact=("email",)) == ["email", "password"]
    assert kinds(mask_secrets=False) == []


STAFF = {
    "staff.md": "# Staff\n\nThe head of the laboratory is Mira Okafor, mira.okafor@lab.example, "
    "reached at +49 421 555 0188. The laboratory database has password=tr0ub4dor.\n"
}


def test_an_answer_has_the_words_that_never_left(rag: Rag) -> None:
    """Through the whole path: hidden on the wire, restored, cited and verified in the answer."""
    write_documents(rag.folder / "docs", STAFF)
    ingested = rag("ingest", "docs", "--json")
    question = "What is the address of Mira Okafor, head of the laboratory?"

    def reply(user: str) -> str:
        return "The head of the laboratory is [TERM_1], [EMAIL_1], reached at [PHONE_1]."

    with chat_server(reply) as server:
        settings = {"RAG_PRIVACY_REDACT": "all", "RAG_PRIVACY_TERMS": "Mira Okafor"}
        answer = rag("ask", question, "--json", environment=server.environment | settings).json

    sent = str(server.bodies)
    assert ingested.json["notes"] == ["secrets found in staff.md (password)"]
    assert "tr0ub4dor" not in ingested.out + ingested.err
    assert not any(v in sent for v in ("Okafor", "lab.example", "555 0188", "tr0ub4dor"))
    assert "Mira Okafor, mira.okafor@lab.example, reached at +49 421 555 0188" in answer["answer"]
    assert (answer["status"], answer["grounding"]) == ("answered", 1.0)
    assert "kept from the model: " in " ".join(answer["warnings"])
