"""The README speaks of commands, options, settings and files that exist."""

import re
import tomllib
from pathlib import Path

import pytest
from command import Rag

import ingest
from rag.settings.config import load_settings, setting_types

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = (
    "ingest", "ask", "search", "status", "list", "show", "remove", "rebuild", "doctor",
    "config show", "config set-key", "eval run", "eval calibrate", "chat", "batch", "stats",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented(command: str) -> None:
    """Each command stands in the README."""
    assert f"`rag {command}" in README


def test_documented_options_exist(library: Rag) -> None:
    """Each option in the table of commands is in that command's help."""
    rows = [line for line in README.splitlines() if line.startswith("| `rag ")]
    assert len(rows) >= 5

    for row in rows:
        names = re.findall(r"`rag ([a-z]+(?: (?:run|show|set-key|calibrate))?)\b", row)
        helps = "".join(library(*name.split(), "--help").out for name in names)
        for option in re.findall(r"`(--?[a-z][a-z-]*)", row):
            assert option.removeprefix("--no-").removeprefix("--") in helps, (row, option)


def test_documented_settings_exist(tmp_path: Path) -> None:
    """The sample rag.toml is valid, and every variable named is one of ours."""
    sample = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)[0]
    (tmp_path / "rag.toml").write_text(sample, encoding="utf-8")

    settings = load_settings(folder=tmp_path, environment={})

    assert settings.chat.base_url
    variables = {"RAG_" + name.replace(".", "_").upper() for name in setting_types()}
    assert set(re.findall(r"\bRAG_[A-Z_]+", README)) <= variables | {"RAG_MODEL"}


def test_documented_files_exist() -> None:
    """Every path in the table of where to change what is there."""
    paths = re.findall(r"`((?:ingest|rag|eval|corpora)/[\w./*-]*)`", README)
    assert len(paths) >= 10

    for path in paths:
        # The packages are looked for where they are installed: tests also run against the wheel.
        root = ROOT if path.startswith("corpora") else Path(ingest.__file__).parent.parent
        assert list(root.glob(path.rstrip("/"))), path


def test_readme_is_short() -> None:
    """A newcomer reads it to the end."""
    assert len(README.splitlines()) <= 170


def test_the_version_is_in_the_changelog() -> None:
    """What is released is described."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
