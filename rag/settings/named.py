"""Chat models by a name of one's own: the tables [models.NAME] of rag.toml.

A table is taken whole from one file. A file of the project may be a stranger's: it can bring a key
of its own, but no variable of the environment is read because it says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ingest.errors import UsageError
from rag.settings.sources import Origin, convert, from_project, unasked_model

if TYPE_CHECKING:
    from rag.settings.config import ChatSection, Settings

_AUTO = "auto"
EXTRACTIVE = "extractive"


@dataclass(frozen=True, slots=True)
class NamedModel:
    """One table: its `values` by the names of fields of the section [chat], none empty or 0.

    Its key was `withheld` where a file of the project names the variable that holds it. `origin` is
    where the table stands.
    """

    values: Mapping[str, Any] = field(repr=False)
    origin: Origin
    withheld: bool = False


# What the section [chat] has of it is not what a model of another name costs, reads or allows.
_FACTS: Mapping[str, Any] = {"window": 0, "price_in": 0.0, "price_out": 0.0, "rpm": 0, "tpm": 0}
_KEY_VARIABLE = "api_key_env"
_KINDS: Mapping[str, type] = {
    **dict.fromkeys(("base_url", "api_key", _KEY_VARIABLE, "model"), str),
    **{name: type(nothing) for name, nothing in _FACTS.items()},
    "concurrency": int,
}


def read_model(
    name: str, table: object, origin: Origin, environment: Mapping[str, str] | None
) -> NamedModel:
    """The model of a table, its key read from the environment; None forbids that.

    Raises UsageError for a field that is none, or of another kind.
    """
    given = table if isinstance(table, dict) else {"": table}
    if unknown := [key for key in given if key not in _KINDS]:
        hint = f"a model has: {', '.join(_KINDS)}"
        raise UsageError(f"unknown setting {name}.{unknown[0]} ({origin})", hint)
    read = {key: convert(f"{name}.{key}", v, _KINDS[key], origin) for key, v in given.items()}
    variable, key = read.pop(_KEY_VARIABLE, ""), read.get("api_key")
    if (variable or key) and not read.get("base_url"):
        hint = "add the base_url that the key may be sent to"
        raise UsageError(f"{name} has a key but no base_url ({origin})", hint)
    read["api_key"] = key or (environment or {}).get(variable)
    values = {key: value for key, value in read.items() if value}
    return NamedModel(values, origin, bool(variable) and not key and environment is None)


def with_models(settings: "Settings", models: Mapping[str, NamedModel]) -> "Settings":
    """Put named models in the place of their names. Raises UsageError for a name without table."""
    own, chat, origins = settings.writer, settings.chat, dict(settings.origins)
    withheld = [own.base_url] if settings.key_withheld else []

    def named(name: str) -> "ChatSection":
        if not name:
            hint = "set both to names of tables [models.NAME]"
            raise UsageError('chat.model is "auto", but chat.small or chat.large is empty', hint)
        if name not in models:
            hint = f"add a table [models.{name}] to rag.toml"
            raise UsageError(f"no model is named {name!r}", hint)
        if models[name].withheld:
            withheld.append(models[name].values["base_url"])
        section = _put_in(own, name, models[name])
        if section.is_file and from_project(models[name].origin):
            raise unasked_model("chat.model", section.model)
        return section

    automatic = chat.model == _AUTO
    writer = chat.large if automatic else chat.model
    if automatic or writer in models:
        chat = named(writer)
        if "base_url" in models[writer].values:  # it has come with its own key, or with none
            origins |= dict.fromkeys(("chat.base_url", "chat.api_key"), models[writer].origin)
    return replace(
        settings,
        chat=chat,
        small=named(chat.small) if automatic else None,
        fallbacks=tuple(named(name) for name in chat.fallbacks if name != EXTRACTIVE),
        withheld=tuple(dict.fromkeys(withheld)),
        origins=origins,
    )


def _put_in(chat: "ChatSection", name: str, model: NamedModel) -> "ChatSection":
    """The chat settings with a named model in the place of theirs.

    The key of `chat` is kept for the base URL that it was given for alone.
    """
    url = model.values.get("base_url", chat.url).rstrip("/")
    if model.values.get("api_key") or model.withheld or url != chat.url:
        chat = without_key(chat)
    return replace(chat, **{**_FACTS, "model": name, **model.values})


def without_key(chat: "ChatSection") -> "ChatSection":
    """The same settings for a base URL that their key was not given for."""
    return replace(chat, api_key="", api_key_file="")
