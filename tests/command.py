"""The command line as tests run it: a real process, a clean environment, a small collection."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCUMENTS = {
    "handbook/leave.md": (
        "---\ntitle: Leave policy\ndate: 2025-03-01\n---\n"
        "# Annual leave\n\nEvery employee has 28 days of paid leave a year. "
        "Unused days expire on 31 March of the following year.\n\n"
        "## Parental leave\n\nParents receive 16 weeks of paid parental leave for each child.\n"
    ),
    "handbook/travel.md": (
        "# Travel\n\nTrips of more than 300 km may be booked in first class. "
        "Meals are refunded up to 45 euros a day.\n"
    ),
    "manual.html": (
        "<html><head><title>Pump P-200</title><script>var x = 'secret script';</script></head>"
        "<body><nav>Home Products Contact</nav><main><h1>Pump P-200</h1>"
        "<p>The pump P-200 moves 40 litres of water a minute. Error E-1042 means that the inlet "
        "valve is blocked.</p></main></body></html>"
    ),
    "notes.txt": (
        "Meeting of the safety board.\n\nThe fire drill takes place on 12 May. "
        "Anna Berg leads the evacuation of the second floor.\n"
    ),
    "büro.md": "# Büro\n\nDas Büro in Bremen öffnet um 8 Uhr und schließt um 18 Uhr.\n",
}


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def clean_environment(home: Path) -> dict[str, str]:
    """The environment without any setting of ours, its home and caches in a folder of the test."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAG_", "OPENAI_", "XDG_"))
    }
    return kept | {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_CACHE_HOME": str(home)}


@dataclass(frozen=True)
class Rag:
    """The command line as a person runs it: a process of its own in a folder."""

    folder: Path
    home: Path

    def __call__(
        self,
        *arguments: str | Path,
        stdin: str | None = None,
        environment: dict[str, str] | None = None,
    ) -> Result:
        done = subprocess.run(
            [*self.command, *map(str, arguments)],
            cwd=self.folder,
            env=clean_environment(self.home) | (environment or {}),
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def at_terminal(self, *arguments: str | Path, **environment: str) -> Result:
        """The command with a terminal for all it writes; `out` is what the terminal receives."""
        controller, terminal = pty.openpty()
        with subprocess.Popen(
            [*self.command, *map(str, arguments)],
            cwd=self.folder,
            env=clean_environment(self.home) | {"TERM": "xterm"} | environment,
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=terminal,
        ) as process:
            os.close(terminal)
            received = b"".join(iter(lambda: read_terminal(controller), b""))
            os.close(controller)
            code = process.wait(30)
        return Result(code, received.decode().replace("\r\n", "\n"), "")

    @property
    def command(self) -> Sequence[str]:
        return (sys.executable, "-P", "-c", "from rag.cli import main; main()")


def read_terminal(controller: int) -> bytes:
    """The next of what a terminal receives; nothing once its last writer has gone."""
    try:
        return os.read(controller, 4096)
    except OSError:  # how Linux ends a terminal that nobody writes to
        return b""


def write_documents(folder: Path, documents: dict[str, str] | None = None) -> Path:
    """Write files below a folder and return it."""
    for name, content in (documents or DOCUMENTS).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder
