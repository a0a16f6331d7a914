"""Every fault of a chat API through the command line: an exit code, a reason and a remedy, in time.

The commands run beside each other at the start, all against one server, which misbehaves as the
name of the model asks for.
"""

import gzip
import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from command import Rag, Result, clean_environment
from wire import CHUNKED, HEAD, Request, Step, Wire, chunk, events, piece, response, streamed

QUESTION = "How many days of paid leave does an employee have?"
GOOD = "Every employee has 28 days of paid leave a year."
FORKED = Path(__file__).with_name("forked.py")
GRACE_S = 5.0
END = b"0\r\n\r\n"
BEGUN = events(piece(f"{GOOD}\n\nUnused days"), done=False)
CUT = chunk(BEGUN)
SLOWLY = [step for _ in range(400) for step in (chunk(b": ping\n\n"), 0.05)]


@dataclass(frozen=True)
class Fault:
    """What the server does, and what has to come of it."""

    script: list[Step]
    code: int
    status: str
    said: str
    deadline_s: float = 60.0


def refused(status: int, message: str = "no", **fields: object) -> list[Step]:
    return [response({"error": {"message": message, **fields}}, status)]


FAULTS: Mapping[str, Fault] = {
    "none": Fault([streamed(piece(GOOD), piece("", "stop"))], 0, "answered", ""),
    "400": Fault(refused(400), 5, "failed", "answered 400: no"),
    "401": Fault(refused(401), 4, "failed", "answered 401: no"),
    "quota": Fault(refused(429, code="insufficient_quota"), 6, "failed", "answered 429: no"),
    "429-long": Fault([response(b"", 429, retry_after=900)], 6, "failed", "try again in 900 s"),
    "500": Fault([response(b"<title>Oops</title>", 500)], 5, "failed", "answered 500: Oops"),
    "redirect": Fault([response(b"", 302, location="http://elsewhere/")], 5, "failed", "302"),
    "overflow": Fault(refused(400, code="context_length_exceeded"), 5, "failed", "prompt.budget"),
    "filter": Fault(refused(400, code="content_filter"), 5, "failed", "content filter"),
    "web-page": Fault([response(b"<!doctype html>")], 5, "failed", "a web page"),
    "close": Fault(["close"], 5, "failed", "ended before it was complete"),
    "silent": Fault(["watch"], 5, "failed", "deadline", 8.0),
    "pings": Fault([CHUNKED, *SLOWLY], 5, "failed", "deadline", 8.0),
    "cut": Fault([CHUNKED, CUT, "close"], 5, "incomplete", "ended before it was complete"),
    "stall": Fault([CHUNKED, CUT, "watch"], 5, "incomplete", "deadline", 8.0),
    "no-end": Fault([CHUNKED, CUT, END], 5, "incomplete", "ended its reply too early"),
    "error-inside": Fault(
        [CHUNKED, CUT, chunk(events({"error": {"message": "oh", "code": 500}})), END],
        5,
        "incomplete",
        "broke off with an error: oh",
    ),
    "empty": Fault([streamed(piece("", "stop"))], 5, "failed", "no answer"),
    "bomb": Fault(
        [response(gzip.compress(b" " * (40 << 20)), content_encoding="gzip")],
        5,
        "failed",
        "over-long",
    ),
    "no-http": Fault([b"SSH-2.0-OpenSSH_9.2\r\n", "close"], 5, "failed", "ended before"),
    "short": Fault(
        [HEAD + b"Content-Length: 9999\r\n\r\n" + BEGUN, "close"],
        5,
        "incomplete",
        "ended before it was complete",
    ),
}


@dataclass(frozen=True)
class Run:
    """A command that has ended."""

    result: Result
    seconds: float


@pytest.fixture(scope="module")
def runs(library: Rag) -> Mapping[str, Run]:
    """What `rag ask` makes of each fault."""

    def script(request: Request) -> list[Step]:
        return FAULTS[request.body["model"]].script if request.body else [response(b"", 404)]

    wire = Wire(answer=script)
    jobs = {
        name: (
            ["ask", QUESTION, "--json"],
            {
                "OPENAI_BASE_URL": wire.url,
                "RAG_MODEL": name,
                "RAG_CHAT_DEADLINE": str(fault.deadline_s),
                "OMP_NUM_THREADS": "1",
            },
        )
        for name, fault in FAULTS.items()
    }
    folder = library.folder
    with closing(wire.listener):
        done = subprocess.run(
            [sys.executable, "-P", str(FORKED)],
            cwd=folder,
            env=clean_environment(library.home),
            input=json.dumps(jobs),
            capture_output=True,
            text=True,
            timeout=200,
            check=True,
        )
    return {
        name: Run(
            Result(code, *((folder / f"{name}.{end}").read_text() for end in ("out", "err"))),
            seconds,
        )
        for name, (code, seconds) in json.loads(done.stdout).items()
    }


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_and_never_hangs(runs: Mapping[str, Run], name: str) -> None:
    """The right exit code and status, a reason and a hint, the passages, and no traceback."""
    run, fault = runs[name], FAULTS[name]
    answer = run.result.json
    error = answer.get("error", {"message": "", "hint": "-"})

    assert (run.result.code, answer["status"]) == (fault.code, fault.status)
    assert fault.said in f"{error['message']} {error['hint']}"
    assert error["hint"]
    assert answer["passages"]
    assert "Traceback" not in run.result.out + run.result.err
    assert run.seconds < runs["none"].seconds + fault.deadline_s + GRACE_S
    assert (GOOD[:-1] in answer["answer"]) is (fault.status != "failed")
