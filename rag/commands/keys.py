"""`rag config set-key` and `rag config unset-key`."""

import sys
from typing import Annotated

import typer

from ingest.errors import UsageError
from rag.commands.options import Common
from rag.settings.keys import drop_key, keep_key
from rag.settings.sources import user_folder

BaseUrl = Annotated[
    str | None, typer.Option("--base-url", metavar="URL", help="The API that the key is for.")
]


def config_set_key(common: Common, base_url: BaseUrl = None) -> None:
    """Put an API key away, in the system's keyring or a private file; it is read from a prompt or
    from standard input, never from the command line.
    """

    address = _address(common, base_url)
    place = keep_key(user_folder(), address, _read_key(address))
    common.output.result(
        {"base_url": address, "kept_in": place}, f"the key of {address} is kept in {place}"
    )


def config_unset_key(common: Common, base_url: BaseUrl = None) -> None:
    """Forget the API key of a base URL."""
    address = _address(common, base_url)
    drop_key(user_folder(), address)
    common.output.result({"base_url": address}, f"the key of {address} is forgotten")


def _address(common: Common, base_url: str | None) -> str:
    """The base URL a key is for; one that only a project's file names has to be said by hand."""
    settings = common.settings()
    if base_url is None and settings.from_project("chat.base_url"):
        raise UsageError(
            f"a file of this project names the base URL {settings.chat.base_url}",
            f"if the key is for it, say so: `--base-url {settings.chat.base_url}`",
        )
    return base_url or settings.chat.url


def _read_key(address: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip()
    from getpass import getpass

    return getpass(f"key for {address}: ").strip()
