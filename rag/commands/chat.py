"""`rag chat`: questions in turn, each understood in the light of those before it."""

import math
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ingest.errors import RagError, UsageError
from rag.commands.ask import note_answerer
from rag.commands.console import Output, Reported, report, show_answer
from rag.commands.options import Asking, Common
from rag.render import explain_text, place, printable
from rag.settings.config import find_store

if TYPE_CHECKING:
    from rag.app import App
    from rag.context import Question
    from rag.conversation.session import Session
    from rag.types import Event

_ONE_PRESS_S = 1.0
_HELP = """\
/sources     the words that the last answer rests on, in full
/explain     how the last answer was found
/new         begin a new conversation
/save NAME   keep this conversation; `rag chat --session NAME` continues it
/quit        end (or Ctrl-D); Ctrl-C cancels an answer under way"""


def chat(
    common: Common,
    asking: Asking,
    session: Annotated[
        str, typer.Option(metavar="NAME", help="Keep the turns; continue those of this name.")
    ] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Continue the latest session.")] = False,
    list_sessions: Annotated[bool, typer.Option("--list", help="List the sessions kept.")] = False,
) -> None:
    """Ask several questions in turn; a follow-up is understood in context."""
    from rag.conversation.session import Session, saved_sessions

    settings = common.settings(asking.flags)
    folder = find_store(settings)
    if list_sessions:
        _show_sessions(common, folder)
        return
    if resume and not session:
        kept = saved_sessions(folder)
        if not kept:
            raise UsageError("no session is kept here", "begin one: `rag chat --session NAME`")
        session = kept[0].name
    template = asking.question("", settings)
    with common.open_app(settings) as opened:
        note_answerer(settings, common.output, extractive=asking.extractive)
        _Chat(common.output, opened, Session(folder, session), template).run()


@dataclass(slots=True)
class _Chat:
    """A conversation at a terminal or from a pipe."""

    output: Output
    app: "App"
    session: "Session"
    template: "Question"
    trace: Mapping[str, Any] = field(default_factory=dict)
    failure: RagError | None = None
    pressed: float = -math.inf
    at_terminal: bool = field(default_factory=lambda: sys.stdin.isatty() and sys.stdout.isatty())

    def run(self) -> None:
        """Answer line by line to the end of the input. From a pipe, the last failure is raised."""
        if self.at_terminal:
            import readline  # noqa: F401  # importing it gives `input` its line editing

            signal.signal(signal.SIGINT, self._interrupt)
            self.output.note("Ask a question; /help lists the commands, Ctrl-D ends.")
        if self.session.rows:
            self.output.note(f"continuing after {len(self.session.rows)} turns")
        for line in self._lines():
            if line.partition(" ")[0] in ("/quit", "/exit"):
                break
            try:
                self._take(line)
            except KeyboardInterrupt as stop:
                if not self.at_terminal or stop.args:
                    raise
                self.output.note("\ncancelled")
            except RagError as error:
                self.failure = Reported(error)
                report(error)
        if self.failure and not self.at_terminal:
            raise self.failure

    def _interrupt(self, signum: int, frame: object) -> None:
        """Take Ctrl-C pressed again at once as one: the second would end more than an answer."""
        before, self.pressed = self.pressed, time.monotonic()
        if self.pressed - before > _ONE_PRESS_S:
            raise KeyboardInterrupt

    def _lines(self) -> Iterator[str]:
        """What is typed or piped, line by line, without empty lines."""
        while True:
            try:
                line = input("> ") if self.at_terminal else sys.stdin.readline()
            except KeyboardInterrupt as stop:
                if stop.args:
                    raise
                print()
                continue
            except EOFError:
                print()
                return
            if not line and not self.at_terminal:
                return
            if line.strip():
                yield line.strip()

    def _take(self, line: str) -> None:
        name, _, argument = line.partition(" ")
        if not line.startswith("/"):
            self._ask(line)
        elif name == "/new":
            self.session.begin_anew()
            self.output.note("a new conversation begins")
        elif name == "/save":
            self.session.keep(argument.strip())
            self.output.note(f"kept as {argument.strip()}")
        elif name == "/sources":
            self._show_sources()
        elif name == "/explain":
            self._say(explain_text(self.trace) if self.trace else "no answer yet")
        elif name == "/help":
            self._say(_HELP)
        else:
            raise UsageError(f"no such command: {name}", "/help lists the commands")

    def _ask(self, text: str) -> None:
        question = replace(self.template, text=text, history=self.session.history)
        events = self._watched(self.app.ask_stream(question))
        answer, error = show_answer(events, self.output, explain=False)
        if error:
            self.failure = Reported(error)
        if answer.status in ("answered", "abstained"):
            self.session.add(answer)

    def _watched(self, events: Iterator["Event"]) -> Iterator["Event"]:
        """The same events; what was understood is said, and how it was found kept."""
        from rag.types import Retrieved

        for event in events:
            if isinstance(event, Retrieved):
                self.trace = event.trace
                if "standalone" in event.trace:
                    self.output.note(f"understood as: {printable(event.trace['standalone'])}")
            yield event

    def _show_sources(self) -> None:
        lines = []
        for citation in self.session.citations:
            span = f"--span {citation.start}:{citation.end}"
            lines += [
                f"[{citation.number}] {place(citation)}",
                f"    rag show {printable(citation.source)!r} {span}",
                *(f"    {printable(line)}" for line in citation.quote.splitlines()),
            ]
        self._say("\n".join(lines) or "no answer with citations yet")

    def _say(self, text: str) -> None:
        """What a command of the conversation was asked for; lines of JSON stay alone."""
        print(text, file=sys.stderr if self.output.as_json else sys.stdout)


def _show_sessions(common: Common, folder: Path) -> None:
    from rag.conversation.session import saved_sessions

    kept = saved_sessions(folder)
    lines = [
        f"{datetime.fromtimestamp(each.modified):%Y-%m-%d %H:%M}  {each.name}  "
        f"{each.turns} turns  {printable(each.last_question)[:60]}"
        for each in kept
    ]
    data = {"sessions": [asdict(each) for each in kept]}
    common.output.result(data, "\n".join(lines) or "No session is kept here.")
