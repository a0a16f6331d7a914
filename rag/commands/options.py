"""What all commands share: the options that each has, and the doors to settings, store and app."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import wraps
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_origin, get_type_hints

import typer

from rag.commands.console import Output
from rag.settings.config import Settings, find_store, load_settings

if TYPE_CHECKING:
    from ingest.store import Store
    from rag.app import App
    from rag.context import Question

K = Annotated[int | None, typer.Option("-k", min=1, help="How many passages at most.")]
Extractive = Annotated[bool, typer.Option("--extractive", help="Use no chat API.")]
Filters = Annotated[
    list[str] | None,
    typer.Option("--filter", metavar="KEY=VALUE", help="Only documents with this; repeatable."),
]
QuestionText = Annotated[str, typer.Argument(help="The question; `-` reads standard input.")]
QuestionSet = Annotated[Path, typer.Argument(metavar="SET", help="A folder or a file.")]


@dataclass(frozen=True, slots=True)
class Asking:
    """The options of every command that asks."""

    k: K = None
    budget: Annotated[int | None, typer.Option(min=1, help="Tokens of prompt and answer.")] = None
    filters: Filters = None
    model: Annotated[str | None, typer.Option(help="The chat model.")] = None
    extractive: Extractive = False
    strict: Annotated[bool, typer.Option("--strict", help="Drop unsupported sentences.")] = False
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Try also what the documents hardly seem to hold.")
    ] = False
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Use and keep no chat reply.")] = (
        False
    )

    @property
    def flags(self) -> Mapping[str, Any]:
        """The settings behind these options."""
        return {
            "retrieval.k": self.k,
            "prompt.budget": self.budget,
            "chat.model": self.model,
            "cache.answers": False if self.no_cache else None,
            "ground.refusal": 0.0 if self.anyway else None,
        }

    def question(self, text: str, settings: Settings) -> "Question":
        """The question as these options and the settings have it asked."""
        from ingest.filters import parse_filters
        from rag.context import Question

        return Question(
            text,
            filters=parse_filters(self.filters or ()),
            extractive=self.extractive or not settings.chat_configured,
            strict=self.strict,
        )


@dataclass(frozen=True, slots=True)
class Common:
    """The options that every command has; `command` is who asks."""

    store: Annotated[
        str | None,
        typer.Option("--store", metavar="DIR", help="The store; default: nearest .rag/."),
    ] = None
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Read this instead of rag.toml.")
    ] = None
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Details and tracebacks.")] = (
        False
    )
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False
    command: str = ""

    @property
    def output(self) -> Output:
        """How the command speaks."""
        return Output(self.as_json, self.quiet)

    def settings(self, flags: Mapping[str, Any] | None = None) -> Settings:
        """The effective settings; `flags` maps names of settings to what the command was given."""

        return load_settings({**(flags or {}), "store": self.store}, config=self.config)

    @contextmanager
    def open_store(self) -> Iterator["Store"]:
        """The store, for a look into it."""
        from ingest.store import Store

        with Store.open(find_store(self.settings())) as opened:
            yield opened

    @contextmanager
    def open_app(self, settings: Settings) -> Iterator["App"]:
        """The system, for questions."""
        from rag.app import open_app

        with open_app(settings, find_store(settings), self.command) as opened:
            if opened.store.status().documents == 0:
                self.output.note("the store is empty: run `rag ingest PATH`")
            yield opened


def with_common(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command its options: a parameter that is a dataclass stands for the options in it.

    typer reads options from a signature, so the wrapper is given the one it stands for; what all
    commands have in `common`, the first parameter, is listed last.
    """
    hints = get_type_hints(function, include_extras=True)
    groups = {name: _options(kind) for name, kind in hints.items() if is_dataclass(kind)}

    @wraps(function)
    def command(**given: Any) -> None:
        for name, options in groups.items():
            given[name] = hints[name](**{each.name: given.pop(each.name) for each in options})
        given["common"] = replace(given["common"], command=function.__name__)
        function(**given)

    parameters: list[Parameter] = []
    common, *own = inspect.signature(function).parameters.values()
    for each in (*own, common):
        plain = each.replace(annotation=hints[each.name], kind=Parameter.KEYWORD_ONLY)
        parameters += groups.get(each.name, [plain])
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    return command


def _options(kind: Any) -> list[Parameter]:
    return [
        Parameter(each.name, Parameter.KEYWORD_ONLY, default=each.default, annotation=each.type)
        for each in fields(kind)
        if get_origin(each.type) is Annotated
    ]
