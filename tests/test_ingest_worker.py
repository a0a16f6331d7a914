"""Files are read in a process that may hang, die or grow without harm to the others."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from ingest.errors import LoadError, RagError
from ingest.load import DEFAULT_OPTIONS, load
from ingest.worker import Worker

LIMITS = replace(DEFAULT_OPTIONS, max_seconds=2.0, max_memory=200 << 20)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The child has to find this module; what is installed still comes first."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[1])])


def behave(path: Path, source: str, log: str = "") -> object:
    """Do what the name says; importable, as the worker's function has to be."""
    if log:
        with Path(log).open("a") as file:
            file.write(f"{source} {os.getpid()}\n")
    return ACTIONS.get(source, lambda: f"{path.name} {source}")()


def hang_in_c() -> None:
    """Hold the interpreter for ever, as a regular expression or a parser in C can."""
    ctypes.PyDLL(None).pause()


def fail_to_pickle() -> object:
    return lambda: None


def raise_unknown() -> None:
    raise AssertionError("xref\ntable \x1b broken")


def raise_load_error() -> None:
    raise LoadError("no text: scanned?", "run text recognition")


def interrupt_myself() -> str:
    os.kill(os.getpid(), signal.SIGINT)
    return "still here"


ACTIONS: dict[str, Callable[[], object]] = {
    "hang": lambda: time.sleep(60),
    "hang in C": hang_in_c,
    "die": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "exit": lambda: sys.exit(3),
    "grow": lambda: len(bytearray(400 << 20)),
    "large": lambda: "x" * (50 << 20),
    "unknown": raise_unknown,
    "load error": raise_load_error,
    "lambda": fail_to_pickle,
    "interrupt": interrupt_myself,
    "pid": os.getpid,
}


def run(names: list[str]) -> list[object]:
    with Worker(behave, LIMITS) as worker:
        return [result for _, result in worker.map((Path("f.md"), name) for name in names)]


def test_results_come_in_order_with_their_items():
    """More items than may wait at once, each with its own result."""
    items = [(Path(f"{number}.md"), f"s{number}") for number in range(60)]

    with Worker(behave, LIMITS) as worker:
        results = list(worker.map(items))
        again = list(worker.map(items[:2]))

    expected = [(item, f"{item[0].name} {item[1]}") for item in items]
    assert expected == results
    assert expected[:2] == again


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("hang", "took longer than 2 s"),
        ("hang in C", "took longer than 2 s"),
        ("die", "crashed the process that read it (signal 11)"),
        ("exit", "crashed the process that read it (exit code 3)"),
        ("grow", "needs more than 200 MiB of memory"),
        ("unknown", "could not be read: AssertionError: xref table \x1b broken"),
        ("load error", "no text: scanned?"),
        ("lambda", "could not be read: "),
    ],
)
def test_a_file_that_goes_wrong_fails_alone(action, message):
    """The files before and after it are read as if it were not there."""
    before, wrong, after = run(["a", action, "b"])

    assert (before, after) == ("f.md a", "f.md b")
    assert isinstance(wrong, LoadError)
    assert wrong.message.startswith(message)
    assert wrong.hint


def test_many_bad_files_in_a_row():
    """Each gets a new process; the run goes on."""
    results = run(["die", "die", "a", "exit", "grow", "b"])

    assert [type(result).__name__ for result in results] == [
        "LoadError",
        "LoadError",
        "str",
        "LoadError",
        "LoadError",
        "str",
    ]


def test_a_child_is_kept_while_nothing_goes_wrong():
    """Starting one costs far more than reading a small file."""
    first, error, second = run(["pid", "load error", "pid"])

    assert first == second != os.getpid()
    assert isinstance(error, LoadError)


def test_a_result_larger_than_a_pipe_comes_whole():
    """Documents of many megabytes pass."""
    (result,) = run(["large"])

    assert len(result) == 50 << 20


def test_the_child_ignores_an_interrupt():
    """Ctrl-C reaches the whole group of processes; only the parent acts on it."""
    assert run(["interrupt"]) == ["still here"]


def test_reading_runs_ahead_of_the_consumer_but_not_without_bound(tmp_path):
    """While one result is being used the next are read, up to the bound on what may wait."""
    log = tmp_path / "log"
    items = [(Path("f.md"), f"s{number}") for number in range(100)]

    with Worker(partial(behave, log=str(log)), LIMITS) as worker:
        results = worker.map(items)
        next(results)
        while len(log.read_text().splitlines()) < 16:
            time.sleep(0.01)
        time.sleep(0.3)
        ahead = len(log.read_text().splitlines())
        results.close()

    assert 16 <= ahead <= 17


def test_leaving_early_ends_the_child():
    """An error or an interrupt in the consumer does not wait for a file that hangs."""
    with Worker(behave, LIMITS) as worker:
        results = worker.map([(Path("f"), "pid"), *[(Path("f"), "hang")] * 20])
        _, child = next(results)
        results.close()

    assert isinstance(child, int)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


PARENT = """
import os, sys
from pathlib import Path
from ingest.load import DEFAULT_OPTIONS
from ingest.worker import Worker
sys.path.insert(0, sys.argv[1])
from test_ingest_worker import behave

if __name__ == "__main__":
    with Worker(behave, DEFAULT_OPTIONS) as worker:
        results = worker.map([(Path("f"), "pid"), (Path("f"), "hang")] + [(Path("f"), "a")] * 20)
        print(next(results)[1], flush=True)
        os.kill(os.getpid(), 9)
"""


def test_the_child_dies_with_its_parent(tmp_path):
    """Also when the parent is killed and can clean up nothing, and the child is in a file."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here.parent}{os.pathsep}{here}"}
    done = subprocess.run(
        [sys.executable, str(script), str(here)],
        env=environment,
        stdout=subprocess.PIPE,
        check=False,
    )

    child = int(done.stdout)
    assert done.returncode == -signal.SIGKILL
    while _is_running(child):  # the test's own time limit ends this if it is for ever
        time.sleep(0.05)
    assert not _is_running(child)


def _is_running(process: int) -> bool:
    """Whether a process lives; one that waits to be reaped does not."""
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


def unimportable(path: Path, source: str) -> None:
    """Pickled by a name that the child will not find."""


def test_a_function_that_the_child_cannot_import_ends_the_run(capfd):
    """It is no file's fault, so it is no LoadError."""
    unimportable.__module__ = "no_such_module"
    sys.modules["no_such_module"] = sys.modules[__name__]
    try:
        with (
            Worker(unimportable, LIMITS) as worker,
            pytest.raises(RagError, match="did not start") as raised,
        ):
            list(worker.map([(Path("f"), "a")]))
    finally:
        del sys.modules["no_such_module"]
    assert not isinstance(raised.value, LoadError)
    assert "no_such_module" in capfd.readouterr().err


def test_real_files_through_the_real_loader(tmp_path):
    """Documents come back as the loader made them."""
    path = tmp_path / "a.md"
    path.write_text("# Title\n\nWords.\n")

    with Worker(load, LIMITS) as worker:
        (((_, source), documents),) = worker.map([(path, "a.md")])

    assert source == "a.md"
    assert load(path, "a.md") == documents
