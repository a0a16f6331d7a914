"""Fixtures that several test files share."""

import signal
from pathlib import Path

import pytest
from command import Rag, write_documents

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that puts the tests in the background has them ignore Ctrl-C, and with them the
    # commands that tests send it to.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def rag(tmp_path: Path) -> Rag:
    """The command in an empty folder."""
    work = tmp_path / "work"
    work.mkdir()
    return Rag(work, tmp_path / "home")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Rag:
    """The command in a folder whose documents are ingested; tests only read it."""
    folder = tmp_path_factory.mktemp("library")
    write_documents(folder / "docs")
    command = Rag(folder, folder / "home")
    result = command("ingest", "docs", "--json")
    assert result.code == 0, result.err
    return command
