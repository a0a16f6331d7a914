"""A GGUF file as the chat model: llama.cpp in a process of its own, behind the ordinary client.

A process of its own, because loading a model holds Python's lock, memory that runs short ends the
process that needed it, and an interrupt must not wait for a prompt that is being read. It listens
on this machine alone, wants a key that only we know, and ends with us.
"""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from threading import Lock, Timer

from ingest.errors import UsageError
from rag.chat.client import DEFAULT_OPTIONS, ChatOptions, ChatSettings, Deltas, OpenAIChat
from rag.chat.patience import REAL_TIMING, Timing
from rag.errors import ChatError, ChatIncomplete, ChatUnavailable
from rag.types import ChatDelta, Message

_MAGIC = b"GGUF"
_LAST_BREATH_S = 0.1
_SERVER = Path(__file__).with_name("llama_server.py")
_CONTEXT_STEP = 256  # tokens: llama.cpp rounds a window up to it
_SPARE = 4 / 3  # what a model's own vocabulary may count more than ours does


def window_for(tokens: int) -> int:
    """The window that holds so many tokens of our vocabulary, whatever the model's own is."""
    return -int(-tokens * _SPARE // _CONTEXT_STEP) * _CONTEXT_STEP


@dataclass(frozen=True, slots=True)
class _Served:
    """A running server and the client that has its key."""

    process: "subprocess.Popen[str]"
    client: OpenAIChat


class LocalChat:
    """A chat model in a file; loaded when first asked, and asked one question at a time.

    `window` is in tokens. Raises UsageError for a file that cannot be one, and where llama.cpp is
    not installed.
    """

    def __init__(self, file: Path, window: int, timing: Timing = REAL_TIMING) -> None:
        self.name = file.name
        self._file = _checked(file)
        self._window = window
        self._timing = timing
        self._lock = Lock()
        self._served: _Served | None = None

    def stream(self, messages: Sequence[Message], options: ChatOptions = DEFAULT_OPTIONS) -> Deltas:
        """See ChatModel. Loading the model counts against the deadline."""
        begun = self._timing.monotonic()
        if self._served is None:
            yield ChatDelta(progress=f"loading {self.name}")
        with self._lock:
            served = self._served = self._served or self._load(options.deadline_s)
        left = options.deadline_s - (self._timing.monotonic() - begun)
        try:
            yield from served.client.stream(messages, replace(options, deadline_s=left))
        except ChatError as error:
            if not _is_gone(served.process):
                raise
            with self._lock:
                if self._served is served:  # nobody has loaded it anew
                    self.close()
            ended = self._ended(served.process, loaded=True)
            partial = error.partial if isinstance(error, ChatIncomplete) else ""
            raise ChatIncomplete(ended.message, ended.hint, partial) from error

    def close(self) -> None:
        """End llama.cpp, which frees its memory at once; another question would load it anew."""
        served, self._served = self._served, None
        if served is not None:
            served.client.close()
            _kill(served.process)

    def _load(self, deadline_s: float) -> _Served:
        key = secrets.token_urlsafe()
        command = [sys.executable, "-P", str(_SERVER), "--model", str(self._file)]
        process = subprocess.Popen(
            [*command, "--alias", self.name, "--context", str(self._window)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"LLAMA_API_KEY": key},
            start_new_session=True,  # Ctrl-C is for us
        )
        assert process.stdout is not None
        late = Timer(deadline_s, process.kill)
        late.start()
        try:
            ready = next((line for line in process.stdout if line.startswith("listening")), "")
            if not ready:
                raise self._ended(process, loaded=False)
            return _Served(process, OpenAIChat(ChatSettings(ready.split()[-1], key, self.name)))
        except BaseException:
            _kill(process)
            raise
        finally:
            late.cancel()

    def _ended(self, process: "subprocess.Popen[str]", *, loaded: bool) -> ChatUnavailable:
        """Why llama.cpp is gone; it says nothing itself that a person could use."""
        size = f"{self._file.stat().st_size / 1e9:.1f} GB"
        code = process.wait()
        if code == -signal.SIGKILL:
            return ChatUnavailable(
                f"llama.cpp was killed with {self._file}",
                f"free memory ({size} and a window of {self._window} tokens are needed), lower "
                "chat.window, or raise chat.deadline",
            )
        if loaded:
            happened = f"llama.cpp ended with code {code} while {self._file} answered"
            return ChatUnavailable(happened, "ask again: it is loaded anew")
        return ChatUnavailable(
            f"llama.cpp cannot run {self._file}",
            f"is the file whole ({size}), and of a kind that this llama.cpp knows? "
            "`pip install -U xllamacpp` brings a newer one",
        )


def _is_gone(process: "subprocess.Popen[str]") -> bool:
    """Whether a process has ended; its sockets are closed a moment before it has."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(_LAST_BREATH_S)
    return process.poll() is not None


def _kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def _checked(file: Path) -> Path:
    try:
        with file.open("rb") as opened:
            whole = opened.read(len(_MAGIC)) == _MAGIC
    except OSError as error:
        raise UsageError(
            f"cannot read the model {file}: {error.strerror}",
            "check chat.model: it names a GGUF file, or a model of the API at chat.base_url",
        ) from error
    if not whole:
        raise UsageError(f"{file} is not a GGUF file", "name another file with chat.model")
    if find_spec("xllamacpp") is None:
        raise UsageError(
            f"llama.cpp is not installed, which {file.name} needs",
            "run `pip install 'ragcite[local]'`",
        )
    return file
