"""Effective settings and where each comes from: flag > environment > .env > rag.toml > default.

A section is a frozen dataclass; its fields are the settings, with their defaults and types. A new
setting is one field here: its key in `rag.toml`, its `RAG_<SECTION>_<NAME>` variable and its line
in `rag config show` follow from it.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_type_hints

from ingest.config import DEFAULT_MODEL, IndexSettings
from ingest.errors import UsageError
from ingest.loaders.options import DEFAULT_OPTIONS

Origin = Literal["flag", "environment", ".env", "rag.toml", "user rag.toml", "default"]

CONFIG_FILE = "rag.toml"
STORE_FOLDER = ".rag"
OPENAI_URL = "https://api.openai.com/v1"

# A project folder may come from a stranger; what it says must not redirect a person's own key, nor
# have a model loaded.
_PROJECT_ORIGINS = (".env", "rag.toml")

_ALIASES = {
    "OPENAI_API_KEY": "chat.api_key",
    "OPENAI_API_BASE": "chat.base_url",
    "OPENAI_BASE_URL": "chat.base_url",  # the newer name wins over the older one
    "RAG_MODEL": "chat.model",
}


@dataclass(frozen=True, slots=True)
class ChatSection:
    """The chat API; without a `base_url` a `model` may be a GGUF file, which runs on this machine.

    `deadline` is in seconds for a whole question, every wait included.

    `window` is how many tokens the model reads and writes at once, the prices are in US dollars
    per million tokens; 0 is what rag/chat/models.toml lists.
    """

    base_url: str = ""
    api_key: str = field(default="", repr=False)
    model: str = "gpt-4o-mini"
    deadline: float = 120.0
    temperature: float = 0.0
    max_tokens: int = 500
    window: int = 0
    price_in: float = 0.0
    price_out: float = 0.0
    concurrency: int = 8
    fallback: bool = False

    @property
    def is_file(self) -> bool:
        """Whether the model is a file of this machine and no name at an API."""
        return not self.base_url and self.model.endswith(".gguf")


@dataclass(frozen=True, slots=True)
class RetrievalSection:
    """`k` passages at most; `alpha` weighs the cosine against BM25 (1 is dense alone).

    `second_search` looks for what the first passage names where it leaves the question open.
    `reranker` is the folder or hub name of a cross-encoder that orders the passages anew.
    """

    k: int = 8
    alpha: float = 0.5
    candidates: int = 200
    second_search: bool = True
    reranker: str = ""


@dataclass(frozen=True, slots=True)
class PromptSection:
    """`budget` is in tokens for everything sent; `template` is a folder of prompt files."""

    budget: int = 3000
    template: str = ""


@dataclass(frozen=True, slots=True)
class GroundSection:
    """`verifier` scores a written sentence: "coverage" counts words, "chat" asks the chat model,
    any other name is the folder or hub name of a cross-encoder.
    """

    verifier: str = "coverage"


@dataclass(frozen=True, slots=True)
class EmbeddingSection:
    """The embedding model: the bundled one, a sentence-transformers folder or hub name, or with
    `base_url` one behind an OpenAI-compatible API.

    `engine` computes the bundled one at ingest: auto, numpy, torch or openvino. Without an
    `api_key` that of the chat API goes to a `base_url` that is the same.
    """

    model: str = DEFAULT_MODEL
    engine: str = "auto"
    base_url: str = ""
    api_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class IngestSection:
    """`jobs` worker processes read files. The rest is as in `LoadOptions`, of which every field is
    a setting here.
    """

    jobs: int = 1
    chunk_tokens: int = 220
    max_seconds: float = DEFAULT_OPTIONS.max_seconds
    max_memory: int = DEFAULT_OPTIONS.max_memory
    max_pages: int = DEFAULT_OPTIONS.max_pages
    max_text: int = DEFAULT_OPTIONS.max_text
    max_file: int = DEFAULT_OPTIONS.max_file
    max_unpacked: int = DEFAULT_OPTIONS.max_unpacked
    max_members: int = DEFAULT_OPTIONS.max_members
    ocr: bool = DEFAULT_OPTIONS.ocr
    ocr_languages: str = DEFAULT_OPTIONS.ocr_languages


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set, frozen at the edge and passed down."""

    chat: ChatSection = ChatSection()
    retrieval: RetrievalSection = RetrievalSection()
    prompt: PromptSection = PromptSection()
    ground: GroundSection = GroundSection()
    embedding: EmbeddingSection = EmbeddingSection()
    ingest: IngestSection = IngestSection()
    store: str = ""
    origins: Mapping[str, Origin] = field(default_factory=dict)

    @property
    def index(self) -> IndexSettings:
        """The part that shapes a store."""
        return IndexSettings(model=self.embedding.model, chunk_tokens=self.ingest.chunk_tokens)

    @property
    def chat_configured(self) -> bool:
        """Whether a chat model was named at all: by a key, a base URL, or as a file."""
        return bool(self.chat.base_url or self.chat.api_key or self.chat.is_file)

    @property
    def own_model(self) -> str:
        """The embedding model that the person has chosen: a project's file does not choose one."""
        return DEFAULT_MODEL if self.from_project("embedding.model") else self.embedding.model

    @property
    def key_withheld(self) -> bool:
        """Whether a person's key stays here because a project file chose the base URL."""
        return (
            bool(self.chat.api_key)
            and self.from_project("chat.base_url")
            and not self.from_project("chat.api_key")
        )

    def from_project(self, name: str) -> bool:
        """Whether a setting comes from a file of the project, which may be a stranger's."""
        return self.origins.get(name) in _PROJECT_ORIGINS


def refuse_project_model(settings: Settings, name: str) -> None:
    """UsageError where a model is named by a file of the project alone."""
    if settings.from_project(name):
        section, _, key = name.partition(".")
        raise unasked_model(name, getattr(getattr(settings, section), key))


def unasked_model(name: str, model: str) -> UsageError:
    """The refusal of a model that the person did not choose: it is files that are loaded, or
    fetched from the hub."""
    variable = f"RAG_{name.upper().replace('.', '_')}"
    return UsageError(
        f"the model {model!r} is not loaded without your word",
        f"if you trust it, set {variable}={model}, or `{name}` in your own rag.toml "
        "(`~/.config/ragcite`)",
    )


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    config: Path | None = None,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Read all sources and merge them.

    `flags` maps setting names ("retrieval.k") to values, None where not given. `config` is a file
    named by `--config` and must exist. Raises UsageError that names the source of a bad value.
    """
    folder = folder or Path.cwd()
    environment = os.environ if environment is None else environment
    found: dict[str, tuple[Origin, Any]] = {}
    for origin, values in _sources(folder, config, environment):
        for name, value in values.items():
            found[name] = (origin, _convert(name, value, origin))
    for name, value in (flags or {}).items():
        if value is not None:
            found[name] = ("flag", _convert(name, value, "flag"))
    return _build(found)


def find_store(settings: Settings, folder: Path | None = None, *, create: bool = False) -> Path:
    """The store's folder: the setting, else `.rag` here or in the nearest parent, as git does.

    With `create`, a store that does not exist yet is placed in the working directory.
    """
    folder = folder or Path.cwd()
    if "://" in settings.store:
        raise UsageError(
            f"cannot open the store {settings.store!r}: only folders are supported",
            "give a folder: `--store ./.rag`",
        )
    if settings.store:
        return (folder / settings.store).expanduser()
    for parent in (folder, *folder.parents):
        if (parent / STORE_FOLDER).is_dir():
            return parent / STORE_FOLDER
    if create:
        return folder / STORE_FOLDER
    from ingest.errors import StoreMissing

    raise StoreMissing(
        f"no store found: no {STORE_FOLDER} folder in {folder} or above it",
        "run `rag ingest PATH` first, or name one with --store",
    )


def setting_names() -> tuple[str, ...]:
    """All settings, as `rag config show` lists them."""
    return tuple(_types())


def setting_value(settings: Settings, name: str) -> Any:
    """One setting's value; a key is never shown, only whether there is one."""
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return "(set)" if value and name.endswith(".api_key") else value


def _types() -> dict[str, type]:
    sections = {
        f.name: get_type_hints(type(f.default))
        for f in fields(Settings)
        if f.name not in {"store", "origins"}
    }
    nested = {
        f"{section}.{name}": kind
        for section, hints in sections.items()
        for name, kind in hints.items()
    }
    return {**nested, "store": str}


def _sources(
    folder: Path, config: Path | None, environment: Mapping[str, str]
) -> Iterator[tuple[Origin, Mapping[str, Any]]]:
    """Each source's settings by name, the weakest first."""
    home = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    user_file = home / "ragcite" / CONFIG_FILE
    if user_file.is_file():
        yield "user rag.toml", _read_toml(user_file)
    if config is not None:
        if not config.is_file():
            raise UsageError(f"no such configuration file: {config}", "check --config")
        yield "rag.toml", _read_toml(config)
    elif (project_file := _nearest(folder, CONFIG_FILE)) is not None:
        yield "rag.toml", _read_toml(project_file)
    if (dotenv := _nearest(folder, ".env")) is not None:
        yield ".env", _from_environment(_read_dotenv(dotenv))
    yield "environment", _from_environment(environment)


def _nearest(folder: Path, name: str) -> Path | None:
    return next((p / name for p in (folder, *folder.parents) if (p / name).is_file()), None)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}", "mend the file, or remove it") from error
    known = _types()
    values: dict[str, Any] = {}
    for section, content in data.items():
        entries = content if isinstance(content, dict) else {"": content}
        for key, value in entries.items():
            name = f"{section}.{key}" if key else section
            if name not in known:
                raise UsageError(
                    f"unknown setting {name!r} in {path}", "`rag config show` lists the settings"
                )
            values[name] = value
    return values


def _read_dotenv(path: Path) -> dict[str, str]:
    from dotenv import dotenv_values

    return {name: value for name, value in dotenv_values(path).items() if value is not None}


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    values = {}
    for variable, name in _ALIASES.items():
        if environment.get(variable):
            values[name] = environment[variable]
    for name in _types():
        variable = "RAG_" + name.replace(".", "_").upper()
        if environment.get(variable):
            values[name] = environment[variable]
    return values


def _convert(name: str, value: Any, origin: Origin) -> Any:
    kind = _types()[name]
    try:
        converted = _to_bool(value) if kind is bool else kind(value)
    except (TypeError, ValueError):
        raise UsageError(
            f"{name} = {value!r} ({origin}) is not a valid {kind.__name__}",
            f"set {name} to a {kind.__name__}",
        ) from None
    if isinstance(converted, int | float) and converted < 0:
        raise UsageError(f"{name} = {value!r} ({origin}) is negative", f"set {name} to 0 or more")
    return converted


def _to_bool(value: Any) -> bool:
    names = {"1": True, "true": True, "yes": True, "on": True}
    names |= {"0": False, "false": False, "no": False, "off": False}
    text = str(value).strip().lower()
    if text not in names:
        raise ValueError(text)
    return names[text]


def _build(found: Mapping[str, tuple[Origin, Any]]) -> Settings:
    settings = Settings(origins={name: origin for name, (origin, _) in found.items()})
    for name, (_, value) in found.items():
        section, _, key = name.partition(".")
        changed = replace(getattr(settings, section), **{key: value}) if key else value
        settings = replace(settings, **{section: changed})
    return _checked(settings)


def _checked(settings: Settings) -> Settings:
    """Refuse values that no part of the system could carry out."""
    rules = {
        "retrieval.alpha": 0 <= settings.retrieval.alpha <= 1,
        "retrieval.k": settings.retrieval.k >= 1,
        "chat.concurrency": settings.chat.concurrency >= 1,
        "chat.deadline": settings.chat.deadline > 0,
        "ingest.jobs": settings.ingest.jobs >= 1,
        "ingest.chunk_tokens": settings.ingest.chunk_tokens >= 64,
    }
    for name, holds in rules.items():
        if not holds:
            raise UsageError(
                f"{name} = {setting_value(settings, name)} is out of range",
                "`rag config show` lists the defaults",
            )
    return settings
