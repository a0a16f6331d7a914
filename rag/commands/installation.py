"""What is installed and how it is set: `rag doctor` and `rag config`."""

from dataclasses import asdict

import typer

from rag.commands.options import Common
from rag.settings.config import setting_types, setting_value


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
