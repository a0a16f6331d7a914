"""What all commands share: the options that each has, and the doors to settings, store and app."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from rag.commands.console import Output

if TYPE_CHECKING:
    from ingest.store import Store
    from rag.app import App
    from rag.settings.config import Settings

K = Annotated[int | None, typer.Option("-k", min=1, help="How many passages at most.")]
Budget = Annotated[int | None, typer.Option(min=1, help="Tokens of prompt and answer.")]
Model = Annotated[str | None, typer.Option(help="The chat model.")]
Extractive = Annotated[bool, typer.Option("--extractive", help="Use no chat API.")]
Strict = Annotated[bool, typer.Option("--strict", help="Drop unsupported sentences.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Use and keep no chat reply.")]
Filters = Annotated[
    list[str] | None,
    typer.Option("--filter", metavar="KEY=VALUE", help="Only documents with this; repeatable."),
]
QuestionText = Annotated[str, typer.Argument(help="The question; `-` reads standard input.")]
QuestionSet = Annotated[Path, typer.Argument(metavar="SET", help="A folder or a file.")]

_COMMON: Mapping[str, tuple[Any, Any]] = {
    "store": (
        Annotated[
            str | None,
            typer.Option("--store", metavar="DIR", help="The store; default: nearest .rag/."),
        ],
        None,
    ),
    "config": (
        Annotated[
            Path | None,
            typer.Option("--config", metavar="FILE", help="Read this instead of rag.toml."),
        ],
        None,
    ),
    "verbose": (
        Annotated[bool, typer.Option("--verbose", "-v", help="Details and tracebacks.")],
        False,
    ),
    "quiet": (
        Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")],
        False,
    ),
    "as_json": (Annotated[bool, typer.Option("--json", help="Print one JSON object.")], False),
}


@dataclass(frozen=True, slots=True)
class Common:
    """The options that every command has; `output` speaks as two of them ask, `command` is who
    asks.
    """

    store: str | None
    config: Path | None
    verbose: bool
    output: Output
    command: str

    def settings(self, flags: Mapping[str, Any] | None = None) -> "Settings":
        """The effective settings; `flags` maps names of settings to what the command was given."""
        from rag.settings.config import load_settings

        return load_settings({**(flags or {}), "store": self.store}, config=self.config)

    @contextmanager
    def open_store(self) -> Iterator["Store"]:
        """The store, for a look into it."""
        from ingest.store import Store
        from rag.settings.config import find_store

        with Store.open(find_store(self.settings())) as opened:
            yield opened

    @contextmanager
    def open_app(self, settings: "Settings") -> Iterator["App"]:
        """The system, for questions."""
        from rag.app import open_app
        from rag.settings.config import find_store

        with open_app(settings, find_store(settings), self.command) as opened:
            if opened.store.status().documents == 0:
                self.output.note("the store is empty: run `rag ingest PATH`")
            yield opened


def asking_flags(
    k: int | None, budget: int | None, model: str | None, *, no_cache: bool
) -> Mapping[str, Any]:
    """The settings behind the options of every command that asks."""
    return {
        "retrieval.k": k,
        "prompt.budget": budget,
        "chat.model": model,
        "cache.answers": False if no_cache else None,
    }


def with_common(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the common options: it takes them as one `Common`, its first parameter.

    typer reads options from a signature, so the wrapper is given the one it stands for.
    """
    hints = get_type_hints(function, include_extras=True)
    own = list(inspect.signature(function).parameters.values())[1:]

    @wraps(function)
    def command(**given: Any) -> None:
        store, config, verbose, quiet, as_json = (given.pop(name) for name in _COMMON)
        common = Common(store, config, verbose, Output(as_json, quiet), function.__name__)
        function(common, **given)

    parameters = [p.replace(annotation=hints[p.name], kind=p.KEYWORD_ONLY) for p in own]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in _COMMON.items()
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command
