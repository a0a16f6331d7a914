"""Settings: precedence, origins, and errors that name their source."""

import re
from pathlib import Path

import pytest

from ingest.config import DEFAULT_MODEL
from ingest.errors import StoreMissing, UsageError
from rag.app import own_embedder
from rag.settings.config import find_store, load_settings, setting_types, setting_value


def load(folder: Path, environment: dict[str, str] | None = None, **flags: object):
    named = {name.replace("__", "."): value for name, value in flags.items()}
    home = {"XDG_CONFIG_HOME": str(folder / "home")}
    return load_settings(named, folder=folder, environment=home | (environment or {}))


def write_all_sources(folder: Path) -> None:
    (folder / "home" / "ragcite").mkdir(parents=True)
    (folder / "home" / "ragcite" / "rag.toml").write_text("[retrieval]\nk = 1\nalpha = 0.1\n")
    (folder / "rag.toml").write_text("[retrieval]\nk = 2\n[chat]\ndeadline = 9\n")
    (folder / ".env").write_text("RAG_RETRIEVAL_K=3\nRAG_CHAT_TEMPERATURE=0.5\n")


def test_defaults_need_no_source(tmp_path: Path) -> None:
    """Nothing has to be configured for a first answer."""
    settings = load(tmp_path)

    assert (settings.retrieval.k, settings.chat_configured) == (12, False)
    assert settings.origins == {}


def test_each_source_wins_over_the_weaker_ones(tmp_path: Path) -> None:
    """Flag > environment > .env > rag.toml > the user's rag.toml."""
    write_all_sources(tmp_path)
    environment = {"RAG_RETRIEVAL_K": "4"}

    settings = load(tmp_path, environment, retrieval__k=5)

    assert settings.retrieval.k == 5
    assert load(tmp_path, environment).retrieval.k == 4
    assert load(tmp_path).retrieval.k == 3
    assert (settings.retrieval.alpha, settings.origins["retrieval.alpha"]) == (
        0.1,
        "user rag.toml",
    )
    assert (settings.chat.deadline, settings.origins["chat.deadline"]) == (9.0, "rag.toml")
    assert (settings.chat.temperature, settings.origins["chat.temperature"]) == (0.5, ".env")


def test_a_project_file_is_found_in_a_parent(tmp_path: Path) -> None:
    """rag.toml serves the folders below it."""
    (tmp_path / "rag.toml").write_text("[retrieval]\nk = 2\n")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)

    assert load(below).retrieval.k == 2


def test_every_setting_has_its_variable(tmp_path: Path) -> None:
    """RAG_<SECTION>_<NAME> sets any setting."""
    for name in setting_types():
        kind = type(setting_value(load(tmp_path), name))
        values = {bool: "true", int: "100", float: "1.0", str: "x", tuple: "extractive"}
        of_name = {"safety.moderation": "rules", "safety.on_failure": "open"}
        value = of_name.get(name, values[kind])
        variable = "RAG_" + name.replace(".", "_").upper()

        settings = load(tmp_path, {variable: value})

        assert settings.origins[name] == "environment"


def test_the_older_base_url_variable_gives_way(tmp_path: Path) -> None:
    """OPENAI_BASE_URL wins over OPENAI_API_BASE, and either is enough."""
    older = {"OPENAI_API_BASE": "http://old/v1"}

    assert load(tmp_path, older).chat.base_url == "http://old/v1"
    assert load(tmp_path, older | {"OPENAI_BASE_URL": "http://new/v1"}).chat.base_url == (
        "http://new/v1"
    )


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("[retrieval]\nkk = 2\n", "retrieval.kk"),
        ("[retrieval]\nk = 'many'\n", "'many' (rag.toml) is not a whole number"),
        ("[retrieval]\nalpha = 2\n", "retrieval.alpha = 2.0 (rag.toml)"),
        ("[retrieval]\nk = -1\n", "negative"),
        ("[retrieval\n", "rag.toml"),
    ],
    ids=["unknown", "wrong-type", "out-of-range", "negative", "not-toml"],
)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, content: str, word: str) -> None:
    """The message says what is wrong and where."""
    (tmp_path / "rag.toml").write_text(content)

    with pytest.raises(UsageError, match=re.escape(word)) as caught:
        load(tmp_path)

    assert caught.value.hint


def test_a_named_configuration_must_exist(tmp_path: Path) -> None:
    """--config FILE is not optional once it is given."""
    with pytest.raises(UsageError, match="no such configuration file"):
        load_settings(config=tmp_path / "none.toml", folder=tmp_path, environment={})


def test_a_key_never_shows(tmp_path: Path) -> None:
    """Neither repr nor the listing of settings holds the key."""
    settings = load(tmp_path, {"OPENAI_API_KEY": "sk-secret"})

    assert "sk-secret" not in repr(settings)
    assert setting_value(settings, "chat.api_key") == "(set)"


def test_a_project_file_cannot_redirect_a_persons_key(tmp_path: Path) -> None:
    """A base URL from a project folder does not get the key of the environment."""
    (tmp_path / "rag.toml").write_text('[chat]\nbase_url = "http://elsewhere/v1"\n')
    key = {"OPENAI_API_KEY": "sk-secret"}

    assert load(tmp_path, key).key_withheld
    assert not load(tmp_path, key | {"OPENAI_BASE_URL": "http://mine/v1"}).key_withheld
    (tmp_path / "rag.toml").write_text(
        '[chat]\nbase_url = "http://elsewhere/v1"\napi_key = "sk-theirs"\n'
    )
    assert not load(tmp_path).key_withheld


def test_a_project_file_cannot_choose_a_model(tmp_path: Path) -> None:
    """Loading one is running what a stranger may have made: the person has to name it."""
    (tmp_path / "rag.toml").write_text('[embedding]\nmodel = "a/stranger"\n')

    settings = load(tmp_path)
    named = load(tmp_path, {"RAG_EMBEDDING_MODEL": "a/stranger"})

    assert (settings.own_model, named.own_model) == (DEFAULT_MODEL, "a/stranger")
    assert own_embedder(named).name == "a/stranger"
    for model in (None, "another"):
        with pytest.raises(UsageError, match="without your word") as raised:
            own_embedder(settings, model)
        assert "RAG_EMBEDDING_MODEL" in raised.value.hint
    assert own_embedder(settings, DEFAULT_MODEL).name == DEFAULT_MODEL


def test_the_store_is_found_like_a_git_folder(tmp_path: Path) -> None:
    """`.rag` here or in the nearest parent; ingest creates it here; asking without one fails."""
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    settings = load(tmp_path)

    assert find_store(settings, below, create=True) == below / ".rag"
    with pytest.raises(StoreMissing, match="no store"):
        find_store(settings, below)
    (tmp_path / ".rag").mkdir()
    assert find_store(settings, below, create=True) == tmp_path / ".rag"
    named = load(tmp_path, {"RAG_STORE": "elsewhere"})
    assert find_store(named, below) == below / "elsewhere"


def test_a_project_file_does_not_loosen_what_a_person_has_set(tmp_path: Path) -> None:
    """What may leave and what is checked is for the person to say; the environment is theirs."""
    own = tmp_path / "ragcite"
    own.mkdir()
    (own / "rag.toml").write_text('[privacy]\nredact = ["email", "phone"]\n[chat]\nmodel = "a"\n')
    project = tmp_path / "project"
    project.mkdir()
    (project / "rag.toml").write_text(
        '[privacy]\nredact = []\nterms = ["Anna"]\n[chat]\nmodel = "b"\n'
    )
    (project / ".env").write_text("RAG_PRIVACY_TERMS=Berg, Anna\n")

    def load_here(**environment: str):
        home = {"XDG_CONFIG_HOME": str(tmp_path)}
        return load_settings(folder=project, environment=home | environment)

    settings = load_here()
    assert settings.privacy.redact == ("email", "phone")
    assert (settings.privacy.terms, settings.chat.model) == (("Berg", "Anna"), "b")
    assert load_here(RAG_PRIVACY_REDACT="ip").privacy.redact == ("ip",)


@pytest.mark.parametrize("value", ["1", '["email", 1]', "{}"])
def test_a_list_holds_words(tmp_path: Path, value: str) -> None:
    """Anything else is refused by name."""
    (tmp_path / "rag.toml").write_text(f"[privacy]\nredact = {value}\n")

    with pytest.raises(UsageError, match=r"privacy\.redact"):
        load(tmp_path)
