"""Chat models by a name of one's own: the tables [models.NAME] of rag.toml.

A table is taken whole from one file. A file of the project may be a stranger's: it can bring a key
of its own, but no variable of the environment is read because it says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from ingest.errors import UsageError
from rag.settings.sources import Origin, convert

if TYPE_CHECKING:
    from rag.settings.config import ChatSection

AUTO = "auto"
EXTRACTIVE = "extractive"


@dataclass(frozen=True, slots=True)
class NamedModel:
    """One table: fields as in the section [chat], empty or 0 where it says nothing.

    `api_key_env` names the variable that holds the key; it was `withheld` where a file of the
    project says so. `origin` is where the table stands.
    """

    base_url: str = ""
    api_key: str = field(default="", repr=False)
    api_key_env: str = ""
    model: str = ""
    window: int = 0
    price_in: float = 0.0
    price_out: float = 0.0
    rpm: int = 0
    tpm: int = 0
    concurrency: int = 0
    origin: Origin = "default"
    withheld: bool = False


_NOT_SET = ("origin", "withheld")
_KINDS = {f.name: type(f.default) for f in fields(NamedModel) if f.name not in _NOT_SET}


def read_model(
    name: str, table: object, origin: Origin, environment: Mapping[str, str] | None
) -> NamedModel:
    """The model of a table, its key read from the environment; None forbids that.

    Raises UsageError for a field that is none, or of another kind.
    """
    values: dict[str, Any] = {}
    for key, value in (table if isinstance(table, dict) else {"": table}).items():
        kind = _KINDS.get(key)
        if kind is None:
            hint = f"a model has: {', '.join(_KINDS)}"
            raise UsageError(f"unknown setting {name}.{key} ({origin})", hint)
        values[key] = convert(f"{name}.{key}", value, kind, origin)
    model = NamedModel(origin=origin, **values)
    if (model.api_key or model.api_key_env) and not model.base_url:
        hint = "add the base_url that the key may be sent to"
        raise UsageError(f"{name} has a key but no base_url ({origin})", hint)
    if model.api_key or not model.api_key_env:
        return model
    if environment is None:
        return replace(model, withheld=True)
    return replace(model, api_key=environment.get(model.api_key_env, ""))


def put_in(chat: "ChatSection", name: str, model: NamedModel, url: str) -> "ChatSection":
    """The chat settings with a named model in the place of theirs, which is at `url`.

    The key of `chat` is kept for the base URL that it was given for alone.
    """
    if model.api_key or model.withheld or model.base_url.rstrip("/") not in ("", url.rstrip("/")):
        chat = without_key(chat)
    return replace(
        chat,
        base_url=model.base_url or chat.base_url,
        api_key=model.api_key or chat.api_key,
        model=model.model or name,
        window=model.window,
        price_in=model.price_in,
        price_out=model.price_out,
        rpm=model.rpm,
        tpm=model.tpm,
        concurrency=model.concurrency or chat.concurrency,
    )


def without_key(chat: "ChatSection") -> "ChatSection":
    """The same settings for a base URL that their key was not given for."""
    return replace(chat, api_key="", api_key_file="")
