"""The chat client against llama.cpp's own server, with a small real model."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from command import write_documents
from smollm import model_path, needs_model

import rag.chat
from ingest.sync import SyncSettings, sync
from rag.app import open_app
from rag.chat.client import ChatOptions, ChatSettings, OpenAIChat
from rag.context import Question
from rag.errors import ChatOverflow
from rag.settings.config import load_settings
from rag.types import Finished, Message

SERVER = Path(rag.chat.__file__).with_name("llama_server.py")
CONTEXT = 1024
LONG_STORY = [Message("user", "Count from 1 to 1000, one number a line.")]


pytestmark = needs_model


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """A running server's base URL; it has two slots, so that two questions are served at once."""
    command = [sys.executable, str(SERVER), "--context", str(CONTEXT)]
    command += ["--slots", "2", "--show-slots"]
    with subprocess.Popen(
        [*command, "--model", str(model_path()), "--alias", model_path().name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            ready = next((line for line in process.stdout if line.startswith("listening")), "")
            assert ready, "the server ended before it was ready"
            yield ready.split()[-1]
        finally:
            process.kill()


@pytest.fixture
def chat(base_url: str) -> Iterator[OpenAIChat]:
    with OpenAIChat(ChatSettings(base_url, model="smollm2")) as opened:
        yield opened


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_answer_with_its_real_usage(chat: OpenAIChat, stream: bool) -> None:
    """Text, finish reason and token counts arrive, streamed or whole."""
    options = ChatOptions(max_tokens=8, seed=1, stream=stream)

    *pieces, last = chat.stream([Message("user", "Say hello.")], options)

    assert "".join(piece.text for piece in pieces).strip()
    assert (len(pieces) > 1) is stream
    assert last.usage is not None
    assert last.usage.prompt_tokens > 0
    assert (last.finish_reason, last.usage.completion_tokens) == ("length", 8)


def test_stop_and_temperature_are_understood(chat: OpenAIChat) -> None:
    """The same question at temperature 0 gives the same text, and stop words cut it."""
    question = [Message("user", "Count from 1 to 9: 1, 2, 3,")]

    texts = [
        "".join(delta.text for delta in chat.stream(question, ChatOptions(0.0, 24, stop=stop)))
        for stop in [(), (), (",",)]
    ]

    assert texts[0] == texts[1]
    assert texts[2] == texts[0].partition(",")[0] != texts[0]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_prompt_beyond_the_window_is_an_overflow(chat: OpenAIChat, stream: bool) -> None:
    """The server's own complaint about a long prompt is recognised, so that less can be packed."""
    question = [Message("user", "word " * (3 * CONTEXT))]

    with pytest.raises(ChatOverflow, match="context"):
        list(chat.stream(question, ChatOptions(stream=stream)))


def busy_slots(base_url: str) -> int:
    """How many questions the server is working on, as it says itself."""
    slots = httpx.get(f"{base_url.removesuffix('/v1')}/slots").json()
    assert len(slots) == 2
    return sum(slot["is_processing"] for slot in slots)


def test_hanging_up_frees_the_slot(base_url: str, chat: OpenAIChat) -> None:
    """A reader that goes away in mid-answer leaves its slot free within a second."""
    reply = chat.stream(LONG_STORY, ChatOptions(max_tokens=900))
    next(delta for delta in reply if delta.text)
    assert busy_slots(base_url) == 1

    reply.close()
    deadline = time.monotonic() + 1.0
    while busy_slots(base_url) and time.monotonic() < deadline:
        time.sleep(0.02)

    assert busy_slots(base_url) == 0


def test_questions_at_once_are_not_crossed(chat: OpenAIChat) -> None:
    """More threads than slots share a client, and each gets its own answer."""
    questions = ["Say hello.", "What is 2 + 2?", "Name a colour.", "Name a fruit."]

    def answer(question: str) -> str:
        deltas = chat.stream([Message("user", question)], ChatOptions(0.0, 6))
        return "".join(delta.text for delta in deltas)

    alone = list(map(answer, questions))
    with ThreadPoolExecutor(len(questions)) as pool:
        together = list(pool.map(answer, questions))

    assert together == alone
    assert len(set(alone)) > 1


def test_unknown_model_is_answered_by_the_one_at_hand(base_url: str) -> None:
    """llama.cpp refuses no name; the reply says which model it came from."""
    with OpenAIChat(ChatSettings(base_url, model="no-such-model")) as chat:
        *_, last = chat.stream([Message("user", "Say hello.")], ChatOptions(max_tokens=1))

    assert last.model == model_path().name


@pytest.mark.parametrize(
    ("window", "overflows"), [(0, True), (CONTEXT * 3 // 4, False)], ids=["unknown", "set"]
)
def test_a_question_that_overflows_is_asked_with_less(
    base_url: str, crowded: Path, window: int, overflows: bool
) -> None:
    """What the server refuses as too long is packed tighter, and the answer says so."""
    settings = load_settings(
        flags={"chat.base_url": base_url, "chat.window": window, "chat.max_tokens": 16},
        environment={},
        folder=crowded,
    )
    with open_app(settings, crowded) as app:
        *_, finished = app.ask_stream(Question("How many litres does the pump P-7 move?"))

    assert isinstance(finished, Finished)
    assert finished.error is None
    assert 0 < finished.answer.usage.prompt_tokens < CONTEXT
    told = [w for w in finished.answer.warnings if "window was too small" in w]
    assert len(told) == overflows


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which more passages are found than the server's window holds."""
    folder = tmp_path_factory.mktemp("crowded")
    pumps = {
        f"p{number}.md": f"# Pump P-{number}\n\nThe pump P-{number} moves {40 + number} litres of "
        "water a minute. " + "Its seals are greased before winter by whoever runs it. " * 15
        for number in range(8)
    }
    sync(folder / "store", [write_documents(folder / "docs", pumps)], SyncSettings())
    return folder / "store"
