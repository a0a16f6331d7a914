"""Names of persons, found by a real spaCy pipeline, do not leave for the chat API."""

import sys
from collections.abc import Generator, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from chat_server import chat_server
from command import Rag

from ingest.errors import UsageError
from rag.app import open_app
from rag.chat.client import ChatOptions
from rag.context import Question
from rag.safety.names import names_in
from rag.safety.redact import RedactingChat, kept_back
from rag.settings.config import load_settings
from rag.types import Answer, ChatDelta, Message

pytestmark = pytest.mark.skipif(not find_spec("presidio_analyzer"), reason="needs ragcite[pii]")

_OPTIONS = ChatOptions()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A pipeline that knows four persons by heart, by the labels of two makers."""
    import spacy

    pipeline = spacy.blank("en")
    ruler = pipeline.add_pipe("entity_ruler")
    people = (
        ("PERSON", "Maria Keller"),
        ("PER", "Ludwig van Dijk"),
        ("PERSON", "Will O'Neil"),
        ("PERSON", "Anna Berg"),
    )
    ruler.add_patterns([{"label": label, "pattern": name} for label, name in people])
    ruler.add_patterns([{"label": "ORG", "pattern": "Acme Works"}])
    folder = tmp_path_factory.mktemp("spacy") / "model"
    pipeline.to_disk(folder)
    return str(folder)


def hidden(text: str, model: str) -> list[str]:
    """The words that are taken for names."""
    pattern = names_in(text, model)
    return pattern.findall(text) if pattern else []


def test_each_word_of_a_name_is_found_wherever_it_stands(model: str) -> None:
    """The surname alone, in capitals or in lower case; neither particles nor longer words."""
    text = (
        "Ludwig van Dijk and Maria Keller.\n\nKELLER, keller's van, not the Kellerei of Acme Works"
    )

    assert hidden(text, model) == ["Ludwig", "Dijk", "Maria", "Keller", "KELLER", "keller"]


def test_a_name_that_is_a_common_word_is_hidden_as_it_is_written(model: str) -> None:
    """Else every "will" of a text would be hidden."""
    text = "Will O'Neil will come, Neil said."

    assert hidden(text, model) == ["Will", "Neil", "Neil"]
    assert hidden("Nobody will come.", model) == []


def test_a_name_in_a_script_without_spaces_is_found(tmp_path: Path) -> None:
    """There no word ends where the name does."""
    import spacy

    pipeline = spacy.blank("zh")
    pipeline.add_pipe("entity_ruler").add_patterns(
        [{"label": "PERSON", "pattern": [{"TEXT": character} for character in "王小明"]}]
    )
    pipeline.to_disk(tmp_path / "chinese")

    assert hidden("昨天王小明去了。", str(tmp_path / "chinese")) == ["王小明"]


class Echo:
    """A chat model that replies with the last message and keeps what it was sent."""

    name = "echo"

    def __init__(self) -> None:
        self.sent: Sequence[Message] = ()

    def stream(
        self, messages: Sequence[Message], options: ChatOptions = _OPTIONS
    ) -> Generator[ChatDelta]:
        self.sent = messages
        yield ChatDelta(messages[-1].content)
        yield ChatDelta(finish_reason="stop")


def test_a_surname_has_one_placeholder_in_all_messages(model: str, tmp_path: Path) -> None:
    """Also where it stands before the name that gave it away, and beside other kinds."""
    variables = {"RAG_PRIVACY_REDACT": "all,name", "RAG_PRIVACY_NAME_MODEL": model}
    find_within = kept_back(load_settings(folder=tmp_path, environment=variables))
    assert find_within
    echo, last = Echo(), "Maria Keller: maria.keller@acme.example"
    asked = [Message("user", "Keller's phone?"), Message("assistant", "?"), Message("user", last)]

    deltas = list(RedactingChat(echo, find_within).stream(asked))

    assert [message.content for message in echo.sent] == [
        "[NAME_1]'s phone?",
        "?",
        "[NAME_2] [NAME_1]: [EMAIL_1]",
    ]
    assert "".join(delta.text for delta in deltas) == last
    assert deltas[0].notice == "kept from the model: 2 × name, 1 × email"


@pytest.mark.parametrize("name", ["no_such_model", "./absent", "pytest"])
def test_a_model_that_is_not_here_is_named(name: str) -> None:
    """Nothing is fetched; the error says what to do."""
    with pytest.raises(UsageError, match=r"privacy\.name_model: .*" + name.strip("./")) as caught:
        names_in("text", name)

    assert "python -m spacy download" in caught.value.hint


def test_a_model_that_finds_no_persons_is_refused(tmp_path: Path) -> None:
    """It would let all names leave."""
    import spacy

    spacy.blank("en").to_disk(tmp_path / "blank")

    with pytest.raises(UsageError, match="finds no persons"):
        names_in("text", str(tmp_path / "blank"))


def test_without_presidio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The question is not sent with its names."""
    monkeypatch.setitem(sys.modules, "presidio_analyzer.nlp_engine", None)

    with pytest.raises(UsageError, match="presidio is not installed") as caught:
        names_in("text", "another_model")

    assert "ragcite[pii]" in caught.value.hint


def test_a_project_file_names_no_model(tmp_path: Path) -> None:
    """A model is files that are loaded, and a project may be a stranger's."""
    (tmp_path / "rag.toml").write_text('[privacy]\nredact = ["name"]\nname_model = "./model"\n')

    with pytest.raises(UsageError, match="not loaded without your word"):
        kept_back(load_settings(folder=tmp_path, environment={}))


def test_a_written_answer_has_the_names_that_never_left(library: Rag, model: str) -> None:
    """Through the whole path: hidden on the wire, restored, cited and verified in the answer."""
    question = Question("Does berg lead the evacuation of the second floor?", stream=False)
    with chat_server("[NAME_1] [NAME_2] leads the evacuation of the second floor.") as server:
        variables = server.environment | {"RAG_PRIVACY_REDACT": "name"}

        def asked(name_model: str) -> Answer:
            environment = variables | {"RAG_PRIVACY_NAME_MODEL": name_model}
            settings = load_settings(folder=library.folder, environment=environment)
            with open_app(settings, library.folder / ".rag") as app:
                return app.ask(question)

        answer = asked(model)
        with pytest.raises(UsageError, match="no_such_model"):
            asked("no_such_model")

    assert len(server.bodies) == 1
    assert "berg" not in str(server.bodies).lower()
    assert answer.grounding == 1.0
    assert answer.answer == "Anna Berg leads the evacuation of the second floor [1]."
    assert "Anna Berg" in answer.citations[0].quote
