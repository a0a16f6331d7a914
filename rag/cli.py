"""The `rag` command: parse, call, print. Results go to standard output, all else to standard error.

Nothing heavy is imported before a command needs it: `rag --help` and `rag ask` must start fast.
"""

import gc
import os

# Before numpy is first imported: one question is too small for several BLAS threads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import signal
import sys
from collections.abc import Callable
from io import TextIOWrapper
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from ingest.errors import RagError, UsageError
from rag.commands.ask import ask, search
from rag.commands.batch import batch
from rag.commands.chat import chat
from rag.commands.console import report
from rag.commands.evaluate import eval_calibrate, eval_run
from rag.commands.ingest import ingest
from rag.commands.installation import config_set_key, config_show, config_unset_key, doctor
from rag.commands.options import with_common
from rag.commands.stats import stats
from rag.commands.store import list_sources, rebuild, remove, show, status

INTERRUPTED = 130

# A group's commands by name, in the order that `--help` lists them.
Commands = dict[str, Callable[..., None]]
_COMMANDS: Commands = {
    "ingest": ingest,
    "ask": ask,
    "chat": chat,
    "search": search,
    "batch": batch,
    "status": status,
    "list": list_sources,
    "show": show,
    "remove": remove,
    "rebuild": rebuild,
    "stats": stats,
    "doctor": doctor,
}
_GROUPS: dict[str, tuple[str, Commands]] = {
    "config": (
        "Effective settings, and keys.",
        {"show": config_show, "set-key": config_set_key, "unset-key": config_unset_key},
    ),
    "eval": ("Score retrieval and grounding.", {"run": eval_run, "calibrate": eval_calibrate}),
}


def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as distribution_version

        print(distribution_version("ragcite"))
        raise typer.Exit


def _group(text: str, commands: Commands) -> typer.Typer:
    group = typer.Typer(
        help=text,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    for name, function in commands.items():
        group.command(name)(with_common(function))
    return group


app = _group("Ask questions of your own documents and get answers you can check.", _COMMANDS)
app.callback(invoke_without_command=True)(_root)
for _name, (_help, _commands) in _GROUPS.items():
    app.add_typer(_group(_help, _commands), name=_name)


def main() -> None:
    """The console script: runs a command and turns every error into its exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    if isinstance(sys.stdout, TextIOWrapper):
        # JSON is UTF-8 whatever the terminal is; what that cannot show breaks no command.
        encoding = "utf-8" if "--json" in sys.argv else None
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except RagError as error:
        code = report(error)
    except KeyboardInterrupt:  # one that typer sees comes back as a code
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has what it wanted. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:  # noqa: BLE001  # the outermost border: no traceback without -v
        code = _unexpected(error)
    if code == INTERRUPTED:
        # A terminal stands in the middle of a line: after part of an answer, or after its ^C.
        print("\ninterrupted" if sys.stderr.isatty() else "interrupted", file=sys.stderr)
    gc.freeze()  # or Python looks at exit through all that torch left: half a second
    sys.exit(code or 0)


def _interrupt(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt(signum)  # to be told from Ctrl-C, which may end less than the process


def _unexpected(error: Exception) -> int:
    if isinstance(error, typer.Abort):
        return INTERRUPTED
    if isinstance(error, TyperException):
        return _usage(error)
    summary = " ".join(f"{type(error).__name__}: {error}".split())
    unexpected = RagError(f"unexpected error: {summary}", "run again with -v for the traceback")
    unexpected.__cause__ = error
    return report(unexpected)


def _usage(error: TyperException) -> int:
    """A mistake on the command line, in the same two shapes as every other error."""
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if message.startswith("Usage:"):  # a group was called without a command: this is its help
        print(message, file=sys.stderr)
        return UsageError.exit_code
    hint = f"see `{context.command_path} --help`" if context else "see `rag --help`"
    return report(UsageError(message, hint))
