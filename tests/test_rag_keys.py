"""Keys: from where they are read, to whom they go, and that they show nowhere."""

import json
import os
import stat
from pathlib import Path

import pytest
from chat_server import chat_server
from command import Rag

from ingest.errors import UsageError
from rag.app import api_key
from rag.chat.client import ChatSettings, OpenAIChat
from rag.settings.config import load_settings
from rag.settings.keys import drop_key, keep_key, kept_key, place_of_key, read_key_file
from rag.types import Message

KEY = "sk-test-0123456789abcdef0123"
OTHER = "sk-test-fedcba98765432109876"
LOCAL = "http://127.0.0.1:9/v1"
QUESTION = "How many days of paid leave does an employee have?"
GOOD = "Every employee has 28 days of paid leave a year."
NO_KEYRING = {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
# A keyring as a real one is to its users: another process finds what one has put there.
KEYRING = """
import json
from pathlib import Path
from keyring.backend import KeyringBackend
from keyring.errors import PasswordDeleteError

FILE = Path(__file__).with_suffix(".json")


class Keyring(KeyringBackend):
    priority = 1

    def _all(self):
        return json.loads(FILE.read_text()) if FILE.exists() else {}

    def get_password(self, service, username):
        return self._all().get(f"{service} {username}")

    def set_password(self, service, username, password):
        FILE.write_text(json.dumps(self._all() | {f"{service} {username}": password}))

    def delete_password(self, service, username):
        if f"{service} {username}" not in self._all():
            raise PasswordDeleteError
        FILE.write_text("{}")
"""


@pytest.fixture(autouse=True)
def no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keyring of the machine that tests run on is left alone."""
    import keyring
    from keyring.backends.fail import Keyring

    before = keyring.get_keyring()
    keyring.set_keyring(Keyring())
    yield
    keyring.set_keyring(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_key_is_kept_for_its_base_url_alone(tmp_path: Path) -> None:
    """However the base URL is written; the file is for its owner alone."""
    folder = tmp_path / "ragcite"

    keep_key(folder, "HTTPS://API.example/v1/", KEY)
    keep_key(folder, LOCAL, OTHER)

    assert kept_key(folder, "https://api.example/v1/chat/completions") == KEY
    assert kept_key(folder, LOCAL) == OTHER
    assert kept_key(folder, "https://api.example.evil/v1") == ""
    assert kept_key(folder, "https://api.example/v2") == ""
    assert (mode(folder), mode(folder / "keys.json")) == (0o700, 0o600)
    assert [path.name for path in folder.iterdir()] == ["keys.json"]


def test_a_key_can_be_replaced_and_forgotten(tmp_path: Path) -> None:
    """The last one counts; a key that is not there cannot be forgotten."""
    keep_key(tmp_path, LOCAL, KEY)
    keep_key(tmp_path, LOCAL, OTHER)
    assert kept_key(tmp_path, LOCAL) == OTHER

    drop_key(tmp_path, LOCAL)

    assert (kept_key(tmp_path, LOCAL), place_of_key(tmp_path, LOCAL)) == ("", "")
    with pytest.raises(UsageError, match="no key is kept for"):
        drop_key(tmp_path, LOCAL)


@pytest.mark.parametrize("key", ["", "two words", "schlüssel", "line\nbreak"])
def test_what_is_no_key_is_not_kept(tmp_path: Path, key: str) -> None:
    """And not repeated in the complaint."""
    with pytest.raises(UsageError) as caught:
        keep_key(tmp_path, LOCAL, key)

    assert not key or key not in caught.value.message


def test_files_that_others_can_read_are_refused(tmp_path: Path) -> None:
    """A key file, and the file of kept keys; the message says what to run."""
    own = tmp_path / "key"
    own.write_text(f"{KEY}\n")
    own.chmod(0o640)
    keep_key(tmp_path, LOCAL, KEY)
    (tmp_path / "keys.json").chmod(0o604)

    with pytest.raises(UsageError) as caught:
        read_key_file(own)
    with pytest.raises(UsageError, match="others can read"):
        kept_key(tmp_path, LOCAL)

    assert caught.value.hint == f"run `chmod 600 {own}`"
    own.chmod(0o600)
    assert read_key_file(own) == KEY


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"a": 1}', KEY.encode() + b"\xff"])
def test_a_damaged_file_of_keys_is_named_and_not_quoted(tmp_path: Path, content: bytes) -> None:
    """Whatever it holds may be a key."""
    (tmp_path / "keys.json").write_bytes(content)
    (tmp_path / "keys.json").chmod(0o600)

    with pytest.raises(UsageError, match=r"keys\.json") as caught:
        kept_key(tmp_path, LOCAL)

    assert KEY not in caught.value.message + caught.value.hint
    assert place_of_key(tmp_path, LOCAL) == ""


def test_a_project_cannot_name_a_key_file(tmp_path: Path) -> None:
    """Any file of the person could be sent as a key."""
    (tmp_path / "rag.toml").write_text('[chat]\napi_key_file = "/etc/passwd"\n')

    with pytest.raises(UsageError, match="api_key_file"):
        load_settings(folder=tmp_path, environment={"XDG_CONFIG_HOME": str(tmp_path)})


def test_keys_stay_when_a_project_names_the_base_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key file is for no base URL in particular; a kept key goes to its own wherever named."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)
    own = {"XDG_CONFIG_HOME": str(tmp_path), "RAG_CHAT_API_KEY_FILE": str(tmp_path / "key")}
    project = tmp_path / "project"
    project.mkdir()

    def key(**environment: str) -> str:
        settings = load_settings(folder=project, environment=own | environment)
        return api_key(settings.writer)

    assert key() == KEY
    (project / "rag.toml").write_text(f'[chat]\nbase_url = "{LOCAL}"\n')
    assert key() == ""
    assert key(OPENAI_API_KEY=OTHER) == ""
    keep_key(tmp_path / "ragcite", LOCAL, OTHER)
    assert key() == OTHER


def test_a_key_is_rotated_without_a_restart(tmp_path: Path) -> None:
    """A client asks for the key before each try, and again where the one it had was refused."""
    keys = iter([KEY, KEY, OTHER, OTHER])

    with chat_server(GOOD) as server:
        server.keys = (KEY,)
        with OpenAIChat(ChatSettings(server.url, lambda: next(keys))) as chat:
            list(chat.stream([Message("user", "one")]))
            server.keys = (OTHER,)
            list(chat.stream([Message("user", "two")]))

    assert server.authorizations == [f"Bearer {key}" for key in (KEY, KEY, OTHER)]


def test_set_key_reads_standard_input_and_ask_uses_it(library: Rag, tmp_path: Path) -> None:
    """The key is in no argument, the listing names its place, and it goes to its base URL."""
    home = {"XDG_CONFIG_HOME": str(tmp_path)} | NO_KEYRING

    with chat_server(GOOD) as server:
        server.keys = (KEY,)
        kept = library(
            "config", "set-key", "--base-url", server.url, "--json", stdin=KEY, environment=home
        )
        environment = home | server.environment
        shown = library("config", "show", "--json", environment=environment)
        answer = library("ask", QUESTION, "--json", environment=environment)
        library("config", "unset-key", "--base-url", server.url, environment=home)
        refused = library("ask", QUESTION, "--no-cache", environment=environment)

    assert kept.json == {"base_url": server.url, "kept_in": str(tmp_path / "ragcite/keys.json")}
    assert shown.json["chat.api_key"] == {"value": "(kept)", "origin": "keys.json"}
    assert answer.json["status"] == "answered"
    assert (refused.code, server.authorizations[-1]) == (4, None)
    assert not any(KEY in run.out + run.err for run in (kept, shown, answer, refused))


def test_the_keyring_holds_the_key_where_there_is_one(library: Rag, tmp_path: Path) -> None:
    """The file then says only for which base URL there is a key."""
    (tmp_path / "drawer.py").write_text(KEYRING)
    environment = {
        "XDG_CONFIG_HOME": str(tmp_path),
        "PYTHON_KEYRING_BACKEND": "drawer.Keyring",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    }

    with chat_server(GOOD) as server:
        server.keys = (KEY,)
        environment |= server.environment
        kept = library("config", "set-key", stdin=f"{KEY}\n", environment=environment)
        answer = library("ask", QUESTION, "--json", environment=environment)
        names = (tmp_path / "ragcite/keys.json").read_text()
        gone = library("config", "unset-key", environment=environment)

    assert (kept.code, "keyring" in kept.out) == (0, True)
    assert answer.json["status"] == "answered"
    assert json.loads(names) == {server.url: None}
    assert (gone.code, (tmp_path / "drawer.json").read_text()) == (0, "{}")


def test_a_base_url_of_a_project_has_to_be_said_by_hand(rag: Rag) -> None:
    """Else a stranger's file would decide for whom a key is kept."""
    (rag.folder / "rag.toml").write_text(f'[chat]\nbase_url = "{LOCAL}"\n')

    result = rag("config", "set-key", stdin=KEY, environment=NO_KEYRING)

    assert (result.code, "--base-url" in result.err) == (2, True)


def test_a_key_shows_nowhere(rag: Rag, tmp_path: Path) -> None:
    """Not in output, traceback, settings or store, though the server echoes it; nor in the list of
    processes, for it is no argument."""
    key_file = tmp_path / "key"
    key_file.write_text(KEY)
    key_file.chmod(0o600)
    (rag.folder / "notes.md").write_text("# Leave\n\nEvery employee has 28 days of paid leave.\n")
    in_file = {"RAG_CHAT_API_KEY_FILE": str(key_file)}

    with chat_server(GOOD) as server:
        server.keys = ()
        in_file |= server.environment
        in_environment = {"OPENAI_API_KEY": KEY} | server.environment
        outputs = [
            rag("ingest", "notes.md", environment=in_environment),
            rag("ask", QUESTION, "-v", environment=in_environment),
            rag("ask", QUESTION, "-v", environment=in_file),
            rag("doctor", "-v", environment=in_file),
            rag("config", "show", "-v", environment=in_file),
        ]

    stored = [path for path in (rag.folder / ".rag").rglob("*") if path.is_file()]
    assert {f"Bearer {KEY}"} == set(server.authorizations)
    assert [run.code for run in outputs] == [0, 4, 4, 1, 0]
    assert "***" in outputs[1].err
    assert not any(KEY in run.out + run.err for run in outputs)
    assert not any(KEY.encode() in path.read_bytes() for path in stored)
