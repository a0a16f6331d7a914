"""llama.cpp's own server for tests and trials: `python llama_server.py --model FILE.gguf`.

Prints `listening on http://HOST:PORT/v1` once it answers, and runs until it is ended. With
`--with-parent` it ends by itself when the process that started it is gone.
"""

import argparse
import os
import signal
import sys
import threading
import time


def main() -> None:
    arguments = parsed_arguments()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads must not spin
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if arguments.with_parent:
        threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    server = open_server(arguments)
    print(f"listening on {server.listening_address}/v1", flush=True)
    while True:
        time.sleep(3600)


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="path of a GGUF file")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--context", type=int, default=4096, help="tokens of each slot")
    parser.add_argument("--slots", type=int, default=1, help="requests served at once")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--with-parent", action="store_true")
    return parser.parse_args()


def open_server(arguments: argparse.Namespace):
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = arguments.model
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = arguments.port
    parameters.n_ctx = arguments.context * arguments.slots  # llama.cpp splits it over the slots
    parameters.n_parallel = arguments.slots
    parameters.cpuparams.n_threads = arguments.threads
    parameters.cpuparams_batch.n_threads = arguments.threads
    parameters.cache_ram_mib = 256
    parameters.ui = False
    parameters.endpoint_slots = False
    parameters.verbosity = 0
    return xllamacpp.Server(parameters)


def end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
