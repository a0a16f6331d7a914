"""What the store promises, tried without mercy: kills, crowds, full disks, damage.

    python -m eval.benchmarks.durability DOCS [--kills 20] [--aimed 10] [--only NAME …]
        [--real] [--seed N]

Vectors are hashes unless --real is given: the store is what is tried here, and it does not look
into them. A line is printed for each trial, and a table at the end; exit 1 if any failed.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from eval.benchmarks.durability import damage, runs

SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (
        runs.first_runs, runs.index_writes, runs.containers, runs.updates, runs.reshapes,
        runs.rebuilds, runs.interrupts, runs.company, runs.disks, damage.flips,
        damage.index_flips, damage.truncations, damage.losses,
    )
}  # fmt: skip


def main() -> int:
    """Run the scenarios; 1 if any trial failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("docs", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--aimed", type=int, default=10)
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--real", action="store_true", help="embed with the real model")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = {}
    for name in options.only:
        begun, counts = time.perf_counter(), (options.kills, options.aimed, options.seed)
        with tempfile.TemporaryDirectory() as folder:
            bench = runs.Bench(options.docs.resolve(), Path(folder), *counts, options.real)
            problems = []
            for trial in SCENARIOS[name](bench):
                print(f"{name} {trial.label}: {trial.problem or 'ok'}", flush=True)
                problems.append(bool(trial.problem))
        rows[name] = len(problems), sum(problems), time.perf_counter() - begun
    print(f"\n{'scenario':<16}{'trials':>8}{'failed':>8}{'seconds':>8}")
    for name, (count, failed, seconds) in rows.items():
        print(f"{name:<16}{count:>8}{failed:>8}{seconds:>8.0f}")
    return 1 if any(failed for _, failed, _ in rows.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
