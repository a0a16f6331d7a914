"""Many commands as processes of their own, without loading the program for each: forks of a process
that has loaded it. `python forked.py` reads {NAME: [ARGUMENTS, ENVIRONMENT]} from standard input,
writes NAME.out and NAME.err to the folder, and prints {NAME: [EXIT CODE, SECONDS]}.
"""

import json
import os
import sys
import time
from pathlib import Path

AT_ONCE = 4


def main() -> None:
    # What `rag ask` loads when it needs it.
    import httpx  # noqa: F401
    import numpy as np  # noqa: F401

    import rag.app
    import rag.commands.ask
    import rag.render  # noqa: F401
    from ingest.tokens import count_tokens

    count_tokens("a word")  # the vocabulary is kept
    jobs, running, results = json.load(sys.stdin), {}, {}
    while jobs or running:
        if jobs and len(running) < AT_ONCE:
            name = next(iter(jobs))
            running[start(name, *jobs.pop(name))] = (name, time.monotonic())
            continue
        child, status = os.wait()
        name, begun = running.pop(child)
        results[name] = (os.waitstatus_to_exitcode(status), time.monotonic() - begun)
    print(json.dumps(results))


def start(name: str, arguments: list[str], environment: dict[str, str]) -> int:
    child = os.fork()
    if child:
        return child
    from rag.cli import main as command

    for number, end in ((0, None), (1, "out"), (2, "err")):
        path = Path(f"{name}.{end}" if end else os.devnull)
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    os.environ.update(environment)
    sys.argv = ["rag", *arguments]
    command()
    raise AssertionError("the command ends with an exit code")


if __name__ == "__main__":
    main()
