"""A model in a file: llama.cpp started, asked, interrupted and ended, with a small real model."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Rag, clean_environment
from smollm import model_path, needs_model

from ingest.errors import UsageError
from rag.app import open_app, open_chat
from rag.chat.client import ChatOptions
from rag.chat.local import LocalChat, window_for
from rag.context import Question
from rag.errors import ChatIncomplete, ChatUnavailable
from rag.settings.config import load_settings
from rag.types import Finished, Message, Working

QUESTION = "How many days of paid leave does an employee have?"
HELLO = [Message("user", "Say hello.")]
LONG_STORY = [Message("user", "Count from 1 to 1000, one number a line.")]
SHORT = ChatOptions(max_tokens=4)


def server_of(starter: int) -> int | None:
    """The server that a process has started last, by the kernel's own list."""
    children = Path(f"/proc/{starter}/task/{starter}/children").read_text().split()
    return next((int(child) for child in reversed(children) if is_server(int(child))), None)


def is_server(process: int) -> bool:
    try:
        return b"llama_server" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def ends(process: int, seconds: float = 10.0) -> bool:
    """Whether a process is gone within some time."""
    deadline = time.monotonic() + seconds
    while is_server(process) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_server(process)


@pytest.fixture(scope="module")
def model() -> Iterator[LocalChat]:
    """The model, loaded once it is asked."""
    path = model_path()
    assert path is not None
    chat = LocalChat(path, 1024)
    yield chat
    chat.close()


@needs_model
def test_model_is_loaded_once_and_says_so(model: LocalChat) -> None:
    """The first question begins with the news that the model is loaded, the next does not."""
    first, second = (list(model.stream(HELLO, SHORT)) for _ in range(2))

    assert first[0].progress == f"loading {model.name}"
    assert not any(delta.progress for delta in [*first[1:], *second])
    assert [replies[-1].model for replies in (first, second)] == [model.name, model.name]
    assert first[-1].usage is not None


@needs_model
@pytest.mark.parametrize(
    ("how", "told", "hint"),
    [
        (signal.SIGKILL, r"llama\.cpp was killed", "memory"),
        (signal.SIGTERM, r"llama\.cpp ended with code 0", "ask again"),
    ],
    ids=["as where memory is short", "by somebody"],
)
def test_a_model_that_dies_is_named_and_loaded_again(
    model: LocalChat, how: signal.Signals, told: str, hint: str
) -> None:
    """Ended in mid-answer, it says so and keeps what it wrote; the next question works."""
    reply = model.stream(LONG_STORY, ChatOptions(max_tokens=400))
    text = next(delta.text for delta in reply if delta.text)
    server = server_of(os.getpid())
    assert server is not None
    os.kill(server, how)

    with pytest.raises(ChatIncomplete, match=told) as error:
        list(reply)
    assert error.value.partial.startswith(text)
    assert hint in error.value.hint
    assert list(model.stream(HELLO, SHORT))[-1].usage is not None


@needs_model
def test_closing_ends_the_process() -> None:
    """Nothing is left running, be it asked or not."""
    path = model_path()
    assert path is not None
    chat = LocalChat(path, 512)
    chat.close()
    reply = chat.stream(LONG_STORY)
    next(delta for delta in reply if delta.text)
    server = server_of(os.getpid())
    assert server is not None

    reply.close()
    chat.close()

    assert ends(server)


@needs_model
def test_server_ends_with_its_starter() -> None:
    """A starter that is killed leaves no model behind in memory."""
    code = (
        "import sys, pathlib, time; from rag.chat.local import LocalChat; from rag.types import "
        "Message; chat = LocalChat(pathlib.Path(sys.argv[1]), 512)\n"
        "for delta in chat.stream([Message('user', 'Say hello.')]): pass\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-P", "-c", code, str(model_path())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "ready\n"
        server = server_of(starter.pid)
        assert server is not None
        starter.kill()

    assert ends(server)


@needs_model
def test_a_deadline_ends_the_loading() -> None:
    """A model that cannot be loaded in time is an error that names the setting."""
    path = model_path()
    assert path is not None
    chat = LocalChat(path, 512)

    with pytest.raises(ChatUnavailable) as error:
        list(chat.stream(HELLO, ChatOptions(deadline_s=0.01)))

    assert "chat.deadline" in error.value.hint


@needs_model
def test_damaged_file_is_named(tmp_path: Path) -> None:
    """A file that only begins like a model is no model."""
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF" + bytes(1000))

    with pytest.raises(ChatUnavailable, match=r"cannot run .*damaged\.gguf"):
        list(LocalChat(damaged, 512).stream(HELLO))


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "cannot read the model"), (b"PK\x03\x04 a zip file", "is not a GGUF file")],
    ids=["missing", "another kind"],
)
def test_file_that_is_no_model_is_refused_at_once(
    tmp_path: Path, content: bytes | None, told: str
) -> None:
    """Before anything is started, the file is looked at."""
    file = tmp_path / "model.gguf"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(UsageError, match=told):
        LocalChat(file, 512)


def test_only_a_person_names_a_model_file(tmp_path: Path) -> None:
    """A model that a project's file names is not loaded; one of the environment is looked for."""
    (tmp_path / "rag.toml").write_text('[chat]\nmodel = "strange.gguf"\n')
    project = load_settings(folder=tmp_path, environment={"HOME": str(tmp_path)})
    own = load_settings(folder=tmp_path, environment={"RAG_MODEL": "strange.gguf"})
    served = load_settings(flags={"chat.base_url": "http://127.0.0.1:9/v1"}, folder=tmp_path)

    with pytest.raises(UsageError, match="not loaded without your word"):
        open_chat(project)
    with pytest.raises(UsageError, match="cannot read the model"):
        open_chat(own)
    assert open_chat(served).name == "strange.gguf"


@pytest.mark.parametrize(("budget", "window"), [(1, 256), (768, 1024), (3000, 4096)])
def test_window_has_room_for_other_vocabularies(budget: int, window: int) -> None:
    """A third more than our own count, in the steps that llama.cpp takes."""
    assert window_for(budget) == window


@needs_model
def test_a_question_fits_the_window(library: Rag) -> None:
    """Fewer passages are sent where the window is small; the person is told what is waited for."""
    settings = load_settings(
        flags={
            "chat.model": str(model_path()),
            "chat.window": 640,
            "chat.max_tokens": 100,
            "store": str(library.folder / ".rag"),
        },
        environment={"HOME": str(library.home)},
    )
    with open_app(settings, library.folder / ".rag") as app:
        events = list(app.ask_stream(Question(QUESTION)))

    finished = events[-1]
    assert isinstance(finished, Finished)
    doings = [event.doing for event in events if isinstance(event, Working)]
    assert [doing.split()[0] for doing in doings] == [model_path().name, "loading"]
    assert finished.error is None
    assert finished.answer.passages
    assert 0 < finished.answer.usage.prompt_tokens <= window_for(640) - 100
    assert not any("window" in warning for warning in finished.answer.warnings)


@needs_model
def test_doctor_asks_the_model(library: Rag) -> None:
    """The check loads the file and asks it; one that is missing fails with what to do."""
    found = library("doctor", environment={"RAG_MODEL": str(model_path())})
    missing = library("doctor", environment={"RAG_MODEL": "none.gguf"})

    assert (found.code, f"chat API: {model_path().name} answers, in" in found.out) == (0, True)
    assert missing.code == 1
    assert "FAIL chat API: cannot read the model none.gguf" in missing.out
    assert "check chat.model" in missing.out


@needs_model
def test_interrupt_while_the_model_reads(library: Rag) -> None:
    """A terminal says what is waited for; Ctrl-C ends the command with 130, and the model."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [*library.command, "ask", QUESTION, "--model", str(model_path())],
        cwd=library.folder,
        env=clean_environment(library.home) | {"TERM": "xterm", "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
    )
    os.close(terminal)
    shown = b""
    while b"loading" not in shown:
        shown += os.read(controller, 1000)
    while (server := server_of(process.pid)) is None:
        time.sleep(0.01)

    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate()
    os.close(controller)

    assert process.returncode == 130
    assert time.monotonic() - begun < 5
    assert ends(server)
