"""The chat client against llama.cpp's own server, with a small real model."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from smollm import model_path, needs_model

import rag.chat
from rag.chat.client import ChatOptions, ChatSettings, OpenAIChat
from rag.errors import ChatOverflow
from rag.types import Message

SERVER = Path(rag.chat.__file__).with_name("llama_server.py")
CONTEXT = 1024
LONG_STORY = [Message("user", "Count from 1 to 1000, one number a line.")]


pytestmark = needs_model


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """A running server's base URL; one slot, so that one question at a time is served."""
    command = [sys.executable, str(SERVER), "--with-parent", "--context", str(CONTEXT)]
    with subprocess.Popen(
        [*command, "--model", str(model_path())],
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


def test_hanging_up_stops_the_model(chat: OpenAIChat) -> None:
    """After a hang-up the only slot is free again long before the abandoned answer would end."""
    begun = time.monotonic()
    list(chat.stream(LONG_STORY, ChatOptions(max_tokens=40)))
    token_s = (time.monotonic() - begun) / 40
    abandoned = chat.stream(LONG_STORY, ChatOptions(max_tokens=900))
    next(abandoned)
    abandoned.close()

    # Were the slot still busy with 900 tokens, this deadline would pass before the first of ours.
    options = ChatOptions(max_tokens=1, deadline_s=300 * token_s)
    reply = list(chat.stream([Message("user", "Say hello.")], options))

    assert reply[-1].finish_reason == "length"


def test_questions_at_once_are_not_crossed(chat: OpenAIChat) -> None:
    """Threads that share a client wait for the only slot, and each gets its own answer."""
    questions = ["Say hello.", "What is 2 + 2?", "Name a colour.", "Name a fruit."]

    def answer(question: str) -> str:
        deltas = chat.stream([Message("user", question)], ChatOptions(0.0, 6))
        return "".join(delta.text for delta in deltas)

    alone = list(map(answer, questions))
    with ThreadPoolExecutor(len(questions)) as pool:
        together = list(pool.map(answer, questions))

    assert together == alone
    assert len(set(alone)) > 1
