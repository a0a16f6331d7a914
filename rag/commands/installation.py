"""What is installed and how it is set: `rag doctor` and `rag config`."""

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from ingest.errors import UsageError
from rag.commands.options import Common
from rag.settings.config import setting_types, setting_value
from rag.settings.keys import drop_key, keep_key
from rag.settings.sources import user_folder

BaseUrl = Annotated[
    str | None, typer.Option("--base-url", metavar="URL", help="The API that the key is for.")
]


def doctor(common: Common) -> None:
    """Check the whole installation: model, store, index and chat API."""
    from rag.doctor import checks

    results = checks(common.settings())
    lines = []
    for check in results:
        lines.append(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.detail}")
        if check.hint and not check.ok:
            lines.append(f"     {check.hint}")
    common.output.result({"checks": [asdict(check) for check in results]}, "\n".join(lines))
    if not all(check.ok for check in results):
        raise typer.Exit(1)


def config_show(common: Common) -> None:
    """All settings, their values, and where each comes from; a key is never shown."""
    settings = common.settings()
    rows = [
        (name, setting_value(settings, name), settings.origins.get(name, "default"))
        for name in setting_types()
    ]
    width = max(len(name) for name, _, _ in rows)
    common.output.result(
        {name: {"value": value, "origin": origin} for name, value, origin in rows},
        "\n".join(f"{name:<{width}}  {value!s:<24}  {origin}" for name, value, origin in rows),
    )


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
