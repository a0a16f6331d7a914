"""llama.cpp's own server on a loopback port, as a program: `python llama_server.py --model FILE`.

Prints `listening on http://HOST:PORT/v1` once it answers. It runs until its standard input is
closed, as it is when whoever started it is gone. A key that clients must show is taken from
LLAMA_API_KEY, where llama.cpp's own program looks for it.

It imports nothing of ours, so that it starts at once and runs in whatever folder it is started.
"""

import argparse
import os
import signal
import sys
from typing import Any

_PING_S = 2  # a client need not wonder whether a long prompt is still being read
_PROMPT_CACHE_MIB = 256


def main() -> None:
    """Serve until the end of standard input."""
    arguments = _arguments()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads must not spin
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server = _open(arguments)
    sys.stdout.write(f"listening on {server.listening_address}/v1\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="path of a GGUF file")
    parser.add_argument("--alias", help="what the server calls it")
    parser.add_argument("--context", type=int, default=4096, help="tokens of each slot")
    parser.add_argument("--slots", type=int, default=1, help="requests served at once")
    parser.add_argument("--show-slots", action="store_true", help="answer GET /slots")
    return parser.parse_args()


def _open(arguments: argparse.Namespace) -> Any:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = arguments.model
    parameters.model_alias = {arguments.alias} if arguments.alias else set()
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0  # a free one
    parameters.api_keys = list(filter(None, [os.environ.get("LLAMA_API_KEY")]))
    parameters.n_ctx = arguments.context * arguments.slots  # llama.cpp splits it over the slots
    parameters.n_parallel = arguments.slots
    for threads in (parameters.cpuparams, parameters.cpuparams_batch):
        threads.n_threads = os.cpu_count() or 1
    parameters.cache_ram_mib = _PROMPT_CACHE_MIB
    parameters.sse_ping_interval = _PING_S
    # Both run the model once before it is asked anything, which takes seconds.
    parameters.warmup = parameters.fit_params = False
    parameters.ui = False
    parameters.endpoint_slots = arguments.show_slots  # it tells the prompts to whoever asks
    parameters.verbosity = 0
    return xllamacpp.Server(parameters)


if __name__ == "__main__":
    main()
