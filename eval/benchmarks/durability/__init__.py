"""Trials of what the store promises: see `python -m eval.benchmarks.durability --help`."""
