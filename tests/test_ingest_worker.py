"""Files are read in a process that may hang, die or grow without harm to the others."""

import ctypes
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Set
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from ingest.config import IndexSettings
from ingest.errors import LoadError, RagError
from ingest.load import DEFAULT_OPTIONS, Reading, Unread
from ingest.read import Loaded, read_and_chunk
from ingest.worker import Finished, Pool

LIMITS = replace(DEFAULT_OPTIONS, max_seconds=2.0, max_memory=200 << 20)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The child has to find this module; what is installed still comes first."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[1])])


def behave(path: Path, source: str, skip: Set[str], log: str = "") -> Iterator[object]:
    """Do what each part of the name says; importable, as the pool's function has to be."""
    if log:
        with Path(log).open("a") as file:
            file.write(f"{source} {os.getpid()}\n")
    yield Reading(source)
    if "/" not in source:
        yield ACTIONS.get(source, lambda: f"{path.name} {source}")()
        return
    for action in source.split("/"):
        if f"{source}/{action}" not in skip:
            yield Reading(f"{source}/{action}")
            yield ACTIONS.get(action, lambda action=action: action)()


def hang_in_c() -> None:
    """Hold the interpreter for ever, as a regular expression or a parser in C can."""
    ctypes.PyDLL(None).pause()


def fail_to_pickle() -> object:
    return lambda: None


def raise_unknown() -> None:
    raise AssertionError("xref\ntable \x1b broken")


def give_an_error() -> Unread:
    return Unread("load error", LoadError("no text: scanned?", "run text recognition"))


def interrupt_myself() -> str:
    os.kill(os.getpid(), signal.SIGINT)
    return "still here"


KEPT: list[bytearray] = []


def keep() -> str:
    """Hold on to memory, as a library's cache does, in pieces that stay within the limit."""
    _ = [KEPT.append(bytearray(b"x" * (1 << 20))) for _ in range(150)]
    return "kept"


ACTIONS: dict[str, Callable[[], object]] = {
    "hang": lambda: time.sleep(60),
    "hang in C": hang_in_c,
    "die": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "exit": lambda: sys.exit(3),
    "grow": lambda: len(bytearray(400 << 20)),
    "large": lambda: "x" * (50 << 20),
    "unknown": raise_unknown,
    "load error": give_an_error,
    "lambda": fail_to_pickle,
    "interrupt": interrupt_myself,
    "pid": os.getpid,
    "keep": keep,
}


def size(part: object) -> int:
    return 1_000_000


def run(names: list[str], jobs: int = 1) -> list[object]:
    """Everything that is read of files with these names, each file's end left out."""
    with Pool(behave, LIMITS, jobs, size) as pool:
        parts = [part for _, part in pool.read((Path("f.md"), name) for name in names)]
    assert sum(isinstance(part, Finished) for part in parts) == len(names)
    return [part for part in parts if not isinstance(part, Finished)]


def test_parts_come_in_order_with_their_items():
    """More files than may wait at once, each with its own result and its end."""
    items = [(Path(f"{number}.md"), f"s{number}") for number in range(60)]

    with Pool(behave, LIMITS, 1, size) as pool:
        results = list(pool.read(items))
        again = list(pool.read(items[:2]))

    expected = [
        (item, part) for item in items for part in (f"{item[0].name} {item[1]}", Finished())
    ]
    assert expected == results
    assert expected[:4] == again


def test_several_jobs_share_the_files():
    """Each file is read once, by whichever process is free."""
    names = [f"s{number}" for number in range(30)]

    assert sorted(run(names, jobs=3)) == sorted(f"f.md {name}" for name in names)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("hang", "took longer than 2 s"),
        ("hang in C", "took longer than 2 s"),
        ("die", "crashed the process that read it (signal 11)"),
        ("exit", "crashed the process that read it (exit code 3)"),
        ("grow", "needs more than 200 MiB of memory"),
        ("unknown", "could not be read: AssertionError: xref table broken"),
        ("load error", "no text: scanned?"),
        ("lambda", "could not be read: "),
    ],
)
def test_a_file_that_goes_wrong_fails_alone(action, message):
    """The files before and after it are read as if it were not there."""
    before, wrong, after = run(["a", action, "b"])

    assert (before, after) == ("f.md a", "f.md b")
    assert isinstance(wrong, Unread)
    assert wrong.source == action
    assert wrong.error.message.startswith(message)
    assert wrong.error.hint


def test_many_bad_files_in_a_row():
    """Each gets a new process; the run goes on."""
    results = run(["die", "die", "a", "exit", "grow", "b"])

    assert [type(result).__name__ for result in results] == [
        "Unread",
        "Unread",
        "str",
        "Unread",
        "Unread",
        "str",
    ]


def test_a_child_is_kept_while_nothing_goes_wrong():
    """Starting one costs far more than reading a small file."""
    first, error, second = run(["pid", "load error", "pid"])

    assert first == second != os.getpid()
    assert isinstance(error, Unread)


def test_a_child_that_has_grown_is_replaced():
    """What a library keeps of one file does not add up over many."""
    first, _, _, _, second, third = run(["pid", "keep", "keep", "keep", "pid", "pid"])

    assert first != second == third


@pytest.mark.parametrize("action", ["hang", "exit"])
def test_a_part_that_goes_wrong_costs_that_part_alone(action):
    """What stands before it in the file is not read again, and what stands behind it is read."""
    source = f"a/{action}/b/die/c"

    results = run([source, "d"])

    errors = [part for part in results if isinstance(part, Unread)]
    assert [part for part in results if isinstance(part, str)] == ["a", "b", "c", "f.md d"]
    assert [part.source for part in errors] == [f"{source}/{action}", f"{source}/die"]


def test_a_result_larger_than_a_pipe_comes_whole():
    """Documents of many megabytes pass."""
    (result,) = run(["large"])

    assert len(result) == 50 << 20


def test_the_child_ignores_an_interrupt():
    """Ctrl-C reaches the whole group of processes; only the parent acts on it."""
    assert run(["interrupt"]) == ["still here"]


def test_reading_runs_ahead_of_the_consumer_but_not_without_bound(tmp_path):
    """While one part is being used the next are read, until eight megabytes wait."""
    log = tmp_path / "log"
    items = [(Path("f.md"), f"s{number}") for number in range(100)]

    with Pool(partial(behave, log=str(log)), LIMITS, 1, size) as pool:
        results = pool.read(items)
        next(results)
        while len(log.read_text().splitlines()) < 9:
            time.sleep(0.01)
        time.sleep(0.3)
        ahead = len(log.read_text().splitlines())
        results.close()

    assert 9 <= ahead <= 10


def test_a_consumer_slower_than_the_time_limit_kills_nothing():
    """The clock runs while a child reads, not while its result waits to be fetched."""
    options = replace(LIMITS, max_seconds=0.5)
    with Pool(behave, options, 1, size) as pool:
        results = pool.read([(Path("f"), "pid"), *[(Path("f"), "large")] * 3, (Path("f"), "pid")])
        first = next(results)[1]
        time.sleep(1.5)
        rest = [part for _, part in results if not isinstance(part, Finished)]

    assert [len(part) for part in rest[:-1]] == [50 << 20] * 3
    assert first == rest[-1]


def test_leaving_early_ends_the_child():
    """An error or an interrupt in the consumer does not wait for a file that hangs."""
    with Pool(behave, LIMITS, 1, size) as pool:
        results = pool.read([(Path("f"), "pid"), *[(Path("f"), "hang")] * 20])
        _, child = next(results)
        results.close()

    assert isinstance(child, int)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


PARENT = """
import os, sys
from pathlib import Path
from ingest.load import DEFAULT_OPTIONS
from ingest.worker import Pool
sys.path.insert(0, sys.argv[1])
from test_ingest_worker import behave, size

if __name__ == "__main__":
    with Pool(behave, DEFAULT_OPTIONS, 1, size) as pool:
        results = pool.read([(Path("f"), "pid")] + [(Path("f"), sys.argv[2])] * 20)
        print(next(results)[1], flush=True)
        os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("action", ["hang", "large"])
def test_the_child_dies_with_its_parent(tmp_path, action):
    """Also when the parent is killed and can clean up nothing, and the child is in a file, or has
    something to say that nobody hears: it says nothing of that to the person."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here.parent}{os.pathsep}{here}"}
    done = subprocess.run(
        [sys.executable, str(script), str(here), action],
        env=environment,
        capture_output=True,
        check=False,
    )

    child = int(done.stdout)
    assert done.stderr == b""
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


def unimportable(path: Path, source: str, skip: Set[str]) -> Iterator[object]:
    """Pickled by a name that the child will not find."""


def test_a_function_that_the_child_cannot_import_ends_the_run(capfd):
    """It is no file's fault, so it is no LoadError."""
    unimportable.__module__ = "no_such_module"
    sys.modules["no_such_module"] = sys.modules[__name__]
    try:
        with (
            Pool(unimportable, LIMITS, 1, size) as pool,
            pytest.raises(RagError, match="did not start") as raised,
        ):
            list(pool.read([(Path("f"), "a")]))
    finally:
        del sys.modules["no_such_module"]
    assert not isinstance(raised.value, LoadError)
    assert "no_such_module" in capfd.readouterr().err


def test_a_function_that_cannot_be_sent_to_the_child_says_so():
    """The mistake is named where the parts are consumed, and ending the pool goes well."""
    with (
        Pool(lambda *_: iter(()), LIMITS, 1, size) as pool,
        pytest.raises((AttributeError, pickle.PicklingError), match="lambda"),
    ):
        list(pool.read([(Path("f"), "a")]))


def test_a_machine_that_can_start_no_process_ends_the_run():
    """No file is blamed for it, and ending the pool goes well."""
    used = {int(entry.name) for entry in Path("/proc/self/fd").iterdir()}
    third_free = sorted(set(range(max(used) + 4)) - used)[2]  # a pipe fits in, a process does not
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (third_free, limits[1]))
    try:
        with (
            Pool(behave, LIMITS, 1, size) as pool,
            pytest.raises(RagError, match="did not start: Too many open files") as raised,
        ):
            list(pool.read([(Path("f"), "a")]))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert not isinstance(raised.value, LoadError)


def test_real_files_through_the_real_loader(tmp_path):
    """Documents and chunks come back as they were made."""
    path = tmp_path / "a.md"
    path.write_text("# Title\n\nWords.\n")
    work = partial(read_and_chunk, index=IndexSettings(), options=DEFAULT_OPTIONS)

    with Pool(work, LIMITS, 1, lambda loaded: loaded.size) as pool:
        parts = [part for _, part in pool.read([(path, "a.md"), (tmp_path / "b.md", "b.md")])]

    loaded, end, missing, _ = parts
    assert isinstance(loaded, Loaded)
    assert [chunk.text for chunk in loaded.chunks] == ["# Title\n\nWords."]
    assert end == Finished()
    assert missing.error.message.startswith("cannot be read: No such file")
