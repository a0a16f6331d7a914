"""Where settings are read from: rag.toml files, `.env` and the environment."""

import os
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from ingest.errors import UsageError

KeyPlace = Literal["key file", "keyring", "keys.json"]
Origin = Literal["flag", "environment", ".env", "rag.toml", "user rag.toml", "default"] | KeyPlace

CONFIG_FILE = "rag.toml"
MODELS = "models."
"""What the names of tables [models.NAME] begin with."""

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")
_ALIASES = {
    "OPENAI_API_KEY": "chat.api_key",
    "OPENAI_API_BASE": "chat.base_url",
    "OPENAI_BASE_URL": "chat.base_url",  # the newer name wins over the older one
    "RAG_MODEL": "chat.model",
}


def from_project(origin: Origin) -> bool:
    """Whether it is a file of a project folder, which may come from a stranger: what it says must
    not redirect a person's own key, nor have a model loaded.
    """
    return origin in (".env", "rag.toml")


def http_address(url: str, named: str, example: str) -> SplitResult:
    """The parts of a base URL. Raises UsageError for what is no address of HTTP."""
    with suppress(ValueError):
        parts = urlsplit(url.strip())
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    raise UsageError(f"{named} is not an http or https address", f"for example {example}")


def unasked_model(name: str, model: str) -> UsageError:
    """The refusal of a model that the person did not choose: it is files that are loaded, or
    fetched from the hub."""
    variable = f"RAG_{name.upper().replace('.', '_')}"
    return UsageError(
        f"the model {model!r} is not loaded without your word",
        f"if you trust it, set {variable}={model}, or `{name}` in your own rag.toml "
        "(`~/.config/ragcite`)",
    )


def user_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where a person's own settings and keys are, by XDG."""
    return Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "ragcite"


def read_sources(
    folder: Path, config: Path | None, environment: Mapping[str, str], known: Collection[str]
) -> Iterator[tuple[Origin, Mapping[str, Any]]]:
    """Each source's settings by name, the weakest first; `known` are the names that there are.

    A table of a named model stands under "models.NAME". Raises UsageError.
    """
    user_file = user_folder(environment) / CONFIG_FILE
    if user_file.is_file():
        yield "user rag.toml", _read_toml(user_file, known)
    if config is not None and not config.is_file():
        raise UsageError(f"no such configuration file: {config}", "check --config")
    if (project_file := config or _nearest(folder, CONFIG_FILE)) is not None:
        yield "rag.toml", _read_toml(project_file, known)
    if (dotenv := _nearest(folder, ".env")) is not None:
        from dotenv import dotenv_values

        yield ".env", _from_environment(dotenv_values(dotenv), known)
    yield "environment", _from_environment(environment, known)


def _nearest(folder: Path, name: str) -> Path | None:
    return next((p / name for p in (folder, *folder.parents) if (p / name).is_file()), None)


def _read_toml(path: Path, known: Collection[str]) -> dict[str, Any]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}", "mend the file, or remove it") from error
    values: dict[str, Any] = {}
    for section, content in data.items():
        entries = content if isinstance(content, dict) else {"": content}
        for key, value in entries.items():
            name = f"{section}.{key}" if key else section
            if name not in known and not name.startswith(MODELS):
                raise UsageError(
                    f"unknown setting {name!r} in {path}", "`rag config show` lists the settings"
                )
            values[name] = value
    return values


def _from_environment(
    environment: Mapping[str, str | None], known: Collection[str]
) -> dict[str, str]:
    own = {"RAG_" + name.replace(".", "_").upper(): name for name in known}
    names = (_ALIASES | own).items()
    return {name: value for variable, name in names if (value := environment.get(variable))}


def convert(name: str, value: Any, kind: Any, origin: Origin) -> Any:
    """A setting's value as its kind. Raises UsageError that names its source."""
    try:
        converted = _READ.get(kind, kind)(value)
    except (TypeError, ValueError):
        wanted = _WANTED.get(kind, "a list of words")
        message = f"{name} = {value!r} ({origin}) is not {wanted}"
        raise UsageError(message, f"set {name} to {wanted}") from None
    if isinstance(converted, int | float) and converted < 0:
        raise UsageError(f"{name} = {value!r} ({origin}) is negative", f"set {name} to 0 or more")
    return converted


def _to_bool(value: Any) -> bool:
    text = str(value).strip().lower()
    if text not in _TRUE + _FALSE:
        raise ValueError(text)
    return text in _TRUE


def _to_names(value: Any) -> tuple[str, ...]:
    """A list of TOML, or names with commas between them."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError(value)
    return tuple(name.strip() for name in names if name.strip())


_WANTED: Mapping[Any, str] = {bool: "true or false", int: "a whole number", float: "a number"}
_READ: Mapping[Any, Callable[[Any], Any]] = {bool: _to_bool, tuple[str, ...]: _to_names}
