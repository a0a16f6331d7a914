"""Effective settings and where each comes from: flag > environment > .env > rag.toml > default.

A section is a frozen dataclass; its fields are the settings, with their defaults and types. A new
setting is one field here: its key in `rag.toml`, its `RAG_<SECTION>_<NAME>` variable and its line
in `rag config show` follow from it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, get_args, get_type_hints

from ingest.config import DEFAULT_MODEL, IndexSettings
from ingest.errors import StoreMissing, UsageError
from ingest.loaders.options import LoadOptions
from rag.settings.keys import place_of_key
from rag.settings.named import EXTRACTIVE, NamedModel, read_model, with_models, without_key
from rag.settings.sources import (
    MODELS,
    KeyPlace,
    Origin,
    convert,
    from_project,
    read_sources,
    unasked_model,
    user_folder,
)

STORE_FOLDER = ".rag"
OPENAI_URL = "https://api.openai.com/v1"

# What a person has set of these for all projects, a project's file does not set otherwise.
_OWN = ("privacy.", "safety.")


@dataclass(frozen=True, slots=True)
class ChatSection:
    """The chat API; without a `base_url` a `model` may be a GGUF file, which runs on this machine.

    `deadline` is in seconds for a whole question, every wait included.

    `window` is how many tokens the model reads and writes at once, the prices are in US dollars
    per million tokens; 0 is what rag/chat/models.toml lists. `rpm` and `tpm` are requests and
    tokens a minute, 0 for what the API tells; `concurrency` requests are under way at once.
    `model` may be the name of a table [models.NAME], or "auto" for `small` where a question is
    easy and `large` else; `fallbacks` are asked in turn where it fails, "extractive" last. After
    `max_cost_per_day` US dollars (of a UTC day; 0 is no limit) answers are extractive. Without an
    `api_key` it is read from `api_key_file`, or where `rag config set-key` has put it. `rewrite`
    lets the model complete follow-ups, by one short request each, and `summarise` sum up the turns
    that no longer fit, by one before the answer each time that more do not.
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
    fallbacks: tuple[str, ...] = ()
    small: str = ""
    large: str = ""
    rpm: int = 0
    tpm: int = 0
    max_cost_per_day: float = 0.0
    api_key_file: str = ""
    rewrite: bool = True
    summarise: bool = False

    @property
    def url(self) -> str:
        """The base URL, OpenAI's where none is set."""
        return (self.base_url or OPENAI_URL).rstrip("/")

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

    k: int = 12
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
    any other name is the folder or hub name of a cross-encoder. `refusal` scales the confidence
    below which a question is refused before anything is asked: 0 lets the model, or the best
    sentences, try whatever was found.
    """

    verifier: str = "coverage"
    refusal: float = 1.0


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
class IngestSection(LoadOptions):
    """`jobs` worker processes read files. The rest is as in `LoadOptions`."""

    jobs: int = 1
    chunk_tokens: int = 220


@dataclass(frozen=True, slots=True)
class LedgerSection:
    """`rag stats` counts the questions of the last `days`; `questions` keeps their words as well,
    and those of the answers.
    """

    enabled: bool = True
    questions: bool = False
    days: int = 400


@dataclass(frozen=True, slots=True)
class PrivacySection:
    """What does not leave for the chat API: `redact` names kinds of personal data ("all", or
    rag/safety/personal.py's), `terms` are words of one's own; both are put back into the answer.

    `name_model` is the installed spaCy package or the folder ("./…") that finds the kind "name".
    """

    redact: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()
    mask_secrets: bool = True
    name_model: str = "en_core_web_sm"


@dataclass(frozen=True, slots=True)
class SafetySection:
    """`moderation` checks questions and answers: "off", "api" (`model` at the chat API's base URL)
    or "rules" (the file `rules`). `on_failure` of the check is "closed" (refuse) or "open".
    """

    moderation: str = "off"
    model: str = "omni-moderation-latest"
    rules: str = ""
    on_failure: str = "closed"


@dataclass(frozen=True, slots=True)
class CacheSection:
    """Whether a chat reply is kept for the next question with the same prompt, in a file of the
    store of at most `max_mb` megabytes, and shared by equal questions asked at once.
    """

    answers: bool = True
    max_mb: int = 50


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set, frozen at the edge and passed down.

    `chat` is the model that writes; `small` answers easy questions where one was named, and
    `fallbacks` what `chat` cannot. `withheld` are base URLs of a project's file that got no key.
    """

    chat: ChatSection = ChatSection()
    retrieval: RetrievalSection = RetrievalSection()
    prompt: PromptSection = PromptSection()
    ground: GroundSection = GroundSection()
    embedding: EmbeddingSection = EmbeddingSection()
    ingest: IngestSection = IngestSection()
    ledger: LedgerSection = LedgerSection()
    privacy: PrivacySection = PrivacySection()
    safety: SafetySection = SafetySection()
    cache: CacheSection = CacheSection()
    store: str = ""
    origins: Mapping[str, Origin] = field(default_factory=dict)
    small: ChatSection | None = None
    fallbacks: tuple[ChatSection, ...] = ()
    withheld: tuple[str, ...] = ()

    @property
    def index(self) -> IndexSettings:
        """The part that shapes a store."""
        return IndexSettings(model=self.embedding.model, chunk_tokens=self.ingest.chunk_tokens)

    @property
    def chat_configured(self) -> bool:
        """Whether a chat model was named at all: by a key, a base URL, or as a file."""
        own = self.chat
        return bool(own.base_url or own.api_key or own.is_file or self.key_is_kept)

    @property
    def key_is_kept(self) -> bool:
        """Whether the chat API's key lies in a place that is read when a question is asked."""
        return self.origins.get("chat.api_key") in get_args(KeyPlace)

    @property
    def falls_back(self) -> bool:
        """Whether the documents' own sentences stand in where no model answers."""
        return self.chat.fallback or EXTRACTIVE in self.chat.fallbacks

    @property
    def own_model(self) -> str:
        """The embedding model that the person has chosen: a project's file does not choose one."""
        return DEFAULT_MODEL if self.from_project("embedding.model") else self.embedding.model

    @property
    def key_withheld(self) -> bool:
        """Whether a person's key stays here because a project file chose the base URL."""
        return (
            bool(self.chat.api_key or self.chat.api_key_file)
            and self.from_project("chat.base_url")
            and not self.from_project("chat.api_key")
        )

    @property
    def writer(self) -> ChatSection:
        """The model that writes, without a key that stays here."""
        return without_key(self.chat) if self.key_withheld else self.chat

    def from_project(self, name: str) -> bool:
        """Whether a setting comes from a file of the project, which may be a stranger's."""
        return from_project(self.origins.get(name, "default"))


def refuse_project_model(settings: Settings, name: str) -> None:
    """UsageError where a model is named by a file of the project alone."""
    if settings.from_project(name):
        raise unasked_model(name, attrgetter(name)(settings))


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
    models: dict[str, NamedModel] = {}
    kinds = setting_types()
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    sources = read_sources(folder, config, environment, kinds)
    for origin, values in (*sources, ("flag", given)):
        for name, value in values.items():
            if name.startswith(MODELS):
                # A name comes from one file whole: else one file's key met another's address.
                readable = None if from_project(origin) else environment
                models[name.removeprefix(MODELS)] = read_model(name, value, origin, readable)
                continue
            is_own = name.startswith(_OWN) and found.get(name, ("",))[0] == "user rag.toml"
            if not (is_own and from_project(origin)):
                found[name] = (origin, convert(name, value, kinds[name], origin))
    return _with_key(with_models(_build(found), models), user_folder(environment))


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
    raise StoreMissing(
        f"no store found: no {STORE_FOLDER} folder in {folder} or above it",
        "run `rag ingest PATH` first, or name one with --store",
    )


def setting_types() -> dict[str, Any]:
    """All settings by name, as `rag config show` lists them, and the type of each."""
    sections = {f.name: type(f.default) for f in fields(Settings) if is_dataclass(f.default)}
    nested = {
        f"{section}.{name}": hint
        for section, kind in sections.items()
        for name, hint in get_type_hints(kind).items()
    }
    return {**nested, "store": str}


def setting_value(settings: Settings, name: str) -> Any:
    """One setting's value; a key is never shown, only whether there is one."""
    value = attrgetter(name)(settings)
    if name == "chat.api_key" and settings.key_is_kept:
        return "(kept)"
    return "(set)" if value and name.endswith(".api_key") else value


def _build(found: Mapping[str, tuple[Origin, Any]]) -> Settings:
    settings = Settings(origins={name: origin for name, (origin, _) in found.items()})
    for name, (_, value) in found.items():
        section, _, key = name.partition(".")
        changed = replace(getattr(settings, section), **{key: value}) if key else value
        settings = replace(settings, **{section: changed})
    return _checked(settings)


def _with_key(settings: Settings, folder: Path) -> Settings:
    """Say where the key of the chat API will come from, if no setting holds it."""
    if settings.chat.api_key:
        return settings
    if settings.from_project("chat.api_key_file"):
        raise UsageError(
            "chat.api_key_file is not read where a file of the project names it",
            "set RAG_CHAT_API_KEY_FILE, or `chat.api_key_file` in your own rag.toml "
            "(`~/.config/ragcite`)",
        )
    kept = place_of_key(folder, settings.chat.url)
    place: Origin | None = "key file" if settings.chat.api_key_file else kept or None
    origins = {**settings.origins, "chat.api_key": place} if place else settings.origins
    return replace(settings, origins=origins)


def _checked(settings: Settings) -> Settings:
    """Refuse values that no part of the system could carry out."""
    rules = {
        "retrieval.alpha": (0 <= settings.retrieval.alpha <= 1, "0 to 1"),
        "retrieval.k": (settings.retrieval.k >= 1, "1 or more"),
        "ground.refusal": (settings.ground.refusal >= 0, "0 or more"),
        "chat.concurrency": (settings.chat.concurrency >= 1, "1 or more"),
        "chat.deadline": (settings.chat.deadline > 0, "more than 0"),
        "chat.max_cost_per_day": (
            settings.ledger.enabled or not settings.chat.max_cost_per_day,
            "0, or set ledger.enabled",
        ),
        "ingest.jobs": (settings.ingest.jobs >= 1, "1 or more"),
        "ingest.chunk_tokens": (settings.ingest.chunk_tokens >= 64, "64 or more"),
        "safety.moderation": (
            settings.safety.moderation in ("off", "api", "rules"),
            "off, api or rules",
        ),
        "safety.on_failure": (settings.safety.on_failure in ("closed", "open"), "closed or open"),
    }
    for name, (holds, allowed) in rules.items():
        if not holds:
            origin = settings.origins.get(name, "default")
            value = setting_value(settings, name)
            raise UsageError(f"{name} = {value} ({origin}) is out of range", f"allowed: {allowed}")
    return settings
